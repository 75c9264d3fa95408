"""The parent of a gateway's processes: it binds, forks, watches, sums and answers, and carries no traffic.

It never makes a loop or a thread, so that it can fork at any time: all that happens is a `poll` over signals, the
pidfds of its children and their messages. Who is forked and replaced is decided in `gateway.crew`, what is summed in
`gateway.tally`. The listening sockets stay open here, so that what waits in the kernel survives a worker.
"""

import gc
import itertools
import logging
import os
import re
import select
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from gateway import admin, worker
from gateway.children import TAKEN_SIGNALS, Child, fork
from gateway.crew import Crew, Effect, Fork, Restarted, TellToLeave
from gateway.file import GatewayFile, read_file
from gateway.messages import (
    Answer,
    Applied,
    Apply,
    Ask,
    FromParent,
    Leave,
    LeaveAtOnce,
    Leaving,
    MessageError,
    Ready,
    Report,
    ToParent,
)
from gateway.metrics import Crowd, text
from gateway.reloads import Asker, Reloads
from gateway.settings import Settings
from gateway.tally import Tally
from zerogate.clock import now, wall
from zerogate.errors import DefinitionErrors
from zerogate.http.admin import Drained, Readiness
from zerogate.http.listener import bind, bind_shared

log = logging.getLogger("gateway")

GRACE_S: Final = 10.0
"""Beyond the drain deadline, until a process that does not leave is killed."""


class Parent:
    """See the module's text. Raises MachineError; `run` returns the exit code."""

    def __init__(self, settings: Settings, file: GatewayFile) -> None:
        self._settings = settings
        self._file = file
        self._edition = 1
        self._count = settings.workers or len(os.sched_getaffinity(0))
        self._ports = bind_shared(
            settings.listen, self._count, what="--listen", example="--listen HOST:PORT"
        )  # fmt: skip
        self._shared = [bind(settings.listen_unix, what="--listen-unix")] if settings.listen_unix else []
        self._admin_port = bind(settings.admin, what="--admin", example="--admin HOST:PORT")
        numbers = itertools.count(1)
        self._workers = Crew(self._count, lambda: next(numbers))
        self._admins = Crew(1, lambda: next(numbers))
        self._children: dict[int, Child] = {}
        self._admin_numbers: set[int] = set()
        self._tally = Tally()
        self._tally.configure(file.services, self._edition)
        self._name = _name()
        self._wakeup, self._waker = socket.socketpair()
        self._started_at = wall()
        self._reloads = Reloads()
        self._applied = self._refused = 0
        self._draining: list[Asker] = []
        """Who asked for /drain."""
        self._drained_by_s = 0.0
        """Then they are told how many requests are left."""
        self._kill_s: float | None = None
        self._is_ending = False
        """Told to end, and not only to drain."""

    def run(self) -> int:
        """Until all have left."""
        self._take_signals()
        log.info(
            "%d worker%s for requests on %s, administration on %s, %d service%s in %s",
            self._count, "" if self._count == 1 else "s", _address(self._ports[0]), _address(self._admin_port),
            len(self._file.services), "" if len(self._file.services) == 1 else "s", self._settings.file,
        )  # fmt: skip
        # what is there now is shared with all children, as long as nobody looks at it
        gc.collect()
        gc.freeze()
        while not self._is_over():
            self._look_at_clock(now())
            self._wait()
        return 0

    def _is_over(self) -> bool:
        if not self._is_ending or self._workers.present:
            return False
        if not self._admins.is_leaving:
            self._answer_drains(now())
            self._perform_admin(self._admins.leave(), now())
            self._kill_s = now() + GRACE_S
        return not self._children

    def _look_at_clock(self, now_s: float) -> None:
        self._perform(self._workers.due(now_s), now_s)
        self._perform_admin(self._admins.due(now_s), now_s)
        if self._kill_s is not None and now_s >= self._kill_s:
            self._kill_s = None
            for number in self._workers.present or (self._admins.present if self._is_ending else ()):
                log.warning("process %d does not leave: it is killed", self._children[number].pid)
                self._children[number].kill()
        for one in self._reloads.due(now_s):
            detail = f"{one.missing} workers have not taken the file yet; they will." if one.missing else ""
            self._answer(one.asker, 503 if one.missing else 200, {"applied": not one.missing, "detail": detail})
        self._answer_drains(now_s)

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        by_descriptor: dict[int, Child] = {}
        for child in self._children.values():
            poll.register(child.pidfd, select.POLLIN)
            by_descriptor[child.pidfd] = by_descriptor[child.channel.fileno()] = child
            if not child.is_mute:
                poll.register(child.channel, select.POLLIN | (select.POLLOUT if child.has_unsent else 0))
        drained_s = self._drained_by_s if self._draining else None
        times = [self._workers.next_s, self._admins.next_s, self._reloads.next_s, self._kill_s, drained_s]
        next_s = min((time_s for time_s in times if time_s is not None), default=None)
        found = poll.poll(None if next_s is None else max(0.0, next_s - now()) * 1000 + 1)
        heard = [descriptor for descriptor, _ in found]
        if self._wakeup.fileno() in heard:
            self._take_wakeups()
        for child in dict.fromkeys(by_descriptor[one] for one in heard if one in by_descriptor):
            self._hear(child, has_ended=child.pidfd in heard)

    # Children

    def _perform(self, effects: list[Effect], now_s: float) -> None:
        for effect in effects:
            if isinstance(effect, Fork):
                self._fork_worker(effect)
            elif isinstance(effect, TellToLeave):
                self._say(effect.number, Leave(effect.is_last))
            else:
                _tell_restarted(effect)

    def _perform_admin(self, effects: list[Effect], now_s: float) -> None:
        for effect in effects:
            if isinstance(effect, Fork):
                self._fork_admin(effect)
            elif isinstance(effect, TellToLeave):
                self._say(effect.number, Leave(effect.is_last))

    def _fork_worker(self, effect: Fork) -> None:
        number = effect.number
        sockets = (self._ports[effect.place], *self._shared)

        def live(channel: socket.socket) -> int:
            _name_process(f"worker {number}")
            start = worker.Start(
                settings=self._settings, name=f"{self._name}-{number}", edition=self._edition, file=self._file,
                sockets=sockets, channel=channel,
            )  # fmt: skip
            uvloop.run(worker.serve(start))
            return 0

        self._tally.begin(number)
        self._children[number] = fork(number, live, lambda: self._let_go(sockets))

    def _fork_admin(self, effect: Fork) -> None:
        settings = self._settings

        def live(channel: socket.socket) -> int:
            _name_process("admin")
            drain_s = settings.drain_wait_s + settings.drain_deadline_s + GRACE_S
            uvloop.run(admin.serve(self._admin_port, channel, drain_s=drain_s))
            return 0

        self._admin_numbers.add(effect.number)
        self._children[effect.number] = fork(effect.number, live, lambda: self._let_go((self._admin_port,)))

    def _let_go(self, kept: tuple[socket.socket, ...]) -> None:
        """In a child: of what is the parent's, or another child's."""
        for sock in (*self._ports, *self._shared, self._admin_port, self._wakeup, self._waker):
            if sock not in kept:
                sock.close()
        for child in self._children.values():
            child.close()

    def _hear(self, child: Child, *, has_ended: bool) -> None:
        try:
            for message in child.read():
                self._on_message(child, message)
        except MessageError as error:
            log.error("process %d: %s; it is killed", child.pid, error)
            child.kill()
        if has_ended:
            self._on_end(child)
        else:
            child.write()

    def _on_end(self, child: Child) -> None:
        how = child.reap()
        child.close()
        number, now_s = child.number, now()
        del self._children[number]
        is_admin = number in self._admin_numbers
        crew = self._admins if is_admin else self._workers
        replaced = crew.replaced
        effects = crew.on_end(number, now_s)
        if crew.replaced > replaced:
            pause_s = max(0.0, (crew.next_s or now_s) - now_s)
            who = "the admin process" if is_admin else f"worker {number}"
            when = f"in {pause_s:.1f} s" if pause_s else "at once"
            log.error("%s (process %d) ended with %s; it is replaced %s", who, child.pid, how, when)
        if is_admin:
            self._admin_numbers.discard(number)
            self._draining = [ask for ask in self._draining if ask[0] != number]
            self._perform_admin(effects, now_s)
        else:
            self._tally.end(number)
            self._reloads.on_end(number)
            self._perform(effects, now_s)

    def _say(self, number: int, message: FromParent) -> None:
        child = self._children.get(number)
        if child is not None:
            child.say(message)

    def _on_message(self, child: Child, message: ToParent) -> None:
        number, now_s = child.number, now()
        if isinstance(message, Report):
            self._tally.report(number, message)
        elif isinstance(message, Ready):
            if number in self._admin_numbers:
                self._admins.on_ready(number, now_s)
            else:
                log.info("worker %d (process %d) takes requests", number, child.pid)
                self._perform(self._workers.on_ready(number, now_s), now_s)
        elif isinstance(message, Leaving):
            log.info("worker %d (process %d) was told to leave: another one takes its place", number, child.pid)
            self._perform(self._workers.on_leaving(number, now_s), now_s)
        elif isinstance(message, Applied):
            self._reloads.on_applied(number, message.edition)
        elif isinstance(message, Ask):
            self._on_ask((number, message.number), message.path)

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
            self._perform(self._workers.restart(now()), now())
        elif not self._is_ending:
            log.info("leaving: what is in flight is finished (a second signal: at once)")
            self._is_ending = True
            self._leave()
        else:
            log.info("leaving at once")
            for worker_number in self._workers.present:
                self._say(worker_number, LeaveAtOnce())

    def _leave(self) -> None:
        if self._workers.is_leaving:
            return
        self._perform(self._workers.leave(), now())
        # from here on the workers alone have the port, and close it when they have served what came
        unix = self._settings.listen_unix
        if unix is not None:
            Path(unix.path).unlink(missing_ok=True)
        for sock in (*self._ports, *self._shared):
            sock.close()
        self._drained_by_s = now() + self._settings.drain_wait_s + self._settings.drain_deadline_s
        self._kill_s = self._drained_by_s + GRACE_S

    # The file

    def _reload(self, asker: Asker | None) -> None:
        try:
            data = Path(self._settings.file).read_bytes()
            file = read_file(data, self._settings.file)
        except (DefinitionErrors, OSError) as error:
            self._refused += 1
            log.error("the file is wrong, nothing was changed:\n%s", error)
            if asker is not None:
                self._answer(asker, 422, {"applied": False, "detail": str(error)})
            return
        self._applied += 1
        self._edition += 1
        self._file = file
        self._tally.configure(file.services, self._edition)
        self._reloads.begin(self._edition, self._workers.present, asker, now())
        for number in self._workers.present:
            self._say(number, Apply(self._edition, data))
        count = len(file.services)
        log.info("reloaded %s: %d service%s", self._settings.file, count, "" if count == 1 else "s")

    # What the admin port shows

    def _on_ask(self, asker: Asker, path: str) -> None:
        if path == "/metrics":
            self._say(asker[0], Answer(asker[1], 200, is_text=True, body=self._metrics().encode()))
        elif path == "/healthz":
            self._answer(asker, 200, {"status": "ok"})
        elif path == "/readyz":
            readiness = self._readiness()
            self._answer(asker, 200 if readiness.ready else 503, readiness)
        elif path == "/reload":
            self._reload(asker)
        else:
            log.info("told to drain")
            self._draining.append(asker)
            self._leave()

    def _answer(self, asker: Asker, status: int, value: Any) -> None:
        self._say(asker[0], Answer(asker[1], status, is_text=False, body=msgspec.json.encode(value)))

    def _answer_drains(self, now_s: float) -> None:
        is_empty = not self._workers.present
        if not self._draining or not (is_empty or now_s >= self._drained_by_s):
            return
        left = 0
        for service in self._file.services:
            gauges = self._tally.total(service).gauges
            left += int(gauges.get("in_flight", 0) + gauges.get("held", 0))
        for asker in self._draining:
            self._answer(asker, 200 if is_empty else 503, Drained(drained=is_empty, in_flight=left))
        self._draining.clear()

    def _readiness(self) -> Readiness:
        if self._workers.is_leaving:
            return Readiness(ready=False, detail="draining")
        serving = self._workers.serving
        return Readiness(ready=serving > 0, detail=f"{serving} of {self._count} workers take requests")

    def _metrics(self) -> str:
        crew = self._workers
        crowd = Crowd(
            started_at=self._started_at, serving=crew.serving, places=0 if crew.is_leaving else self._count,
            present=len(crew.present), replaced=crew.replaced, reloads=self._applied, failed_reloads=self._refused,
        )  # fmt: skip
        return text(self._tally, self._file.services, crowd)


def _name() -> str:
    """This gateway's own name, unlike any other's, to which workers add their number."""
    host = re.sub("[^A-Za-z0-9._-]", "-", socket.gethostname())[:32]
    return f"{host}-{os.urandom(6).hex()}"


def _name_process(what: str) -> None:
    """As `ps -o comm` and `top` show it."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(f"gw {what}")


def _tell_restarted(effect: Restarted) -> None:
    if effect.is_complete:
        log.info("all workers were replaced")
    else:
        log.error("a new worker did not come up: the restart is given up, the others stay")


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
