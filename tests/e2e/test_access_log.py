"""The access log of a real zerogate whose standard output nobody reads."""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, UP, Box, close, free_port, stub, write_file
from zerogate.http.access_log import MOST_WAITING

pytestmark = [pytest.mark.slow, pytest.mark.may_block]


async def test_a_reader_that_stalls_costs_lines_and_no_request_waits(tmp_path: Path) -> None:
    port, admin = free_port(), free_port()
    write_file(tmp_path / "z.yaml", port, admin, {"chat": stub(), "other": stub()}, access_log="on")
    read, write = os.pipe()
    with (tmp_path / "up.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *UP, str(tmp_path / "z.yaml"), cwd=ROOT, stdout=write, stderr=log
        )  # fmt: skip
    os.close(write)
    box = Box(process, tmp_path, port, admin)
    try:
        async with asyncio.timeout(30):
            while b"traffic on" not in (tmp_path / "up.log").read_bytes():
                await asyncio.sleep(0.02)
        at_once, times = 100, MOST_WAITING // 100 + 20
        refused = b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n" * at_once
        async with box.wire() as client:
            for _ in range(times):
                await client.send(refused)
                for _ in range(at_once):
                    assert (await client.answer()).status == 404
        began_s = time.perf_counter()
        assert (await box.get("chat")).status_code == 200
        assert time.perf_counter() - began_s < 5
        async with asyncio.timeout(30):
            while not (dropped := (await box.metrics())["zerogate_access_log_dropped_total"]):
                await asyncio.sleep(0.05)
        lines = asyncio.get_running_loop().create_task(asyncio.to_thread(_lines, read))
        assert await box.stop() == 0
        taken = await lines
    finally:
        await close(box)
    assert {json.loads(line)["status"] for line in taken} <= {404, 200}
    assert 0 < len(taken) <= times * at_once + 1 - dropped


def _lines(descriptor: int) -> list[bytes]:
    """All whole lines up to the end."""
    with open(descriptor, "rb") as pipe:
        return [line for line in pipe.read().splitlines(keepends=True) if line.endswith(b"\n")]
