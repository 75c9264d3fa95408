"""A running activator: holds, ports, links to sidecars and the view of the cluster, wired together. Nothing is decided
here.
"""

import asyncio
import logging
import random
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import uvloop

from activator import metrics
from activator.bare import Bare
from activator.doors import Doors
from activator.holds import Holds
from activator.obstacles import tell
from activator.settings import Settings, read
from activator.sidecars import Sidecars
from activator.telling import Telling
from zerogate import startup
from zerogate.clock import now, wall
from zerogate.drain import Steps, leave, leaving
from zerogate.garbage import set_aside
from zerogate.http.access_log import AccessLog
from zerogate.http.admin import DRAIN, TEXT, Desk, Drained, Readiness, answer_json
from zerogate.http.admin import Path as AdminPath
from zerogate.http.exchange import Exchange
from zerogate.http.listener import Listener, bind
from zerogate.http.memory import BufferMemory
from zerogate.http.server import ConnectionLimits, Server
from zerogate.http.sweep import Sweep
from zerogate.output import STDOUT, Output
from zerogate.process import usage
from zerogate.reporting.sender import Target
from zerogate.runtime.interface import Trouble
from zerogate.tasks import Nursery

if TYPE_CHECKING:
    from activator.view import Shown
    from zerogate.kube.access import Access

log = logging.getLogger("activator")

REPORT_S: Final = 1.0
MOST_LATE_S: Final = 30.0
"""Beyond the wait that is set: kube-proxy looks again at everything after so long by default (`syncPeriod`)."""
LAST_ANSWERS_S: Final = 1.0
"""For refusals that are on their way at the drain deadline, and for the last report."""
_LEAVING: Final = leaving(
    "This activator is being stopped and no replica took the request until then. Try again.", retry_after_s=1.0
)
_PATHS: Final = {b"/readyz": AdminPath(), b"/healthz": AdminPath(), b"/metrics": AdminPath(), b"/drain": DRAIN}


class Activator:
    """See the module's text. Make it on the loop it shall run on; `start` first, `stop` last. Raises MachineError."""

    def __init__(self, settings: Settings, access: "Access", *, name: str) -> None:
        # what a cluster needs is loaded here, so that a gateway may use the rest of this package without it
        from activator.view import View
        from zerogate.kube.client import KubeClient

        loop = asyncio.get_running_loop()
        self._settings = settings
        chance = random.Random()
        self._nursery = Nursery()
        sweep = Sweep(loop)
        self._access_log = AccessLog(settings.access_log, Output(STDOUT).write)
        self.on_exchange_ended = self._access_log.add
        """What the holds tell of the end of each request."""
        self.holds = Holds(
            self, sweep=sweep, nursery=self._nursery, choose=chance.randrange, call_later=loop.call_later, clock=now
        )  # fmt: skip
        self._bare = Bare(self.holds, sweep=sweep, nursery=self._nursery, slot_file=None)
        self._telling = self._make_telling(name, chance) if settings.stats else None
        self._sidecars = Sidecars(
            self.holds, name, sweep=sweep, nursery=self._nursery, jitter=chance.random, telling=self._telling
        )  # fmt: skip
        self._memory = BufferMemory(settings.body_memory_bytes)
        self.doors = Doors(
            self.holds, host=settings.listen_host, sweep=sweep, nursery=self._nursery, memory=self._memory,
            limits=ConnectionLimits(total=settings.max_connections),
            drain_s=settings.drain_deadline_s, note=self._access_log.add,
        )  # fmt: skip
        self._desk = Desk(
            _PATHS, self._serve, self._tell, where="Requests for services go to other ports.",
            local_changes=settings.local_changes,
        )  # fmt: skip
        admin = bind(settings.admin, what="--admin", example="--admin HOST:PORT")
        self.admin_port = int(admin.getsockname()[1])
        self._administration = Listener(Server(self._desk.place, sweep), admin)
        self._client = KubeClient(access)
        self._view = View(
            self._client, self._on_shown, home=settings.namespace, namespace=settings.watch, kinds=settings.kinds
        )
        self._troubles: Mapping[str, Trouble] = {}
        self._ports = 0
        self._wakes = 0
        self._started_at = wall()
        self._is_synced = False
        self._is_leaving = False
        self._at_once = asyncio.Event()
        self._finish_by_s = 0.0

    def _make_telling(self, name: str, chance: random.Random) -> Telling:
        settings = self._settings
        target = Target(
            addresses=settings.stats, source=name, kind="activator", token_file=settings.stats_token_file,
            ca_file=settings.stats_ca_file,
        )  # fmt: skip
        return Telling(
            self.holds, target,
            nursery=self._nursery, jitter=chance.random, on_unacknowledged=self._wake_ourselves, bare=self._bare,
        )  # fmt: skip

    async def start(self) -> None:
        """See the cluster, and open all ports."""
        await self._administration.start()
        self._nursery.start(self.doors.run(), name="ports")
        self._nursery.start(self._report(), name="reports")
        if self._telling is not None:
            self._telling.start()
        await self._view.start()
        self._is_synced = True

    # What the cluster shows

    def _on_shown(self, shown: "Shown") -> None:
        """Work by it, in one callback: no request sees half of it."""
        self._sidecars.close_all_but(shown.policies)
        for hold in list(self.holds):
            if hold.service not in shown.policies:
                self._bare.set_replicas(hold.service, ())
        self.holds.configure(shown.policies, {})
        for service, replicas in shown.sidecars.items():
            self._sidecars.set_replicas(service, replicas)
        for service, bare in shown.bare.items():
            self._bare.set_replicas(service, bare)
        for service in shown.policies:
            trouble, before = shown.troubles.get(service), self._troubles.get(service)
            if trouble != before:
                tell(self.holds[service], trouble, before)
        self._troubles = shown.troubles
        self._ports = len(shown.ports)
        self.doors.configure(shown.ports)

    # What the holds tell

    def on_wake(self, service: str) -> None:
        """A request waits."""
        if self._telling is not None:
            self._telling.wake(service)
        else:
            self._wake_ourselves(service)

    def on_idle(self, replica_id: str) -> None:
        """A replica that takes nothing new is empty: whoever stops it asks its sidecar, or here if it has none."""
        self._bare.on_idle(replica_id)

    def _wake_ourselves(self, service: str) -> None:
        self._wakes += 1
        self._nursery.start(self._view.wake(service), name=f"wake {service}")

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self._view.on_time()
            await self._access_log.flush_all()
            changed = self.holds.take_changed()
            if self._telling is not None:
                self._telling.note(changed)

    # The admin port

    def _serve(self, exchange: Exchange, path: bytes, now_s: float) -> None:
        if path == b"/metrics":
            exchange.answer(200, TEXT, self.metrics().encode(), now_s)
        elif path == b"/healthz":
            answer_json(exchange, 200, {"status": "ok"}, now_s)
        elif path == b"/readyz":
            readiness = self.readiness()
            answer_json(exchange, 200 if readiness.ready else 503, readiness, now_s)
        else:
            self._is_leaving = True
            self.doors.leave_soon()
            self._desk.wait(exchange, deadline_s=now_s + self._settings.drain_wait_s, now_s=now_s)

    def _tell(self, exchange: Exchange, now_s: float) -> None:
        """Nodes have had the time to notice."""
        inside = sum(hold.meter.in_flight + hold.meter.held for hold in self.holds)
        answer_json(exchange, 503 if inside else 200, Drained(drained=not inside, in_flight=inside), now_s)

    def readiness(self) -> Readiness:
        """Whether every Service that is answered for would be answered here."""
        if self._is_leaving:
            return Readiness(ready=False, detail="draining")
        if not self._is_synced:
            return Readiness(ready=False, detail="; ".join(self._view.faults) or "the cluster has not been seen yet")
        if not self.doors.is_open:
            return Readiness(ready=False, detail="; ".join(self.doors.faults.values()) or "ports are being opened")
        return Readiness(ready=True, detail=f"{self._ports} ports")

    def metrics(self) -> str:
        """The text for Prometheus."""
        for hold in self.holds:
            hold.on_read()
        own = {
            "started_at": self._started_at, "connections": self.doors.connections, "ports": self._ports,
            "closed_ports": len(self.doors.faults), "wakes": self._wakes,
            "body_bytes": self._memory.body_bytes, "answer_bytes": self._memory.answer_bytes,
            "upload_bytes": self._memory.upload_bytes, "head_bytes": self._memory.head_bytes,
        }  # fmt: skip
        return metrics.text(self.holds, usage(), own)

    # Leaving

    async def stop(self) -> None:
        """Leave in order: finish what runs, close."""
        await leave(
            Steps(
                readiness_off=self._readiness_off,
                wait_for_senders=self._wait_for_senders,
                close_listeners=self.doors.leave_ports,
                refuse_held=self._let_wait,
                finish_running=self._finish_running,
                stop_replicas=self._stop_asking,
                close_infrastructure=self._close,
            )
        )

    def stop_at_once(self) -> None:
        """The second signal: reset what runs; `stop`, which is under way, then ends soon."""
        self._at_once.set()
        self.doors.abort()

    def _readiness_off(self) -> None:
        self._is_leaving = True
        self.doors.leave_soon()

    async def _wait_for_senders(self) -> None:
        """Nodes learn of it by way of an autoscaler that writes slices, the API server and kube-proxy: the wait that is
        set is for most of them, and who goes on sending is waited for. That time is taken from what runs."""
        settings = self._settings
        self._finish_by_s = now() + settings.drain_wait_s + settings.drain_deadline_s
        if settings.drain_wait_s:
            late_s = min(MOST_LATE_S, settings.drain_deadline_s / 2)
            await self.doors.until_quiet(
                least_s=settings.drain_wait_s, most_s=settings.drain_wait_s + late_s, at_once=self._at_once
            )  # fmt: skip

    def _let_wait(self) -> None:
        """What waits here waits for a replica that others start, so it has until the deadline too."""

    async def _finish_running(self) -> None:
        deadline_s = 0.0 if self._at_once.is_set() else max(0.0, self._finish_by_s - now())
        waiting = asyncio.get_running_loop().call_later(deadline_s, self.holds.refuse_all, _LEAVING)
        reset = await self.doors.drain(deadline_s=deadline_s + LAST_ANSWERS_S)
        waiting.cancel()
        if reset:
            log.warning("%d connections were reset: they had not ended at the deadline", reset)

    async def _stop_asking(self) -> None:
        self._sidecars.close()
        self.holds.close()

    async def _close(self) -> None:
        await asyncio.sleep(0)
        await self._view.aclose()
        if self._telling is not None:
            self._telling.note(self.holds.take_changed())
            await self._telling.close()
        self._administration.stop_accepting()
        await self._administration.drain(deadline_s=LAST_ANSWERS_S)
        await self._nursery.aclose()
        self._access_log.finish()
        await self._client.aclose()


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until told to leave; the exit code."""
    return startup.run(
        "activator", lambda: read(arguments, environ), lambda settings: uvloop.run(_main(settings, environ))
    )


async def _main(settings: Settings, environ: Mapping[str, str]) -> None:
    from zerogate.kube.access import way_in

    access = await way_in(settings.kubeconfig, environ)
    activator = Activator(settings, access, name=socket.gethostname())
    left = startup.told_to_leave(activator.stop_at_once)
    starts = Nursery()
    starts.start(_start(activator), name="start")
    await left.wait()
    await starts.aclose()
    log.info("leaving: what is in flight is finished (a second signal: at once)")
    await activator.stop()


async def _start(activator: Activator) -> None:
    """In a task of its own: a cluster that does not answer must not keep the process from leaving."""
    await activator.start()
    log.info("the cluster is known; administration on port %d", activator.admin_port)
    set_aside()
