"""RFC 8441 toward replicas: WebSockets over streams of HTTP/2, from clients of either version."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.events
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.zerogate.http.frames import BINARY, TEXT, closing, frame
from tests.zerogate.http.h2.hypercorn_server import Echo, hypercorn
from tests.zerogate.http.h2.replica import Asked, Peer, Replica
from tests.zerogate.http.h2.test_server import asking
from tests.zerogate.http.h2.test_websocket import MASK, send, until_body
from tests.zerogate.http.h2.test_websocket import connect as open_stream
from tests.zerogate.http.rig import Rig, replica, rig, settled
from zerogate.http.h2 import frames as f
from zerogate.policy import Policy

pytestmark = pytest.mark.uvloop

TAKES: dict[int, int] = {f.ENABLE_CONNECT_PROTOCOL: 1}


@asynccontextmanager
async def real() -> AsyncIterator[tuple[Rig, Echo]]:
    """A rig whose one replica is hypercorn over HTTP/2."""
    app = Echo()
    async with hypercorn(app) as port, rig(Policy(protocol="h2c")) as one:
        one.add_replica(port)
        yield one, app


def socket_of(one: Rig, path: str = "/ws", **more: object) -> connect:
    uri = f"ws://127.0.0.1:{one.address[1]}{path}"
    return connect(uri, compression=None, close_timeout=0.3, **more)  # type: ignore[arg-type]


async def taken(it: Peer) -> Asked:
    """The next extended CONNECT, accepted."""
    asked = await it.head()
    it.head_of_answer(asked.stream)
    await it.flush()
    return asked


@asynccontextmanager
async def scripted(script: object, settings: dict[int, int] = TAKES, **policy: object) -> AsyncIterator[Rig]:
    one = Replica(script, settings=settings)  # type: ignore[arg-type]
    async with rig(Policy(protocol="h2c", **policy)) as it, replica(one) as port:  # type: ignore[arg-type]
        it.add_replica(port)
        yield it
        assert not one.failures, one.failures


# A real server and a real client


async def test_messages_come_back_from_a_client_of_http_1() -> None:
    async with real() as (one, app), socket_of(one, subprotocols=["tokens.v1", "other"]) as ws:
        assert ws.subprotocol == "tokens.v1"
        for message in ("hello", bytes(300_000), "ü" * 70_000, ""):
            await ws.send(message)
            assert await ws.recv() == message
        assert app.opened[0]["http_version"] == "2"
        assert one.hold.meter.in_flight == 1


async def test_messages_come_back_from_a_client_of_http_2() -> None:
    async with real() as (one, _), asking(one) as peer:
        await peer.until(h2.events.RemoteSettingsChanged)
        stream = await open_stream(peer)
        await peer.until(h2.events.ResponseReceived, stream)
        assert peer.head_of(stream)[":status"] == "200"
        assert "sec-websocket-accept" not in peer.head_of(stream)
        await send(peer, stream, frame(TEXT, b"hello", mask=MASK) + frame(BINARY, bytes(100_000), mask=MASK))
        expected = frame(TEXT, b"hello") + frame(BINARY, bytes(100_000))
        assert await until_body(peer, stream, len(expected)) == expected
        await send(peer, stream, closing(4001, mask=MASK), end=True)
        await peer.until(h2.events.StreamEnded, stream)
        assert peer.body_of(stream)[len(expected) :][:4] == closing(4001)
        (exchange,) = await one.end_of(1)
        assert (exchange.result, exchange.status) == ("served", 101)


async def test_a_client_that_closes_in_order_ends_the_socket_and_leaves_the_connection() -> None:
    async with real() as (one, app):
        async with socket_of(one) as ws, socket_of(one) as other:
            await ws.close(4001, "bye")
            assert ws.close_code == 4001
            await asyncio.wait_for(app.closed.get(), 10)
            await other.send("still here")
            assert await other.recv() == "still here"
        (exchange, _) = await one.end_of(2)
        assert len(one.hold.replicas["chat-1"].pool._all) == 1  # type: ignore[attr-defined]
        assert (exchange.result, one.hold.meter.in_flight) == ("served", 0)


async def test_the_clients_close_code_reaches_the_replica_and_the_replica_ends_the_stream() -> None:
    seen: list[bytes] = []

    async def script(it: Peer) -> None:
        asked = await taken(it)
        came = b""
        while len(came) < 11:
            came += (await it.next(h2.events.DataReceived, asked.stream)).data
        seen.append(bytes(byte ^ key for byte, key in zip(came[6:8], came[2:4], strict=True)))
        it.core.send_data(asked.stream, closing(4001, b"bye"), end_stream=True)
        await it.next(h2.events.StreamEnded, asked.stream)

    async with scripted(script) as one:
        async with socket_of(one) as ws:
            await ws.close(4001, "bye")
            assert ws.close_code == 4001
        assert seen == [(4001).to_bytes(2, "big")]
        (exchange,) = await one.end_of(1)
        assert (exchange.result, one.hold.meter.in_flight) == ("served", 0)


async def test_the_replicas_close_code_reaches_the_client() -> None:
    async with real() as (one, _), socket_of(one) as ws:
        await ws.send("close")
        with pytest.raises(ConnectionClosed):
            await ws.recv()
        assert (ws.close_code, ws.close_reason) == (4002, "asked")


async def test_a_client_that_vanishes_is_a_loss_for_the_replica_and_frees_its_slot() -> None:
    async with real() as (one, app), socket_of(one) as ws:
        ws.transport.abort()
        (exchange,) = await one.end_of(1)
        assert exchange.result == "abandoned"
        assert one.hold.replicas["chat-1"].gate.in_flight == 0
        assert await asyncio.wait_for(app.closed.get(), 10) in (1005, 1006)


async def test_a_drain_closes_with_1001_on_both_sides() -> None:
    async with real() as (one, app), socket_of(one) as ws:
        await ws.send("one")
        assert await ws.recv() == "one"
        one.server.drain()
        with pytest.raises(ConnectionClosed):
            await ws.recv()
        assert ws.close_code == 1001
        await asyncio.wait_for(app.closed.get(), 10)


async def test_a_replica_that_refuses_is_passed_on() -> None:
    async with real() as (one, _):
        with pytest.raises(InvalidStatus) as refused:
            async with socket_of(one, "/refused"):
                pass
        assert refused.value.response.status_code == 403


async def test_many_sockets_share_a_connection_and_requests_go_on_beside_them() -> None:
    async with real() as (one, _):
        sockets: list[ClientConnection] = [await socket_of(one) for _ in range(20)]
        for number, ws in enumerate(sockets):
            await ws.send(str(number))
        assert [await ws.recv() for ws in sockets] == [str(number) for number in range(20)]
        client = await one.connect()
        await client.send(b"GET /beside HTTP/1.1\r\nHost: chat\r\n\r\n")
        assert b'"path":"/beside"' in await client.until(b"}")
        assert len(one.hold.replicas["chat-1"].pool._all) == 1  # type: ignore[attr-defined]
        for ws in sockets:
            await ws.close()
        await one.end_of(21)
        assert one.hold.meter.in_flight == 0


# What another server might do


async def test_the_request_is_an_extended_connect_without_a_key() -> None:
    seen: list[dict[str, str]] = []

    async def script(it: Peer) -> None:
        seen.append((await taken(it)).fields)

    async with scripted(script) as one, socket_of(one, origin="http://page.test"):
        pass
    (fields,) = seen
    assert [fields[name] for name in (":method", ":protocol", ":scheme", ":path")] == [
        "CONNECT", "websocket", "http", "/ws",
    ]  # fmt: skip
    assert (fields["sec-websocket-version"], fields["origin"]) == ("13", "http://page.test")
    assert not {"sec-websocket-key", "connection", "upgrade", "content-length"} & set(fields)


async def test_a_replica_that_did_not_announce_it_is_not_asked() -> None:
    async def script(it: Peer) -> None:
        await it.head()
        pytest.fail("it was asked")

    async with scripted(script, {}) as one:
        with pytest.raises(InvalidStatus) as refused:
            async with socket_of(one):
                pass
        response = refused.value.response
        assert response.status_code == 501
        assert b"websocket_over_h2c" in (response.body or b"")
        assert b"SETTINGS_ENABLE_CONNECT_PROTOCOL" in (response.body or b"")
        assert one.hold.replicas["chat-1"].gate.in_flight == 0


async def test_an_accepted_stream_that_has_ended_already_is_a_bad_answer() -> None:
    async def script(it: Peer) -> None:
        asked = await it.head()
        it.head_of_answer(asked.stream, end=True)
        await it.flush()

    async with scripted(script) as one:
        with pytest.raises(InvalidStatus) as refused:
            async with socket_of(one):
                pass
        assert refused.value.response.status_code == 502
        assert b"bad_handshake" in (refused.value.response.body or b"")


@pytest.mark.parametrize("resets", [True, False], ids=["reset", "ended"])
async def test_a_replica_that_ends_without_a_close_is_a_loss_for_the_client(resets: bool) -> None:
    async def script(it: Peer) -> None:
        asked = await taken(it)
        if resets:
            it.reset(asked.stream, f.INTERNAL_ERROR)
        else:
            it.core.end_stream(asked.stream)
        await it.flush()

    async with scripted(script) as one, socket_of(one) as ws:
        with pytest.raises(ConnectionClosed):
            await ws.recv()
        assert ws.close_code == 1006
        (exchange,) = await one.end_of(1)
        assert (exchange.result, exchange.code) == ("cut", "replica_lost")


async def test_a_drain_puts_1001_between_frames() -> None:
    async def script(it: Peer) -> None:
        asked = await taken(it)
        half = frame(BINARY, bytes(1000))
        it.core.send_data(asked.stream, half[:500])
        await it.flush()
        came = b""
        while not came.endswith(closing(1001, mask=b"")[-2:]) and len(came) < 8:
            came += (await it.next(h2.events.DataReceived, asked.stream)).data
        assert (came[0], came[1]) == (0x88, 0x82)
        it.core.send_data(asked.stream, half[500:])
        await it.flush()

    async with scripted(script) as one, asking(one) as peer:
        await peer.until(h2.events.RemoteSettingsChanged)
        stream = await open_stream(peer)
        await until_body(peer, stream, 500)
        one.server.drain()
        whole = frame(BINARY, bytes(1000)) + closing(1001)
        assert await until_body(peer, stream, len(whole)) == whole


async def test_a_replica_that_does_not_end_a_closed_socket_is_reset_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zerogate.http.h2.client.FINISH_S", 0.05)
    codes: asyncio.Queue[int] = asyncio.Queue()

    async def script(it: Peer) -> None:
        asked = await taken(it)
        await it.next(h2.events.StreamEnded, asked.stream)
        codes.put_nowait(await it.was_reset(asked.stream))

    async with scripted(script) as one:
        async with socket_of(one) as ws:
            ws.transport.abort()
        assert await asyncio.wait_for(codes.get(), 10) == f.CANCEL
        (connection,) = one.hold.replicas["chat-1"].pool._all  # type: ignore[attr-defined]
        assert not connection.streams


async def test_a_client_that_does_not_read_holds_back_its_replica_and_no_other() -> None:
    """The stream's window is the backpressure; what lies between is bounded."""
    sent = 0

    async def script(it: Peer) -> None:
        nonlocal sent
        first = await taken(it)
        second = await taken(it)
        await it.send(second.stream, frame(TEXT, b"beside"))
        await it.flush()
        piece = frame(BINARY, bytes(16_000))
        while True:
            await it.send(first.stream, piece)
            sent += len(piece)

    async with scripted(script) as one, asking(one) as peer, socket_of(one, max_queue=1) as slow:
        await peer.until(h2.events.RemoteSettingsChanged)
        stream = await open_stream(peer)
        assert await until_body(peer, stream, 8) == frame(TEXT, b"beside")
        assert await settled(lambda: sent) < 16_000_000
        assert len(await slow.recv()) == 16_000


async def test_a_stream_that_was_refused_is_asked_for_again() -> None:
    async def script(it: Peer) -> None:
        asked = await it.head()
        it.reset(asked.stream, f.REFUSED_STREAM)
        await it.flush()
        again = await taken(it)
        await it.send(again.stream, frame(TEXT, b"now"))
        await it.flush()

    async with scripted(script) as one, socket_of(one) as ws:
        assert await ws.recv() == "now"
