"""An autoscaler that hears streams of reports on a port of its own, and starts nothing: its runtime is a fake."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from autoscaler.decision import Traffic
from autoscaler.identity import Identity, Refused
from autoscaler.loop import Autoscaler
from autoscaler.receiver import Bounds, Listener, Receiver
from zerogate.clock import now
from zerogate.http.listener import bind
from zerogate.http.sweep import Sweep
from zerogate.policy import Policy
from zerogate.runtime.fake import FakeRuntime
from zerogate.runtime.interface import Address
from zerogate.stats import Stat
from zerogate.tasks import Nursery


async def everybody(_: str) -> Identity | Refused:
    """Proves nothing and refuses nobody."""
    return Identity(name="anybody")


class Ear:
    """`port` takes streams; `proving`: how it proves itself, as the receiver is told. Its clock goes
    `speed` times as fast as the sources' own."""

    def __init__(
        self,
        policy: Policy,
        *,
        speed: float = 1.0,
        leads: bool = True,
        authenticate: Callable[[str], Awaitable[Identity | Refused]] = everybody,
        bounds: Bounds | None = None,
        listener: Listener | None = None,
        **proving: Any,
    ) -> None:
        loop = asyncio.get_running_loop()
        began_s = now()
        self.clock: Callable[[], float] = lambda: began_s + (now() - began_s) * speed
        self.leads = leads
        self.runtime = FakeRuntime({"chat": policy.max_replicas}, now=self.clock)
        self.autoscaler = Autoscaler(
            self.runtime, loop=loop, busy=lambda _: 0, activity=lambda _: None, clock=self.clock
        )  # fmt: skip
        self.autoscaler.start()
        self.autoscaler.configure({"chat": policy})
        self.nursery = Nursery()
        self.reports: list[Stat] = []
        self.woken: list[str] = []
        self.sums: list[int] = []
        """What was held and in flight together, after each report."""
        self.receiver = Receiver(
            self, authenticate,
            is_leading=lambda: self.leads, sweep=Sweep(loop), nursery=self.nursery, bounds=bounds,
            listener=listener, **proving,
        )  # fmt: skip
        self.port = 0

    async def open(self, port: int = 0) -> None:
        sock = bind(Address("127.0.0.1", port), what="listen")
        self.port = int(sock.getsockname()[1])
        await self.receiver.start(sock)

    async def close(self) -> None:
        self.receiver.close()
        self.autoscaler.close()
        await self.nursery.aclose()
        await asyncio.sleep(0)

    def report(self, stat: Stat) -> None:
        self.reports.append(stat)
        self.autoscaler.report(stat)
        traffic = self.traffic
        self.sums.append(traffic.held + traffic.in_flight)

    def heartbeat(self, source: str, incarnation: str, *, service: str | None = None) -> None:
        self.autoscaler.heartbeat(source, incarnation, service=service)

    def farewell(self, source: str, incarnation: str) -> None:
        self.autoscaler.farewell(source, incarnation)

    def wake(self, service: str) -> None:
        self.woken.append(service)
        self.autoscaler.wake(service)

    @property
    def traffic(self) -> Traffic:
        return self.autoscaler.view("chat").traffic

    @property
    def asked(self) -> int:
        """Replicas that it wants."""
        return self.autoscaler.view("chat").asked

    @property
    def sources(self) -> set[str]:
        return set(self.receiver.streams)

    async def until(self, seen: Callable[[], bool], within_s: float = 30.0) -> None:
        """Wait until it is so: other processes tell when they like."""
        async with asyncio.timeout(within_s):
            while not seen():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def ear(policy: Policy | None = None, *, speed: float = 1.0, leads: bool = True) -> AsyncIterator[Ear]:
    """One that hears everybody."""
    it = Ear(policy or Policy(), speed=speed, leads=leads)
    await it.open()
    try:
        yield it
    finally:
        await it.close()
