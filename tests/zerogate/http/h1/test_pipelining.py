"""Several requests ahead on one connection, over the wire."""

import asyncio

from tests.zerogate.http.rig import echo, rig
from zerogate.counters import Result
from zerogate.http.h1.pipelining import MAX_PIPELINED

GET = b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n"


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with rig(script=echo) as it:
        client = await it.connect()
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: chat\r\n\r\n" % number for number in range(20)))
        assert [await client.answer() for _ in range(20)] == [b"/%d" % number for number in range(20)]


async def test_a_pipelined_request_whose_turn_never_came_gives_the_memory_of_its_body_back() -> None:
    async with rig(script=None) as it:
        client = await it.connect()
        await client.send(GET + b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000 + GET)
        async with asyncio.timeout(10):
            while it.server.memory.used_bytes < 9000:
                await asyncio.sleep(0)
        client.abort()
        (ended,) = await it.end_of(1)
        assert ended.result is Result.ABANDONED
        assert it.server.memory.used_bytes == 0


async def test_a_pipelined_post_keeps_its_body() -> None:
    async with rig(script=echo) as it:
        client = await it.connect()
        body = b"x" * 200_000
        await client.send(GET + b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 200000\r\n\r\n" + body + GET)
        assert await client.answer() == b"/"
        assert await client.answer() == body
        assert await client.answer() == b"/"


async def test_more_pipelined_requests_than_allowed_close_the_connection_after_those_before_them() -> None:
    async with rig(script=echo) as it:
        client = await it.connect()
        await client.send(GET * (MAX_PIPELINED + 50))
        data = await client.rest()
        assert data.count(b"200 OK") == MAX_PIPELINED + 1


async def test_pipelined_requests_end_with_their_connection_and_give_their_memory_back() -> None:
    async with rig() as it:
        client = await it.connect()
        await client.send(GET + b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
        while not it.server.memory.used_bytes:
            await asyncio.sleep(0)
        client.abort()
        await it.end_of(1)
        assert it.server.memory.used_bytes == 0
