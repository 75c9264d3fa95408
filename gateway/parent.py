"""The parent of a gateway's processes: it binds, forks, watches, sums and answers, and carries no traffic.

It never makes a loop or a thread, so that it can fork at any time: all that happens is a `poll` over signals, the
pidfds of its children and their messages. The processes are kept by `gateway.processes`, what they count is summed by
`gateway.tally`, the file is read by `gateway.editions`, and what the admin port is told is said by `gateway.replies`.
"""

import logging
import os
import re
import select
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

import uvloop

from activator.slot_locks import slot_file
from gateway import admin, worker
from gateway.children import TAKEN_SIGNALS
from gateway.cluster_side import ClusterSide
from gateway.doors import Doors
from gateway.editions import Editions
from gateway.file import GatewayFile
from gateway.messages import Amend, Applied, Apply, Ask, Changed, LeaveAtOnce, News, Report, ToParent, WakeUp, Woken
from gateway.processes import Processes
from gateway.reloads import Asker
from gateway.replies import Replies
from gateway.settings import Settings
from gateway.tally import Tally
from gateway.tls import ListenerWatch
from zerogate.clock import now
from zerogate.garbage import set_aside
from zerogate.http.certificate_watch import CHECK_S
from zerogate.http.tracing import SPANS

log = logging.getLogger("gateway")

GRACE_S: Final = 10.0
"""Beyond the drain deadline, until a process that does not leave is killed."""


class Parent:
    """See the module's text. Raises MachineError; `run` returns the exit code. `tls`: set where there is a TLS port."""

    def __init__(self, settings: Settings, file: GatewayFile, tls: ListenerWatch | None) -> None:
        self._settings = settings
        self._tls = tls
        self._workers = count = settings.workers or len(os.sched_getaffinity(0))
        self._doors = Doors(settings, count)
        self._name = _name()
        self._wakeup, self._waker = socket.socketpair()
        self._editions = Editions(settings.file, file)
        self._tally = Tally()
        self._tally.configure(file.services, self._editions.number)
        self._cluster = ClusterSide() if settings.cluster else None
        self._slot_file = slot_file() if settings.cluster else None
        self._processes = Processes(
            count, self, self, hung_after_s=settings.hung_after_s, watches_cluster=settings.cluster
        )  # fmt: skip
        self._replies = Replies(self._processes, self._tally, self._editions, tls, self._cluster, count=count)
        self._greeting = f"{count} worker{'' if count == 1 else 's'} for {self._doors}"
        self._drained_by_s = 0.0
        """Then those who asked for /drain are told how many requests are left."""
        self._look_at_tls_s = now() + CHECK_S
        """It wakes once a second, because of `gateway.vitals`: this needs no place among the times to wake."""
        self._kill_s: float | None = None
        self._is_ending = False
        """Told to end, and not only to drain."""

    def run(self) -> int:
        """Until all have left."""
        self._take_signals()
        services = "services" if self._cluster is not None else self._editions.services
        log.info("%s, %s in %s", self._greeting, services, self._settings.source)
        if self._settings.trace_to is not None:
            _load_spans()
        # what is there now is shared with all children, as long as nobody looks at it
        set_aside()
        while not self._is_over():
            self._look_at_clock(now())
            self._wait()
        return 0

    def _is_over(self) -> bool:
        if not self._is_ending or self._processes.workers.present:
            return False
        if not self._processes.admins.is_leaving:
            self._replies.look_at_drains(is_late=True)
            self._processes.leave_last()
            self._kill_s = now() + GRACE_S
        return self._processes.is_empty

    def _look_at_clock(self, now_s: float) -> None:
        self._processes.look(now_s)
        if self._tls is not None and now_s >= self._look_at_tls_s:
            self._look_at_tls_s = now_s + CHECK_S
            self._tls.refresh()
        if self._kill_s is not None and now_s >= self._kill_s:
            self._kill_s = None
            workers, others = self._processes.workers.present, self._processes.others
            self._processes.kill(workers or (others if self._is_ending else ()))
        for asker, outcome in self._editions.due(now_s):
            self._replies.answer(asker, 200 if outcome.applied else 503, outcome)
        self._replies.look_at_drains(is_late=now_s >= self._drained_by_s)

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        by_descriptor = self._processes.register(poll)
        drained_s = self._drained_by_s if self._replies.is_awaited else None
        times = [self._processes.next_s, self._editions.reloads.next_s, self._kill_s, drained_s]
        next_s = min((time_s for time_s in times if time_s is not None), default=None)
        found = poll.poll(None if next_s is None else max(0.0, next_s - now()) * 1000 + 1)
        heard = [descriptor for descriptor, _ in found]
        if self._wakeup.fileno() in heard:
            self._take_wakeups()
        for child in dict.fromkeys(by_descriptor[one] for one in heard if one in by_descriptor):
            self._processes.hear(child, has_ended=child.pidfd in heard)

    # What a forked process does

    def worker(self, number: int, place: int, channel: socket.socket) -> int:
        """A worker's whole life."""
        _name_process(f"worker {number}")
        doors = self._doors.of(place)
        self._doors.close_all_but([door.sock for door in doors])
        start = worker.Start(
            settings=self._settings, name=f"{self._name}-{number}", workers=self._workers,
            edition=self._editions.number, file=self._editions.file, doors=doors, tls=self._tls, channel=channel,
            slot_file=self._slot_file,
        )  # fmt: skip
        uvloop.run(worker.serve(start))
        return 0

    def admin(self, channel: socket.socket) -> int:
        """The admin process's whole life."""
        _name_process("admin")
        self._doors.close_all_but([self._doors.admin])
        drain_s = self._settings.drain_wait_s + self._settings.drain_deadline_s + GRACE_S
        local = self._settings.local_changes
        uvloop.run(admin.serve(self._doors.admin, channel, drain_s=drain_s, local_changes=local))
        return 0

    def cluster(self, channel: socket.socket) -> int:
        """The cluster process's whole life."""
        _name_process("cluster")
        self._doors.close_all_but(())
        if sys.modules.get("typing_extensions", sys) is None:
            del sys.modules["typing_extensions"]  # `gateway.__main__` does without it, aiohttp does not
        from gateway import cluster  # what it loads is of no use to the others, and forty megabytes

        uvloop.run(cluster.serve(self._settings, channel))
        return 0

    def let_go(self) -> None:
        """In a child: of what is the parent's."""
        self._wakeup.close()
        self._waker.close()

    # What the processes tell

    def on_begin(self, number: int) -> None:
        """A worker is forked."""
        if self._tls is not None:
            self._tls.refresh()
        self._tally.begin(number)

    def on_message(self, number: int, message: ToParent) -> None:
        """A process says something."""
        if isinstance(message, Report):
            self._tally.report(number, message)
        elif isinstance(message, Applied):
            self._editions.reloads.on_applied(number, message.edition)
        elif isinstance(message, Ask):
            self._on_ask((number, message.number), message)
        elif isinstance(message, WakeUp):
            self._processes.say_cluster(message)
        elif isinstance(message, Changed | News | Woken):
            self._on_cluster(message)

    def _on_cluster(self, message: Changed | News | Woken) -> None:
        assert self._cluster is not None
        if isinstance(message, News):
            self._cluster.on_news(message)
            return
        if isinstance(message, Woken):
            self._cluster.woken += 1
            return
        was_known = self._cluster.is_known
        file = self._cluster.stage(message)
        if file is None:
            return
        first = self._editions.number + 1
        are_same = file.services.keys() == self._editions.file.services.keys()
        told = self._editions.amend(file)
        if not are_same:
            self._tally.configure(file.services, first)
        for one in told:
            self._processes.say_workers(one)
        if not was_known:
            log.info("the cluster has %s", self._editions.services)
            self._processes.open()

    def on_end(self, number: int) -> None:
        """A process has ended."""
        self._tally.end(number)
        self._editions.reloads.on_end(number)
        self._replies.on_end(number)

    def _on_ask(self, asker: Asker, ask: Ask) -> None:
        if ask.path == "/metrics":
            self._replies.tell_metrics(asker, ask.accept)
        elif ask.path == "/healthz":
            self._replies.answer(asker, 200, {"status": "ok"})
        elif ask.path == "/readyz":
            self._replies.tell_readiness(asker)
        elif ask.path == "/services":
            self._replies.tell_services(asker)
        elif ask.path == "/reload":
            self._reload(asker)
        else:
            log.info("told to drain")
            self._replies.tell_drained(asker)
            self._leave()

    # Signals

    def _take_signals(self) -> None:
        self._wakeup.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in TAKEN_SIGNALS:
            signal.signal(number, lambda *_: None)

    def _take_wakeups(self) -> None:
        with suppress(BlockingIOError):
            for number in self._wakeup.recv(256):
                self._on_signal(number)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reload(None)
        elif number == signal.SIGUSR2:
            log.info("restarting the workers one after the other")
            self._processes.restart()
        elif not self._is_ending:
            log.info("leaving: what is in flight is finished (a second signal: at once)")
            self._is_ending = True
            self._leave()
        else:
            log.info("leaving at once")
            self._processes.say_workers(LeaveAtOnce())

    def _leave(self) -> None:
        if self._processes.workers.is_leaving:
            return
        self._processes.leave()
        self._doors.close_traffic()
        self._drained_by_s = now() + self._settings.drain_wait_s + self._settings.drain_deadline_s
        self._kill_s = self._drained_by_s + GRACE_S

    def _reload(self, asker: Asker | None) -> None:
        if self._tls is not None:
            self._tls.refresh()
        if self._tls is not None and self._tls.refused:
            told: Apply | Amend | str = self._editions.refuse(self._tls.refused)
        else:
            told = self._editions.read_again(self._processes.workers.present, asker, now())
        if isinstance(told, str):
            if asker is not None:
                self._replies.answer(asker, 422, {"applied": False, "detail": told})
            return
        self._tally.configure(self._editions.file.services, self._editions.number)
        self._processes.say_workers(told)


def _load_spans() -> None:
    """What is loaded here is shared by all workers."""
    if sys.modules.get("typing_extensions", sys) is None:
        del sys.modules["typing_extensions"]  # `gateway.__main__` does without it, OpenTelemetry does not
    import_module(SPANS)


def _name() -> str:
    """This gateway's own name, unlike any other's, to which workers add their number."""
    host = re.sub("[^A-Za-z0-9._-]", "-", socket.gethostname())[:32]
    return f"{host}-{os.urandom(6).hex()}"


def _name_process(what: str) -> None:
    """As `ps -o comm` and `top` show it."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(f"gw {what}")
