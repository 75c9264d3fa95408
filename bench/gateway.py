"""What a gateway of two workers costs, and how long the place of a worker stays empty.

Memory is counted so that pages which the processes share are shared out among them (PSS): what one more worker adds.
"""

import asyncio
import os
import re
import signal
import tempfile
import time
from pathlib import Path
from typing import Final

import uvloop

from bench.idle import MIB
from bench.table import Figure, percentile
from tests.activator.fleet import replica
from tests.gateway.test_workers import Gateway, gateway, load

KILLS: Final = 5
REQUESTS: Final = 3000
ROLLS: Final = 3


def run() -> list[Figure]:
    """All figures of this file."""
    return uvloop.run(_measure())


async def _measure() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        began_s = time.perf_counter()
        async with replica() as one, gateway(Path(folder), replicas=(one,)) as it:
            start_ms = (time.perf_counter() - began_s) * 1000
            async with load(it, clients=16) as requests:
                await requests.until_answers(REQUESTS)
            workers = [_own_bytes(pid) / MIB for pid in it.pids()]
            admin = _own_bytes(it.pids("admin")[0]) / MIB
            parent = _own_bytes(it.program.process.pid) / MIB
            empty_ms = [await _replace(it) for _ in range(KILLS)]
            failed, answered = await _roll(it)
        reset, served = await _leave(Path(folder))
    return [
        Figure(
            name="gateway: memory of each worker", value=f"{max(workers):.1f} MiB", note=f"after {REQUESTS} requests"
        ),
        Figure(name="gateway: memory of parent and admin process", value=f"{parent + admin:.1f} MiB"),
        Figure(
            name="gateway: from the command to two workers", value=f"{start_ms:.0f} ms", note="a replica's start too"
        ),
        Figure(
            name="gateway: from a worker's death to its replacement",
            value=f"{percentile(empty_ms, 50):.0f} ms",
            note=f"p50 of {KILLS} kills, pauses of repeated deaths included",
        ),
        Figure(name=f"gateway: requests that failed in {ROLLS} rolling restarts", value=f"{failed} of {answered}"),
        Figure(name="gateway: connections reset when all leave", value=f"{reset} of {served}", note="5 times"),
    ]


def _own_bytes(pid: int) -> int:
    match = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


async def _replace(it: Gateway) -> float:
    began_s = time.perf_counter()
    os.kill(it.pids()[0], signal.SIGKILL)
    await it.program.line_with("takes requests")
    return (time.perf_counter() - began_s) * 1000


async def _roll(it: Gateway) -> tuple[int, int]:
    async with load(it, clients=16) as requests:
        for _ in range(ROLLS):
            await requests.until_answers(200)
            it.program.signal(signal.SIGUSR2)
            await it.program.line_with("all workers were replaced")
        await requests.until_answers(200)
    return len(requests.others), requests.answers


async def _leave(folder: Path) -> tuple[int, int]:
    reset = answered = 0
    async with replica() as one:
        for _ in range(5):
            async with gateway(folder, replicas=(one,)) as it, load(it, clients=32) as requests:
                await requests.until_answers(300)
                it.program.signal()
                await it.program.end()
                await asyncio.sleep(0)
            reset += sum(other != "ConnectionRefusedError" for other in requests.others)
            answered += requests.answers
    return reset, answered
