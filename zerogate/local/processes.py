"""Processes as /proc shows them, and handles by which exactly one process is signalled.

Pids are reused, so nothing is signalled by its pid: a `Handle` is a pidfd opened first and checked afterwards (same
start time as the process that was meant). If the process ended in between, a signal through the handle reaches nobody.
Called by `zerogate.local.replica` (what is left of a replica) and `zerogate.local.runtime` (what was left behind).
"""

import asyncio
import contextlib
import errno
import os
import select
import signal
import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self, TypeVar

import msgspec

from zerogate.names import REPLICA_MARK

_MARK: Final = f"{REPLICA_MARK}=".encode()
_DEAD_STATES: Final = "ZXx"

T = TypeVar("T")


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the process table. `start_ticks`: clock ticks since boot; with the pid it is unique."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    start_ticks: int
    mark: str | None = None
    """The text of zerogate's mark in its environment, whoever's it is; dead processes have none."""

    @property
    def is_dead(self) -> bool:
        return self.state in _DEAD_STATES


class Table:
    """All processes at one time, and who belongs together. Made in the thread that read it, used on the loop."""

    def __init__(self, processes: Iterable[Process]) -> None:
        self.by_pid = {process.pid: process for process in processes}
        self.by_mark: dict[str, list[int]] = {}
        self._by_session: dict[int, list[int]] = {}
        self._children: dict[int, list[int]] = {}
        for process in self.by_pid.values():
            self._children.setdefault(process.parent, []).append(process.pid)
            self._by_session.setdefault(process.session, []).append(process.pid)
            if process.mark is not None:
                self.by_mark.setdefault(process.mark, []).append(process.pid)

    def members(self, *, mark: str, leader: int | None, roots: Collection[int] = ()) -> list[Process]:
        """The living processes of one replica.

        They carry its mark, or are in the session of its leader (an environment can be wiped), or descend from one of
        those or of `roots`, pids known to be the replica's. `leader` must not have been waited for, or its number may
        be somebody else's by now: pass None then.
        """
        found = {*roots, *self.by_mark.get(mark, ())}
        if leader is not None:
            found.update((leader, *self._by_session.get(leader, ())))
        pending = list(found)
        while pending:
            for child in self._children.get(pending.pop(), ()):
                if child not in found:
                    found.add(child)
                    pending.append(child)
        return [self.by_pid[pid] for pid in sorted(found) if pid in self.by_pid and not self.by_pid[pid].is_dead]

    def dead_children(self, parent: int) -> list[Process]:
        """Children of `parent` that it has not waited for."""
        found = (self.by_pid[pid] for pid in self._children.get(parent, ()))
        return [process for process in found if process.is_dead]


def read_process(pid: int) -> Process | None:
    """The process without its mark, or None where there is none."""
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
    )


def read_table() -> Table:
    """All processes that can be seen. About 30 µs for each; blocks, so call it in a thread.

    Raises OSError where descriptors ran out: half a table would make living processes look gone.
    """
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and (process := read_process(int(name))) is not None:
            mark = None if process.is_dead else _read_mark(process.pid)
            found.append(process if mark is None else msgspec.structs.replace(process, mark=mark))
    return Table(found)


class Handle:
    """Exactly one process. `close` it in the end."""

    __slots__ = ("fd", "group", "pid", "sent")

    def __init__(self, fd: int, pid: int, group: int) -> None:
        self.fd = fd
        self.pid = pid
        self.group = group
        self.sent: signal.Signals | None = None

    @classmethod
    def of_child(cls, pid: int) -> Self:
        """Of a child that leads its group and was not waited for, so that its pid cannot be reused. Raises OSError."""
        return cls(os.pidfd_open(pid), pid, pid)

    @classmethod
    def of(cls, process: Process) -> Self | None:
        """Of a process seen in the table; None where it has ended since. Raises OSError where descriptors ran out."""
        try:
            fd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return None
        now = read_process(process.pid)
        if now is None or now.start_ticks != process.start_ticks:
            os.close(fd)
            return None
        return cls(fd, process.pid, process.group)

    def signal(self, number: signal.Signals) -> None:
        """Send it, once: a second SIGTERM makes many servers skip their clean-up."""
        if self.sent is number:
            return
        self.sent = number
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(self.fd, number)

    def is_alive(self) -> bool:
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return not poll.poll(0)

    def exit_code(self, *, reap: bool) -> int | None:
        """How our child ended: its status, or minus the signal; None where it lives or is nobody's child of ours.

        With `reap` it is waited for, and its pid becomes free.
        """
        options = os.WEXITED | os.WNOHANG | (0 if reap else os.WNOWAIT)
        try:
            found = os.waitid(os.P_PIDFD, self.fd, options)
        except (ChildProcessError, BlockingIOError):
            return None
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def close(self, *, reap: bool = True) -> None:
        """With `reap`, it is waited for if it is a dead child of ours. May be called twice."""
        if self.fd >= 0:
            if reap:
                self.exit_code(reap=True)
            os.close(self.fd)
            self.fd = -1


def wait_for_end(handles: Collection[Handle], timeout_s: float) -> None:
    """Block until all have ended, or the time is up."""
    poll = select.poll()
    alive = {handle.fd for handle in handles if handle.is_alive()}
    for fd in alive:
        poll.register(fd, select.POLLIN)
    for _ in range(max(1, round(timeout_s * 10))):
        if not alive:
            return
        for fd, _events in poll.poll(100):
            poll.unregister(fd)
            alive.discard(fd)


class Scanner:
    """Reads the table in one thread of its own; who asks while a reading has not begun shares it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "zerogate-proc")
        self._has_begun = threading.Event()
        self._reading: asyncio.Future[Table] | None = None

    async def table(self) -> Table:
        """A table whose reading began after the call."""
        if self._reading is None or self._has_begun.is_set():
            self._has_begun = threading.Event()
            self._reading = asyncio.get_running_loop().run_in_executor(self._thread, _read_after, self._has_begun)
        return await asyncio.shield(self._reading)

    async def run(self, work: Callable[[], T]) -> T:
        """Do something else that reads /proc, in the same thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def _read_after(has_begun: threading.Event) -> Table:
    has_begun.set()  # from here on processes may appear that this reading misses
    return read_table()


def reap_strays(table: Table, *, ours: Collection[int], seen: Collection[int]) -> set[int]:
    """Wait for dead children that nobody else will: orphans of replicas, which came to us as their subreaper.

    `ours`: pids that have an owner. Only a process of another session that was dead at the last look already (`seen`)
    is taken: a child that some other code started and waits for is neither. Returns what is to be `seen` next time.
    """
    my_session = os.getsid(0)
    dead = {p.pid for p in table.dead_children(os.getpid()) if p.session != my_session and p.pid not in ours}
    for pid in dead.intersection(seen):
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
    return dead.difference(seen)


def has_dead_child() -> bool:
    """Whether any child is dead and not waited for: one system call."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _read_mark(pid: int) -> str | None:
    environment = _read(f"/proc/{pid}/environ")
    if environment.startswith(_MARK):
        start = len(_MARK)
    else:
        start = environment.find(b"\0" + _MARK) + 1 + len(_MARK)
        if start == len(_MARK):
            return None
    end = environment.find(b"\0", start)
    return environment[start : end if end >= 0 else None].decode(errors="replace")


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return b""
    try:
        pieces = []
        while piece := os.read(fd, 65536):
            pieces.append(piece)
        return b"".join(pieces)
    except OSError:
        return b""
    finally:
        os.close(fd)
