"""A running box: gateway, activator, autoscaler and local runtime in one process, wired together.

The composition of `zerogate up`. Nothing is decided here; every line gives one part to another. A changed file is
applied as a whole: all parts are configured in one callback of the loop, so no request sees half of it.
"""

import asyncio
import logging
import random
from pathlib import Path
from typing import TYPE_CHECKING, Final

from activator.holds import Holds
from autoscaler.history import History
from autoscaler.loop import Autoscaler
from cli import shares
from cli.box import BoxFile
from cli.remembered import Remembered
from cli.reporter import Reporter
from cli.tls_files import BoxCertificates, LoadedTls
from gateway.ingress import Ingress
from gateway.router import Router
from zerogate.clock import now
from zerogate.counters import ServiceCounters
from zerogate.drain import Steps, leave, leaving
from zerogate.http.access_log import AccessLog
from zerogate.http.certificate_watch import CertificateWatch
from zerogate.http.entrance import Entrance
from zerogate.http.exchange import Exchange
from zerogate.http.listener import Listener, bind
from zerogate.http.memory import BufferMemory
from zerogate.http.server import Server
from zerogate.http.sweep import Sweep
from zerogate.http.tracing import Tracing, start_export
from zerogate.local.runtime import LocalRuntime
from zerogate.loop_lag import LoopLag
from zerogate.output import STDOUT, Output
from zerogate.tasks import Nursery

if TYPE_CHECKING:
    from zerogate.http.spans import SpanExport

log = logging.getLogger(__name__)

DRAIN_S: Final = 30.0
"""How long answers that are on their way may take after the first Ctrl-C; Kubernetes gives pods as much."""
HOUSEKEEPING_S: Final = 1.0

_LEAVING: Final = leaving("zerogate is being stopped. Try again when it runs.", retry_after_s=5.0)


class RunningBox:
    """See the module's text. Make it on the loop it shall run on; `start` first, `stop` last."""

    def __init__(self, box: BoxFile) -> None:
        loop = asyncio.get_running_loop()
        self.box = box
        self.is_ready = False
        self.started_s = now()
        # the ports first: nothing is started where one of them cannot be had
        sockets = [bind(box.listen, what="listen")]
        if box.listen_tls is not None:
            sockets.append(bind(box.listen_tls, what="listen-tls"))
        self.nursery = Nursery()
        self.sweep = Sweep(loop)
        self.history = History()
        self.loop_lag = LoopLag()
        self.access_log = AccessLog(box.access_log, Output(STDOUT).write)
        self.on_exchange_ended = self.access_log.add if box.trace_to is None else self._log_and_trace
        """What the holds tell of the end of each request: straight to the log where nothing is traced."""
        self.runtime = LocalRuntime(
            shares.local_definitions(box), instance=str(box.admin), state_dir=Path(box.state_dir)
        )  # fmt: skip
        self.holds = Holds(
            self, sweep=self.sweep, nursery=self.nursery, choose=random.Random().randrange,
            call_later=loop.call_later, clock=now,
        )  # fmt: skip
        self.autoscaler = Autoscaler(
            self.runtime, loop=loop, busy=self.holds.busy, activity=self.holds.activity,
            announce=self.history.on_decision,
        )  # fmt: skip
        self.reporter = Reporter(self.holds, self.autoscaler)
        self.ingress = Ingress(self.holds, loop.call_soon, self.on_exchange_ended)
        self.tracing = self._tracing(box)
        self.server = Server(
            self.tracing.place if self.tracing is not None else self.ingress.place, self.sweep,
            memory=BufferMemory(box.body_memory_bytes),
            limits=shares.connection_limits(box),
        )  # fmt: skip
        self.tls = CertificateWatch(BoxCertificates(box))
        self.entrances = [Entrance(self.server) for _ in sockets]
        self.listeners = [
            Listener(self.server, sock, way_in=entrance) for sock, entrance in zip(sockets, self.entrances, strict=True)
        ]
        self.remembered = Remembered(Path(box.state_dir))
        self._export: SpanExport | None = None

    def _tracing(self, box: BoxFile) -> Tracing | None:
        if box.trace_to is None:
            return None

        def counters(service: str) -> ServiceCounters | None:
            hold = self.holds.get(service)
            return hold.counters if hold is not None else None

        return Tracing(self.ingress.place, counters, ratio=box.trace_ratio)

    async def start(self) -> None:
        """Take over what an earlier zerogate left running, then take traffic. Raises MachineError."""
        self.runtime.set_quiescer(self.holds)
        await self.runtime.start()
        self.autoscaler.import_state(self.remembered.load())
        self._configure(self.box)
        self.runtime.subscribe(self.history)
        self.runtime.subscribe(self.holds)
        self.autoscaler.start()
        self.nursery.start(self.reporter.run(), name="reporter")
        self.nursery.start(self._keep_house(), name="housekeeping")
        self.nursery.start(self.tls.run(self._use_certificates), name="certificates")
        self.loop_lag.start()
        await self._start_export()
        for listener in self.listeners:
            await listener.start()
        self.is_ready = True

    async def _start_export(self) -> None:
        if self.tracing is not None and self.box.trace_to is not None:
            self._export = await start_export(self.tracing, self.box.trace_to)

    def apply(self, box: BoxFile, tls: LoadedTls) -> None:
        """Replace the services and certificates by those of another file. Addresses and the state folder stay as they
        are."""
        self.box = box
        self.tls.follow(BoxCertificates(box), tls)
        self.access_log.mode = box.access_log
        self.server.limits = shares.connection_limits(box)
        self.server.memory.limit_bytes = box.body_memory_bytes
        self.history.forget(set(box.services))
        self.runtime.configure(shares.local_definitions(box))
        self._configure(box)

    def _configure(self, box: BoxFile) -> None:
        router = Router(shares.routes(box))
        self._use_certificates(self.tls.loaded)
        self.ingress.configure(router)
        if self.tracing is not None:
            self.tracing.configure(box.trace_ratio, shares.prefixes(box))
        self.autoscaler.configure(shares.scaled(box))

    def _use_certificates(self, tls: LoadedTls) -> None:
        """Of new connections; those that are there keep what they began with."""
        for entrance in self.entrances:
            entrance.trusted = self.box.trusted_senders
        if tls.server is not None:
            self.entrances[-1].contexts = tls.server
        self.holds.configure(shares.policies(self.box), shares.endpoints(self.box, tls.endpoints))

    async def remember(self) -> None:
        """Write at once what must survive even a kill: a person's word."""
        await self.remembered.save(self.autoscaler.export_state())

    async def stop(self) -> None:
        """Leave in order: finish what runs, stop the model servers, close."""
        await leave(
            Steps(
                readiness_off=self._not_ready,
                close_listeners=self._close_listeners,
                refuse_held=lambda: self.holds.refuse_all(_LEAVING),
                finish_running=self._finish_running,
                stop_replicas=self._stop_replicas,
                close_infrastructure=self._close,
            )
        )

    def stop_at_once(self) -> None:
        """The second Ctrl-C: kill what runs; `stop`, which is under way, then ends soon."""
        for listener in self.listeners:
            listener.abort()
        self.runtime.kill_now()

    def _not_ready(self) -> None:
        self.is_ready = False
        self.autoscaler.close()

    async def _close_listeners(self) -> None:
        await asyncio.gather(*(listener.leave_port() for listener in self.listeners))

    async def _finish_running(self) -> None:
        # they share a server, so each of them waits for the connections of all
        for entrance in self.entrances:
            entrance.abort_waiting()
        await self.listeners[0].drain(deadline_s=DRAIN_S)

    async def _stop_replicas(self) -> None:
        await self.runtime.aclose(drain_deadline_s=0.0)

    async def _close(self) -> None:
        self.loop_lag.close()
        self.holds.close()
        await self.remember()
        await self.nursery.aclose()
        self.access_log.finish()
        if self._export is not None:
            await asyncio.to_thread(self._export.stop)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            await self.access_log.flush_all()
            await self.remembered.save_if_due(self.autoscaler.export_state, now())

    def lost_connections(self) -> dict[str, int]:
        """Connections that never came as far as a request, by reason."""
        counters = [entrance.counters for entrance in self.entrances]
        return {
            "handshake": sum(one.failed_handshakes for one in counters),
            "header": sum(one.bad_headers for one in counters),
            "late": sum(one.late for one in counters),
        }

    # What the holds tell

    def on_wake(self, service: str) -> None:
        """A request waits."""
        self.reporter.wake(service)

    def on_idle(self, replica_id: str) -> None:
        """A replica that drains is empty."""
        self.runtime.on_idle(replica_id)

    def _log_and_trace(self, service: str, exchange: Exchange) -> None:
        self.access_log.add(service, exchange)
        if self.tracing is not None:
            self.tracing.note(service, exchange)
