"""Uploads that their replicas do not take: they count, they turn new requests away, and none waits for another.

Every pair of versions, on real sockets: `down` is what the client speaks, `up` what the replica does.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from h2.events import DataReceived

from tests.zerogate.http.h2.replica import Peer as Http2Replica
from tests.zerogate.http.h2.replica import rig_of
from tests.zerogate.http.h2.test_server import Peer as Http2Client
from tests.zerogate.http.rig import Client, Rig, rig
from tests.zerogate.http.test_memory import LIMIT_BYTES, comes
from zerogate.counters import Result
from zerogate.policy import Policy
from zerogate.tasks import Nursery

BODY = b"0123456789abcdef" * (1 << 20)
"""More than the kernel takes for a replica that does not read."""
WINDOW_BYTES = 1 << 24
"""Of a replica's connection: no stream is held back by another one's window."""
VERSIONS = pytest.mark.parametrize(("down", "up"), [("1.1", "1.1"), ("1.1", "2"), ("2", "1.1"), ("2", "2")])
UP = pytest.mark.parametrize("up", ["1.1", "2"])


class Gates:
    """What the replica waits for before it reads an upload, by its path; and how much of each came."""

    def __init__(self) -> None:
        self.open = {path: asyncio.Event() for path in ("/a", "/b")}
        self.came = dict.fromkeys(self.open, 0)
        self.breaks = False

    async def http1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
            if path in self.open:
                await self.open[path].wait()
                if self.breaks:
                    writer.transport.abort()
                    return
                self.came[path] = len(await reader.readexactly(len(BODY)))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def http2(self, it: Http2Replica) -> None:
        it.core.increment_flow_control_window(WINDOW_BYTES)
        it.opens_windows = False
        taking = Nursery()
        try:
            while True:
                asked = await it.head()
                path = asked.fields[":path"]
                if path in self.open:
                    taking.start(self._take(it, asked.stream, path), name=path)
                else:
                    it.answer(asked.stream, b"ok")
        finally:
            await taking.aclose()

    async def _take(self, it: Http2Replica, stream: int, path: str) -> None:
        await self.open[path].wait()
        if self.breaks:
            it.writer.transport.abort()
            return
        while self.came[path] < len(BODY):
            for event in [one for one in it.events if isinstance(one, DataReceived) and one.stream_id == stream]:
                it.events.remove(event)
                self.came[path] += len(event.data or b"")
                it.core.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            await it.flush()
            await asyncio.sleep(0.001)
        it.answer(stream, b"ok")
        await it.flush()


@asynccontextmanager
async def replica_of(up: str, gates: Gates, **policy: Any) -> AsyncIterator[Rig]:
    if up == "2":
        async with rig_of(gates.http2, **policy) as one:
            yield one
    else:
        async with rig(Policy(**policy), script=gates.http1) as one:
            yield one
    for event in gates.open.values():
        event.set()


Answer = Callable[[], Awaitable[int]]


async def upload(one: Rig, down: str, path: str) -> tuple[Answer, asyncio.Task[None], Client]:
    """Send `BODY`; how to wait for the status, the task that sends, and the connection."""
    client = await one.connect()
    if down == "1.1":
        head = b"POST %b HTTP/1.1\r\nHost: chat\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(BODY))

        async def status() -> int:
            return int((await client.until(b"ok"))[9:12])

        return status, one.nursery.start(client.send(head + BODY), name="upload"), client
    peer = Http2Client(client.reader, client.writer)
    stream = await peer.ask(path, body=b"", end=False)

    async def send() -> None:
        at = 0
        while at < len(BODY):
            room = min(peer.h2.local_flow_control_window(stream), 16384)
            if room:
                peer.h2.send_data(stream, BODY[at : at + room], end_stream=at + room >= len(BODY))
                at += room
                await peer.flush()
            elif not peer.h2.receive_data(data := await client.reader.read(1 << 16)) and not data:
                return

    sending = one.nursery.start(send(), name="upload")

    async def status2() -> int:
        await sending
        return int((await peer.answer(stream))[0][":status"])

    return status2, sending, client


async def get(one: Rig, down: str, path: str = "/c") -> tuple[int, bytes]:
    client = await one.connect()
    if down == "2":
        peer = Http2Client(client.reader, client.writer)
        head, body = await peer.answer(await peer.ask(path))
        return int(head[":status"]), body
    await client.send(b"GET %b HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n" % path.encode())
    said = await client.rest()
    return int(said[9:12]), said


@VERSIONS
async def test_uploads_that_nobody_takes_turn_new_requests_away_and_go_on_one_without_the_other(
    down: str, up: str
) -> None:
    gates = Gates()
    async with replica_of(up, gates) as one:
        memory = one.server.memory
        memory.limit_bytes = LIMIT_BYTES
        a, sending_a, _ = await upload(one, down, "/a")
        await comes(lambda: memory.is_short)
        assert memory.upload_bytes == memory.used_bytes >= LIMIT_BYTES
        status, said = await get(one, down)
        assert status == 503
        assert b"memory_full" in said
        memory.limit_bytes = 1 << 30
        assert (await get(one, down))[0] == 200
        b, sending_b, _ = await upload(one, down, "/b")
        before_bytes = memory.upload_bytes
        await comes(lambda: memory.upload_bytes > before_bytes)
        memory.limit_bytes = LIMIT_BYTES
        gates.open["/b"].set()
        assert await b() == 200
        assert gates.came == {"/a": 0, "/b": len(BODY)}
        assert memory.upload_bytes == memory.used_bytes > 0
        gates.open["/a"].set()
        assert await a() == 200
        await asyncio.gather(sending_a, sending_b)
        assert gates.came["/a"] == len(BODY)
        assert (memory.used_bytes, memory.upload_bytes, memory.is_short) == (0, 0, False)
        assert (await get(one, down))[0] == 200


@UP
async def test_an_upload_that_runs_while_the_memory_is_short_keeps_next_to_nothing_waiting(up: str) -> None:
    gates = Gates()
    async with replica_of(up, gates) as one:
        memory = one.server.memory
        a, _, _ = await upload(one, "1.1", "/a")
        await comes(lambda: memory.upload_bytes > 0)
        memory.limit_bytes = LIMIT_BYTES // 2
        gates.open["/a"].set()
        assert await a() == 200
        assert (memory.used_bytes, memory.is_short) == (0, False)


@UP
@pytest.mark.parametrize("end", ["client gone", "replica gone", "timer"])
async def test_whatever_ends_an_upload_gives_back_all_that_waited(up: str, end: str) -> None:
    gates = Gates()
    policy = {"idle_stream_timeout_s": 1.0, "first_byte_timeout_s": 1.0} if end == "timer" else {}
    async with replica_of(up, gates, **policy) as one:
        memory = one.server.memory
        memory.limit_bytes = LIMIT_BYTES
        _, sending, client = await upload(one, "1.1", "/a")
        await comes(lambda: memory.is_short)
        if end == "client gone":
            # a close would stand behind what the kernel still has of the upload, which nobody reads
            line = client.writer.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.abort()
        elif end == "replica gone":
            gates.breaks = True
            gates.open["/a"].set()
        (exchange,) = await one.end_of(1)
        assert exchange.result is (Result.ABANDONED if end == "client gone" else Result.REFUSED)
        assert (memory.used_bytes, memory.upload_bytes, memory.is_short) == (0, 0, False)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
