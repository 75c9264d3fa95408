"""What every test is held to: nothing blocks the loop, and no process outlives its test.

Two ways to see a blocked loop. Calls that are known to wait (`BlockingCalls`) fail at once, on any loop. On the stock
loop every callback is timed too (`SlowCallbacks`): one that took longer than `LONGEST_CALLBACK_S` *and* waited or
computed for it is a fault; a callback that was merely preempted by another process is not.
"""

import asyncio
import ctypes
import gc
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

LONGEST_CALLBACK_S = 0.1
"""Fifty times the 2 ms that production allows: what exceeds this is a mistake and never the test machine's mood."""
LONGEST_WAIT_S = 0.3
"""Of a callback that waits: on a busy machine the interpreter's own lock is waited for, too."""

_GET_CHILD_SUBREAPER = 37

spared: set[int] = set()
"""Children whose owner ends them and that may outlive a test: what a fixture of a longer scope starts again in one."""


def end_processes_of_failed_tests(patch: pytest.MonkeyPatch) -> None:
    """From here on a `with Popen(...)` whose body raised kills its process and does not wait for it for ever."""
    leave = subprocess.Popen.__exit__

    def leave_at_once(process: Any, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            process.kill()
        leave(process, kind, error, trace)

    patch.setattr(subprocess.Popen, "__exit__", leave_at_once)


class BlockingCallError(AssertionError):
    """Something waited on the thread of a running loop."""


def _on_running_loop() -> bool:
    return asyncio._get_running_loop() is not None


class BlockingCalls:
    """Replaces calls that wait by ones that raise while a loop runs in the calling thread, and remembers them."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        self._guard(patch, time, "sleep", lambda *args, **_: bool(args and args[0] > 0))
        for name in ("connect", "recv", "recv_into", "accept", "sendall"):
            self._guard(patch, socket.socket, name, lambda sock, *_, **__: sock.gettimeout() != 0)
        for name in ("wait", "communicate"):
            self._guard(patch, subprocess.Popen, name, lambda process, *_, **__: process.returncode is None)
        self._guard(patch, os, "system", lambda *_, **__: True)

    def _guard(self, patch: pytest.MonkeyPatch, owner: Any, name: str, waits: Callable[..., bool]) -> None:
        original = getattr(owner, name)
        title = f"{getattr(owner, '__module__', '')}.{owner.__name__}.{name}".lstrip(".")

        def guarded(*args: Any, **kwargs: Any) -> Any:
            if _on_running_loop() and waits(*args, **kwargs):
                self.seen.append(title)
                raise BlockingCallError(f"{title} was called on the loop's thread and would have blocked it")
            return original(*args, **kwargs)

        patch.setattr(owner, name, guarded)


class SlowCallbacks:
    """Times every callback of stock loops and remembers the slow ones.

    Garbage collections do not count: in a test run they go through the heap of the run, which is not the product's.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._collected_s = 0.0
        self._collection_began_s = 0.0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        run = asyncio.Handle._run
        gc.callbacks.append(self._on_collection)

        def timed(handle: asyncio.Handle) -> None:
            began, cpu, waits, collected = (
                time.perf_counter(),
                time.thread_time(),
                _voluntary_waits(),
                self._collected_s,
            )
            run(handle)
            collecting = self._collected_s - collected
            took = time.perf_counter() - began - collecting
            if took > LONGEST_CALLBACK_S:
                computed = time.thread_time() - cpu - collecting
                waited = took > LONGEST_WAIT_S and _voluntary_waits() > waits
                if computed > LONGEST_CALLBACK_S or waited:
                    self.seen.append(f"{took * 1e3:.0f} ms ({computed * 1e3:.0f} ms of CPU) in {handle!r}")

        patch.setattr(asyncio.Handle, "_run", timed)

    def uninstall(self) -> None:
        """Hear of collections no more."""
        gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collection_began_s = time.perf_counter()
        else:
            self._collected_s += time.perf_counter() - self._collection_began_s


def _voluntary_waits() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def descendants() -> dict[int, str]:
    """Processes below this one by pid, with their command lines; zombies are among them.

    Those in another PID namespace are not: they end with its first process, which is its owner's.
    """
    found: dict[int, str] = {}
    open_pids = [os.getpid()]
    while open_pids:
        for child in _children(open_pids.pop()):
            if not _shares_pids(child):
                continue
            if child not in spared:
                found[child] = _command_line(child)
            open_pids.append(child)
    return found


def _shares_pids(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    except OSError:
        return True  # it ended; whether it was waited for is seen by its pid


def marked(token: str) -> dict[int, str]:
    """Processes anywhere on the machine that carry `token` in their environment, this one excepted."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if token.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = _command_line(int(folder.name))
        except OSError:
            continue
    return found


def is_ended(pid: int) -> bool:
    """Whether the process ended and only waits to be waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def is_subreaper() -> bool:
    """Whether orphans of our children become our children: then an ended child need not be one that we started."""
    flag = ctypes.c_int()
    ctypes.CDLL(None).prctl(_GET_CHILD_SUBREAPER, ctypes.byref(flag), 0, 0, 0)
    return bool(flag.value)


def kill(pids: Iterable[int]) -> None:
    """End processes that a test left behind, so that the next one starts clean."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except OSError:
            continue


def _children(pid: int) -> list[int]:
    """Asked twice for each test, so without `Path`, which takes four times as long."""
    found: list[int] = []
    folder = f"/proc/{pid}/task"
    try:
        threads = os.listdir(folder)
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"{folder}/{thread}/children") as file:
                found += [int(word) for word in file.read().split()]
        except OSError:
            continue
    return found


def _command_line(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "(gone)"
    return b" ".join(words).decode(errors="replace").strip() or "(ended, never waited for)"
