"""The memory for buffers: what counts, who is refused, and that whatever is paused goes on."""

import asyncio
from collections.abc import Callable

from tests.zerogate.http.rig import Client, Rig, read_request, rig
from zerogate.http.memory import BufferMemory

GET = b"GET %b HTTP/1.1\r\nHost: chat\r\n\r\n"
LARGE = b"0123456789abcdef" * (1 << 20)
"""More than the kernel takes for a client that does not read."""
LIMIT_BYTES = 64 * 1024
"""One connection that is full."""


def memory_of(limit_bytes: int) -> tuple[BufferMemory, list[bool]]:
    memory, told = BufferMemory(limit_bytes), list[bool]()
    memory.on_short = told.append
    return memory, told


def test_bodies_leave_an_eighth_to_the_answers() -> None:
    memory, told = memory_of(800)
    memory.used_bytes = 699
    assert not memory.is_full
    memory.used_bytes = 700
    assert (memory.is_full, memory.is_short) == (True, False)
    memory.recount_answer(0, 99)
    assert told == []
    memory.recount_answer(0, 1)
    assert (told, memory.body_bytes, memory.answer_bytes) == ([True], 700, 100)


def test_it_is_short_until_there_is_some_room_again() -> None:
    memory, told = memory_of(1600)
    memory.recount_answer(0, 1000)
    memory.recount_answer(0, 700)
    memory.recount_answer(100, 0)
    memory.recount_answer(0, 1)
    memory.recount_answer(101, 0)
    assert (memory.used_bytes, memory.is_short, told) == (1500, True, [True])
    memory.recount_answer(1, 0)
    assert (memory.is_short, told) == (False, [True, False])


def test_bodies_that_are_gone_are_seen_at_the_next_look_and_without_answers_it_is_never_short() -> None:
    memory, told = memory_of(1600)
    memory.used_bytes = 1450
    memory.recount_answer(0, 200)
    memory.used_bytes -= 1450
    assert (memory.look(), told) == (False, [True, False])
    memory.used_bytes += 1550
    assert memory.is_short is False
    memory.recount_answer(0, 100)
    memory.recount_answer(300, 0)
    assert (memory.is_short, memory.answer_bytes) == (False, 0)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """`/large`, and whatever else is short."""
    while True:
        head, _ = await read_request(reader)
        body = LARGE if b"/large" in head else b"ok"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 1 << 18):
            writer.write(body[at : at + (1 << 18)])
            await writer.drain()


async def comes(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


async def stalled(one: Rig) -> Client:
    """A client that asks for much and reads nothing, until the memory is short."""
    client = await one.connect()
    await client.send(GET % b"/large")
    await comes(lambda: one.server.memory.is_short)
    return client


async def test_answers_that_nobody_takes_turn_new_requests_away_until_they_are_taken() -> None:
    async with rig(script=serve) as one:
        memory = one.server.memory
        memory.limit_bytes = LIMIT_BYTES
        slow = await stalled(one)
        assert memory.answer_bytes == memory.used_bytes >= LIMIT_BYTES
        other = await one.connect()
        await other.send(GET % b"/ok")
        refused = await other.until(b"}")
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"memory_full" in refused
        assert b"retry-after: 1" in refused
        assert await slow.answer() == LARGE
        await other.send(GET % b"/ok")
        assert await other.answer() == b"ok"
        assert (memory.used_bytes, memory.answer_bytes, memory.is_short) == (0, 0, False)


async def test_a_client_that_takes_its_answer_gets_all_of_it_while_others_fill_the_memory() -> None:
    async with rig(script=serve) as one:
        quick = await one.connect()
        one.server.memory.limit_bytes = 1 << 30
        await quick.send(GET % b"/large")
        await quick.until(b"\r\n\r\n")
        one.server.memory.limit_bytes = LIMIT_BYTES
        await comes(lambda: one.server.memory.is_short)  # by itself: it has not read yet
        assert await asyncio.wait_for(quick.reader.readexactly(len(LARGE)), 10) == LARGE
        assert one.server.memory.used_bytes == 0


async def test_while_it_is_short_less_of_each_answer_may_wait() -> None:
    async with rig(script=serve) as one:
        one.server.memory.limit_bytes = LIMIT_BYTES
        await stalled(one)
        (connection,) = one.server.connections
        transport = connection._transport  # type: ignore[attr-defined]
        assert transport.get_write_buffer_limits() == (0, 0)
        one.clients.part()
        other = await one.connect()
        await comes(lambda: not one.server.memory.is_short)
        await other.send(GET % b"/ok")
        assert await other.answer() == b"ok"
        (connection,) = one.server.connections
        assert connection._transport.get_write_buffer_limits() == (16384, 65536)  # type: ignore[attr-defined]


async def test_what_a_client_has_not_taken_when_it_goes_is_given_back() -> None:
    async with rig(script=serve) as one:
        one.server.memory.limit_bytes = LIMIT_BYTES
        slow = await stalled(one)
        slow.writer.transport.abort()
        await comes(lambda: not one.server.connections)
        assert (one.server.memory.used_bytes, one.server.memory.is_short) == (0, False)
