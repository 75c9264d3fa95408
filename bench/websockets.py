"""What an idle WebSocket costs in memory: a thousand of them through `zerogate up`, each after one message."""

import asyncio
import base64
import os
import sys
import tempfile
from pathlib import Path

from bench.idle import resident_bytes
from bench.table import Figure, at_most
from tests.e2e.harness import ROOT, Box, Service, zerogate

IDLE = 1_000
FIRST = 200
"""Opened before, so that what is made once is not counted."""
HELLO = b"\x81\x85\x00\x00\x00\x00hello"
ECHO_BYTES = 7

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _open(box: Box) -> Wire:
    reader, writer = await asyncio.open_connection("127.0.0.1", box.listen)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
        b"Origin: http://127.0.0.1:8080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % base64.b64encode(os.urandom(16))
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HELLO)
    await reader.readexactly(ECHO_BYTES)
    return reader, writer


async def _measure() -> float:
    server = str(ROOT / "tests" / "websocket_server.py")
    service: Service = {"command": [sys.executable, server], "policy": {"idle-timeout": "1h"}}
    with tempfile.TemporaryDirectory() as folder:
        async with zerogate({"chat": {**service, "hosts": ["127.0.0.1"]}}, Path(folder)) as box:
            wires = [await _open(box) for _ in range(FIRST)]
            before = resident_bytes(box.process.pid)
            wires += [await _open(box) for _ in range(IDLE)]
            per_socket = (resident_bytes(box.process.pid) - before) / IDLE / 1024
            for _, writer in wires:
                writer.transport.abort()
            await box.until("chat", lambda status: status["in_flight"] == 0, within_s=60)
            return per_socket


def run() -> list[Figure]:
    """All figures of this file."""
    per_socket = asyncio.run(_measure())
    note = f"both connections of each, in zerogate alone; {os.cpu_count()} cores"
    return [at_most(f"memory per idle WebSocket, {IDLE:,} at once", per_socket, 12, "KiB", digits=2, note=note)]
