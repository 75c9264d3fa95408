"""What the loads share: where things run, how often, and the record they write into."""

import contextlib
import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.peers import backends
from bench.peers.contestants import CONTESTANTS, Contestant, Purpose, Running, UnavailableError, started
from bench.peers.processes import Cores, StartError


class Extent(msgspec.Struct, frozen=True):
    """How much of everything. A request costs some 10 µs: a turn is a mean over 70,000 of them."""

    turns: int = 4
    latency_turns: int = 5
    """A percentile of a second or two is bent by one pause of the machine; the median of five is not."""
    seconds: float = 1.5
    quiet_s: float = 10.0
    streams: int = 1000
    websockets: int = 1000
    held: int = 10_000


FULL: Final = Extent()
QUICK: Final = Extent(turns=1, latency_turns=1, seconds=1.0, quiet_s=3.0, streams=1000, websockets=1000, held=10_000)


class Found(msgspec.Struct):
    """Of one load: what each turn gave for each contestant, and why others gave nothing."""

    runs: dict[str, list[dict[str, float]]] = {}
    unavailable: dict[str, str] = {}

    def add(self, key: str, run: Any) -> None:
        """One more turn of a contestant."""
        self.runs.setdefault(key, []).append(msgspec.to_builtins(run))

    def give_up(self, key: str, error: Exception) -> None:
        """No more turns of it, and none of those before: a figure comes from all turns or from none."""
        self.runs.pop(key, None)
        self.unavailable[key] = " ".join(str(error).split())[:200] or type(error).__name__


class World(msgspec.Struct, frozen=True):
    """Where and how much. Ports: `backend` and `h2` of the nginx behind the proxies, `source` of the streams."""

    folder: Path
    cores: Cores
    extent: Extent
    contestants: tuple[Contestant, ...]
    backend: int
    h2: int
    source: int

    @contextmanager
    def alone(self, contestant: Contestant, backend: int, purpose: Purpose = Purpose.PASS_ON) -> Iterator[Running]:
        """A fresh one, with no other beside it."""
        held = self.extent.held + 200 if purpose is Purpose.HOLD else 0
        with started(contestant, self.folder, self.cores, backend, purpose=purpose, held=held) as running:
            yield running

    @contextmanager
    def together(
        self, backend: int, purpose: Purpose = Purpose.PASS_ON
    ) -> Iterator[tuple[dict[str, Running], dict[str, Exception]]]:
        """All that can be started, and why the others could not."""
        with ExitStack() as stack:
            running: dict[str, Running] = {}
            failed: dict[str, Exception] = {}
            for contestant in self.contestants:
                try:
                    one = started(contestant, self.folder, self.cores, backend, purpose=purpose)
                    running[contestant.key] = stack.enter_context(one)
                except (UnavailableError, StartError) as error:
                    failed[contestant.key] = error
            yield running, failed


@contextmanager
def world(extent: Extent, contestants: tuple[Contestant, ...]) -> Iterator[World]:
    """Backends that run, and this process, which is part of the load, on the load's core. Raises StartError."""
    _raise_file_limit()
    cores = Cores()
    before = os.sched_getaffinity(0)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zerogate-bench-")))
        folder.chmod(0o755)  # nginx's worker is another user
        backend, h2 = stack.enter_context(backends.files(folder, cores))
        source = stack.enter_context(backends.source(folder, cores))
        os.sched_setaffinity(0, {cores.load})
        try:
            yield World(folder, cores, extent, contestants, backend, h2, source)
        finally:
            os.sched_setaffinity(0, before)


def _raise_file_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def chosen(keys: list[str]) -> tuple[Contestant, ...]:
    """The contestants with these keys, all where none is named. Raises KeyError for an unknown one."""
    by_key = {contestant.key: contestant for contestant in CONTESTANTS}
    return tuple(by_key[key] for key in keys) if keys else CONTESTANTS


def tell(text: str) -> None:
    """Progress, on the error output: the table alone goes to the output."""
    print(text, file=sys.stderr, flush=True)
