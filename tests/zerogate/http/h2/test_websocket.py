"""RFC 8441: WebSockets over streams of HTTP/2, opened with an extended CONNECT, to a replica of HTTP/1.1."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import h2.events
import h2.settings
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.zerogate.http.frames import BINARY, TEXT, closing, frame
from tests.zerogate.http.h2.test_server import Headers, Peer, asking
from tests.zerogate.http.rig import Rig, answering, rig
from zerogate.http.h2.frames import DEFAULT_WINDOW

pytestmark = pytest.mark.uvloop

MASK = b"\x01\x02\x03\x04"
VERSION = [("sec-websocket-version", "13")]
TOKENS = Subprotocol("tokens.v1")


async def echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


@asynccontextmanager
async def sockets(handler: Callable[[ServerConnection], Awaitable[None]] = echo) -> AsyncIterator[tuple[Rig, Peer]]:
    """A rig whose one replica is a WebSocket server, and a client that has heard its settings."""
    async with rig() as one, serve(handler, "127.0.0.1", 0, compression=None) as server, asking(one) as peer:
        one.add_replica(server.sockets[0].getsockname()[1])
        await peer.until(h2.events.RemoteSettingsChanged)
        yield one, peer


async def connect(peer: Peer, *, more: Headers = VERSION, protocol: str = "websocket") -> int:
    stream, peer._next = peer._next, peer._next + 2
    head = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "http"), (":path", "/ws")]
    peer.h2.send_headers(stream, [*head, (":authority", "chat"), *more])
    await peer.flush()
    return stream


async def until_body(peer: Peer, stream: int, size: int) -> bytes:
    while len(peer.body_of(stream)) < size:
        assert await peer.more()
    return peer.body_of(stream)


async def send(peer: Peer, stream: int, data: bytes, *, end: bool = False) -> None:
    while data:
        size = min(peer.h2.local_flow_control_window(stream), peer.h2.max_outbound_frame_size, len(data))
        if not size:
            await peer.more()
            continue
        peer.h2.send_data(stream, data[:size])
        data = data[size:]
        await peer.flush()
    if end:
        peer.h2.end_stream(stream)
        await peer.flush()


async def test_it_is_announced_and_messages_come_back_beside_other_streams() -> None:
    async with sockets() as (one, peer):
        assert peer.h2.remote_settings[h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1
        streams = [await connect(peer) for _ in range(3)]
        for stream in streams:
            await peer.until(h2.events.ResponseReceived, stream)
            head = peer.head_of(stream)
            assert head[":status"] == "200"
            assert not {"sec-websocket-accept", "connection", "upgrade"} & set(head)
        big = bytes(200_000)
        for stream in streams:
            await send(peer, stream, frame(TEXT, b"hello", mask=MASK) + frame(BINARY, big, mask=MASK))
        for stream in streams:
            expected = frame(TEXT, b"hello") + frame(BINARY, big)
            assert await until_body(peer, stream, len(expected)) == expected
        assert one.hold.counters.websockets == 3


async def test_a_client_that_vanishes_without_a_word_is_noticed_by_the_kernel() -> None:
    async with sockets() as (one, peer):
        (connection,) = one.server.connections
        sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await peer.until(h2.events.ResponseReceived, await connect(peer))
        assert (before, sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) == (0, 1)


async def test_closing_in_order_keeps_the_code_and_ends_the_stream() -> None:
    async with sockets() as (one, peer):
        stream = await connect(peer)
        await peer.until(h2.events.ResponseReceived, stream)
        await send(peer, stream, closing(4001, b"bye", mask=MASK))
        await peer.until(h2.events.StreamEnded, stream)
        assert peer.body_of(stream) == closing(4001, b"bye")
        (exchange,) = await one.end_of(1)
        assert (exchange.result, exchange.status) == ("served", 101)


async def test_what_the_replica_has_chosen_of_an_offer_is_told_to_the_client() -> None:
    async with rig() as one, serve(echo, "127.0.0.1", 0, subprotocols=[TOKENS]) as server, asking(one) as peer:
        one.add_replica(server.sockets[0].getsockname()[1])
        await peer.until(h2.events.RemoteSettingsChanged)
        offers = [("sec-websocket-protocol", "other, tokens.v1"), ("sec-websocket-extensions", "permessage-deflate")]
        stream = await connect(peer, more=[*VERSION, *offers])
        await peer.until(h2.events.ResponseReceived, stream)
        head = peer.head_of(stream)
        assert head["sec-websocket-protocol"] == "tokens.v1"
        assert head["sec-websocket-extensions"].startswith("permessage-deflate")


async def test_a_client_that_ends_its_stream_without_a_close_is_gone() -> None:
    async with sockets() as (one, peer):
        stream = await connect(peer)
        await peer.until(h2.events.ResponseReceived, stream)
        await send(peer, stream, frame(TEXT, b"whole", mask=MASK), end=True)
        (exchange,) = await one.end_of(1)
        assert exchange.result == "abandoned"
        await peer.until(h2.events.StreamEnded, stream)


async def test_a_stream_that_is_reset_frees_its_slot_at_once() -> None:
    async with sockets() as (one, peer):
        stream = await connect(peer)
        await peer.until(h2.events.ResponseReceived, stream)
        peer.h2.reset_stream(stream)
        await peer.flush()
        (exchange,) = await one.end_of(1)
        assert exchange.result == "abandoned"
        assert one.hold.meter.in_flight == 0


async def test_a_drain_puts_1001_between_frames_and_the_connection_ends() -> None:
    async def talk(ws: ServerConnection) -> None:
        while True:
            await ws.send(bytes(1000))

    async with sockets(talk) as (one, peer):
        stream = await connect(peer)
        await until_body(peer, stream, 20_000)
        one.server.drain()
        await peer.until(h2.events.StreamEnded, stream)
        whole, last = divmod(len(peer.body_of(stream)), 1004)
        assert (whole > 19, last) == (True, 4)
        assert peer.body_of(stream).endswith(closing(1001))
        (exchange,) = await one.end_of(1)
        assert exchange.code == "going_away"


async def test_one_that_opens_while_its_server_drains_is_told_to_go_at_once() -> None:
    async with rig() as one, serve(echo, "127.0.0.1", 0) as server, asking(one) as peer:
        await peer.until(h2.events.RemoteSettingsChanged)
        stream = await connect(peer)
        while not one.wakes:
            await asyncio.sleep(0.001)
        one.server.drain()
        one.add_replica(server.sockets[0].getsockname()[1])
        await peer.until(h2.events.StreamEnded, stream)
        assert peer.head_of(stream)[":status"] == "200"
        assert peer.body_of(stream) == closing(1001)
        (exchange,) = await one.end_of(1)
        assert exchange.code == "going_away"


async def test_frames_that_came_too_early_wait_for_the_replica() -> None:
    async with rig() as one, serve(echo, "127.0.0.1", 0) as server, asking(one) as peer:
        await peer.until(h2.events.RemoteSettingsChanged)
        stream = await connect(peer)
        await send(peer, stream, frame(TEXT, b"early", mask=MASK))
        while not one.wakes:
            await asyncio.sleep(0.001)
        one.add_replica(server.sockets[0].getsockname()[1])
        assert await until_body(peer, stream, 7) == frame(TEXT, b"early")


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_client_that_leaves_before_it_is_open_frees_its_place_in_the_queue(how: str) -> None:
    async with rig() as one, asking(one) as peer:
        await peer.until(h2.events.RemoteSettingsChanged)
        stream = await connect(peer)
        while not one.hold.meter.held:
            await asyncio.sleep(0.001)
        if how == "end":
            peer.h2.end_stream(stream)
            await peer.flush()
            await peer.until(h2.events.StreamReset, stream)
        else:
            peer.h2.reset_stream(stream)
            await peer.flush()
        (exchange,) = await one.end_of(1)
        assert (exchange.result, one.hold.meter.held) == ("abandoned", 0)


async def test_frames_that_come_too_early_are_no_more_than_a_window() -> None:
    async with rig() as one, asking(one) as peer:
        await peer.until(h2.events.RemoteSettingsChanged)
        stream = await connect(peer)
        sent = 0
        while room := min(peer.h2.local_flow_control_window(stream), peer.h2.max_outbound_frame_size):
            peer.h2.send_data(stream, bytes(room))
            sent += room
            peer.h2.ping(b"it is in")  # what comes back says that all before it was read
            await peer.flush()
            while not any(isinstance(event, h2.events.PingAckReceived) for event in peer.events):
                await peer.more()
            peer.events.clear()
            assert sent <= DEFAULT_WINDOW
        assert sent == DEFAULT_WINDOW


@pytest.mark.parametrize(
    ("more", "protocol", "status"),
    [
        pytest.param([], "websocket", "426", id="no-version"),
        pytest.param([*VERSION, ("sec-websocket-key", "x")], "websocket", "400", id="with-a-key"),
        pytest.param(VERSION, "connect-udp", "501", id="another-protocol"),
    ],
)
async def test_a_wrong_offer_is_answered_and_reaches_no_replica(more: Headers, protocol: str, status: str) -> None:
    async with sockets() as (one, peer):
        stream = await connect(peer, more=more, protocol=protocol)
        await peer.until(h2.events.ResponseReceived, stream)
        assert peer.head_of(stream)[":status"] == status
        assert (one.server.bad_requests, one.hold.meter.arrivals) == (1, 0)


async def test_a_replica_that_refuses_is_passed_on() -> None:
    refusing = answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    async with rig(script=refusing) as one, asking(one) as peer:
        await peer.until(h2.events.RemoteSettingsChanged)
        stream = await connect(peer)
        head, body = await peer.answer(stream)
        assert (head[":status"], body) == ("403", b"no")
