"""Sidecars and gateways by the thousand as the autoscaler hears them: a stream each, beats, readings and wakes.

Their streams are the real ones of `zerogate.reporting.stream`: sidecars ask for a proof by a key of their pod, gateways
for TLS, and who is turned away comes again as it does. They say what real ones say, when they say it: a beat every 5 s,
a reading every second of who has something inside, and a wake at once. What they have inside never changes. All methods
are called on the event loop.
"""

import asyncio
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from tests.kubernetes.crowd import Source
from zerogate.clock import now
from zerogate.reporting.proof import Key
from zerogate.reporting.stream import Asked, Stream
from zerogate.reporting.wire import (
    BEAT_S,
    MOST_READINGS,
    Beat,
    Hello,
    Order,
    Reading,
    Readings,
    TurnedAway,
    Wake,
    frame,
)
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery

INSIDE: Final = 7
"""Requests in each replica that has any."""
_RUN_S: Final = 7.0
"""Of each of them: one ends and one comes every second."""
_BIND_ADDRESS_NO_PORT: Final = 24
"""IP_BIND_ADDRESS_NO_PORT of Linux: else the kernel looks for a port that is free for all, which takes ever longer."""
_STEPS: Final = 10
"""In each second: so many slots over which sources are spread."""
_BEAT: Final = frame(Beat())


class _Stream(Stream):
    """A real one, from an address of its own as a pod has one."""

    def __init__(self, port: int, owner: "_One", asked: Asked) -> None:
        super().__init__(Address("127.0.0.1", port), owner, random.random, asked)
        self._one = owner

    async def _dial(self, protocol: Callable[[], asyncio.Protocol]) -> Any:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            sock.bind((self._one.address, 0))
            await loop.sock_connect(sock, (self.address.host, self.address.port))
            transport, _ = await loop.create_connection(protocol, sock=sock)
        except BaseException:
            sock.close()
            raise
        return transport

    def _make_appointment(self, message: TurnedAway) -> None:
        self._one.turned_away.append(message.reason)
        super()._make_appointment(message)


class _One:
    """One source, and what it hears."""

    def __init__(self, number: int, hello: Hello, port: int, asked: Asked) -> None:
        self.address = f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}"
        self.stream = _Stream(port, self, asked)
        self.is_known = asyncio.Event()
        self.turned_away: list[str] = []
        self.acknowledged: dict[int, bool] = {}
        self._hello = hello

    def hello(self) -> Hello:
        return self._hello

    def on_welcome(self, _: Stream) -> None:
        self.is_known.set()

    def on_ack(self, _: Stream, number: int, *, is_leading: bool, refused: str = "") -> None:
        if number:
            self.acknowledged[number] = is_leading

    def on_writable(self, _: Stream) -> None: ...

    def on_order(self, _: Stream, order: Order) -> None: ...

    def say(self, data: bytes) -> None:
        self.stream.say(data)


class Sources:
    """See the module's text. `busy`: services that have requests, in all their replicas. `trust`: what
    gateways ask of an autoscaler."""

    def __init__(
        self,
        port: int,
        sidecars: Sequence[Source],
        *,
        token_of: Callable[[Source], str],
        key_of: Callable[[Source], Key],
        gateways: Mapping[str, str],
        trust: Asked,
        busy: Sequence[str],
    ) -> None:
        self._began_s = now()
        self._sequence = 0
        self._nursery = Nursery()
        self._sidecars = {
            one: _One(
                number, Hello(one.name, "first", "sidecar", token_of(one), one.service), port, Asked(key=key_of(one))
            )
            for number, one in enumerate(sidecars)
        }
        self._gateways = [
            _One(len(sidecars) + number, Hello(name, "first", "gateway", token), port, trust)
            for number, (name, token) in enumerate(gateways.items())
        ]
        self._busy = list(busy)
        with_requests = frozenset(busy)
        self._working = [(one, source) for one, source in self._sidecars.items() if one.service in with_requests]
        self._number = 0
        self._held: list[str] = []

    @property
    def readings_per_s(self) -> int:
        return len(self._working) + len(self._busy) * len(self._gateways)

    @property
    def beats_per_s(self) -> float:
        return (len(self._sidecars) + len(self._gateways)) / BEAT_S

    @property
    def turned_away(self) -> list[str]:
        """Why, each time."""
        return [reason for one in self._all() for reason in one.turned_away]

    def _all(self) -> list[_One]:
        return [*self._gateways, *self._sidecars.values()]

    async def connect(self, *, within_s: float) -> tuple[int, float]:
        """They beat and report from now on: how many of them are known, once all are or the time is over, and when."""
        began_s = now()
        self._nursery.start(self._speak(), name="beats and readings")
        for number, one in enumerate(self._all()):
            self._nursery.start(one.stream.run(), name=f"source {number}")
            if number % 100 == 0:
                await asyncio.sleep(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for one in self._all():
                    await one.is_known.wait()
        return sum(one.stream.is_open for one in self._all()), now() - began_s

    async def aclose(self) -> None:
        await self._nursery.aclose()

    async def _speak(self) -> None:
        everybody = self._all()
        beats = _STEPS * int(BEAT_S)
        tick, due_s = 0, now()
        while True:
            # all that are due: who comes late to many beats must not seem to be silent
            while due_s <= now():
                for one in everybody[tick % beats :: beats]:
                    one.say(_BEAT)
                for source, one in self._working[tick % _STEPS :: _STEPS]:
                    one.say(frame(Readings((self._running(source.service),))))
                if tick % _STEPS == 0:
                    self._sequence += 1
                    self._report_gateways()
                tick += 1
                due_s += 1.0 / _STEPS
            await asyncio.sleep(max(0.0, due_s - now()))

    def _report_gateways(self) -> None:
        seen = [self._passing(service) for service in self._busy]
        held = [self._waiting(service) for service in self._held]
        for number, one in enumerate(self._gateways):
            told = seen if number else seen + held
            for start in range(0, len(told), MOST_READINGS):
                one.say(frame(Readings(tuple(told[start : start + MOST_READINGS]))))

    def wake(self, services: Sequence[str]) -> None:
        """A request waits for each of them, in the first gateway."""
        self._held += services
        self._sequence += 1
        for service in services:
            self._number += 1
            self._gateways[0].say(frame(Wake(self._number, self._waiting(service))))

    def leave(self) -> None:
        """Who waited has given up."""
        self._sequence += 1
        gone = [
            Reading(service, self._sequence, now(), arrivals=1, abandoned=1, held_s=0.1, since_arrival_s=1.0)
            for service in self._held
        ]
        self._held = []
        for start in range(0, len(gone), MOST_READINGS):
            self._gateways[0].say(frame(Readings(tuple(gone[start : start + MOST_READINGS]))))

    @property
    def acknowledged(self) -> int:
        """Wakes of which the leader has said that it heard them."""
        return sum(self._gateways[0].acknowledged.values())

    def _running(self, service: str) -> Reading:
        age_s = now() - self._began_s
        ended = int(age_s)
        return Reading(
            service, self._sequence, now(), arrivals=ended + INSIDE, completions=ended, running_s=INSIDE * age_s,
            completed_run_s=ended * _RUN_S, in_flight=INSIDE, since_arrival_s=0.5, since_byte_s=0.01,
        )  # fmt: skip

    def _passing(self, service: str) -> Reading:
        # what is inside and how much of it comes is told by the gates
        return Reading(service, self._sequence, now(), bytes_out=self._sequence, since_byte_s=0.01)

    def _waiting(self, service: str) -> Reading:
        return Reading(service, self._sequence, now(), arrivals=1, held=1, held_s=0.1, since_arrival_s=0.1)
