"""The processes and folders of a cluster, and that none outlives the run that started it.

Three nets, one below the other: `Process.stop`; a parent death signal, so that the kernel ends what a killed run left;
and `RunFolder`, which at the next start removes the folders of runs that are gone, with the processes noted in them.
Everything is started from one thread that lives as long as the interpreter, for the death signal follows the thread.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests import guards

T = TypeVar("T")

FOLDER = Path(tempfile.gettempdir()) / f"zerogate-kubernetes-{os.getuid()}"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Of everything that is started. The rest of our environment is not handed on: it marks the processes of a test."""

_LIVES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cluster")


class ClusterError(Exception):
    """Something of the cluster did not start or did not come to pass; says which and the end of its log."""


class Process:
    """One program of a cluster that can be stopped, killed, frozen and started again with the same command."""

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = [str(word) for word in command]
        self._env = {"PATH": PATH, "HOME": str(folder), "LANG": "C.UTF-8", **env}
        self._noted = folder / "processes"
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running program; 0 where none runs. nsenter stays before what it starts."""
        if self._popen is None or not self.is_running:
            return 0
        return next(iter(children(self._popen.pid)), 0) if self._command[0] == "nsenter" else self._popen.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start it; its output goes to the end of its log."""
        self._popen = _thread.submit(self._spawn).result()
        guards.spared.add(self._popen.pid)
        with self._noted.open("a") as noted:
            noted.write(f"{self._popen.pid} {started_at(self._popen.pid)} {self.name}\n")

    def stop(self, *, grace_s: float = 0) -> None:
        """End it: SIGTERM and so many seconds where `grace_s` is given, then SIGKILL. Waits for the end."""
        if self._popen is None:
            return
        if grace_s and self.is_running:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(grace_s)
        if self.is_running:
            self._signal(signal.SIGKILL)
            self._popen.wait(30)
        guards.spared.discard(self._popen.pid)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def end_of_log(self, lines: int = 15) -> str:
        """The last lines of what it wrote."""
        if not self.log.exists():
            return "(it wrote nothing)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: int) -> None:
        if pid := self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*_LIVES_WITH_US, *self._command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env
            )


class RunFolder:
    """A folder that belongs to this process: locked as long as it lives, removed at `close`."""

    def __init__(self, kind: str) -> None:
        FOLDER.mkdir(mode=0o700, exist_ok=True)
        remove_stale()
        self.path = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=FOLDER))
        self._lock = _locked(self.path)

    def close(self) -> None:
        """Remove it with all that is in it."""
        _remove(self.path)
        if self._lock is not None:
            os.close(self._lock)


def remove_stale() -> list[str]:
    """Remove the folders of runs that are gone, and end the processes noted there; the names of those folders."""
    stale = []
    for folder in FOLDER.iterdir() if FOLDER.exists() else ():
        if (lock := _locked(folder)) is not None:
            _end_noted(folder)
            _remove(folder)
            os.close(lock)
            stale.append(folder.name)
    return stale


def until(look: Callable[[], T | None], *, within_s: float, what: str, process: Process | None = None) -> T:
    """What `look` gives once it gives something true, asked every 20 ms.

    Raises ClusterError when that takes too long or `process` ended.
    """
    end = time.monotonic() + within_s
    while True:
        if found := look():
            return found
        gone = process is not None and not process.is_running
        if gone or time.monotonic() > end:
            why = f"{process.name} ended" if process and gone else f"it did not come to pass within {within_s:.0f} s"
            raise ClusterError(f"{what}: {why}\n{process.end_of_log() if process else ''}".rstrip())
        time.sleep(0.02)


def started_at(pid: int) -> str:
    """When a process began, in ticks since boot: with its pid it names one process for good. Empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def children(pid: int) -> list[int]:
    """The pids of a process's children."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def run(
    *command: str | Path, within_s: float = 60, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run one command to its end and give what it printed; ClusterError with what it complained of."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=within_s,
        env={"PATH": PATH, "LANG": "C.UTF-8", **(env or {})},
    )
    if done.returncode:
        raise ClusterError(f"`{' '.join(words)}` left with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"kubernetes: {text}\n")
    sys.stderr.flush()


def _locked(folder: Path) -> int | None:
    """A lock on a folder that goes with this process; None where another one has it or the folder is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _end_noted(folder: Path) -> None:
    noted = folder / "processes"
    for line in noted.read_text().splitlines() if noted.exists() else ():
        pid, began, _ = line.split(maxsplit=2)
        if began and started_at(int(pid)) == began:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _remove(folder: Path) -> None:
    """A folder and the control groups noted in it; those are removed leaves first, and only when nothing runs there."""
    noted = folder / "control-groups"
    for group in noted.read_text().splitlines() if noted.exists() else ():
        for path in sorted(Path("/sys/fs/cgroup").glob(f"*/{group}/**/"), key=lambda path: -len(path.parts)):
            with contextlib.suppress(OSError):
                path.rmdir()
    shutil.rmtree(folder, ignore_errors=True)
