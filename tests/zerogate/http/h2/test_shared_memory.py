"""What waits in a connection that many streams share counts in the process's memory: its transport, what is to be
written, and each stream's queue from the first byte. On real sockets; `test_client_interleavings` has the sums.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any

import pytest
from h2.settings import SettingCodes

from tests.zerogate.http.h2.dialogue import GET, OK, Talk
from tests.zerogate.http.h2.replica import Peer as Replica
from tests.zerogate.http.h2.replica import rig_of
from tests.zerogate.http.h2.test_server import asking
from tests.zerogate.http.rig import Client as Line
from tests.zerogate.http.rig import Rig, read_request, rig, settled
from tests.zerogate.http.test_memory import LIMIT_BYTES, comes
from tests.zerogate.http.test_memory_uploads import Gates, replica_of
from tests.zerogate.http.test_memory_uploads import upload as upload_of
from zerogate.http.h1.pausing import PAUSED_BODY
from zerogate.http.h1.server import ServerConnection as Http1Connection
from zerogate.http.h2 import frames as f
from zerogate.http.h2.client import ClientConnection
from zerogate.http.h2.outgoing import HIGH_BYTES
from zerogate.http.h2.server import ServerConnection

pytestmark = pytest.mark.uvloop

WINDOW_BYTES = 1 << 26
STREAMS = 24
MIB = 1 << 20


class Gate:
    """A replica that looks at nothing before it is opened, and answers each upload with its size then."""

    def __init__(self, *, reads: bool, window_bytes: int = WINDOW_BYTES) -> None:
        self.opened = asyncio.Event()
        self.reads = reads
        """While it is shut: the socket is read, and no window of a stream is opened."""
        self.settings = {int(SettingCodes.INITIAL_WINDOW_SIZE): window_bytes}

    async def __call__(self, it: Replica) -> None:
        it.core.increment_flow_control_window(WINDOW_BYTES)
        it.opens_windows = False
        await it.flush()
        if not self.reads:
            it.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await self.opened.wait()
            it.writer.transport.resume_reading()  # type: ignore[attr-defined]
        while True:
            asked = await it.head()
            if not self.opened.is_set():
                await self._wait(it)
            it.core.increment_flow_control_window(WINDOW_BYTES, asked.stream)
            body = (await it.rest(asked)).body
            it.answer(asked.stream, b"%d" % len(body))
            await it.flush()

    async def _wait(self, it: Replica) -> None:
        """Read on, and give no window."""
        while not self.opened.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    data = await it.reader.read(65536)
                it.events += it.core.receive_data(data)
            await it.flush()


async def upload(one: Rig, size: int) -> tuple[Line, asyncio.Task[None]]:
    client = await one.connect()
    head = b"POST /x HTTP/1.1\r\nHost: chat\r\nContent-Length: %d\r\n\r\n" % size
    return client, one.nursery.start(client.send(head + bytes(size)), name="upload")


def ways(one: Rig) -> list[ClientConnection]:
    pool: Any = one.hold.replicas["chat-1"].pool
    return list(pool._all)


def in_connections(one: Rig) -> int:
    """What lies in the transports to the replica and is to be written to them."""
    return sum(way._transport.get_write_buffer_size() + way.state._out_bytes for way in ways(one))


def lines(one: Rig) -> list[Http1Connection]:
    return [it for it in one.server.connections if isinstance(it, Http1Connection)]


async def status_of(client: Line) -> int:
    return int((await client.until(b"\r\n\r\n"))[9:12])


async def test_a_replica_that_does_not_read_turns_new_requests_away_and_pauses_all_that_upload() -> None:
    gate = Gate(reads=False)
    async with rig_of(gate, settings=gate.settings) as one:
        memory = one.server.memory
        uploads = [await upload(one, MIB) for _ in range(STREAMS)]
        await settled(lambda: memory.upload_bytes)
        (way,) = ways(one)
        assert way._counted_bytes >= in_connections(one) > 0  # the kernel may have taken a little since
        assert memory.upload_bytes == way._counted_bytes + way.state.queued_bytes
        memory.limit_bytes = memory.upload_bytes  # with the next byte that has to wait it is reached
        late, _ = await upload(one, MIB)
        await comes(lambda: memory.is_short)
        refused = await one.connect()
        await refused.send(b"GET /y HTTP/1.1\r\nHost: chat\r\n\r\n")
        said = await refused.until(b"}")
        assert said.startswith(b"HTTP/1.1 503")
        assert b"memory_full" in said
        carrying = [it for it in lines(one) if it._current is not None and not it._current.is_request_done]
        assert len(carrying) > 1
        assert all(connection._paused & PAUSED_BODY for connection in carrying)
        gate.opened.set()
        assert [await status_of(client) for client in [*(client for client, _ in uploads), late]] == [200] * 25
        await comes(lambda: not memory.used_bytes)
        assert (memory.upload_bytes, memory.is_short, way._counted_bytes) == (0, False, 0)
        await refused.send(b"GET /y HTTP/1.1\r\nHost: chat\r\n\r\n")
        assert await status_of(refused) == 200


async def test_queues_below_their_mark_count_too_because_a_connection_has_many_of_them() -> None:
    """Each of these uploads is too long to be kept, and too short to stop its client."""
    size, window = 100_000, 65_535
    gate = Gate(reads=True, window_bytes=window)
    async with rig_of(gate, settings=gate.settings) as one:
        memory = one.server.memory
        uploads = [await upload(one, size) for _ in range(STREAMS)]
        await asyncio.gather(*(task for _, task in uploads))
        await comes(lambda: memory.used_bytes == memory.upload_bytes == STREAMS * (size - window))
        gate.opened.set()
        assert [await status_of(client) for client, _ in uploads] == [200] * STREAMS
        await comes(lambda: not memory.used_bytes)


async def test_while_the_memory_is_short_hardly_anything_may_wait_for_a_replica() -> None:
    gates = Gates()
    async with replica_of("2", gates) as one:
        memory = one.server.memory
        a, _, _ = await upload_of(one, "1.1", "/a")
        before_bytes = await settled(lambda: memory.upload_bytes)
        b, _, _ = await upload_of(one, "1.1", "/b")
        await comes(lambda: memory.upload_bytes > before_bytes)
        memory.limit_bytes = before_bytes
        gates.open["/b"].set()
        assert await b() == 200
        (way,) = ways(one)
        assert (memory.is_short, way.is_tight, way.state.high_bytes) == (True, True, 0)
        assert way._transport.get_write_buffer_limits() == (0, 0)
        gates.open["/a"].set()
        assert await a() == 200
        await comes(lambda: not memory.used_bytes)
        client, _ = await upload(one, 10)
        assert await status_of(client) == 200
        assert (way.is_tight, way._transport.get_write_buffer_limits()) == (False, (16384, 65536))


@pytest.mark.parametrize("end", ["replica gone", "clients gone"])
async def test_whatever_ends_a_shared_connection_or_its_streams_gives_back_what_waited(end: str) -> None:
    gate = Gate(reads=False)
    async with rig_of(gate, settings=gate.settings, total_timeout_s=20.0) as one:
        memory = one.server.memory
        uploads = [await upload(one, MIB) for _ in range(STREAMS)]
        await settled(lambda: memory.upload_bytes)
        (way,) = ways(one)
        if end == "replica gone":
            way._transport.abort()
            await comes(lambda: not memory.used_bytes)
        else:
            for client, _ in uploads:
                line = client.writer.get_extra_info("socket")
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.abort()
            await one.end_of(STREAMS)
            assert memory.used_bytes == memory.upload_bytes == way._counted_bytes > 0  # only resets are behind it
            gate.opened.set()
            await comes(lambda: not memory.used_bytes)
        for _, task in uploads:
            task.cancel()
        await asyncio.gather(*(task for _, task in uploads), return_exceptions=True)


async def large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head, _ = await read_request(reader)
        size = MIB if b"/large" in head else 2
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, bytes(size)))
        await writer.drain()


async def test_a_client_that_does_not_read_fills_the_memory_with_its_connection_and_its_streams() -> None:
    async with rig(script=large) as one, asking(one) as peer:
        memory = one.server.memory
        peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES})
        peer.h2.increment_flow_control_window(WINDOW_BYTES)
        streams = [await peer.ask("/large") for _ in range(STREAMS)]
        await settled(lambda: memory.answer_bytes)
        (connection,) = one.server.connections
        assert isinstance(connection, ServerConnection)
        assert connection._counted_bytes >= connection._transport.get_write_buffer_size() > 0
        assert memory.answer_bytes == memory.used_bytes == connection._counted_bytes + connection.core.queued_bytes
        memory.limit_bytes = LIMIT_BYTES
        refused = await one.connect()
        memory.recount_answer(memory.recount_answer(0, 1), 0)  # it looks when something more has to wait
        assert (connection._transport.get_write_buffer_limits(), connection.core.high_bytes) == ((0, 0), 0)
        await refused.send(b"GET /y HTTP/1.1\r\nHost: chat\r\n\r\n")
        assert b"memory_full" in await refused.until(b"}")
        assert [len((await peer.answer(stream))[1]) for stream in streams] == [MIB] * STREAMS
        await comes(lambda: not memory.used_bytes)
        assert (memory.is_short, connection._transport.get_write_buffer_limits()) == (False, (16384, 65536))
        assert connection.core.high_bytes == HIGH_BYTES


async def test_heads_that_a_client_does_not_read_count_although_no_window_holds_them_back() -> None:
    """Only the frames of answers wait here, none has a body."""

    async def bare(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 204 No Content\r\nX-Long: %b\r\n\r\n" % (b"x" * 8000))

    async with rig(script=bare) as one, asking(one) as peer:
        memory = one.server.memory
        await peer.ask("/")
        await peer.more()
        (connection,) = one.server.connections
        assert isinstance(connection, ServerConnection)
        connection.pause_writing()
        assert memory.answer_bytes == 0
        for _ in range(7):
            await peer.ask("/")
        await one.end_of(8)
        await comes(lambda: memory.answer_bytes == connection.core._out_bytes > 7 * 5000)
        connection.resume_writing()
        assert memory.used_bytes == 0


async def test_a_client_that_goes_gives_back_what_it_has_not_read() -> None:
    async with rig(script=large) as one, asking(one) as peer:
        memory = one.server.memory
        peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES})
        peer.h2.increment_flow_control_window(WINDOW_BYTES)
        for _ in range(STREAMS):
            await peer.ask("/large")
        assert await settled(lambda: memory.answer_bytes) > LIMIT_BYTES
        peer.writer.transport.abort()
        await comes(lambda: not memory.used_bytes)
        assert memory.answer_bytes == 0


def test_a_frame_beside_the_queue_is_told_again_while_the_transport_is_blocked() -> None:
    """`on_output` is asked for once until it is taken: what comes meanwhile would not count."""
    talk = Talk()
    for stream in (1, 3):
        talk.send(f.header_frames(stream, talk.encoder.encode(GET), end=True))
    talk.flush()
    talk.connection.block()
    talk.said.clear()
    one, other = talk.connection.streams.values()
    talk.connection.send_head(one, OK, end=True)
    first_bytes = talk.connection.look_back()
    talk.connection.send_head(other, OK, end=True)
    assert talk.said == ["owner: output", "owner: output"]
    assert talk.connection.look_back() > first_bytes > 0
