"""The engine on real sockets: a raw client, a scripted replica, and the bytes between them."""

import asyncio
import socket
from typing import Any

import pytest

from tests.zerogate.http.h1.corpus import REFUSED, REFUSED_BODIES
from tests.zerogate.http.rig import Rig, answering, echo, read_request, replica, rig, settled
from zerogate.clock import now
from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.http.account import KEEP_BYTES
from zerogate.http.h1.server import ServerConnection
from zerogate.http.record import BUFFER_BYTES
from zerogate.policy import Policy

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n"


async def test_requests_on_one_connection_ride_on_one_connection_to_the_replica() -> None:
    connections = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await echo(reader, writer)

    async with rig(script=script) as it:
        client = await it.connect()
        assert [await client.get(f"/{number}") for number in range(5)] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert connections == 1


async def test_what_goes_to_the_replica_is_written_anew_with_the_hops_own_fields_left_out() -> None:
    seen: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        seen.append(head)
        writer.write(OK)

    async with rig(script=script) as it:
        client = await it.connect()
        await client.send(
            b"GET /a?b=c HTTP/1.1\r\nHost: chat\r\nX-Kept: 1\r\nConnection: close, X-Hop\r\nX-Hop: 2\r\n"
            b"Keep-Alive: 5\r\nTE: trailers\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"
        )
        assert (await client.rest()).endswith(b"Connection: close\r\n\r\nok")
    lines = seen[0].split(b"\r\n")
    assert lines[:3] == [b"GET /a?b=c HTTP/1.1", b"Host: chat", b"X-Kept: 1"]
    assert b"X-Forwarded-For: 203.0.113.9, 127.0.0.1" in lines
    assert not [line for line in lines if line.lower().startswith((b"x-hop", b"connection", b"keep-alive", b"te:"))]


async def test_100_continue_is_given_when_a_slot_is_there_and_not_before() -> None:
    async with rig() as it, replica(echo) as port:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        while not it.wakes:
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)
        it.add_replica(port)
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hi")
        assert await client.answer() == b"hi"


async def test_chunked_bodies_and_trailers_pass_both_ways() -> None:
    seen = bytearray()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.readuntil(b"\r\n\r\n"))
        seen.extend(await reader.readuntil(b"X-Sum: 7\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Cost\r\n\r\n"
            b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Cost: 9\r\nSet-Cookie: a=b\r\n\r\n"
        )
        await reader.read()

    async with rig(script=script) as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwxyz\r\n")
        await client.send(b"0\r\nX-Sum: 7\r\n\r\n")
        answer = await client.until(b"X-Cost: 9\r\n\r\n")
    assert b"4\r\nwxyz\r\n0\r\nX-Sum: 7\r\n\r\n" in seen
    assert answer.endswith(b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Cost: 9\r\n\r\n")


@pytest.mark.parametrize(
    ("request_bytes", "answer", "expected"),
    [
        pytest.param(
            b"HEAD / HTTP/1.1\r\nHost: c\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
            id="HEAD-keeps-the-length-and-has-no-body",
        ),
        pytest.param(GET, b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", id="204"),
        pytest.param(
            GET,
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
            id="304",
        ),
        pytest.param(
            GET,
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            id="1xx-is-passed-on",
        ),
    ],
)  # fmt: skip
async def test_answers_without_a_body_leave_both_connections_usable(
    request_bytes: bytes, answer: bytes, expected: bytes
) -> None:
    async with rig(script=answering(answer, OK)) as it:
        client = await it.connect()
        await client.send(request_bytes)
        assert await asyncio.wait_for(client.reader.readexactly(len(expected)), 10) == expected
        assert await client.get() == b"ok"


async def test_an_answer_that_ends_with_its_connection_is_chunked_for_the_client() -> None:
    async with rig(script=answering(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", then_close=True)) as it:
        client = await it.connect()
        await client.send(GET)
        answer = await client.until(b"0\r\n\r\n")
    assert b"Transfer-Encoding: chunked\r\n" in answer
    assert b"d\r\nuntil the end\r\n" in answer


async def test_http_1_0_clients_get_the_end_by_the_close_unless_they_ask_to_stay() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with rig(script=answering(OK, chunked)) as it:
        client = await it.connect()
        await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert await client.answer() == b"ok"
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        answer = await client.rest()
    assert b"chunked" not in answer
    assert answer.endswith(b"\r\n\r\nabc")


async def test_a_body_that_comes_with_its_head_is_not_measured_as_a_head() -> None:
    body = b"x" * 1_000_000
    async with rig(script=answering(*[b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + body] * 4)) as it:
        client = await it.connect()
        for _ in range(4):
            assert await client.get() == body
    async with rig(script=echo) as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: ch")
        [connection] = it.server.connections
        assert isinstance(connection, ServerConnection)
        while not connection.is_reading_head:
            await asyncio.sleep(0)
        await client.send(b"at\r\nContent-Length: 1000000\r\n\r\n" + body)
        assert await client.answer() == body


async def test_a_replica_that_dies_in_its_answer_leaves_the_client_without_an_end() -> None:
    partial = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntok\r\n"
    async with rig(script=answering(partial, then_close=True)) as it:
        client = await it.connect()
        await client.send(GET)
        answer = await client.rest()
        (exchange,) = await it.end_of(1)
    assert answer.endswith(b"3\r\ntok\r\n")
    assert exchange.result is Result.CUT


async def test_an_http_1_0_client_of_a_broken_answer_gets_a_reset_because_a_close_would_be_an_end() -> None:
    partial = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntok\r\n"
    async with rig(script=answering(partial, then_close=True)) as it:
        client = await it.connect()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_bytes_beyond_one_answer_are_nobodys_answer() -> None:
    async with rig(Policy(concurrency_limit=1), script=answering(OK + OK, OK)) as it:
        first, second = await it.connect(), await it.connect()
        await first.send(GET)
        await second.send(GET)
        answers = [await first.until(b"\r\n\r\n"), await second.until(b"\r\n\r\n")]
    assert answers[0].startswith(b"HTTP/1.1 200")
    # the second GET may be repeated on a fresh connection; it must not get the bytes that came before it was sent
    assert answers[1].startswith(b"HTTP/1.1 200")
    assert it.hold.counters.retries >= 0


async def test_a_client_that_goes_away_frees_its_place_in_the_queue_and_its_bytes_at_once() -> None:
    async with rig() as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 100\r\n\r\n" + b"x" * 100)
        while not it.wakes:
            await asyncio.sleep(0)
        assert (it.hold.queue.length, it.hold.meter.held) == (1, 1)
        client.abort()
        (exchange,) = await it.end_of(1)
        assert exchange.result is Result.ABANDONED
        assert (it.hold.queue.length, it.hold.queue.held_bytes, it.hold.meter.held, it.server.memory.used_bytes) == (
            0,
        ) * 4


async def test_a_client_that_goes_away_is_seen_while_its_body_is_not_read_any_more() -> None:
    async with rig() as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: %d\r\n\r\n" % (KEEP_BYTES + 1))
        await client.send(b"x" * (BUFFER_BYTES + 1000))
        while it.server.memory.used_bytes <= BUFFER_BYTES:
            await asyncio.sleep(0)
        client.abort()
        await it.end_of(1)
        assert it.hold.queue.length == 0


async def test_a_client_that_goes_away_in_the_middle_of_a_large_held_body_is_seen() -> None:
    async with rig() as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 8000000\r\n\r\n" + b"x" * 5_000_000)
        while it.server.memory.used_bytes < 5_000_000:
            await asyncio.sleep(0)
        assert it.hold.queue.held_bytes >= 8_000_000
        client.abort()
        await it.end_of(1)
        assert (it.hold.queue.held_bytes, it.server.memory.used_bytes) == (0, 0)


async def test_a_refused_upload_still_reads_its_refusal() -> None:
    async with rig(Policy(queue_limit=1)) as it:
        first = await it.connect()
        await first.send(GET)
        while not it.wakes:
            await asyncio.sleep(0)
        second = await it.connect()
        await second.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 8000000\r\n\r\n")
        second.writer.write(b"x" * 8_000_000)
        answer = await second.until(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after" in answer.lower()


async def test_memory_stays_flat_while_a_client_does_not_read() -> None:
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with rig(script=script) as it:
        client = await it.connect()
        sock: Any = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await client.send(GET)
        assert await settled(lambda: sent) < 64 << 20
        (connection,) = it.server.connections
        assert connection.buffered_bytes <= 2 * 65536 + 262144


@pytest.mark.parametrize(("bad", "status"), REFUSED.values(), ids=REFUSED)
async def test_a_message_without_a_single_meaning_is_refused_and_its_connection_closed(bad: bytes, status: int) -> None:
    async with rig(script=echo) as it:
        client = await it.connect()
        await client.send(bad)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"Connection: close\r\n" in answer
        assert it.hold.meter.arrivals == 0


@pytest.mark.parametrize(("bad", "status"), REFUSED_BODIES.values(), ids=REFUSED_BODIES)
async def test_a_body_without_a_single_meaning_is_refused_and_leaves_the_queue(bad: bytes, status: int) -> None:
    async with rig() as it:
        client = await it.connect()
        await client.send(bad)
        assert (await client.rest()).startswith(b"HTTP/1.1 %d " % status)
        assert it.hold.queue.length == it.server.memory.used_bytes == 0


async def test_an_answer_whose_head_comes_together_with_much_of_its_body_is_passed_on() -> None:
    body = b"x" * 200_000
    async with rig(script=answering(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + body)) as it:
        client = await it.connect()
        await client.send(GET)
        assert await client.answer() == body


async def test_a_request_whose_head_ends_together_with_much_of_its_body_is_passed_on() -> None:
    body = b"x" * 200_000
    async with rig(script=echo) as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: ")
        # the rest is sent only when this piece was read on its own
        [connection] = it.server.connections
        assert isinstance(connection, ServerConnection)
        async with asyncio.timeout(10):
            while not connection.is_reading_head:
                await asyncio.sleep(0)
        await client.send(b"chat\r\nContent-Length: 200000\r\n\r\n" + body)
        assert await client.answer() == body


ENDLESS = {
    "trailers": (b"0\r\n", b"X-Trailer: %b\r\n" % (b"x" * 1000)),
    "many-small-trailers": (b"0\r\n", b"X: 1\r\n"),
    "one-trailer": (b"0\r\nX: ", b"x" * 1000),
    "chunk-extension": (b"5;", b"x" * 1000),
}
"""Parts of a chunked body that belong to no byte of it: (begin, what comes again and again)."""


@pytest.mark.parametrize(("begin", "again"), ENDLESS.values(), ids=ENDLESS)
async def test_what_a_chunked_request_brings_besides_its_body_is_bounded(begin: bytes, again: bytes) -> None:
    async with rig(script=None) as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + begin)
        for _ in range(150):
            await client.send(again)
        if len(again) < 1000:
            await client.send(b"\r\n")
        assert b" 431 " in await client.until(b"\r\n")
        assert it.hold.queue.held_bytes == it.server.memory.used_bytes == 0


@pytest.mark.parametrize(("begin", "again"), ENDLESS.values(), ids=ENDLESS)
async def test_what_a_chunked_answer_brings_besides_its_body_is_bounded(begin: bytes, again: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    async with rig(script=answering(head + begin + 700 * again + b"\r\n")) as it:
        client = await it.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n")
        seen = await client.rest()
        assert b"abc" in seen
        assert b"\r\n0\r\n" not in seen
        (ended,) = await it.end_of(1)
        assert ended.result is Result.CUT


async def test_a_head_that_begins_behind_a_large_body_is_not_measured_with_it() -> None:
    async with rig(script=echo) as it:
        client = await it.connect()
        body = b"x" * 100_000
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 100000\r\n\r\n" + body + b"GET /next HT")
        assert await client.answer() == body
        await client.send(b"TP/1.1\r\nHost: chat\r\n\r\n")
        assert await client.answer() == b"/next"


async def test_a_broken_chunk_in_a_held_body_is_refused_and_frees_the_queue() -> None:
    async with rig() as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX")
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        assert it.hold.queue.length == 0


async def test_a_broken_chunk_behind_the_begin_of_an_answer_cuts_it_and_lets_go_of_the_replica() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"hello\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await reader.read()

    async with rig(script=script) as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await client.until(b"abc\r\n")
        await client.send(b"no size\r\n")
        assert await client.rest() == b""
        (exchange,) = await it.end_of(1)
        assert (exchange.result, exchange.code) == (Result.CUT, "bad_request")


async def test_garbage_behind_a_good_request_does_not_cost_the_good_one_its_answer() -> None:
    async with rig(script=echo) as it:
        client = await it.connect()
        await client.send(GET + b"\x00\x01garbage\r\n\r\n")
        data = await client.rest()
        assert data.startswith(b"HTTP/1.1 200 OK")
        assert b"HTTP/1.1 400 " in data


async def test_an_offer_of_another_protocol_is_not_taken_and_the_request_is_served() -> None:
    async with rig(script=echo) as it:
        client = await it.connect()
        await client.send(
            b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n"
        )
        assert await client.answer() == b"/x"
        assert await client.get("/y") == b"/y"


async def test_a_small_unread_body_of_a_refused_request_does_not_cost_the_connection() -> None:
    async with rig() as it:
        it.hold.fail(Refusal(status=503, code="start_failed", detail="It did not start."), now() + 60, now())
        client = await it.connect()
        for _ in range(2):
            await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 4\r\n\r\n")
            assert b"It did not start." in await client.answer()
            await client.send(b"body")


async def test_the_replicas_slots_bound_what_is_inside_and_the_queue_moves_up_at_once() -> None:
    inside = most = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal inside, most
        while True:
            await read_request(reader)
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.005)
            inside -= 1
            writer.write(OK)

    async with rig(Policy(concurrency_limit=1), script=script) as it:
        clients = [await it.connect() for _ in range(5)]
        await asyncio.gather(*(client.get() for client in clients for _ in range(1)))
        assert most == 1
        assert it.hold.meter.in_flight == 0


async def test_a_replica_that_refuses_connections_is_tried_again_and_then_said() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with rig() as it:
            it.add_replica(closed.getsockname()[1])
            client = await it.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 2\r\n\r\nhi")
            answer = await client.until(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 502 ")
            assert it.hold.counters.retries == 4


async def test_a_replica_cannot_claim_that_it_was_not_sent_the_request() -> None:
    claim = b"HTTP/1.1 200 OK\r\nZerogate-Not-Sent: 1\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok"
    async with rig(script=answering(claim)) as it:
        client = await it.connect()
        await client.send(GET)
        head = await client.until(b"\r\n\r\n")
    assert b"x-kept" in head.lower()
    assert b"not-sent" not in head.lower()


async def test_a_client_that_closes_its_sending_side_is_gone() -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with rig(script=silent) as it:
        client = await it.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n")
        client.writer.write_eof()
        (ended,) = await it.end_of(1)
        assert ended.result is Result.ABANDONED
        assert await client.rest() == b""


async def test_spaces_behind_the_coding_of_an_answer_mean_nothing() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked  \r\n\r\n2\r\nok\r\n0\r\n\r\n"
    async with rig(script=answering(answer)) as it:
        client = await it.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n")
        assert b"\r\nTransfer-Encoding: chunked\r\n" in await client.until(b"\r\n\r\n")
        assert await client.until(b"0\r\n\r\n") == b"2\r\nok\r\n0\r\n\r\n"


UNREAD = 90
LARGE = b"x" * 200_000
"""So many of these are more than the kernel takes for a client that does not read; each comes in one read."""


def unread_bytes(one: Rig) -> int:
    return max((connection.buffered_bytes for connection in one.server.connections), default=0)


async def blocked(one: Rig) -> None:
    """Wait until the client of this rig has stopped taking what it is sent."""
    async with asyncio.timeout(10):
        while unread_bytes(one) <= 64 * 1024:
            await asyncio.sleep(0.01)


async def test_no_request_is_begun_while_its_client_does_not_take_the_answers_before() -> None:
    unread: list[int] = []
    rigs: list[Rig] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            unread.append(unread_bytes(rigs[0]))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE))

    async with rig(script=script) as one:
        rigs.append(one)
        client = await one.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n" * UNREAD)
        await blocked(one)
        for _ in range(UNREAD):
            assert await client.answer() == LARGE
    assert len(unread) == UNREAD
    assert max(unread) <= 64 * 1024


async def test_answers_of_our_own_do_not_pile_up_for_a_client_that_does_not_read() -> None:
    async with rig() as one:
        one.server.place = lambda exchange, now_s: exchange.answer(200, (), LARGE, now_s)
        client = await one.connect()
        for _ in range(UNREAD):
            await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n")
            await asyncio.sleep(0)
        await blocked(one)
        assert unread_bytes(one) < 2 * len(LARGE)
        for _ in range(UNREAD):
            assert await client.answer() == LARGE


async def test_a_connection_that_is_to_be_closed_does_not_wait_for_a_client_that_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zerogate.http.h1.leaving.KEEP_ALIVE_S", 0.5)
    monkeypatch.setattr("zerogate.http.h1.leaving.STALLED_S", 0.1)
    async with rig() as one:
        one.server.place = lambda exchange, now_s: exchange.answer(200, (), LARGE, now_s)
        client = await one.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n" * UNREAD)
        await blocked(one)
        assert one.server.connections
        await asyncio.wait_for(one.server.emptied().wait(), 10)
        assert not client.reader.at_eof(), "it has not even read what it was sent"
        assert one.server.memory.used_bytes == 0


@pytest.mark.parametrize("version", [b"0.9", b"2.0", b"3.0"])
async def test_an_answer_in_a_version_that_was_not_asked_for_is_none(version: bytes) -> None:
    answer = b"HTTP/%b 200 OK\r\nContent-Length: 2\r\n\r\nok" % version
    async with rig(script=answering(answer)) as it:
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 1\r\n\r\nx")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
        assert (await it.end_of(1))[0].code == "replica_lost"
        assert it.hold.meter.in_flight == 0


@pytest.mark.parametrize("status", [b"000", b"099", b"600", b"999"])
async def test_an_answer_with_a_status_that_is_none_is_an_error_and_frees_its_slot(status: bytes) -> None:
    bad = b"HTTP/1.1 %b What\r\nContent-Length: 2\r\n\r\nno" % status
    async with rig(Policy(concurrency_limit=1), script=answering(bad)) as one:
        client = await one.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 2\r\n\r\nhi")
        assert (await client.until(b"\r\n")).startswith(b"HTTP/1.1 502 ")
        await one.end_of(1)
        assert one.hold.replicas["chat-1"].gate.in_flight == 0


async def test_a_client_that_takes_nothing_and_ends_its_side_is_gone() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"%x\r\n%b\r\n" % (len(LARGE), LARGE))
            await writer.drain()

    async with rig(script=script) as one:
        client = await one.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n")
        await blocked(one)
        client.writer.write_eof()
        (exchange,) = await one.end_of(1)
        assert exchange.result is Result.ABANDONED
        assert one.hold.replicas["chat-1"].gate.in_flight == 0
