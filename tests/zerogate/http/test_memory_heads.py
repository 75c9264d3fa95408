"""Heads that have begun to come count in the memory for buffers: how much there may be of them, and who is refused."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.zerogate.http.rig import Client, Rig, echo, rig
from zerogate.http.h1 import leaving, server
from zerogate.http.h2 import frames as f
from zerogate.http.h2.frames import PREFACE
from zerogate.http.memory import BufferMemory

BEGUN = b"GET / HTTP/1.1\r\nHost: chat\r\nX: "
HALF_BYTES = 40_000
GREETING = PREFACE + f.settings_frame({})
GET_BLOCK = b"\x82\x86\x84\x01\x04chat"


async def comes(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


async def half_of_http_1(client: Client) -> None:
    await client.send(BEGUN + b"x" * (HALF_BYTES - len(BEGUN)))


async def half_of_http_2(client: Client) -> None:
    """A whole HEADERS without its end, and a CONTINUATION of which the last byte is missing."""
    first, second = 16_000, HALF_BYTES - 16_000 - f.HEADER_BYTES
    await client.send(GREETING + f.frame(f.HEADERS, f.END_STREAM, 1, GET_BLOCK + b"x" * (first - len(GET_BLOCK))))
    await client.send(f.frame(f.CONTINUATION, 0, 1, b"x" * 16_000))
    await client.send(f.frame(f.CONTINUATION, 0, 1, b"x" * (second - 16_000 + 1))[:-1])


def test_heads_have_an_eighth_and_alone_never_make_it_short() -> None:
    memory, told = BufferMemory(800), list[bool]()
    memory.on_short = told.append
    memory.recount_head(0, 100)
    assert not memory.is_out_of_heads
    memory.recount_head(100, 101)
    assert (memory.is_out_of_heads, memory.head_bytes, memory.body_bytes) == (True, 101, 0)
    memory.recount_head(101, 1)
    memory.used_bytes += 799
    assert (memory.is_out_of_heads, memory.body_bytes) == (False, 799)
    memory.recount_head(0, 1)
    assert (memory.is_out_of_heads, memory.is_short, told) == (True, False, [])


def test_heads_that_are_gone_end_the_shortness() -> None:
    memory, told = BufferMemory(1600), list[bool]()
    memory.on_short = told.append
    memory.recount_head(0, 150)
    memory.recount_answer(0, 1450)
    assert told == [True]
    memory.recount_head(150, 0)
    assert told == [True, False]


@pytest.mark.parametrize("half", [half_of_http_1, half_of_http_2], ids=["HTTP/1.1", "HTTP/2"])
async def test_many_connections_with_half_a_head_each_take_no_more_than_their_part(
    half: Callable[[Client], Awaitable[None]],
) -> None:
    async with rig(script=echo) as one:
        memory = one.server.memory
        memory.limit_bytes = 8 * 10 * HALF_BYTES
        kept = [await one.connect() for _ in range(10)]
        for client in kept:
            await half(client)
        await comes(lambda: memory.head_bytes == 10 * HALF_BYTES)
        for _ in range(20):
            more = await one.connect()
            await half(more)
            said = await more.rest()
            if half is half_of_http_1:
                assert said.startswith(b"HTTP/1.1 503 ")
                assert b"memory_full" in said
                assert b"retry-after: 1" in said.lower()
            else:
                assert b"no memory for a head" in said
            assert memory.head_bytes <= 10 * HALF_BYTES
        whole = await one.connect()
        assert await whole.get("/whole") == b"/whole"
        assert (memory.head_bytes, memory.used_bytes, memory.is_short) == (10 * HALF_BYTES, 10 * HALF_BYTES, False)
        one.clients.part()
        await comes(lambda: not one.server.connections)
        assert (memory.head_bytes, memory.used_bytes) == (0, 0)


async def test_a_head_that_becomes_whole_is_given_back_and_answered() -> None:
    async with rig(script=echo) as one:
        client = await one.connect()
        await half_of_http_1(client)
        await comes(lambda: one.server.memory.head_bytes == HALF_BYTES)
        await client.send(b"\r\n\r\n")
        assert await client.answer() == b"/"
        assert one.server.memory.used_bytes == 0


async def test_a_head_that_takes_too_long_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "HEAD_TIMEOUT_S", 0.2)
    monkeypatch.setattr(server, "HEAD_GRACE_S", 0.2)
    async with rig(script=echo) as one:
        client = await one.connect()
        await half_of_http_1(client)
        assert await client.rest() == b""
        await comes(lambda: not one.server.connections)
        assert one.server.memory.used_bytes == 0


async def test_what_runs_on_a_connection_of_http_2_is_not_cut_for_a_head_behind_it() -> None:
    async with rig() as one:
        memory = one.server.memory
        client = await one.connect()
        await client.send(GREETING + f.header_frames(1, GET_BLOCK, end=True))
        await comes(lambda: bool(one.wakes))
        memory.limit_bytes = 8
        await client.send(f.frame(f.HEADERS, f.END_STREAM, 3, GET_BLOCK))
        await comes(lambda: memory.head_bytes == len(GET_BLOCK))
        await client.send(f.frame(f.CONTINUATION, f.END_HEADERS, 3))
        await comes(lambda: not memory.head_bytes)
        (connection,) = one.server.connections
        assert len(connection.core.streams) == 2  # type: ignore[attr-defined]


async def test_requests_that_wait_for_their_turn_count_and_give_way_behind_the_one_that_runs() -> None:
    gate = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await gate.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with rig(script=slow) as one:
        memory = one.server.memory
        client = await one.connect()
        await ask(one, client, b"GET /1 HTTP/1.1\r\nHost: chat\r\n\r\n")
        ahead = b"GET /2 HTTP/1.1\r\nHost: chat\r\nX: %b\r\n\r\n" % (b"x" * 20_000)
        memory.limit_bytes = 8 * 60_000
        await client.send(ahead * 2)
        await comes(lambda: 40_000 < memory.head_bytes < 60_000)
        memory.limit_bytes = 8 * 30_000
        (connection,) = one.server.connections
        connection.data_received(b"GET /3 HTTP/1.1\r\nHost: chat\r\n\r\n")  # type: ignore[attr-defined]
        assert memory.used_bytes == 0
        connection.data_received(b"GET /4 HTTP/1.1\r\nHost: chat\r\n\r\n")  # type: ignore[attr-defined]
        assert memory.used_bytes == 0
        gate.set()
        said = await client.rest()
        assert said.startswith(b"HTTP/1.1 200 OK")
        assert said.count(b"HTTP/1.1 ") == 2
        assert b"HTTP/1.1 503 " in said
        assert b"memory_full" in said


async def test_a_request_whose_turn_never_comes_because_its_body_has_no_meaning_is_given_back() -> None:
    async with rig() as one:
        client = await one.connect()
        await ask(one, client, b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n")
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\nno")
        await comes(lambda: one.server.bad_requests == 1)
        assert one.server.memory.head_bytes == 0


async def ask(one: Rig, client: Client, data: bytes) -> None:
    """Send a request, and wait until it is inside."""
    await client.send(data)
    await comes(lambda: len(one.wakes) == 1 or one.hold.meter.in_flight == 1)


@pytest.mark.parametrize(
    ("before", "doubt_bytes"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n", 0, id="a head"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 0, id="chunks"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 9\r\n\r\n\r\n\r\n12345", 5, id="a body that is counted"
        ),
    ],
)
async def test_a_head_that_begins_behind_something_else_in_one_read_counts_with_its_own_bytes(
    before: bytes, doubt_bytes: int
) -> None:
    async with rig() as one:
        client = await one.connect()
        await client.send(before + BEGUN + b"x" * 1000)
        size = len(BEGUN) + 1000
        memory = one.server.memory
        await comes(lambda: bool(memory.head_bytes))
        assert memory.head_bytes == size + doubt_bytes
