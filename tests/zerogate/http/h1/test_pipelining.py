"""Several requests ahead on one connection, over the wire."""

import asyncio

import pytest

from tests.zerogate.http.rig import Rig, Script, echo, read_request, rig
from zerogate.counters import Result
from zerogate.http.h1.pipelining import MAX_PIPELINED

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
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


def _waiting_for(*latches: asyncio.Event) -> Script:
    """Answers one request when each latch is open, and all others at once."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for latch in latches:
            await read_request(reader)
            await latch.wait()
            writer.write(OK)
        await echo(reader, writer)

    return script


async def _refused(it: Rig) -> None:
    async with asyncio.timeout(30):
        while not it.server.bad_requests:
            await asyncio.sleep(0)


BAD_BODY = b"POST / HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nno size\r\n"
BAD_HEAD = b"GET / HTTP/1.1\r\nHost: chat\r\n%b\r\n" % (b"X: y\r\n" * 200)


@pytest.mark.parametrize(("bad", "status"), [(BAD_BODY, 400), (BAD_HEAD, 431)], ids=["a body", "a head"])
async def test_what_has_no_meaning_behind_good_requests_is_told_so_after_their_answers(bad: bytes, status: int) -> None:
    latch = asyncio.Event()
    async with rig(script=_waiting_for(latch)) as it:
        client = await it.connect()
        await client.send(GET + GET + bad)
        await _refused(it)
        latch.set()
        assert [await client.answer(), await client.answer()] == [b"ok", b"/"]
        assert (await client.rest()).startswith(b"HTTP/1.1 %d " % status)
        assert it.server.memory.used_bytes == 0


async def test_nothing_is_read_behind_what_has_no_meaning() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    async with rig(script=_waiting_for(first, second)) as it:
        client = await it.connect()
        await client.send(GET + GET + BAD_HEAD)
        await _refused(it)
        first.set()
        assert await client.answer() == b"ok"
        client.writer.write(b"no request\r\n\r\n" * 9)
        for _ in range(50):  # passes of the loop in which it could be read
            await asyncio.sleep(0)
        second.set()
        assert await client.answer() == b"ok"
        assert (await client.rest()).startswith(b"HTTP/1.1 431 ")
        assert it.server.bad_requests == 1
