"""The demonstration's zerogate: a real `zerogate up` in a process of its own, from a file in a temporary folder.

Invariant: when `running` is left, however that happens, the process and the model servers below it are gone. It leads
a session of its own, so that Ctrl-C reaches the story first, which then ends it in order.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Final

import yaml

from cli.client import Admin, UnreachableError
from cli.demo.cast import SERVICE, Cast
from cli.demo.errors import StoryError
from zerogate.admin.api import ServiceStatus
from zerogate.clock import now
from zerogate.demo.weights import cache_folder

ROOT: Final = Path(__file__).resolve().parents[2]
"""Where the packages lie: run from here, the modules are found whether they are installed or not."""
USUAL_PORTS: Final = (8080, 8081)
_UP_WITHIN_S: Final = 30.0
_PATIENCE_S: Final = (45.0, 10.0)
"""For the first signal (answers may finish for 30 s) and the second (everything is killed); then the process is."""
_SAID_LINES: Final = 12
_TAKEN: Final = "is taken by another program"
"""How `zerogate.http.listener` says so."""


class PortTakenError(StoryError):
    """zerogate could not have a port."""


class Box:
    """The running process. `ports` are those of traffic and administration; `taken`: usual ones not to be had."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, ports: tuple[int, int]) -> None:
        self.process = process
        self.folder = folder
        self.traffic = f"http://127.0.0.1:{ports[0]}"
        self.admin = Admin(f"http://127.0.0.1:{ports[1]}")
        self.taken = tuple(usual for usual, port in zip(USUAL_PORTS, ports, strict=True) if usual != port)

    def status(self) -> ServiceStatus:
        """The service as it stands. Raises StoryError where zerogate is no more."""
        try:
            return self.admin.service(SERVICE)
        except UnreachableError as error:
            raise StoryError(self._death() or str(error)) from error

    def replica_s(self) -> float:
        """Seconds that replicas have existed, as zerogate counts them for its bill."""
        series = f'zerogate_replica_seconds_total{{service="{SERVICE}"}} '
        lines = (line.removeprefix(series) for line in self.admin.metrics().splitlines() if line.startswith(series))
        return float(next(lines, "nan"))

    def wait_until_up(self) -> None:
        """Raises StoryError where it does not come up, with what it said."""
        deadline_s = now() + _UP_WITHIN_S
        while now() < deadline_s:
            if death := self._death():
                raise PortTakenError(death) if _TAKEN in death else StoryError(death)
            with contextlib.suppress(UnreachableError):
                if self.admin.health().pid == self.process.pid:
                    return
            sleep(0.02)
        raise StoryError(f"zerogate did not come up within {_UP_WITHIN_S:.0f} s.\n{self._said()}")

    def stop(self) -> int:
        """End it in order, or at once where that takes too long or Ctrl-C comes again; the exit code."""
        for patience_s in _PATIENCE_S:
            self._signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                return self.process.wait(patience_s)
        self._signal(signal.SIGKILL)
        return self.process.wait()

    def _signal(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def _death(self) -> str:
        code = self.process.poll()
        return "" if code is None else f"zerogate ended with exit code {code}.\n{self._said()}".rstrip()

    def _said(self) -> str:
        lines = (self.folder / "up.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-_SAID_LINES:])


@contextlib.contextmanager
def running(cast: Cast, folder: Path) -> Iterator[Box]:
    """A zerogate that takes traffic. Raises StoryError where it does not come up or does not leave in order."""
    learned = cache_folder(os.environ) / "demo-learned.json" if cast.needs_weights else None
    _copy(learned, folder / "state" / "learned.json")
    box = _spawn(cast, folder)
    try:
        try:
            box.wait_until_up()
        except PortTakenError:  # by somebody who was quicker, after it was found to be free
            box = _spawn(cast, folder)
            box.wait_until_up()
        yield box
    finally:
        code = box.stop()
    _copy(folder / "state" / "learned.json", learned)
    if code != 0:
        raise StoryError(f"zerogate left with exit code {code}.\n{box._said()}")


def _spawn(cast: Cast, folder: Path) -> Box:
    ports = _ports()
    _write_file(cast, folder, ports)
    with (folder / "up.log").open("wb") as log:
        command = [sys.executable, "-m", "cli", "up", str(folder / "zerogate.yaml")]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    return Box(process, folder, ports)


def _write_file(cast: Cast, folder: Path, ports: tuple[int, int]) -> None:
    service = {
        "command": list(cast.command),
        "cwd": str(ROOT),
        "start-timeout": cast.start_timeout,
        "stop-grace": "5s",
        "models": [cast.model],
        "policy": {"idle-timeout": cast.idle_timeout},
    }
    content = {
        "listen": f"127.0.0.1:{ports[0]}",
        "admin": f"127.0.0.1:{ports[1]}",
        "state-dir": str(folder / "state"),
        "services": {SERVICE: service},
    }
    (folder / "zerogate.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def _ports() -> tuple[int, int]:
    """The usual ports, or free ones in the place of those that are taken."""
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(_bound(usual)).getsockname()[1] for usual in USUAL_PORTS)
        return int(first), int(second)


def _bound(usual: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", usual))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def _copy(source: Path | None, target: Path | None) -> None:
    """What a demonstration learned of the model's start, from one time to the next; nothing depends on it."""
    if source is None or target is None or not source.exists():
        return
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
