"""The replica's side of HTTP/2 under any interleaving: whatever comes in whatever order, each exchange ends once."""

import asyncio
from typing import Any

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import examples
from tests.zerogate.http.dialogue import Sides, exchange_of, request
from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.h2 import frames as f
from zerogate.http.h2.client import ClientConnection
from zerogate.http.h2.client_stream import ClientStream
from zerogate.http.h2.replica_heads import request_fields
from zerogate.http.heads import Field, ResponseHead
from zerogate.http.memory import BufferMemory
from zerogate.http.phases import ANSWERING, ENDED, SENT

LIMIT_BYTES = 150_000
"""Two uploads that are full: with the third the memory is short."""


class Client(Sides):
    """Both ends of an exchange besides its replica: bytes are not looked at; what is unsent is over."""

    def send_data(self, data: bytes) -> None: ...

    def on_unsent(self, exchange: Exchange, cause: str, now_s: float) -> None:
        exchange.refuse(Refusal(status=503, code="unsent", detail=cause), now_s)

    def send_head(self, head: ResponseHead, *, extra: bytes, has_body: bool) -> None:
        self.said.append("client: head")

    def send_end(self, trailers: list[Field]) -> None:
        self.said.append("client: end")


class Transport:
    """Takes everything, until it is closed; what waits in it is said by the test."""

    def __init__(self) -> None:
        self.is_closed = False
        self.waiting_bytes = 0
        self.high_bytes: int | None = None
        self.aborted = asyncio.Event()

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def set_write_buffer_limits(self, high: int | None) -> None:
        self.high_bytes = high

    def get_extra_info(self, name: str) -> None:
        return None

    def write(self, data: bytes) -> None: ...

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True
        self.aborted.set()


class World:
    """A connection, its exchanges and a replica that says anything. It is its own pool."""

    def __init__(self) -> None:
        self.heard_s = 0.0
        self.transport = Transport()
        self.connection = ClientConnection(self)
        self.connection.connection_made(self.transport)
        self.encoder = hpack.Encoder()
        self.exchanges: list[Exchange] = []
        self.memory = BufferMemory(limit_bytes=LIMIT_BYTES)
        self.feed(f.settings_frame({}))

    def feed(self, data: bytes) -> None:
        if not self.transport.is_closed:
            self.connection.data_received(data)

    # Keeper

    def on_place(self, connection: ClientConnection) -> None: ...
    def on_leaving(self, connection: ClientConnection) -> None: ...
    def on_lost(self, connection: ClientConnection) -> None: ...
    def request_fields(self, exchange: Exchange) -> Any:
        return request_fields(exchange.head, client=b"192.0.2.1")

    def check_memory(self) -> None:
        """What is kept and what waits make up what counts; what is taken by the replica's windows and its transport
        never counts."""
        waiting_bytes = self.connection._counted_bytes
        state = self.connection.state
        if self.connection._is_blocked and self.exchanges:
            assert waiting_bytes == self.transport.waiting_bytes + state._out_bytes
        else:
            assert waiting_bytes == 0
        keeping: set[object] = {exchange.connection for exchange in self.exchanges if exchange.chunks is not None}
        for stream in state.streams.values():
            if stream.queued_bytes and stream not in keeping:
                assert stream.queued_bytes <= stream.counted_bytes
            else:
                assert not stream.counted_bytes
            waiting_bytes += stream.counted_bytes
        assert self.memory.upload_bytes == waiting_bytes
        assert self.memory.used_bytes == waiting_bytes + sum(exchange.buffered_bytes for exchange in self.exchanges)

    # What may happen

    def open(self, number: int, size: int) -> None:
        if not self.connection.can_open or self.transport.is_closed:
            return
        sides = Client(connected=False)
        sides.memory = self.memory
        head = request("POST" if number % 2 else "GET", chunked=number % 2 == 1)
        exchange = exchange_of(sides, head)
        if not head.has_body:
            exchange.on_request_end([], 0.0)
        exchange.dispatch(sides, 0.0)
        self.exchanges.append(exchange)
        exchange.on_connection(ClientStream(self.connection), 0.0)

    def _of(self, number: int) -> Exchange | None:
        return self.exchanges[number % len(self.exchanges)] if self.exchanges else None

    def upload(self, number: int, size: int) -> None:
        exchange = self._of(number)
        if exchange is not None and exchange.phase != ENDED and not exchange.is_request_done:
            exchange.on_request_data(b"x" * (size + 1), 0.0)

    def finish_upload(self, number: int, size: int) -> None:
        exchange = self._of(number)
        if exchange is not None and exchange.phase != ENDED and not exchange.is_request_done:
            exchange.on_request_end([(b"X-Sum", b"1")] if size % 2 else [], 0.0)

    def leave(self, number: int, size: int) -> None:
        exchange = self._of(number)
        if exchange is not None:
            exchange.on_downstream_gone(0.0)

    def stall(self, number: int, size: int) -> None:
        exchange = self._of(number)
        if exchange is not None and exchange.phase in (SENT, ANSWERING):
            exchange.on_downstream_writable(size % 2 == 0, 0.0)

    def time_out(self, number: int, size: int) -> None:
        exchange = self._of(number)
        if exchange is not None:
            exchange.due(1e6)

    def head(self, number: int, size: int) -> None:
        status = (b"200", b"204", b"103", b"nonsense")[size % 4]
        fields = [(b":status", status), (b"content-length", b"%d" % size)][: 1 + size % 3 // 2]
        self.feed(f.header_frames(2 * number + 1, self.encoder.encode(fields), end=size % 5 == 0))

    def trailers(self, number: int, size: int) -> None:
        fields = [(b"grpc-status", b"0") if size % 4 else (b":path", b"/")]
        self.feed(f.header_frames(2 * number + 1, self.encoder.encode(fields), end=True))

    def data(self, number: int, size: int) -> None:
        self.feed(f.frame(f.DATA, f.END_STREAM if size % 3 == 0 else 0, 2 * number + 1, b"x" * size))

    def reset(self, number: int, size: int) -> None:
        self.feed(f.reset_frame(2 * number + 1, size % 14))

    def goaway(self, number: int, size: int) -> None:
        self.feed(f.goaway_frame(2 * number + 1, size % 2))

    def settings(self, number: int, size: int) -> None:
        self.feed(f.settings_frame({f.MAX_CONCURRENT_STREAMS: number, f.INITIAL_WINDOW_SIZE: size}))

    def window(self, number: int, size: int) -> None:
        self.feed(f.window_frame(2 * number - 1 if number else 0, size + 1))

    def block(self, number: int, size: int) -> None:
        if self.transport.is_closed:
            return
        self.transport.waiting_bytes = size if size % 2 else 0
        if size % 2:
            self.connection.pause_writing()
        else:
            self.connection.resume_writing()


OPERATIONS = [
    World.open, World.open, World.upload, World.finish_upload, World.leave, World.stall, World.time_out, World.head,
    World.head, World.data, World.data, World.trailers, World.reset, World.goaway, World.settings, World.window,
    World.block,
]  # fmt: skip


@settings(max_examples=examples(300), deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 3), st.integers(0, 40) | st.integers(0, 70_000)),
        max_size=40,
    )
)
def test_each_exchange_ends_once_and_nothing_is_left(steps: list[Any]) -> None:
    async def play() -> None:
        world = World()
        for operation, number, size in steps:
            operation(world, number, size)
            await asyncio.sleep(0)  # what is to be written is counted at the end of the turn
            world.check_memory()
        world.connection.connection_lost(None)
        for exchange in world.exchanges:
            assert exchange.phase == ENDED
            sides = exchange.downstream
            assert sum(line.startswith("owner: ") for line in sides.said) == 1  # type: ignore[attr-defined]
        assert (world.memory.used_bytes, world.memory.upload_bytes, world.memory.is_short) == (0, 0, False)
        assert not world.connection.state.streams

    asyncio.run(play())


@pytest.mark.parametrize("why", ["retired", "violation"])
async def test_a_replica_that_does_not_take_the_last_word_is_left_all_the_same(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerogate.http.h2.client.LEAVE_S", 0.02)
    world = World()
    world.transport.waiting_bytes = 100
    if why == "retired":
        world.connection.retire()
    else:
        world.feed(f.frame(f.DATA, 0, 0, b"x"))
    assert world.transport.is_closed
    assert not world.transport.aborted.is_set()
    await asyncio.wait_for(world.transport.aborted.wait(), 5)
