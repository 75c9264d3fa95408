"""What a sidecar costs in every pod: memory, processor time while idle, and the time until it is ready."""

import asyncio
import time
from pathlib import Path
from typing import Final

from bench.idle import MIB, QUIET_S, resident_bytes
from bench.table import Figure, at_most, percentile
from tests.queueproxy.world import start_sidecar, start_stub
from zerogate.reporting.proof import MASTER_BYTES, new_key

STARTS: Final = 5


def run() -> list[Figure]:
    """All figures of this file."""
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    stub, port = await start_stub()
    # as in a cluster, where each has a key; nobody hears it here
    key = new_key(bytes(MASTER_BYTES), "team/chat", "salt" * 5).text()
    flags = (
        "--upstream", str(port), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
        "--stats", "127.0.0.1:9", "--stats-key", key,
    )  # fmt: skip
    starts_ms = []
    try:
        for number in range(STARTS):
            began_s = time.perf_counter()
            sidecar = await start_sidecar(*flags)
            await sidecar.line_with("is ready")
            starts_ms.append((time.perf_counter() - began_s) * 1000)
            if number == STARTS - 1:
                percent = await _idle_percent(sidecar.process.pid)
                mib = resident_bytes(sidecar.process.pid) / MIB
            sidecar.signal()
            await sidecar.end()
    finally:
        stub.signal()
        await stub.end()
    return [
        at_most("sidecar: resident", mib, 28, "MiB"),
        at_most("sidecar: processor, idle", percent, 0.3, "% of a core", digits=2, note=f"over {QUIET_S:g} s"),
        at_most("sidecar: from the command to ready", percentile(starts_ms, 50), 250, "ms", note=f"p50 of {STARTS}"),
    ]


async def _idle_percent(pid: int) -> float:
    await asyncio.sleep(2)
    before_s = _cpu_s(pid)
    await asyncio.sleep(QUIET_S)
    return (_cpu_s(pid) - before_s) / QUIET_S * 100


def _cpu_s(pid: int) -> float:
    """Of the main thread, which is the only one; finer than a tick, which is more than all there is to see here."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
