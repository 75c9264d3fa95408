"""The replica's side of HTTP/2 on real sockets: an HTTP/1.1 client, a hold, and replicas that follow a script."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

import pytest
from h2.events import PingAckReceived, RequestReceived

from tests.zerogate.http.h2.replica import OK, Headers, Peer, echo, rig_of
from tests.zerogate.http.rig import Client, Rig, answering, replica, rig
from zerogate.counters import Result
from zerogate.http.h2 import frames as f
from zerogate.policy import Policy

GET = b"GET /x HTTP/1.1\r\nHost: chat\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: chat\r\nContent-Length: 4\r\n\r\nabcd"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\n\r\n"


async def status_of(client: Client, request: bytes) -> int:
    await client.send(request)
    return int((await client.until(b"\r\n\r\n")).split(b" ")[1])


async def refusal_of(it: Rig, request: bytes) -> tuple[int, str]:
    """What a request is refused with."""
    client = await it.connect()
    status = await status_of(client, request)
    (exchange,) = await it.end_of(1)
    return status, exchange.code


async def test_a_request_is_passed_on_by_its_meaning() -> None:
    fields: dict[str, str] = {}

    async def script(peer: Peer) -> None:
        asked = await peer.request()
        fields.update(asked.fields)
        peer.answer(asked.stream, b"hello", [(":status", "200"), ("x-answer", "1"), ("content-length", "5")])

    async with rig_of(script) as it:
        client = await it.connect()
        await client.send(
            b"GET /a?b=c HTTP/1.1\r\nHost: Chat:80\r\nX-Upper: Value\r\nConnection: X-Gone\r\nX-Gone: 1\r\n"
            b"TE: deflate\r\nX-Forwarded-For: 10.0.0.1\r\nExpect: 100-continue\r\n\r\n"
        )
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"x-answer: 1\r\n" in head
        assert await client.reader.readexactly(5) == b"hello"
    assert fields.pop("forwarded") == 'for=127.0.0.1;host="Chat:80";proto=http'
    assert fields == {
        ":method": "GET", ":scheme": "http", ":authority": "Chat:80", ":path": "/a?b=c", "x-upper": "Value",
        "x-forwarded-for": "10.0.0.1, 127.0.0.1", "x-forwarded-proto": "http", "x-forwarded-host": "Chat:80",
    }  # fmt: skip


async def test_bodies_and_trailers_pass_both_ways() -> None:
    seen: list[Any] = []

    async def script(peer: Peer) -> None:
        asked = await peer.request()
        seen.append((asked.body, asked.trailers, asked.fields.get("te"), asked.fields.get("content-length")))
        peer.answer(asked.stream, b"one", OK, [("x-end", "done"), ("content-length", "9")])

    async with rig_of(script) as it:
        client = await it.connect()
        await client.send(CHUNKED + b"2\r\nab\r\n2\r\ncd\r\n0\r\nX-Sum: 7\r\nAuthorization: no\r\n\r\n")
        assert (await client.until(b"\r\n\r\n")).endswith(b"Transfer-Encoding: chunked\r\n\r\n")
        assert await client.until(b"\r\n\r\n") == b"3\r\none\r\n0\r\nx-end: done\r\n\r\n"
    assert seen == [(b"abcd", {"x-sum": "7"}, "trailers", None)]


async def test_many_requests_share_one_connection() -> None:
    async with rig_of(echo) as it:
        clients = [await it.connect() for _ in range(20)]
        for client in clients:
            await client.send(POST)
        for client in clients:
            await client.until(b"abcd")
        assert it.scripted.connections == 1
        await clients[0].send(GET)
        await clients[0].until(b"/x")
        assert it.scripted.connections == 1


@pytest.mark.parametrize(
    ("method", "headers", "wanted"),
    [
        pytest.param(b"HEAD", [(":status", "200"), ("content-length", "7")], b"Content-Length: 7\r\n", id="head"),
        pytest.param(b"GET", [(":status", "204")], b"HTTP/1.1 204 No Content\r\n", id="204"),
        pytest.param(b"GET", [(":status", "304"), ("content-length", "7")], b"Content-Length: 7\r\n", id="304"),
        pytest.param(b"GET", [(":status", "200")], b"Content-Length: 0\r\n", id="no-body"),
    ],
)
async def test_an_answer_that_ends_with_its_head_leaves_the_connection_ready(
    method: bytes, headers: Headers, wanted: bytes
) -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.request()
        peer.head_of_answer(asked.stream, headers, end=True)
        await echo(peer)

    async with rig_of(script) as it:
        client = await it.connect()
        await client.send(method + b" /x HTTP/1.1\r\nHost: chat\r\n\r\n")
        assert wanted in await client.until(b"\r\n\r\n")
        await client.send(POST)
        await client.until(b"abcd")


async def test_interim_answers_are_passed_on_and_continue_is_our_own_to_say() -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.head()
        peer.head_of_answer(asked.stream, [(":status", "100")])
        peer.head_of_answer(asked.stream, [(":status", "103"), ("link", "</x>")])
        peer.answer(asked.stream, b"ok")

    async with rig_of(script) as it:
        client = await it.connect()
        await client.send(GET)
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")


async def refuse_once(peer: Peer) -> None:
    asked = await peer.request()
    peer.reset(asked.stream, f.REFUSED_STREAM)
    await echo(peer)


async def leave_once(peer: Peer) -> None:
    await peer.request()
    peer.goaway(0)
    await peer.flush()
    await peer.until_closed()


@pytest.mark.parametrize(("script", "connections"), [(refuse_once, 1), (leave_once, 2)])
@pytest.mark.parametrize("request_bytes", [POST, CHUNKED + b"4\r\nabcd\r\n0\r\n\r\n"], ids=["counted", "chunked"])
async def test_a_post_that_the_replica_did_not_begin_is_sent_again(
    script: Any, connections: int, request_bytes: bytes
) -> None:
    async with rig_of(script, echo) as it:
        client = await it.connect()
        await client.send(request_bytes)
        await client.until(b"abcd")
        assert it.scripted.connections == connections
        assert it.hold.counters.retries == 1
        (exchange,) = await it.end_of(1)
        assert exchange.attempts == 2
        assert it.server.memory.used_bytes == 0


async def test_a_replica_that_refused_a_stream_below_its_limit_gets_one_less_at_a_time_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It counts streams for a moment longer than it says."""
    monkeypatch.setattr("zerogate.http.h2.pool.MAX_CONNECTIONS", 1)
    at_once: list[int] = []

    async def script(peer: Peer) -> None:
        asked = await peer.head()
        peer.reset(asked.stream, f.REFUSED_STREAM)
        await peer.flush()
        while len(at_once) < 4:
            asked = await peer.request()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    peer.events += peer.core.receive_data(await peer.reader.read(65536))
            at_once.append(1 + sum(isinstance(event, RequestReceived) for event in peer.events))
            peer.answer(asked.stream, asked.body)
            await peer.flush()

    async with rig_of(script, settings={f.MAX_CONCURRENT_STREAMS: 2}) as it:
        first = await it.connect()
        await first.send(POST)
        await first.until(b"abcd")
        clients = [await it.connect() for _ in range(3)]
        for client in clients:
            await client.send(POST)
        for client in clients:
            await client.until(b"abcd")
    assert at_once == [1] * 4


async def test_a_refused_stream_whose_body_still_comes_is_sent_again_with_all_of_it() -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.head()
        peer.reset(asked.stream, f.REFUSED_STREAM)
        await echo(peer)

    async with rig_of(script) as it:
        client = await it.connect()
        await client.send(CHUNKED + b"2\r\nab\r\n")
        async with asyncio.timeout(10):
            while it.hold.counters.retries == 0:
                await asyncio.sleep(0.005)
        await client.send(b"2\r\ncd\r\n0\r\n\r\n")
        assert (await client.until(b"abcd")).startswith(b"HTTP/1.1 200 ")
        (exchange,) = await it.end_of(1)
        assert (exchange.result, exchange.attempts) == (Result.SERVED, 2)
        assert it.server.memory.used_bytes == 0


async def test_a_body_too_large_to_be_kept_is_not_sent_again() -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.request()
        peer.reset(asked.stream, f.REFUSED_STREAM)

    async with rig_of(script) as it:
        body = b"x" * 70_000
        request = b"POST /x HTTP/1.1\r\nHost: chat\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        assert await refusal_of(it, request) == (502, "replica_lost")
        assert it.server.memory.used_bytes == 0


@pytest.mark.parametrize("request_bytes", [GET, POST])
async def test_a_reset_before_the_answer_is_an_error_and_not_tried_again(request_bytes: bytes) -> None:
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        while True:
            asked = await peer.request()
            requests += 1
            peer.reset(asked.stream, f.INTERNAL_ERROR)

    async with rig_of(script) as it:
        assert await refusal_of(it, request_bytes) == (502, "replica_lost")
        assert requests == 1


async def test_a_reset_in_the_middle_of_an_answer_cuts_it_so_that_the_client_can_tell() -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.request()
        peer.head_of_answer(asked.stream)
        peer.core.send_data(asked.stream, b"half")
        peer.reset(asked.stream, f.INTERNAL_ERROR)

    async with rig_of(script) as it:
        client = await it.connect()
        await client.send(GET)
        assert (await client.rest()).endswith(b"4\r\nhalf\r\n")
        (exchange,) = await it.end_of(1)
        assert exchange.code == "replica_lost"


@pytest.mark.parametrize(("request_bytes", "again"), [(GET, True), (POST, False)])
async def test_a_connection_that_breaks_costs_what_may_not_be_repeated(request_bytes: bytes, again: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.writer.close()

    async with rig_of(script, echo) as it:
        client = await it.connect()
        assert await status_of(client, request_bytes) == (200 if again else 502)
        assert it.scripted.connections == (2 if again else 1)


async def test_a_replica_that_goes_away_finishes_what_it_began_and_gets_nothing_new() -> None:
    finish = asyncio.Event()

    async def script(peer: Peer) -> None:
        asked = await peer.request()
        peer.goaway(asked.stream)
        peer.core.ping(b"is it in")
        await peer.next(PingAckReceived)
        left.set()
        await finish.wait()
        peer.answer(asked.stream, b"old")
        assert await peer.was_told_to_go() == f.NO_ERROR
        gone.set()

    left, gone = asyncio.Event(), asyncio.Event()

    async with rig_of(script, echo) as it:
        old, new = await it.connect(), await it.connect()
        await old.send(POST)
        await asyncio.wait_for(left.wait(), 10)
        await new.send(POST)
        await new.until(b"abcd")
        assert it.scripted.connections == 2
        finish.set()
        await old.until(b"old")
        await asyncio.wait_for(gone.wait(), 10)  # it is closed then, and takes nobody's place


async def test_no_more_streams_than_the_replica_allows() -> None:
    most = running = 0

    async def script(peer: Peer) -> None:
        nonlocal most, running
        while True:
            asked = await peer.request()
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.002)
            running -= 1
            peer.answer(asked.stream, b"done")

    async with rig_of(script, settings={f.MAX_CONCURRENT_STREAMS: 1}) as it:
        clients = [await it.connect() for _ in range(30)]
        for client in clients:
            await client.send(POST)
        for client in clients:
            await client.until(b"done")
        assert it.scripted.connections == 8
        assert most <= 8


@pytest.mark.slow
async def test_a_client_that_does_not_read_holds_back_its_own_stream_and_no_other() -> None:
    sent = 0
    slow = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal sent
        asked = await peer.request()
        peer.head_of_answer(asked.stream)
        window = peer.core.local_flow_control_window(asked.stream)
        while window > 0:
            piece = b"x" * min(window, 16384)
            peer.core.send_data(asked.stream, piece)
            sent += len(piece)
            await peer.flush()
            try:
                async with asyncio.timeout(0.05):
                    peer.events += peer.core.receive_data(await peer.reader.read(65536))
            except TimeoutError:
                pass
            window = peer.core.local_flow_control_window(asked.stream)
        slow.set()
        other = await peer.request()
        peer.answer(other.stream, b"quick")
        await peer.flush()
        await peer.send(asked.stream, b"y" * 100_000)
        peer.core.end_stream(asked.stream)

    async with rig_of(script) as it:
        stalled, other = await it.connect(), await it.connect()
        stalled.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stalled.send(GET)
        await slow.wait()
        await other.send(GET)
        await other.until(b"quick")
        assert max(one.buffered_bytes for one in it.server.connections) < 256 * 1024
        stalled.writer.transport.resume_reading()  # type: ignore[attr-defined]
        got = b""
        while not got.endswith(b"\r\n0\r\n\r\n"):
            got += await asyncio.wait_for(stalled.reader.read(1 << 20), 10)
        assert (got.count(b"x"), got.count(b"y")) == (sent, 100_000)


async def test_a_replica_that_does_not_read_holds_back_the_client() -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    received = b""

    async def script(peer: Peer) -> None:
        nonlocal received
        peer.opens_windows = False
        asked = await peer.head()
        begun.set()
        await go.wait()
        peer.opens_windows = True
        peer.core.increment_flow_control_window(1 << 20)
        peer.core.increment_flow_control_window(1 << 20, asked.stream)
        received = (await peer.rest(asked)).body
        peer.answer(asked.stream, b"done")

    size = 1 << 20
    async with rig_of(script) as it:
        client = await it.connect()
        await client.send(b"POST /x HTTP/1.1\r\nHost: chat\r\nContent-Length: %d\r\n\r\n" % size)
        await asyncio.wait_for(begun.wait(), 10)
        writing = asyncio.get_running_loop().create_task(client.send(b"x" * size))
        ways = it.hold.replicas["chat-1"].pool._all  # type: ignore[attr-defined]
        (connection,) = it.server.connections
        while not (any(way.state.queued_bytes for way in ways) and connection._paused):  # type: ignore[attr-defined]
            await asyncio.sleep(0.005)
        assert sum(way.state.queued_bytes for way in ways) < 512 * 1024
        go.set()
        await writing
        await client.until(b"done")
    assert len(received) == size


async def test_informational_answers_without_end_are_no_answer() -> None:
    """No window holds them back: a client that does not read would have them all kept for it."""

    async def script(peer: Peer) -> None:
        asked = await peer.head()
        for _ in range(20):
            peer.head_of_answer(asked.stream, [(":status", "103"), ("link", "x" * 4000)])
        await peer.until_closed()

    async with rig_of(script) as it:
        client = await it.connect()
        await client.send(GET)
        assert b" 502 " in await client.until(b"replica_lost")


async def test_a_client_that_goes_away_frees_its_slot_and_its_stream() -> None:
    codes: list[int] = []
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        asked = await peer.request()
        begun.set()
        codes.append(await peer.was_reset(asked.stream))
        cancelled.set()

    async with rig_of(script) as it:
        client = await it.connect()
        await client.send(GET)
        await asyncio.wait_for(begun.wait(), 10)
        client.abort()
        await asyncio.wait_for(cancelled.wait(), 10)
        assert it.hold.replicas["chat-1"].gate.in_flight == 0
    assert codes == [f.CANCEL]


async def test_an_answer_before_the_end_of_its_request_ends_the_request() -> None:
    code = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        asked = await peer.head()
        peer.answer(asked.stream, b"enough")
        code.set_result(await peer.was_reset(asked.stream))

    async with rig_of(script) as it:
        client = await it.connect()
        await client.send(CHUNKED + b"2\r\nab\r\n")
        assert (await client.until(b"enough")).startswith(b"HTTP/1.1 200 ")
        assert await asyncio.wait_for(code, 10) == f.CANCEL
        (exchange,) = await it.end_of(1)
        assert (exchange.result, exchange.is_request_done) == (Result.SERVED, False)


MALFORMED = {
    "a-line-end-in-a-value": [(":status", "200"), ("x", "a\r\nset-cookie: b")],
    "a-name-in-upper-case": [(":status", "200"), ("X-Upper", "a")],
    "a-field-about-the-connection": [(":status", "200"), ("transfer-encoding", "chunked")],
    "two-lengths": [(":status", "200"), ("content-length", "1"), ("content-length", "1")],
    "no-number": [(":status", "200"), ("content-length", "+1")],
    "no-status": [("x", "a")],
    "a-strange-status": [(":status", "20")],
    "a-status-of-no-class": [(":status", "999")],
    "a-pseudo-field-behind": [(":status", "200"), ("x", "a"), (":path", "/")],
    "an-upgrade": [(":status", "101")],
}


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED)
async def test_an_answer_without_one_meaning_is_an_error(headers: Headers, ends: bool) -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.request()
        block = peer.core.encoder.encode([(name, value, False) for name, value in headers])
        peer.raw(f.HEADERS, f.END_HEADERS | (f.END_STREAM if ends else 0), asked.stream, block)

    async with rig_of(script) as it:
        assert await refusal_of(it, GET) == (502, "replica_lost")
        assert it.hold.replicas["chat-1"].gate.in_flight == 0


async def test_a_head_that_promises_a_body_and_ends_is_an_error() -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.request()
        peer.head_of_answer(asked.stream, [(":status", "200"), ("content-length", "5")], end=True)

    async with rig_of(script) as it:
        assert await refusal_of(it, GET) == (502, "replica_lost")


@pytest.mark.parametrize(("body", "ends"), [(b"toolong", False), (b"ab", True)])
async def test_a_body_that_does_not_match_its_length_is_cut(body: bytes, ends: bool) -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.request()
        peer.head_of_answer(asked.stream, [(":status", "200"), ("content-length", "4")])
        peer.raw(f.DATA, f.END_STREAM if ends else 0, asked.stream, body)

    async with rig_of(script) as it:
        client = await it.connect()
        await client.send(GET)
        got = await client.rest()
        assert not got.endswith(b"tool")
        (exchange,) = await it.end_of(1)
        assert exchange.code == "replica_lost"


async def test_a_replica_that_speaks_http_1_is_told_apart() -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    async with rig(Policy(protocol="h2c")) as it, replica(answering(answer)) as port:
        it.add_replica(port)
        client = await it.connect()
        await client.send(GET)
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 502 ")
        assert b"HTTP/2" in await client.reader.read(4096)


async def test_a_connection_to_a_machine_that_is_gone_is_found_by_the_kernel() -> None:
    async with rig_of(echo) as it:
        client = await it.connect()
        await client.send(POST)
        await client.until(b"abcd")
        (connection,) = it.hold.replicas["chat-1"].pool._all  # type: ignore[attr-defined]
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


async def test_a_post_does_not_ride_on_a_connection_that_was_idle_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig_of(echo) as it:
        client = await it.connect()
        for _ in range(2):
            await client.send(POST)
            await client.until(b"abcd")
        assert it.scripted.connections == 1
        monkeypatch.setattr("zerogate.http.h2.pool.UNSAFE_IDLE_S", -1.0)
        await client.send(GET)
        await client.until(b"/x")
        assert it.scripted.connections == 1
        await client.send(POST)
        await client.until(b"abcd")
        assert it.scripted.connections == 2


async def test_connections_that_are_idle_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerogate.http.h2.pool.IDLE_S", 0.05)
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        asked = await peer.request()
        peer.answer(asked.stream, b"ok")
        assert await peer.was_told_to_go() == f.NO_ERROR
        closed.set()

    async with rig_of(script) as it:
        client = await it.connect()
        await client.send(GET)
        await client.until(b"ok")
        await asyncio.wait_for(closed.wait(), 10)


async def test_who_waited_in_vain_for_a_place_has_not_found_the_replica_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zerogate.http.h2.pool.MAX_CONNECTIONS", 1)
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        asked = await peer.request()
        await go.wait()
        peer.answer(asked.stream, b"first")
        await echo(peer)

    async with rig_of(script, settings={f.MAX_CONCURRENT_STREAMS: 1}, connect_timeout_s=0.1) as it:
        first, second = await it.connect(), await it.connect()
        await first.send(POST)
        await second.send(POST)
        async with asyncio.timeout(10):
            while not it.hold.counters.retries:
                await asyncio.sleep(0.005)
        go.set()
        await first.until(b"first")
        await second.until(b"abcd")
        assert not it.hold._findings


async def test_a_websocket_does_not_reach_a_replica_over_http_2() -> None:
    handshake = (
        b"GET /ws HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with rig_of(echo) as it:
        assert await refusal_of(it, handshake) == (501, "websocket_over_h2c")
        assert it.hold.replicas["chat-1"].gate.in_flight == 0
