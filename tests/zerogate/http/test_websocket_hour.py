"""R3: a WebSocket without a byte for an hour is open afterwards, in any pair of versions; its close codes are kept.

An hour of the loop's own time, with every timer of the real code in it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import h2.events
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.zerogate.http.frames import CLOSE, TEXT, closing, frame
from tests.zerogate.http.h2.replica import Peer as Http2Replica
from tests.zerogate.http.h2.replica import Replica
from tests.zerogate.http.h2.test_server import Peer as Http2Client
from tests.zerogate.http.h2.test_websocket import MASK, until_body
from tests.zerogate.http.h2.test_websocket import connect as open_stream
from tests.zerogate.http.h2.test_websocket import send as send_on
from tests.zerogate.http.hours import HastyLoop, run
from tests.zerogate.http.rig import Rig, replica, rig
from zerogate.http.exchange import Exchange
from zerogate.http.h2 import frames as f
from zerogate.policy import Policy

HOUR_S = 3600.0
VERSIONS = pytest.mark.parametrize(("down", "up"), [("1.1", "1.1"), ("1.1", "2"), ("2", "1.1"), ("2", "2")])


class Far:
    """The model server: it echoes, speaks when it is told to, and closes where it is asked to. `closed`: how a client's
    Close came."""

    def __init__(self) -> None:
        self.speaks = asyncio.Event()
        self.closed: asyncio.Queue[tuple[int | None, str]] = asyncio.Queue()

    async def http1(self, ws: ServerConnection) -> None:
        speaking = asyncio.ensure_future(self._speak(ws))  # noqa: TID251 - ends with this socket
        try:
            async for message in ws:
                if message == "close":
                    await ws.close(4002, "asked")
                await ws.send(message)
        except ConnectionClosed:
            pass
        finally:
            speaking.cancel()
            await ws.wait_closed()
            self.closed.put_nowait((ws.close_code, ws.close_reason or ""))

    async def _speak(self, ws: ServerConnection) -> None:
        await self.speaks.wait()
        await ws.send("unasked")

    async def http2(self, it: Http2Replica) -> None:
        asked = await it.head()
        it.head_of_answer(asked.stream)
        await it.flush()
        speaking = asyncio.ensure_future(self._speak2(it, asked.stream))  # noqa: TID251 - ends with this stream
        came, has_closed = b"", False
        while True:
            while len(came) < 6 or len(came) < 6 + (came[1] & 0x7F):
                for event in it.core.receive_data(await it.reader.read(1 << 16)):
                    if isinstance(event, h2.events.DataReceived):
                        came += event.data or b""
            size, mask = came[1] & 0x7F, came[2:6]
            opcode, payload, came = came[0] & 0xF, came[6 : 6 + size], came[6 + size :]
            payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
            if opcode == CLOSE:
                speaking.cancel()
                if not has_closed:
                    it.core.send_data(asked.stream, frame(CLOSE, payload))
                it.core.end_stream(asked.stream)
                await it.flush()
                self.closed.put_nowait((int.from_bytes(payload[:2], "big"), payload[2:].decode()))
                return
            if payload == b"close":
                has_closed = True
                it.core.send_data(asked.stream, closing(4002, b"asked"))
                await it.flush()
                continue
            it.core.send_data(asked.stream, frame(TEXT, payload))
            await it.flush()

    async def _speak2(self, it: Http2Replica, stream: int) -> None:
        await self.speaks.wait()
        it.core.send_data(stream, frame(TEXT, b"unasked"))
        await it.flush()


class Near(Protocol):
    """The client's side of the socket."""

    async def say(self, message: str) -> None: ...
    async def hear(self) -> str: ...
    async def close(self) -> tuple[int, str]:
        """Close with 4001; how the other side closed."""

    async def closed(self) -> tuple[int, str]:
        """How the other side closed."""


class Near1:
    def __init__(self, ws: ClientConnection) -> None:
        self._ws = ws

    async def say(self, message: str) -> None:
        await self._ws.send(message)

    async def hear(self) -> str:
        return str(await self._ws.recv())

    async def close(self) -> tuple[int, str]:
        await self._ws.close(4001, "done")
        return await self.closed()

    async def closed(self) -> tuple[int, str]:
        await self._ws.wait_closed()
        return self._ws.close_code or 0, self._ws.close_reason or ""


class Near2:
    def __init__(self, peer: Http2Client, stream: int) -> None:
        self._peer = peer
        self._stream = stream
        self._heard = 0
        self._has_closed = False

    async def say(self, message: str) -> None:
        await send_on(self._peer, self._stream, frame(TEXT, message.encode(), mask=MASK))

    async def _frame(self) -> bytes:
        at = self._heard
        size = (await until_body(self._peer, self._stream, at + 2))[at + 1]
        body = await until_body(self._peer, self._stream, at + 2 + size)
        self._heard = at + 2 + size
        return body[at + 2 : self._heard]

    async def hear(self) -> str:
        return (await self._frame()).decode()

    async def close(self) -> tuple[int, str]:
        self._has_closed = True
        await send_on(self._peer, self._stream, closing(4001, b"done", mask=MASK))
        return await self.closed()

    async def closed(self) -> tuple[int, str]:
        payload = await self._frame()
        if not self._has_closed:
            await send_on(self._peer, self._stream, frame(CLOSE, payload, mask=MASK))
        await self._peer.until(h2.events.StreamEnded, self._stream)
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()


@asynccontextmanager
async def behind(up: str, far: Far, policy: Policy) -> AsyncIterator[Rig]:
    async with rig(policy) as one:
        if up == "1.1":
            async with serve(far.http1, "127.0.0.1", 0, ping_interval=None, compression=None) as server:
                one.add_replica(server.sockets[0].getsockname()[1])
                yield one
        else:
            scripted = Replica(far.http2, settings={f.ENABLE_CONNECT_PROTOCOL: 1})
            async with replica(scripted) as port:
                one.add_replica(port)
                yield one
                assert not scripted.failures, scripted.failures


@asynccontextmanager
async def socket_of(one: Rig, down: str) -> AsyncIterator[Near]:
    if down == "1.1":
        url = f"ws://127.0.0.1:{one.address[1]}/ws"
        async with connect(url, ping_interval=None, compression=None, proxy=None) as ws:
            yield Near1(ws)
    else:
        client = await one.connect()
        peer = Http2Client(client.reader, client.writer)
        await peer.flush()
        await peer.until(h2.events.RemoteSettingsChanged)
        stream = await open_stream(peer)
        await peer.until(h2.events.ResponseReceived, stream)
        yield Near2(peer, stream)


def noted(one: Rig) -> list[Exchange]:
    """The requests that come from now on."""
    placed: list[Exchange] = []
    place = one.server.place

    def note(exchange: Exchange, now_s: float) -> None:
        placed.append(exchange)
        place(exchange, now_s)

    one.server.place = note
    return placed


async def be_idle(loop: HastyLoop, one: Rig, exchange: Exchange) -> None:
    """An hour in which nothing comes by the socket; what nobody uses meanwhile is closed as always."""
    unused = await one.connect()
    before, began_s = (exchange.bytes_in, exchange.bytes_out), loop.time()
    await loop.skip(HOUR_S)
    assert loop.time() >= began_s + HOUR_S
    assert await asyncio.wait_for(unused.reader.read(), 5) == b"", "its timers were as busy as ever"
    assert (exchange.bytes_in, exchange.bytes_out) == before
    assert exchange.result is None


@VERSIONS
@pytest.mark.parametrize("closes", ["client", "replica"])
@pytest.mark.parametrize("idle", ["busy", "quiet"])
def test_r3_after_an_hour_without_a_byte_messages_pass_both_ways_and_close_codes_are_kept(
    down: str, up: str, closes: str, idle: str
) -> None:
    async def work(loop: HastyLoop) -> None:
        far = Far()
        policy = Policy(protocol="h2c" if up == "2" else "http1", idle_websocket=idle, idle_timeout_s=300.0)  # type: ignore[arg-type]
        async with behind(up, far, policy) as one:
            placed = noted(one)
            async with socket_of(one, down) as near:
                await near.say("before")
                assert await near.hear() == "before"
                await be_idle(loop, one, placed[0])
                assert (one.hold.counters.websockets, one.hold.meter.in_flight) == (1, int(idle == "busy"))
                await near.say("after")
                assert await near.hear() == "after"
                assert one.hold.meter.in_flight == 1
                far.speaks.set()
                assert await near.hear() == "unasked"
                if closes == "client":
                    expected = (4001, "done")
                    assert await near.close() == expected
                else:
                    expected = (4002, "asked")
                    await near.say("close")
                    assert await near.closed() == expected
                assert await asyncio.wait_for(far.closed.get(), 5) == expected
            (exchange,) = await one.end_of(1)
            assert (exchange.result, exchange.status) == ("served", 101)
            assert one.hold.meter.in_flight == one.hold.counters.websockets == 0

    run(work)
