"""One worker: a whole gateway in a process, wired together. Nothing is decided here.

It was forked with its listening sockets, which the parent keeps open too, and it leaves without closing the port for
anybody else. What it counts goes to the parent once a second, and to the end of what is in flight. Without a parent it
finishes what it has and leaves.
"""

import asyncio
import logging
import random
import signal
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from activator.bare import Bare
from activator.hold import Hold
from activator.holds import Holds
from activator.telling import Telling
from gateway.changes import NOTHING, decode
from gateway.channel import Channel
from gateway.doors import Door
from gateway.entries import Entries
from gateway.file import GatewayFile, read_file
from gateway.fleet import Fleet
from gateway.ingress import Ingress
from gateway.messages import Amend, Applied, Apply, FromParent, Leave, LeaveAtOnce, Leaving, Ready, WakeUp
from gateway.reporting import Reporting
from gateway.router import Router
from gateway.settings import Settings
from gateway.tls import ListenerWatch
from zerogate.clock import now
from zerogate.counters import ServiceCounters
from zerogate.drain import Steps, leave, leaving
from zerogate.garbage import set_aside
from zerogate.http.access_log import AccessLog
from zerogate.http.exchange import Exchange
from zerogate.http.memory import BufferMemory
from zerogate.http.server import ConnectionLimits, Server
from zerogate.http.sweep import Sweep
from zerogate.http.tracing import Tracing, start_export
from zerogate.output import STDOUT, Output
from zerogate.reporting.sender import Target
from zerogate.tasks import Nursery

if TYPE_CHECKING:
    from zerogate.http.spans import SpanExport

log = logging.getLogger("gateway")

LAST_ANSWERS_S: Final = 1.0
"""For refusals that are on their way at the drain deadline, and for the last report."""
_LEAVING: Final = leaving(
    "This gateway is being stopped and no replica took the request until then. Try again.", retry_after_s=1.0
)


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is forked with. `name`: its own, for sidecars. `workers`: so many there are to be."""

    settings: Settings
    name: str
    workers: int
    edition: int
    file: GatewayFile
    doors: tuple[Door, ...]
    tls: ListenerWatch | None
    channel: socket.socket
    slot_file: int | None = None
    """Where the workers keep the slots of replicas without a sidecar; on a cluster."""


class Worker:
    """See the module's text. Make it on the loop it shall run on; `run` until it has left."""

    def __init__(self, start: Start) -> None:
        loop = asyncio.get_running_loop()
        self._start = start
        self._settings = start.settings
        self._chance = random.Random()
        self._nursery = Nursery()
        self._sweep = Sweep(loop)
        self._access_log = AccessLog(self._settings.access_log, Output(STDOUT).write)
        self.on_exchange_ended = self._access_log.add if self._settings.trace_to is None else self._log_and_trace
        """What the holds tell of the end of each request: straight to the log where nothing is traced."""
        self._holds = Holds(
            self, sweep=self._sweep, nursery=self._nursery, choose=self._chance.randrange,
            call_later=loop.call_later, clock=now,
        )  # fmt: skip
        self._bare = Bare(self._holds, sweep=self._sweep, nursery=self._nursery, slot_file=start.slot_file)
        # on a cluster it is there without anybody to tell, too: it knows when to wake again
        self._telling = self._make_telling() if self._settings.stats or self._settings.cluster else None
        self._fleet = Fleet(
            self._holds, start.name,
            sweep=self._sweep, nursery=self._nursery, jitter=self._chance.random, watch=self._watch,
            bare=self._bare,
        )  # fmt: skip
        self._ingress = Ingress(self._holds, loop.call_soon, self.on_exchange_ended)
        self._tracing = self._trace()
        self._server = Server(
            self._tracing.place if self._tracing is not None else self._ingress.place, self._sweep,
            memory=BufferMemory(self._settings.body_memory_bytes),
            limits=ConnectionLimits(
                total=self._settings.max_connections, per_client=self._settings.max_connections_per_client
            ),
        )  # fmt: skip
        self._entries = Entries(self._server, start.doors, self._settings.trusted, start.tls)
        self._channel = Channel(self._on_message, self._on_orphaned)
        self._reporting = Reporting(
            self._channel, self._holds, self._server, self._entries, unrouted=self._ingress.unrouted,
            access_log=self._access_log, tracing=self._tracing, edition=lambda: self._edition, telling=self._telling,
        )  # fmt: skip
        self._export: SpanExport | None = None
        self._router = Router(())
        self._amendments: deque[Amend] = deque()
        """Slices that came and have not been applied; their order is theirs."""
        self._edition = start.edition
        self._told_to_leave = asyncio.Event()
        self._at_once = asyncio.Event()
        self._is_last = False

    def _trace(self) -> Tracing | None:
        if self._settings.trace_to is None:
            return None

        def counters(service: str) -> ServiceCounters | None:
            hold = self._holds.get(service)
            return hold.counters if hold is not None else None

        return Tracing(self._ingress.place, counters, ratio=self._settings.trace_ratio)

    async def run(self) -> None:
        """Take requests until told to leave, and leave."""
        await self._channel.open(self._start.channel)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._on_sigterm)
        self._apply(self._start.file, self._start.file.router())
        if self._tracing is not None and self._settings.trace_to is not None:
            self._export = await start_export(self._tracing, self._settings.trace_to)
        await self._entries.start(self._nursery)
        self._nursery.start(self._reporting.run(), name="reports")
        if self._telling is not None:
            self._telling.start()
        set_aside()
        self._channel.say(Ready())
        await self._told_to_leave.wait()
        await self._leave()

    def _make_telling(self) -> Telling:
        settings = self._settings
        target = Target(
            addresses=settings.stats, source=self._start.name, kind="gateway", token_file=settings.stats_token_file,
            ca_file=settings.stats_ca_file, workers=self._start.workers,
        )  # fmt: skip
        return Telling(
            self._holds, target,
            nursery=self._nursery, jitter=self._chance.random, on_unacknowledged=self._wake_from_here, bare=self._bare,
        )  # fmt: skip

    def _watch(self, hold: Hold) -> None:
        if self._telling is not None:
            self._telling.watch(hold)

    # The file

    def _apply(self, file: GatewayFile, router: Router) -> None:
        """Work by a file, in one callback: no request sees half of it."""
        self._fleet.fit(file)
        self._route(router)

    def _route(self, router: Router) -> None:
        """Route by this table; after any change, because what is remembered of heads is of the services before it."""
        if router is not self._router and self._tracing is not None:
            self._tracing.configure(self._settings.trace_ratio, self._fleet.file.prefixes())
        self._router = router
        self._ingress.configure(router)

    async def _read_and_apply(self, message: Apply) -> None:
        # in a thread: a thousand policies take longer to read than a stream should stand still
        file, router = await asyncio.to_thread(_read, message.data, self._settings.source)
        if message.edition > self._edition:
            self._edition = message.edition
            self._apply(file, router)
        await self._entries.look_at_certificates()
        self._channel.say(Applied(message.edition))

    async def _amend(self) -> None:
        """Apply all slices that wait, one in each turn of the loop."""
        while self._amendments:
            message = self._amendments[0]
            change = decode(message.data)
            file = change.applied_to(self._fleet.file)
            # a thousand routes are 30 ms: in a thread nothing stands still for longer than it takes to share a core
            router = await asyncio.to_thread(file.router) if change.reroute else self._router
            self._edition = message.edition
            self._fleet.take(file, change.services, change.gone)
            self._route(router)
            if change == NOTHING:
                await self._entries.look_at_certificates()
            self._channel.say(Applied(message.edition))
            await asyncio.sleep(0)
            self._amendments.popleft()

    # What the parent says

    def _on_message(self, message: FromParent) -> None:
        if isinstance(message, Amend):
            self._amendments.append(message)
            if len(self._amendments) == 1:
                self._nursery.start(self._amend(), name="amend")
        elif isinstance(message, Apply):
            self._nursery.start(self._read_and_apply(message), name="reload")
        elif isinstance(message, Leave):
            self._is_last = self._is_last or message.is_last
            self._told_to_leave.set()
        elif isinstance(message, LeaveAtOnce):
            self._told_to_leave.set()
            self._leave_at_once()

    def _on_sigterm(self) -> None:
        if not self._told_to_leave.is_set():
            self._channel.say(Leaving())
        self._told_to_leave.set()

    def _on_orphaned(self) -> None:
        log.warning("the parent is gone: what is in flight is finished")
        self._is_last = True
        self._told_to_leave.set()

    def _leave_at_once(self) -> None:
        self._at_once.set()
        self._entries.abort()

    # Leaving

    async def _leave(self) -> None:
        await leave(
            Steps(
                readiness_off=self._server.leave_soon,
                wait_for_senders=self._wait_for_senders,
                close_listeners=self._close_listeners,
                refuse_held=self._let_wait,
                finish_running=self._finish_running,
                stop_replicas=self._stop_asking,
                close_infrastructure=self._close,
            )
        )

    async def _wait_for_senders(self) -> None:
        if self._is_last:
            await self._unless_at_once(self._settings.drain_wait_s)

    async def _unless_at_once(self, time_s: float) -> None:
        try:
            async with asyncio.timeout(time_s):
                await self._at_once.wait()
        except TimeoutError:
            return

    async def _close_listeners(self) -> None:
        await self._entries.leave_ports(is_last=self._is_last)

    def _let_wait(self) -> None:
        """What waits here waits for a replica that others start, so it has until the deadline too."""

    async def _finish_running(self) -> None:
        self._server.drain()
        self._entries.abort_waiting()
        try:
            async with asyncio.timeout(0 if self._at_once.is_set() else self._settings.drain_deadline_s):
                await self._server.emptied().wait()
        except TimeoutError:
            self._holds.refuse_all(_LEAVING)
            reset = await self._entries.drain(deadline_s=0 if self._at_once.is_set() else LAST_ANSWERS_S)
            if reset:
                log.warning("%d connections were reset: they had not ended at the deadline", reset)

    async def _stop_asking(self) -> None:
        self._fleet.close()
        self._holds.close()

    async def _close(self) -> None:
        # the ends of connections that were reset are counted in the next turn of the loop
        await asyncio.sleep(0)
        if self._telling is not None:
            self._telling.note(self._fleet.file.services)
            await self._telling.close()
        await self._nursery.aclose()
        self._access_log.finish()
        if self._export is not None:
            await asyncio.to_thread(self._export.stop)
        self._reporting.report([*self._fleet.file.services])
        await self._channel.close(within_s=LAST_ANSWERS_S)

    # What the holds tell

    def on_wake(self, service: str) -> None:
        """A request waits."""
        if self._telling is not None:
            self._telling.wake(service)
        if not self._settings.stats:
            self._wake_from_here(service)

    def _wake_from_here(self, service: str) -> None:
        """There is no autoscaler, or none that leads answers. Where replicas come from a file, somebody else starts
        them, and what waits waits until then or the hold timeout."""
        if self._settings.cluster:
            self._channel.say(WakeUp(service))

    def on_idle(self, replica_id: str) -> None:
        """A replica that takes nothing new is empty: whoever stops it asks its sidecar, or here if it has none."""
        self._bare.on_idle(replica_id)

    def _log_and_trace(self, service: str, exchange: Exchange) -> None:
        self._access_log.add(service, exchange)
        if self._tracing is not None:
            self._tracing.note(service, exchange)


async def serve(start: Start) -> None:
    """A worker's life."""
    await Worker(start).run()


def _read(data: bytes, source: str) -> tuple[GatewayFile, Router]:
    file = read_file(data, source)
    return file, file.router()
