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
CLOSE = b"\x88\x82\x00\x00\x00\x00\x0f\xa1"
CLOSED = b"\x88\x02\x0f\xa1"
"""With 4001, there and back."""

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def open_socket(box: Box, host: str = "127.0.0.1:8080") -> Wire:
    """A WebSocket to the service at this host, after one message and its echo."""
    key = base64.b64encode(os.urandom(16))
    reader, writer = await asyncio.open_connection("127.0.0.1", box.listen)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: %b\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
        b"Origin: http://127.0.0.1:8080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % (host.encode(), key)
    )
    await reader.readuntil(b"\r\n\r\n")
    await say_hello((reader, writer))
    return reader, writer


async def say_hello(wire: Wire) -> None:
    """One message and its echo. Raises IncompleteReadError where the socket is not open any more."""
    reader, writer = wire
    writer.write(HELLO)
    await reader.readexactly(ECHO_BYTES)


async def close_socket(wire: Wire) -> int:
    """Close with 4001; the code that comes back. Raises IncompleteReadError."""
    reader, writer = wire
    writer.write(CLOSE)
    _, _, *code = await reader.readexactly(len(CLOSED))
    writer.close()
    return int.from_bytes(bytes(code), "big")


async def _measure() -> float:
    server = str(ROOT / "tests" / "websocket_server.py")
    service: Service = {"command": [sys.executable, server], "policy": {"idle-timeout": "1h"}}
    with tempfile.TemporaryDirectory() as folder:
        async with zerogate({"chat": {**service, "hosts": ["127.0.0.1"]}}, Path(folder)) as box:
            wires = [await open_socket(box) for _ in range(FIRST)]
            before = resident_bytes(box.process.pid)
            wires += [await open_socket(box) for _ in range(IDLE)]
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
