"""A running sidecar: gate, probe, engine and admin port of one replica, wired together. Nothing is decided here."""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import uvloop

from queueproxy import metrics
from queueproxy.admin import Admin
from queueproxy.control import Control
from queueproxy.settings import Settings, read
from queueproxy.slots import Bounds, Slots
from zerogate import startup
from zerogate.clock import now, wall
from zerogate.control import PROTOCOL
from zerogate.drain import Steps, leave
from zerogate.errors import MachineError
from zerogate.garbage import set_aside
from zerogate.http.admin import Drained, Readiness
from zerogate.http.listener import Listener, bind
from zerogate.http.memory import BufferMemory
from zerogate.http.pools import make_pool
from zerogate.http.probe import Probe
from zerogate.http.server import ConnectionLimits, Server
from zerogate.http.sides import RequestTerms, with_timeouts
from zerogate.http.sweep import Sweep
from zerogate.process import usage
from zerogate.reporting.families import Told
from zerogate.stats import Stat
from zerogate.tasks import Nursery

if TYPE_CHECKING:
    from zerogate.http.access_log import AccessLog
    from zerogate.reporting.sender import Sender

log = logging.getLogger("queueproxy")

PATIENCE: Final = 3
"""Late answers in a row until a ready replica is not ready: the kubelet's own failureThreshold."""
LOG_S: Final = 1.0
"""How often lines of the access log are written; a gateway's."""
ADMIN_LIMITS: Final = ConnectionLimits(total=64, per_client=32)
"""Of the admin port, which in a pod whoever reaches it can ask: a kubelet, a scraper and a gateway's drain need three.
They have a number of their own, so that traffic does not make a replica look dead."""
SAID_AFTER_S: Final = 5.0
"""Without a word of a model server that is ready; who gave the wrong port still looks."""
HEARS_S: Final = 20.0
"""The first process of a container does not hear SIGTERM before it has said how it takes it, which a model server does
when it has imported what it is made of, and which none can have missed that has answered. Told too early it would keep
its GPU for the whole grace period."""
LAST_ANSWERS_S: Final = 1.0
"""For answers of the admin port that are on their way when everything else is over."""


class Sidecar:
    """See the module's text. Make it on the loop it shall run on; `start` first, `stop` last. Raises MachineError."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        traffic = bind(settings.listen, what="--listen", example="--listen HOST:PORT")
        try:
            admin = bind(settings.admin, what="--admin", example="--admin HOST:PORT")
        except MachineError:
            traffic.close()
            raise
        self.nursery = Nursery()
        loop = asyncio.get_running_loop()
        sweep = self._sweep = Sweep(loop)
        self.pool = make_pool(settings.protocol, settings.upstream, sweep, self.nursery)
        self.admin = Admin(
            self, drain_deadline_s=settings.drain_deadline_s, clock=now, drain_token=settings.drain_token
        )
        self.slots = Slots(
            settings.service, _bounds(settings), _terms(settings), self.pool, on_empty=self.admin.on_empty,
            choose=_choose, call_later=loop.call_later, clock=now,
        )  # fmt: skip
        self.probe = Probe(
            settings.upstream, settings.probe_path, self._on_change,
            ready_interval_s=settings.probe_interval_s, timeout_s=settings.probe_timeout_s, patience=PATIENCE,
            protocol=settings.protocol,
        )  # fmt: skip
        self.slots.on_unreachable = self._on_unreachable
        self.control = Control(self.slots, sweep)
        self._memory = BufferMemory(settings.body_memory_bytes)
        limits = ConnectionLimits(total=settings.max_connections, not_sent=True)
        server = Server(self.slots.place, sweep, memory=self._memory, limits=limits)
        server.upgrades[PROTOCOL] = self.control.take
        self.traffic = Listener(server, traffic)
        self.administration = Listener(Server(self.admin.place, sweep, limits=ADMIN_LIMITS), admin)
        self.addresses = (_address(traffic), _address(admin))
        self._source = settings.stats_source or socket.gethostname()
        self._sender = self._make_sender() if settings.stats else None
        self._access_log = self._make_access_log() if settings.access_log != "off" else None
        self._incarnation = os.urandom(8).hex()
        self._started_at = wall()
        self._hears_s = now() + HEARS_S
        """When the model server is taken to hear signals, ready or not."""
        self._has_been_ready = asyncio.Event()
        self._at_once = asyncio.Event()
        self._is_leaving = False

    async def start(self) -> None:
        """Take requests, and ask the replica until it is ready."""
        await self.administration.start()
        self.probe.start()
        asyncio.get_running_loop().call_later(SAID_AFTER_S, self._say_if_not_ready)
        await self.traffic.start()
        if self._sender is not None:
            self._sender.start()
        if self._access_log is not None:
            self.nursery.start(self._write_log(self._access_log), name="access log")

    def _make_sender(self) -> "Sender":
        # half a MiB that only those need who report
        from random import random

        from queueproxy.quiescing import Quiescing
        from queueproxy.reports import Reports
        from zerogate.reporting.sender import Sender, Target

        settings = self.settings
        target = Target(
            addresses=settings.stats, source=self._source, kind="sidecar", service=settings.service,
            token_file=settings.stats_token_file, key=settings.stats_key,
        )  # fmt: skip
        quiescing = Quiescing(self.slots, self._sweep)
        return Sender(
            Reports(self.slots), target, nursery=self.nursery, jitter=random, on_order=quiescing.on_order
        )  # fmt: skip

    def _make_access_log(self) -> "AccessLog":
        # half a MiB that only those need who read it
        from zerogate.http.access_log import AccessLog
        from zerogate.output import STDOUT, Output

        access_log = AccessLog(self.settings.access_log, Output(STDOUT).write)
        self.slots.note = lambda exchange: access_log.add(self.settings.service, exchange)
        return access_log

    async def _write_log(self, access_log: "AccessLog") -> None:
        while True:
            await asyncio.sleep(LOG_S)
            await access_log.flush_all()

    def _on_change(self, is_ready: bool) -> None:
        if not self.slots.is_closed:
            log.info("the model server is %s: %s", "ready" if is_ready else "not ready", self.probe.last)
        if is_ready:
            self._has_been_ready.set()
        self.slots.set_ready(is_ready, self.probe.last, now())

    def _say_if_not_ready(self) -> None:
        if not (self.slots.is_ready or self._is_leaving):
            log.info("the model server at %s is not ready yet: %s", self.settings.upstream, self.probe.last)

    def _on_unreachable(self, cause: str) -> None:
        self.probe.doubt(f"a request could not reach it: {cause}")

    async def stop(self) -> None:
        """Leave in order: finish what runs, close."""
        await leave(
            Steps(
                readiness_off=self._readiness_off,
                wait_for_senders=self._wait_for_senders,
                close_listeners=self.traffic.leave_port,
                refuse_held=lambda: self.slots.close(now()),
                finish_running=self._finish_running,
                stop_replicas=self._stop_asking,
                close_infrastructure=self._close,
            )
        )

    def stop_at_once(self) -> None:
        """The second signal: reset what runs; `stop`, which is under way, then ends soon."""
        self._at_once.set()
        self.control.close()
        self.traffic.abort()

    def _readiness_off(self) -> None:
        self._is_leaving = True
        self.control.leave()
        # who comes by a Service keeps its connection to this very pod, and would meet its end
        self.traffic.server.leave_soon()

    async def _wait_for_senders(self) -> None:
        if self.slots.is_closed:
            return
        try:
            async with asyncio.timeout(self.settings.drain_wait_s):
                await self._at_once.wait()
        except TimeoutError:
            return

    async def _finish_running(self) -> None:
        deadline_s = 0.0 if self._at_once.is_set() else self.settings.drain_deadline_s
        reset = await self.traffic.drain(deadline_s=deadline_s)
        if reset:
            log.warning("%d connections were reset: they had not ended at the deadline", reset)

    async def _stop_asking(self) -> None:
        self.control.close()
        self.probe.close()
        self.pool.close()

    async def _close(self) -> None:
        self.administration.stop_accepting()
        await self.administration.drain(deadline_s=LAST_ANSWERS_S)
        if self._sender is not None:
            await self._sender.close()
        await self.nursery.aclose()
        if self._access_log is not None:
            self._access_log.finish()

    # What the admin port shows

    def readiness(self) -> Readiness:
        """Whether requests are taken."""
        if self._is_leaving or self.slots.is_closed:
            return Readiness(ready=False, detail="draining")
        return Readiness(ready=self.slots.is_ready, detail=f"{self.settings.upstream}: {self.probe.last}")

    def metrics(self) -> str:
        """The text for Prometheus."""
        told = self._sender.told() if self._sender is not None else Told()
        server = self.traffic.server
        return metrics.text(
            self.slots, usage(), told, self._memory,
            connections=len(server.connections), refused=server.turned_away, started_at=self._started_at,
        )  # fmt: skip

    def stat(self, now_s: float) -> Stat:
        """The next report."""
        return self.slots.meter.read(
            now_s, service=self.settings.service, source=self._source, incarnation=self._incarnation
        )  # fmt: skip

    def drain(self, now_s: float, *, waits: bool = False) -> None:
        """Close the gate for good; with `waits` readiness goes first, and the gate after `drain-wait`, and not before
        the model server hears that it is to end."""
        is_heard = self._has_been_ready.is_set() or now_s >= self._hears_s
        if not waits or self.slots.is_closed or (is_heard and not self.settings.drain_wait_s):
            self._close_gate(now_s)
        elif not self._is_leaving:
            self._readiness_off()
            self.nursery.start(self._close_gate_later(), name="drain")

    async def _close_gate_later(self) -> None:
        await self._wait_for_senders()
        try:
            async with asyncio.timeout(max(0.0, self._hears_s - now())):
                await self._has_been_ready.wait()
        except TimeoutError:
            pass
        self._close_gate(now())

    def _close_gate(self, now_s: float) -> None:
        self.traffic.server.drain()
        self.slots.close(now_s)

    def drained(self) -> Drained:
        """How far it is."""
        return Drained(drained=self.slots.is_empty, in_flight=self.slots.gate.in_flight)


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until told to leave; the exit code."""
    return startup.run("queueproxy", lambda: read(arguments, environ), lambda settings: uvloop.run(_main(settings)))


async def _main(settings: Settings) -> None:
    sidecar = Sidecar(settings)
    left = startup.told_to_leave(sidecar.stop_at_once)
    await sidecar.start()
    log.info("requests on %s, administration on %s, model server at %s", *sidecar.addresses, settings.upstream)
    set_aside()
    await left.wait()
    log.info("leaving: what is in flight is finished (a second signal: at once)")
    await sidecar.stop()


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _choose(below: int) -> int:
    """Chance for pauses, without the half MiB of the module `random`."""
    return int.from_bytes(os.urandom(4), "big") % below


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        limit=settings.concurrency_limit,
        release_limit=settings.release_limit,
        queue_limit=settings.queue_limit,
        queue_bytes=settings.queue_bytes,
        hold_s=settings.hold_timeout_s,
    )


def _terms(settings: Settings) -> RequestTerms:
    return with_timeouts(RequestTerms(quiet_s=settings.websocket_quiet_after_s), settings)
