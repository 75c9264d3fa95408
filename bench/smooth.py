"""Whether the loop stays smooth with a thousand services: configured, scraped, listed and decided.

The box runs in this process on uvloop. A callback that runs in every turn of the loop reads the thread's processor
time, so each reading bounds the longest callback of that turn from above; being preempted by others does not count.
"""

import asyncio
import gc
import sys
import tempfile
import time
from array import array
from asyncio.subprocess import PIPE
from pathlib import Path

import uvloop

from bench.idle import services
from bench.table import Figure, at_most, percentile
from cli.box_view import BoxView
from cli.file import read_box_file
from cli.running import RunningBox
from tests.e2e.harness import free_port, write_file
from zerogate.admin.server import AdminServer

SERVICES = 1000
SCRAPES = 5
MOST_TURNS = 4_000_000


class Turns:
    """Processor milliseconds of each turn of the loop."""

    def __init__(self) -> None:
        # all there from the begin: a list that grows to a million moves now and then, which takes 3 ms
        self._lengths_ms = array("d", bytes(8 * MOST_TURNS))
        self._count = 0
        self._last_s = time.thread_time()
        self._is_running = True
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        if not self._is_running:
            return
        self._lengths_ms[self._count % MOST_TURNS] = (time.thread_time() - self._last_s) * 1000
        self._count += 1
        self._last_s = time.thread_time()
        asyncio.get_running_loop().call_soon(self._turn)

    @property
    def lengths_ms(self) -> list[float]:
        """The last of them, at most `MOST_TURNS`."""
        return list(self._lengths_ms[: self._count])

    def stop(self) -> None:
        """Measure no more: what ends the box afterwards is not part of it."""
        self._is_running = False


SCRAPER = """
import sys, time, urllib.request
sys.stdin.read(1)
sizes = []
for _ in range(int(sys.argv[2])):
    for path in ("/metrics", "/api/services"):
        sizes.append(len(urllib.request.urlopen(sys.argv[1] + path).read()))
        time.sleep(0.1)
print(sizes[0])
"""
"""Asks in another process, begun when it is told to: neither its start nor its work is the loop's."""


async def _wake_all(running: RunningBox) -> None:
    """Decide for every service, a few in each turn, as requests would come in."""
    for number, hold in enumerate(running.holds):
        hold.meter.arrive(time.perf_counter())
        running.autoscaler.wake(hold.service)
        if number % 10 == 0:
            await asyncio.sleep(0)


async def _measure(folder: Path) -> tuple[list[float], int]:
    listen, admin = free_port(), free_port()
    file = folder / "zerogate.yaml"
    write_file(file, listen, admin, services(SERVICES))
    box = read_box_file(file)
    running = RunningBox(box)
    view = BoxView(running, file)
    server = AdminServer(view, box.admin)
    server.bind()
    await running.start()
    await server.start()
    scraper = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRAPER, f"http://{box.admin}", str(SCRAPES), stdin=PIPE, stdout=PIPE
    )
    gc.collect()
    gc.freeze()
    await asyncio.sleep(1)
    turns = Turns()
    await _wake_all(running)
    output, _ = await scraper.communicate(b"x")
    turns.stop()
    await running.stop()
    await server.stop()
    return turns.lengths_ms, int(output)


def run() -> list[Figure]:
    """All figures of this file."""
    with tempfile.TemporaryDirectory() as folder:
        lengths_ms, size = uvloop.run(_measure(Path(folder)))
    note = f"{len(lengths_ms):,} turns; a scrape is {size / 1024:.0f} KiB"
    return [
        at_most(f"longest turn of the loop with {SERVICES:,} services", max(lengths_ms), 2, "ms", digits=2, note=note),
        at_most("the same, 99.9th percentile", percentile(lengths_ms, 99.9), 2, "ms", digits=2),
    ]
