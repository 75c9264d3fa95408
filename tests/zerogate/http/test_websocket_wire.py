"""WebSockets on real sockets, with another implementation at both ends."""

import asyncio
import base64
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from tests.certificates import Authority
from tests.zerogate.http.frames import BINARY, TEXT, closing, frame
from tests.zerogate.http.rig import Rig, answering, read_request, rig, settled
from zerogate.clock import now
from zerogate.counters import Result
from zerogate.http.certificates import replica_context, server_contexts
from zerogate.http.dial import Secured
from zerogate.http.h1.server import ServerConnection as HttpConnection
from zerogate.http.handshake import accept_of
from zerogate.policy import Policy

Handler = Callable[[ServerConnection], Awaitable[None]]
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x01\x02\x03\x04"
OFFER = (
    b"GET /ws HTTP/1.1\r\nHost: chat\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + accept_of(KEY) + b"\r\n\r\n"
)


async def echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


@asynccontextmanager
async def sockets(handler: Handler = echo, policy: Policy | None = None, **more: Any) -> AsyncIterator[Rig]:
    """A rig whose one replica is a WebSocket server."""
    async with rig(policy) as one, serve(handler, "127.0.0.1", 0, max_size=None, **more) as server:
        one.add_replica(server.sockets[0].getsockname()[1])
        yield one


def client(one: Rig, **more: Any) -> connect:
    host, port = one.address
    return connect(f"ws://{host}:{port}/ws", max_size=None, proxy=None, **more)


async def closed(ws: ClientConnection, message: str | bytes | None = None) -> ConnectionClosed:
    """How it ended, once it has; until then only `message` may come."""
    try:
        while True:
            got = await asyncio.wait_for(ws.recv(), 10)
            assert message is None or got == message
    except ConnectionClosed as end:
        return end


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("is_uvloop", [pytest.param(False, id="asyncio"), pytest.param(True, marks=pytest.mark.uvloop)])
async def test_text_and_binary_and_fragments_come_back_as_they_went(compression: str | None, is_uvloop: bool) -> None:
    async with sockets() as one, client(one, compression=compression) as ws:
        for message in ("hello", "ü" * 70_000, b"", os.urandom(1 << 20)):
            await ws.send(message)
            assert await ws.recv() == message
        await ws.send(iter(["in ", "three ", "pieces"]))
        assert await ws.recv() == "in three pieces"
        assert (ws.protocol.extensions != []) == (compression is not None)
        await (await ws.ping(b"are you there"))


async def test_r3_close_codes_and_reasons_are_kept_both_ways() -> None:
    told: list[tuple[int | None, str | None]] = []

    async def handler(ws: ServerConnection) -> None:
        if await ws.recv() == "you":
            await ws.close(4002, "the replica is done")
        await ws.wait_closed()
        told.append((ws.close_code, ws.close_reason))

    async with sockets(handler) as one:
        async with client(one) as ws:
            await ws.send("me")
            await ws.close(4001, "the client is done")
            assert ws.close_code == 4001
        async with client(one) as ws:
            await ws.send("you")
            end = await closed(ws)
            assert end.rcvd is not None
            assert (end.rcvd.code, end.rcvd.reason) == (4002, "the replica is done")
        ended = await one.end_of(2)
    assert [(exchange.result, exchange.status) for exchange in ended] == [("served", 101)] * 2
    assert told[0] == (4001, "the client is done")
    assert one.hold.meter.in_flight == one.hold.counters.websockets == 0
    assert one.hold.counters.status_classes[1] == 2


@pytest.mark.both_loops
async def test_over_tls_to_the_client_and_to_the_replica_messages_and_codes_pass_both_ways(tmp_path: Path) -> None:
    authority = Authority()
    contexts = server_contexts([authority.issue(tmp_path, "server")], None)
    known = Secured(replica_context(authority.write(tmp_path / "ca.crt"), None, verify=True), "127.0.0.1")
    async with (
        rig(contexts=contexts) as one, serve(echo, "127.0.0.1", 0, max_size=None, ssl=contexts.default) as server
    ):  # fmt: skip
        one.add_replica(server.sockets[0].getsockname()[1], secured=known)
        url = f"wss://127.0.0.1:{one.address[1]}/ws"
        async with connect(url, max_size=None, proxy=None, ssl=authority.trusted()) as ws:
            for message in ("hello", os.urandom(1 << 20)):
                await ws.send(message)
                assert await asyncio.wait_for(ws.recv(), 10) == message
            await ws.close(4001, "enough")
            assert (ws.close_code, ws.close_reason) == (4001, "enough")
        (ended,) = await one.end_of(1)
        assert (ended.result, ended.status) == ("served", 101)


async def test_from_zero_it_is_held_like_any_request() -> None:
    async with rig() as one, serve(echo, "127.0.0.1", 0) as server:
        opening = asyncio.ensure_future(client(one).__aenter__())  # noqa: TID251
        while not one.wakes:
            await asyncio.sleep(0.001)
        assert one.hold.meter.held == 1
        one.add_replica(server.sockets[0].getsockname()[1])
        ws = await opening
        assert ws.response is not None
        assert "hold" in ws.response.headers["Server-Timing"]
        await ws.send("warm")
        assert await ws.recv() == "warm"
        await ws.close()


async def test_more_sockets_than_the_target_are_let_in_when_a_replica_comes_up() -> None:
    async with rig(Policy(target_concurrency=2)) as one, serve(echo, "127.0.0.1", 0) as server:
        opening = [asyncio.ensure_future(client(one).__aenter__()) for _ in range(12)]  # noqa: TID251
        while one.hold.meter.held < 12:
            await asyncio.sleep(0.001)
        one.add_replica(server.sockets[0].getsockname()[1])
        opened = await asyncio.wait_for(asyncio.gather(*opening), 10)
        assert one.hold.meter.in_flight == 12
        for ws in opened:
            await ws.close()


async def test_a_replica_that_refuses_is_passed_on_as_an_answer() -> None:
    refusing = answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    async with rig(script=refusing) as one:
        with pytest.raises(InvalidStatus) as refused:
            await client(one)
        assert refused.value.response.status_code == 403
        assert refused.value.response.body == b"no"


async def test_an_accept_that_is_wrong_is_a_bad_gateway_and_asked_for_once() -> None:
    asked = 0

    async def lying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await read_request(reader)
        asked += 1
        writer.write(ACCEPTED.replace(accept_of(KEY), KEY) + frame(TEXT, b"x"))
        await reader.read()

    async with rig(script=lying) as one:
        with pytest.raises(InvalidStatus) as refused:
            await client(one)
        assert refused.value.response.status_code == 502
    assert asked == 1


async def test_an_old_version_is_told_which_one_is_spoken() -> None:
    async with rig() as one:
        wire = await one.connect()
        await wire.send(OFFER.replace(b"Version: 13", b"Version: 8"))
        answer = await wire.rest()
    head = answer.lower()
    assert head.startswith(b"http/1.1 426 upgrade required\r\n")
    assert b"sec-websocket-version: 13\r\n" in head
    assert b"upgrade: websocket\r\n" in head


async def test_what_comes_behind_an_offer_that_is_not_taken_is_no_request() -> None:
    refusing = answering(*[b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"] * 2)
    async with rig(script=refusing) as one:
        wire = await one.connect()
        await wire.send(OFFER + b"GET /smuggled HTTP/1.1\r\nHost: chat\r\n\r\n")
        answer = await wire.rest()
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"Connection: close" in answer
        assert len(await one.end_of(1)) == 1


async def test_frames_in_the_same_read_as_the_handshake_are_not_lost_on_either_side() -> None:
    got = b""

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await read_request(reader)
        writer.write(ACCEPTED + frame(TEXT, b"welcome"))
        got = await reader.readexactly(len(early))
        writer.write(closing(1000))
        await reader.read()

    early = frame(BINARY, b"early", mask=MASK)
    async with rig(script=hasty) as one:
        for _ in range(3):  # the heads are known from the second time on
            wire = await one.connect()
            await wire.send(OFFER + early)
            head = await wire.until(b"\r\n\r\n")
            assert head.count(b"pgrade") == 2
            await wire.send(closing(1000, mask=MASK))
            assert await wire.rest() == frame(TEXT, b"welcome") + closing(1000)
            assert got == early


async def test_a_pipelined_offer_has_its_turn() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await read_request(reader)
            if b"Upgrade" in head:
                writer.write(ACCEPTED)
                writer.write(await reader.readexactly(7))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with rig(script=script) as one:
        wire = await one.connect()
        await wire.send(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n" + OFFER + frame(TEXT, b"!", mask=MASK))
        assert (await wire.until(b"ok")).startswith(b"HTTP/1.1 200")
        assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")


async def test_a_killed_client_frees_its_slot_at_once_and_the_replica_sees_no_close() -> None:
    gone = asyncio.Event()
    codes: list[int | None] = []

    async def handler(ws: ServerConnection) -> None:
        try:
            await ws.wait_closed()
        finally:
            codes.append(ws.close_code)
            gone.set()

    async with sockets(handler, Policy(concurrency_limit=1)) as one:
        ws = await client(one)
        began_s = now()
        ws.transport.abort()
        (exchange,) = await one.end_of(1)
        assert now() - began_s < 0.1
        assert exchange.result == "abandoned"
        assert next(iter(one.hold.replicas.values())).gate.in_flight == 0
        await asyncio.wait_for(gone.wait(), 10)
    assert codes == [1006]


@pytest.mark.parametrize("is_uvloop", [pytest.param(False, id="asyncio"), pytest.param(True, marks=pytest.mark.uvloop)])
async def test_f2_a_replica_that_is_killed_mid_message_leaves_the_client_without_a_close(is_uvloop: bool) -> None:
    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        key = head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        writer.write(ACCEPTED.replace(accept_of(KEY), accept_of(key)) + frame(TEXT, b"whole") + b"\x82\x7e\xff\xff...")
        await writer.drain()
        writer.transport.abort()

    async with rig(script=dying) as one:
        ws = await client(one)
        assert await ws.recv() == "whole"
        end = await closed(ws)
        assert isinstance(end, ConnectionClosedError)
        assert (end.rcvd, ws.close_code) == (None, 1006)
        (exchange,) = await one.end_of(1)
        assert (exchange.result, exchange.code) == ("cut", "replica_lost")


async def test_a_client_that_sends_no_frames_is_told_1002() -> None:
    async with sockets() as one:
        wire = await one.connect()
        await wire.send(OFFER)
        await wire.until(b"\r\n\r\n")
        await wire.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await wire.rest() == closing(1002)
        (exchange,) = await one.end_of(1)
        assert (exchange.result, exchange.code) == ("cut", "websocket_violation")


async def test_drain_puts_1001_between_frames_in_the_midst_of_a_stream_of_big_messages() -> None:
    message = os.urandom(300_000)
    told: list[int | None] = []

    async def handler(ws: ServerConnection) -> None:
        try:
            while True:
                await ws.send(message)
        except ConnectionClosed as end:
            told.append(end.rcvd.code if end.rcvd is not None else None)

    async with sockets(handler, compression=None) as one:
        ws = await client(one, compression=None)
        for _ in range(3):
            assert await ws.recv() == message
        one.server.drain()
        end = await closed(ws, message)
        assert end.rcvd is not None
        assert end.rcvd.code == 1001
        (exchange,) = await one.end_of(1)
        assert (exchange.result, exchange.code) == ("served", "going_away")
        await asyncio.wait_for(one.server.emptied().wait(), 10)
    assert told == [1001]


async def test_one_that_opens_while_its_server_drains_is_told_to_go_at_once() -> None:
    async with rig() as one, serve(echo, "127.0.0.1", 0) as server:
        wire = await one.connect()
        await wire.send(OFFER)
        await until(lambda: one.hold.meter.held == 1)
        one.server.drain()
        one.add_replica(server.sockets[0].getsockname()[1])
        assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await wire.send(closing(1001, mask=MASK))
        assert await wire.rest() == closing(1001)
        (exchange,) = await one.end_of(1)
        assert (exchange.result, exchange.code) == ("served", "going_away")


async def test_no_timer_of_requests_ends_a_silent_socket() -> None:
    policy = Policy(first_byte_timeout_s=0.2, idle_stream_timeout_s=0.2, total_timeout_s=0.2)
    async with sockets(policy=policy) as one, client(one) as ws:
        await asyncio.sleep(0.5)  # longer than any of them
        await ws.send("still here")
        assert await ws.recv() == "still here"


async def test_a_client_that_does_not_read_stops_the_replica_and_nothing_piles_up() -> None:
    sent = 0
    message = bytes(1 << 20)

    async def handler(ws: ServerConnection) -> None:
        nonlocal sent
        while True:
            await ws.send(message)
            sent += 1

    async with sockets(handler, compression=None) as one:
        wire = await one.connect()
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(OFFER)
        assert await settled(lambda: sent) < 64
        (connection,) = one.server.connections
        assert connection.buffered_bytes < 1 << 20
        wire.abort()
        (exchange,) = await one.end_of(1)
        assert exchange.result == "abandoned"


@pytest.mark.may_block("it fills buffers as fast as it can")
async def test_a_replica_that_does_not_read_stops_the_client() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(ACCEPTED)
        await asyncio.sleep(60)

    async with rig(script=deaf) as one:
        wire = await one.connect()
        await wire.send(OFFER)
        await wire.until(b"\r\n\r\n")
        piece = frame(BINARY, bytes(1 << 20), mask=MASK)
        is_stopped = False
        try:
            async with asyncio.timeout(1):
                for _ in range(64):
                    await wire.send(piece)
        except TimeoutError:
            is_stopped = True
        assert is_stopped
        # a plain end would queue behind what the kernel could not send
        sock = wire.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.abort()
        (exchange,) = await one.end_of(1)
        assert exchange.bytes_in < 64 << 20


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_quiet_socket_does_not_count_as_in_flight_and_counts_again_with_data() -> None:
    policy = Policy(idle_timeout_s=0.2, idle_websocket="quiet")
    async with sockets(policy=policy) as one, client(one, ping_interval=0.02) as ws:
        meter = one.hold.meter
        gate = next(iter(one.hold.replicas.values())).gate
        await ws.send("busy")
        assert await ws.recv() == "busy"
        data_s = now()
        await until(lambda: meter.in_flight == 0)
        assert meter.last_byte_s is not None
        assert abs(meter.last_byte_s - data_s) < 0.1
        assert gate.in_flight == one.hold.counters.websockets == 1
        await ws.send("again")
        await ws.recv()
        assert meter.in_flight == 1
        await until(lambda: meter.in_flight == 0)
        await ws.close()
        await one.end_of(1)
        assert (meter.in_flight, gate.in_flight, gate.lasting) == (0, 0, 0)
        assert meter.completions == 2


async def test_a_quiet_socket_is_told_to_go_when_its_replica_drains_and_a_busy_one_is_not() -> None:
    policy = Policy(idle_timeout_s=0.2, idle_websocket="quiet")
    async with sockets(policy=policy) as one, client(one) as quiet, client(one) as busy:
        meter = one.hold.meter

        async def chat() -> None:
            while True:
                await busy.send("x")
                await busy.recv()
                await asyncio.sleep(0.02)

        chatting = asyncio.ensure_future(chat())  # noqa: TID251
        await until(lambda: meter.in_flight == 1)
        assert not one.hold.close_gate("chat-1")
        end = await closed(quiet)
        assert end.rcvd is not None
        assert end.rcvd.code == 1001
        assert one.idle == []
        chatting.cancel()
        end = await closed(busy)  # quiet in its turn, with the gate closed
        assert end.rcvd is not None
        assert end.rcvd.code == 1001
        await until(lambda: one.idle == ["chat-1"])


async def test_a_client_that_vanishes_without_a_word_is_noticed_by_the_kernel() -> None:
    async with sockets() as one, client(one):
        (connection,) = one.server.connections
        assert isinstance(connection, HttpConnection)
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle_s, step_s, steps = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle_s + step_s * steps <= 120


async def test_a_key_is_16_bytes_whatever_they_are() -> None:
    async with sockets() as one:
        wire = await one.connect()
        key = base64.b64encode(os.urandom(16))
        await wire.send(OFFER.replace(KEY, key))
        assert b"Sec-WebSocket-Accept: " + accept_of(key) in await wire.until(b"\r\n\r\n")
        wire.abort()
        await one.end_of(1)


@pytest.mark.both_loops
async def test_it_passes_over_tls_on_both_sides(tmp_path: Path) -> None:
    authority = Authority()
    contexts = server_contexts([authority.issue(tmp_path, "server", names=["replica.test"])], None)
    way = Secured(replica_context(authority.write(tmp_path / "ca.crt"), None, verify=True), "replica.test")
    tls: ssl.SSLContext = authority.trusted()
    tls.check_hostname = False
    async with (
        rig(contexts=contexts) as one,
        serve(echo, "127.0.0.1", 0, max_size=None, ssl=contexts.default) as server,
    ):
        one.add_replica(server.sockets[0].getsockname()[1], secured=way)
        host, port = one.address
        async with connect(f"wss://{host}:{port}/ws", ssl=tls, proxy=None, max_size=None) as ws:
            for message in ("one", b"x" * 1_000_000):
                await ws.send(message)
                assert await asyncio.wait_for(ws.recv(), 10) == message
        assert ws.close_code == 1000
        (exchange,) = await one.end_of(1)
    assert (exchange.result, exchange.status) == (Result.SERVED, 101)


async def test_frames_are_heard_as_words_of_the_replica() -> None:
    async with sockets() as one, client(one) as ws:
        (upstream,) = one.hold.replicas.values()
        upstream.pool.heard_s = 0.0
        await ws.send("one")
        assert await ws.recv() == "one"
        assert upstream.pool.heard_s > 0.0
