"""Many clients at once, on raw sockets: a crowd that waits, clients that drip or never read.

A raw connection costs the machine a tenth of what an HTTP library's does, so hundreds of them do not slow down what
is measured. Every function takes the `Box` of tests.e2e.harness.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.e2e.harness import Box, ready
from tests.zerogate.http.rig import Clients

Raw = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request(host: str, target: str = "/", *, method: str = "GET", fields: str = "") -> bytes:
    """The head of a request without a body."""
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode()


async def connect(box: Box) -> Raw:
    """A connection to the traffic port; the caller closes it."""
    return await asyncio.open_connection("127.0.0.1", box.listen, limit=1 << 24)


@asynccontextmanager
async def crowd(box: Box, size: int, service: str, target: str = "/", *, fields: str = "") -> AsyncIterator[list[Raw]]:
    """`size` connections, then one request on each, all within a few milliseconds; they hang up in the end."""
    async with connections(box, size) as clients:
        head = request(service, target, fields=fields)
        for _, writer in clients:
            writer.write(head)
        yield clients


@asynccontextmanager
async def connections(box: Box, size: int) -> AsyncIterator[list[Raw]]:
    """`size` connections on which nothing was sent yet; they hang up in the end."""
    async with Clients() as owner:
        clients: list[Raw] = []
        for _ in range(size):
            clients.append(await connect(box))
            owner.own(*clients[-1])
        yield clients
        hang_up(clients)


async def status_of(connection: Raw) -> int:
    """The status of the next answer on a connection; its body of known length is read and dropped."""
    head = await connection[0].readuntil(b"\r\n\r\n")
    length = next((int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length:")), 0)
    await connection[0].readexactly(length)
    return int(head.split(b" ", 2)[1])


async def answers(connections: list[Raw]) -> list[int]:
    """The status that each client got."""
    return await asyncio.gather(*(status_of(connection) for connection in connections))


def hang_up(connections: list[Raw]) -> None:
    """Every client leaves at once."""
    for _, writer in connections:
        writer.transport.abort()


async def events(reader: asyncio.StreamReader, count: int) -> bytes:
    """Read until so many server-sent events came; what was read."""
    seen = b""
    while seen.count(b"data: ") < count:
        piece = await reader.read(65536)
        assert piece, f"the stream ended after {seen.count(b'data: ')} events"
        seen += piece
    return seen


async def until(holds: Callable[[], bool], *, within_s: float = 20, why: Callable[[], str] = lambda: "") -> None:
    """Look again and again until `holds`. The pause between two looks races with nothing."""
    try:
        async with asyncio.timeout(within_s):
            while not holds():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"it did not come to pass within {within_s} s: {why()}") from None


def wanted(decisions: dict[str, Any]) -> list[int]:
    """The numbers of replicas that were decided, oldest first, each once in a row."""
    shown = [decisions["decision"], *decisions["earlier"]]
    numbers = [one["desired"] for one in reversed(shown) if one is not None]
    return [number for index, number in enumerate(numbers) if index == 0 or number != numbers[index - 1]]


def pids(status: dict[str, Any]) -> list[int]:
    """Of the replicas that are ready."""
    assert ready(status) == len([one for one in status["replicas"] if one["state"] == "ready"])
    return [one["pid"] for one in status["replicas"] if one["state"] == "ready"]
