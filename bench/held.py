"""What a held request costs in memory: ten thousand of them at once, with the head that the OpenAI client sends."""

import asyncio
import contextlib
import os
import resource
import tempfile
from pathlib import Path

from bench import openai_client
from bench.idle import resident_bytes
from bench.table import Figure, at_most
from tests.e2e.harness import Box, stub, zerogate

HELD = 10_000
REQUEST = openai_client.request()


async def _hold(box: Box) -> float:
    """KiB per held request."""
    await _crowd(box, 200)
    pid = box.process.pid
    before = resident_bytes(pid)
    crowd = [await asyncio.open_connection("127.0.0.1", box.listen) for _ in range(HELD)]
    for _, writer in crowd:
        writer.write(REQUEST)
    await box.until("chat", lambda status: status["held"] == HELD, within_s=60)
    per_request = (resident_bytes(pid) - before) / HELD / 1024
    await _leave(crowd, box)
    return per_request


async def _crowd(box: Box, count: int) -> None:
    """A small crowd first, so that what is made once is not counted."""
    crowd = [await asyncio.open_connection("127.0.0.1", box.listen) for _ in range(count)]
    for _, writer in crowd:
        writer.write(REQUEST)
    await box.until("chat", lambda status: status["held"] == count)
    await _leave(crowd, box)


async def _leave(crowd: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]], box: Box) -> None:
    for _, writer in crowd:
        writer.transport.abort()
    await box.until("chat", lambda status: status["held"] == 0, within_s=60)


async def _measure() -> float:
    service = stub(
        "--never-ready", definition={"models": [openai_client.MODEL], "start-timeout": "1h"}, queue_limit=HELD
    )
    with tempfile.TemporaryDirectory() as folder:
        async with zerogate({"chat": service}, Path(folder)) as box:
            return await _hold(box)


def run() -> list[Figure]:
    """All figures of this file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    per_request = asyncio.run(_measure())
    note = f"{len(REQUEST)} bytes with head and body; {os.cpu_count()} cores"
    return [at_most(f"memory per held request, {HELD:,} at once", per_request, 5, "KiB", digits=2, note=note)]
