"""A replica's machine that is gone is noticed by the kernel; one that only reads slowly is not taken for it.

Whether packets vanish cannot be had on loopback: that the kernel is asked is shown by the options of real sockets, and
by a server that acknowledges and does not read. A node that is lost is in `tests/kubernetes/test_node_loss.py`.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Any

import pytest

from tests.zerogate.http.rig import Client, rig
from zerogate.http import line
from zerogate.http.h1.asking import TAKEN_AT_ONCE_BYTES
from zerogate.http.h1.client import ClientConnection

LARGE = b"x" * (1 << 24)
"""More than the kernel takes for a server that does not read."""


def limit_ms(connection: ClientConnection) -> int:
    """How long what was written may go without acknowledgement; 0 for as long as Linux tries."""
    sock = connection._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == line.KEEP_ALIVE_IDLE_S
    found: int = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    return found


async def takes_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if b"chunked" in head:
        await reader.readuntil(b"0\r\n\r\n")
    elif b"Content-Length: " in head:
        await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split()[0]))
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await reader.read()  # it stays open


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[ClientConnection]:
    """The connections to replicas, in the order in which they are made."""
    connections: list[ClientConnection] = []
    make = ClientConnection.connection_made

    def noted(self: ClientConnection, transport: Any) -> None:
        make(self, transport)
        connections.append(self)

    monkeypatch.setattr(ClientConnection, "connection_made", noted)
    return connections


@pytest.mark.parametrize(
    ("request_", "expected_ms"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", line.DEAD_AFTER_MS),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok", line.DEAD_AFTER_MS),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (TAKEN_AT_ONCE_BYTES + 1)
            + LARGE[: TAKEN_AT_ONCE_BYTES + 1],
            0,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", line.DEAD_AFTER_MS),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + 2 * (b"2001\r\n" + LARGE[:0x2001] + b"\r\n")
            + b"0\r\n\r\n",
            0,
        ),
    ],
    ids=["without a body", "a small body", "a body that may wait", "small pieces", "pieces that may wait together"],
)
@pytest.mark.parametrize("is_uvloop", [False, pytest.param(True, marks=pytest.mark.uvloop)], ids=["asyncio", "uvloop"])
async def test_what_is_sent_at_once_has_to_be_acknowledged_within_half_a_minute(
    made: list[ClientConnection], request_: bytes, expected_ms: int, is_uvloop: bool
) -> None:
    async with rig(script=takes_it) as one:
        client = await one.connect()
        await client.send(request_)
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert [limit_ms(connection) for connection in made] == [expected_ms]


async def test_a_large_body_is_borne_with_until_it_is_answered(made: list[ClientConnection]) -> None:
    async def takes_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split()[0]))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with rig(script=takes_all) as one:
        client = await one.connect()
        limits_ms = []
        for size in (TAKEN_AT_ONCE_BYTES + 1, 2):
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + LARGE[:size])
            await client.until(b"\r\n\r\nok")
            limits_ms.append(limit_ms(made[0]))
        assert len(made) == 1
        assert limits_ms == [0, line.DEAD_AFTER_MS]


async def test_a_small_body_behind_its_head_has_to_be_acknowledged_too(made: list[ClientConnection]) -> None:
    has_head = asyncio.Event()

    async def says_so(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        has_head.set()
        await reader.readexactly(2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()

    async with rig(script=says_so) as one:
        client = await one.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        await has_head.wait()
        await client.send(b"hi")
        await client.until(b"\r\n\r\nok")
        assert [limit_ms(connection) for connection in made] == [line.DEAD_AFTER_MS]


@pytest.mark.parametrize("length", [b"Content-Length: %d" % len(LARGE), b"Transfer-Encoding: chunked"])
async def test_a_replica_that_reads_late_is_not_given_up(monkeypatch: pytest.MonkeyPatch, length: bytes) -> None:
    monkeypatch.setattr(line, "DEAD_AFTER_MS", 300)
    reads = asyncio.Event()

    async def reads_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reads.wait()
        while not (await reader.read(1 << 20)).endswith(b"y\r\n0\r\n\r\n" if b"chunked" in length else b"y"):
            pass
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with rig(script=reads_late) as one:
        client = await one.connect()
        body = LARGE[:-1] + b"y"
        async with asyncio.TaskGroup() as group:
            group.create_task(_upload(client, length, body))
            await asyncio.sleep(2)  # several times as long as it may go without being acknowledged
            reads.set()
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def _upload(client: Client, length: bytes, body: bytes) -> None:
    if b"chunked" in length:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + length + b"\r\n\r\n" + body)
