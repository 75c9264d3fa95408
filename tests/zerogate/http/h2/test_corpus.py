"""The corpus of downgrades over real sockets, to a server of HTTP/1.1 that writes down all that arrives; and floods.

Behind each attack, on the same connection, comes an honest request: it has its own answer, and what the server read is
that request and nothing else.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h2.events
import h11
import pytest
from hpack import Encoder

from tests.zerogate.http.h2 import test_attacks as attacks
from tests.zerogate.http.h2.corpus import BODY, MALFORMED, REFUSED, TAKEN, UNFINISHED
from tests.zerogate.http.h2.test_server import Peer, peer_of
from tests.zerogate.http.rig import LONGEST_S, Rig, rig
from zerogate.http.h2 import frames as f
from zerogate.http.h2.limits import NOISE, RESETS
from zerogate.http.heads import Field

pytestmark = pytest.mark.uvloop

HONEST: list[Field] = [
    (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/honest"), (b":authority", b"chat"),
]  # fmt: skip


class Recorder:
    """A server of HTTP/1.1 by the library `h11`: `arrived` has all bytes by connection, `requests` what they mean."""

    def __init__(self) -> None:
        self.arrived: list[bytearray] = []
        self.requests: list[tuple[h11.Request, bytes]] = []
        self.broken: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bytes_ = bytearray()
        self.arrived.append(bytes_)
        parser = h11.Connection(h11.SERVER)
        head: h11.Request | None = None
        body = b""
        while True:
            try:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    data = await reader.read(1 << 16)
                    bytes_ += data
                    parser.receive_data(data)
                    continue
            except h11.RemoteProtocolError as error:
                self.broken.append(str(error))
                return
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                self.requests.append((head, body))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head.target), head.target))
                await writer.drain()
                self._next(parser)
            elif isinstance(event, h11.ConnectionClosed):
                return

    def _next(self, parser: h11.Connection) -> None:
        parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        parser.send(h11.EndOfMessage())
        parser.start_next_cycle()

    @property
    def targets(self) -> list[bytes]:
        return [bytes(head.target) for head, _ in self.requests]


class Attacker:
    """A client that sends any fields; `hear` reads by the library `h2`."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.encoder = Encoder()

    def head(self, stream: int, fields: list[Field], *, end: bool) -> bytes:
        return f.header_frames(stream, self.encoder.encode(fields), end=end)

    async def send(self, *frames: bytes) -> None:
        self.peer.writer.write(b"".join(frames))
        await self.peer.writer.drain()

    def opened(self, *streams: int) -> None:
        """Let the library know of streams that it did not open itself."""
        head = [(":method", "GET"), (":scheme", "http"), (":path", "/")]
        for stream in streams:
            self.peer.h2.send_headers(stream, head)
        self.peer.h2.clear_outbound_data_buffer()

    async def ended(self, stream: int) -> str:
        """`reset CODE` or the status that the stream was answered with."""
        while True:
            for event in self.peer.events:
                if isinstance(event, h2.events.StreamReset) and event.stream_id == stream:
                    return f"reset {f.error_name(int(event.error_code or 0))}"
                if isinstance(event, h2.events.StreamEnded) and event.stream_id == stream:
                    return self.peer.head_of(stream)[":status"]
            assert await self.peer.more(), self.peer.events


@asynccontextmanager
async def attacking() -> AsyncIterator[tuple[Rig, Recorder, Attacker]]:
    recorder = Recorder()
    async with rig(script=recorder) as one:
        peer = await peer_of(one)
        await peer.flush()
        attacker = Attacker(peer)
        attacker.opened(1, 3)
        yield one, recorder, attacker


async def honest(attacker: Attacker, recorder: Recorder) -> None:
    """The request behind the attack is answered as what it is."""
    await attacker.send(attacker.head(3, HONEST, end=True))
    assert await attacker.ended(3) == "200"
    assert attacker.peer.body_of(3) == b"/honest"
    assert recorder.targets[-1] == b"/honest"


@pytest.mark.parametrize("case", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_request_is_reset_and_nothing_of_it_arrives(case: tuple[list[Field], bool]) -> None:
    fields, ended = case
    async with attacking() as (one, recorder, attacker):
        head = attacker.head(1, fields, end=ended)
        await attacker.send(head, b"" if ended else f.frame(f.DATA, f.END_STREAM, 1, BODY))
        assert await attacker.ended(1) == "reset PROTOCOL_ERROR"
        await honest(attacker, recorder)
        assert recorder.targets == [b"/honest"]
        assert one.server.bad_requests == 1


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
async def test_a_request_that_is_not_taken_is_answered_and_nothing_of_it_arrives(case: tuple[list[Field], int]) -> None:
    fields, status = case
    async with attacking() as (_, recorder, attacker):
        await attacker.send(attacker.head(1, fields, end=True))
        assert await attacker.ended(1) == str(status)
        await honest(attacker, recorder)
        assert recorder.targets == [b"/honest"]


@pytest.mark.parametrize("case", TAKEN.values(), ids=TAKEN)
async def test_an_odd_request_arrives_as_one_request_with_its_meaning(case: tuple[list[Field], bytes, bytes]) -> None:
    fields, host, body = case
    async with attacking() as (_, recorder, attacker):
        data = f.frame(f.DATA, f.END_STREAM, 1, body) if body else b""
        await attacker.send(attacker.head(1, fields, end=not body), data)
        assert await attacker.ended(1) == "200"
        await honest(attacker, recorder)
        assert not recorder.broken
        (first, got), (second, _) = recorder.requests
        named = dict(fields)
        assert (bytes(first.method), bytes(first.target)) == (named[b":method"], named[b":path"])
        assert (dict(first.headers)[b"host"], got) == (host, body)
        assert bytes(second.target) == b"/honest"


@pytest.mark.parametrize("case", UNFINISHED.values(), ids=UNFINISHED)
async def test_what_turns_out_wrong_behind_its_head_never_seems_complete(
    case: tuple[list[Field], bytes, list[Field]],
) -> None:
    fields, body, trailers = case
    async with attacking() as (_, recorder, attacker):
        data = f.frame(f.DATA, 0 if trailers else f.END_STREAM, 1, body)
        await attacker.send(
            attacker.head(1, fields, end=False), data, attacker.head(1, trailers, end=True) if trailers else b""
        )  # fmt: skip
        assert await attacker.ended(1) == "reset PROTOCOL_ERROR"
        await honest(attacker, recorder)
        assert recorder.targets == [b"/honest"]
        assert not any(b"smuggled" in bytes_ for bytes_ in recorder.arrived)


FLOODS = [attack for attack in attacks.FLOODS if attack is not attacks.dribble]


class Wire:
    """What an attack of `test_attacks` speaks to: bytes for a socket."""

    def __init__(self) -> None:
        self.encoder = Encoder()
        self.out = b""

    def send(self, data: bytes) -> None:
        self.out += data

    def headers(self, stream: int, fields: list[Field], *, end: bool = True) -> None:
        self.send(f.header_frames(stream, self.encoder.encode(fields), end=end))

    def data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self.send(f.frame(f.DATA, f.END_STREAM if end else 0, stream, data))


@pytest.mark.parametrize("attack", FLOODS, ids=lambda attack: attack.__name__)
async def test_a_flood_is_told_to_go_and_everybody_else_is_served(attack: attacks.Attack) -> None:
    recorder = Recorder()
    async with rig(script=recorder) as one:
        client = await one.connect()
        wire: Any = Wire()
        wire.send(f.PREFACE + f.settings_frame({}))
        for number in range(RESETS[0] + NOISE[0] + 200):
            attack(wire, number)
        client.writer.write(wire.out)
        neighbour = await one.connect()
        assert await asyncio.wait_for(neighbour.get("/neighbour"), LONGEST_S) == b"/neighbour"
        said = await asyncio.wait_for(_until_the_end(client.reader), LONGEST_S)
        goaway = said.rfind(bytes((f.GOAWAY, 0, 0, 0, 0, 0)))
        assert said[goaway + 10 : goaway + 14] == f.WORD.pack(f.ENHANCE_YOUR_CALM), said[-200:]
        client.close()
        async with asyncio.timeout(LONGEST_S):
            while one.hold.meter.in_flight or one.server.memory.used_bytes:
                await asyncio.sleep(0.005)
        assert await neighbour.get("/again") == b"/again"


async def _until_the_end(reader: asyncio.StreamReader) -> bytes:
    said = b""
    try:
        while data := await reader.read(1 << 16):
            said += data
    except ConnectionResetError:
        pass
    return said
