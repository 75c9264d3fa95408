"""What zerogate costs while nothing happens: memory, processor time, and the time to start."""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.table import Figure, at_most
from tests.e2e.harness import Box, stub, zerogate

QUIET_S = 15.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used, threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def services(count: int) -> dict[str, Any]:
    """So many services, each with a model of its own."""
    return {f"s{number}": stub(definition={"models": [f"model-{number}"]}) for number in range(count)}


async def _measure(count: int, look: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        began_s = time.perf_counter()
        async with zerogate(services(count), Path(folder)) as box:
            return await look(box, time.perf_counter() - began_s)


async def _idle(box: Box, _: float) -> tuple[float, float]:
    await asyncio.sleep(2)
    before_s = cpu_s(box.process.pid)
    await asyncio.sleep(QUIET_S)
    return resident_bytes(box.process.pid) / MIB, (cpu_s(box.process.pid) - before_s) / QUIET_S * 100


async def _start(box: Box, took_s: float) -> tuple[float, float]:
    await asyncio.sleep(2)
    return resident_bytes(box.process.pid) / MIB, took_s


def run() -> list[Figure]:
    """All figures of this file."""
    ten_mib, ten_percent = asyncio.run(_measure(10, _idle))
    many_mib, many_s = asyncio.run(_measure(1000, _start))
    return [
        at_most("idle, 10 services: resident", ten_mib, 60, "MiB"),
        at_most("idle, 10 services: processor", ten_percent, 0.5, "% of a core", digits=2, note=f"over {QUIET_S:g} s"),
        at_most("1,000 services: resident", many_mib, 150, "MiB"),
        at_most("1,000 services: from the command to taking traffic", many_s, 3, "s", digits=2),
    ]
