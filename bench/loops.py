"""Which event loop carries a request for least: the sidecar on uvloop, on asyncio's own and on rloop, in turns.

    python -m bench.loops

The figures behind docs/decisions/014-event-loop.md; needs what `make bench` needs, and rloop from PyPI (`pip install
rloop`). A loop that is not installed, or on which the sidecar does not come up, is said.
"""

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.peers.closed import ASKS, ask
from bench.peers.contestants import Contestant, Launch, Running, Setting, UnavailableError
from bench.peers.world import Extent, tell, world

EXTENT: Final = Extent(turns=5)
LOADS: Final = ("small", "chat", "large")
_FACTORIES: Final = {
    "uvloop": "import uvloop; new = uvloop.new_event_loop",
    "asyncio": "import asyncio; new = asyncio.new_event_loop",
    "rloop": "import rloop; new = rloop.new_event_loop",
}
_RUN: Final = """
{factory}
import asyncio, runpy, sys, uvloop
uvloop.run = lambda main, **more: asyncio.Runner(loop_factory=new).run(main)
sys.argv = ["queueproxy", *sys.argv[1:]]
runpy.run_module("queueproxy", run_name="__main__")
"""


def _contestant(loop: str) -> Contestant:
    def launch(setting: Setting) -> Launch:
        flags = {"upstream": setting.backend, "listen": setting.port, "admin": setting.admin}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        return Launch([sys.executable, "-c", _RUN.format(factory=_FACTORIES[loop]), *words])

    return Contestant(key=loop, name=loop, launch=launch, is_ours=True)


def _has(loop: str) -> bool:
    return subprocess.run([sys.executable, "-c", _FACTORIES[loop]], capture_output=True, check=False).returncode == 0


def main() -> None:
    """Measure and print a line per load and loop."""
    loops = [loop for loop in _FACTORIES if _has(loop)]
    tell(f"loops: {', '.join(loops)}; {EXTENT.turns} turns of {EXTENT.seconds:g} s")
    with world(EXTENT, tuple(_contestant(loop) for loop in loops)) as here, here.together(here.backend) as (up, failed):
        for loop, why in failed.items():
            print(f"{loop}: {why}")
        for load in LOADS:
            found: dict[str, list[float]] = {loop: [] for loop in up}
            for turn in range(EXTENT.turns):
                for loop in sorted(up, reverse=bool(turn % 2)):
                    found[loop] += _one(load, up[loop], here.folder, here.cores.load)
            base = statistics.median(found["uvloop"])
            for loop, costs in found.items():
                if costs:
                    middle = statistics.median(costs)
                    print(f"{load:6} {loop:8} {middle:8.1f} µs of CPU per request, {middle / base:.2f} × uvloop")


def _one(load: str, running: Running, folder: Path, core: int) -> list[float]:
    """The cost of one turn; none where an answer was wrong."""
    try:
        return [ask(ASKS[load], running, seconds=EXTENT.seconds, core=core, folder=folder).cpu_us]
    except UnavailableError as error:
        print(f"{load} on {running.key}: {error}")
        return []


if __name__ == "__main__":
    main()
