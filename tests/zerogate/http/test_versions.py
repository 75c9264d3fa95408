"""Versions of client and replica are independent: all four pairs do the same with everything that can pass.

Both ends are other implementations than ours, `h11` and `h2`, behind the same few methods: what one end says is what
the other one hears, as `(kind, ...)`. `cut` is an end that its reader can tell from a whole message.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import h2.config
import h2.connection
import h2.events
import h11
import pytest

from tests.zerogate.http.rig import LONGEST_S, Rig, replica, rig
from zerogate.counters import Result
from zerogate.http.h2 import frames as f
from zerogate.policy import Policy

pytestmark = [
    pytest.mark.uvloop,
    pytest.mark.parametrize("up", ["1.1", "2"], ids=lambda version: f"replica-{version}"),
    pytest.mark.parametrize("down", ["1.1", "2"], ids=lambda version: f"client-{version}"),
]

Fields = list[tuple[str, str]]
Heard = tuple[Any, ...]
OWN: Final = ("x-", "link", "content-length", "content-type", "cache-control")
"""Fields that a test looks at; the others are the hop's own."""
ANY_LENGTH: Final = bytes(range(256)) * 1024


def ours(fields: Iterable[tuple[Any, Any]]) -> dict[str, str]:
    """Those of a test, as text."""
    texts = [tuple(one.decode() if isinstance(one, bytes) else str(one) for one in field) for field in fields]
    return {name.lower(): value for name, value in texts if name.lower().startswith(OWN) and "forwarded" not in name}


def pseudo(event: Any) -> dict[str, str]:
    """All fields of a head of HTTP/2 by their names."""
    return {str(name): str(value) for name, value in event.headers or ()}


class End(ABC):
    """One end of an exchange: the client's, or the replica's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def heard(self) -> Heard:
        """The next thing that the other end says: `interim`, `head`, `data`, `end`, or `cut`."""
        async with asyncio.timeout(LONGEST_S):
            return await self._heard()

    async def whole(self) -> tuple[bytes, Heard]:
        """The rest of a body, and how it ended."""
        body = b""
        while (heard := await self.heard())[0] == "data":
            body += heard[1]
        return body, heard

    @abstractmethod
    async def _heard(self) -> Heard: ...
    @abstractmethod
    async def ask(self, method: str, fields: Fields = [], *, end: bool = False) -> None: ...  # noqa: B006
    @abstractmethod
    async def say(self, status: int, fields: Fields = [], *, end: bool = False) -> None: ...  # noqa: B006
    @abstractmethod
    async def send(self, data: bytes) -> None: ...
    @abstractmethod
    async def end(self, trailers: Fields = []) -> None: ...  # noqa: B006
    @abstractmethod
    async def cut(self) -> None:
        """Go away in the middle."""


class Http1(End):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_client: bool) -> None:
        super().__init__(reader, writer)
        self.core = h11.Connection(h11.CLIENT if is_client else h11.SERVER)

    async def _heard(self) -> Heard:
        while True:
            try:
                event = self.core.next_event()
                if event is h11.NEED_DATA:
                    self.core.receive_data(await self.reader.read(1 << 16))
                    continue
            except (h11.RemoteProtocolError, ConnectionResetError):
                return ("cut",)
            if isinstance(event, h11.Request):
                return ("head", event.method.decode(), ours(event.headers))
            if isinstance(event, h11.InformationalResponse):
                return ("interim", event.status_code, ours(event.headers))
            if isinstance(event, h11.Response):
                return ("head", event.status_code, ours(event.headers))
            if isinstance(event, h11.Data):
                return ("data", bytes(event.data))
            if isinstance(event, h11.EndOfMessage):
                return ("end", ours(event.headers))
            return ("cut",)

    async def _write(self, event: h11.Event) -> None:
        data = self.core.send(event)
        if data:
            self.writer.write(data)
            await self.writer.drain()

    async def ask(self, method: str, fields: Fields = [], *, end: bool = False) -> None:  # noqa: B006
        framing = (
            [] if end or any(name == "content-length" for name, _ in fields) else [("transfer-encoding", "chunked")]
        )
        about = [("host", "chat"), ("te", "trailers"), ("connection", "te")]
        await self._write(h11.Request(method=method, target="/x", headers=[*about, *framing, *fields]))
        if end:
            await self._write(h11.EndOfMessage())

    async def say(self, status: int, fields: Fields = [], *, end: bool = False) -> None:  # noqa: B006
        if status < 200:
            await self._write(h11.InformationalResponse(status_code=status, headers=fields))
            return
        framing = (
            [] if end or any(name == "content-length" for name, _ in fields) else [("transfer-encoding", "chunked")]
        )
        await self._write(h11.Response(status_code=status, headers=[*framing, *fields]))
        if end:
            await self._write(h11.EndOfMessage())

    async def send(self, data: bytes) -> None:
        await self._write(h11.Data(data=data))

    async def end(self, trailers: Fields = []) -> None:  # noqa: B006
        await self._write(h11.EndOfMessage(headers=trailers))

    async def cut(self) -> None:
        self.writer.transport.abort()


class Http2(End):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_client: bool) -> None:
        super().__init__(reader, writer)
        config = h2.config.H2Configuration(client_side=is_client, header_encoding="latin-1")
        self.core = h2.connection.H2Connection(config)
        self.core.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.trailers: dict[str, str] = {}
        self.resets: list[int] = []
        """The codes of RST_STREAM that came."""

    async def _heard(self) -> Heard:
        while True:
            while self.events:
                heard = self._of(self.events.pop(0))
                if heard is not None:
                    return heard
            if not await self._read():
                return ("cut",)

    async def _read(self) -> bool:
        await self._flush()
        try:
            data = await self.reader.read(1 << 16)
        except ConnectionResetError:
            data = b""
        events = self.core.receive_data(data) if data else []
        for event in events:
            if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                self.core.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.events += events
        await self._flush()
        return bool(data)

    def _of(self, event: h2.events.Event) -> Heard | None:
        if isinstance(event, h2.events.RequestReceived):
            return ("head", pseudo(event)[":method"], ours(event.headers or ()))
        if isinstance(event, h2.events.InformationalResponseReceived):
            return ("interim", int(pseudo(event)[":status"]), ours(event.headers or ()))
        if isinstance(event, h2.events.ResponseReceived):
            return ("head", int(pseudo(event)[":status"]), ours(event.headers or ()))
        if isinstance(event, h2.events.DataReceived) and event.data:
            return ("data", event.data)
        if isinstance(event, h2.events.TrailersReceived):
            self.trailers = ours(event.headers or ())
        if isinstance(event, h2.events.StreamReset):
            self.resets.append(int(event.error_code or 0))
            return ("cut",)
        return ("end", self.trailers) if isinstance(event, h2.events.StreamEnded) else None

    async def _flush(self) -> None:
        self.writer.write(self.core.data_to_send())
        await self.writer.drain()

    async def ask(self, method: str, fields: Fields = [], *, end: bool = False) -> None:  # noqa: B006
        about = [(":method", method), (":scheme", "http"), (":path", "/x"), (":authority", "chat"), ("te", "trailers")]
        self.core.send_headers(1, [*about, *fields], end_stream=end)
        await self._flush()

    async def say(self, status: int, fields: Fields = [], *, end: bool = False) -> None:  # noqa: B006
        self.core.send_headers(1, [(":status", str(status)), *fields], end_stream=end)
        await self._flush()

    async def send(self, data: bytes) -> None:
        while data:
            room = min(self.core.local_flow_control_window(1), self.core.max_outbound_frame_size)
            if not room:
                assert await self._read()
                continue
            self.core.send_data(1, data[:room])
            data = data[room:]
            await self._flush()

    async def end(self, trailers: Fields = []) -> None:  # noqa: B006
        if trailers:
            self.core.send_headers(1, trailers, end_stream=True)
        else:
            self.core.end_stream(1)
        await self._flush()

    async def cut(self) -> None:
        self.core.reset_stream(1, f.INTERNAL_ERROR)
        await self._flush()


ENDS: Final = {"1.1": Http1, "2": Http2}


@asynccontextmanager
async def between(
    down: str, up: str, *, at_zero: bool = False, **policy: Any
) -> AsyncIterator[tuple[Rig, End, asyncio.Future[End]]]:
    """A rig, a client, and the replica's end once it is asked. `at_zero`: `rig.scripted` starts the replica."""
    asked: asyncio.Future[End] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = ENDS[up](reader, writer, is_client=False)
        if isinstance(end, Http2):
            await end._flush()
        if not asked.done():
            asked.set_result(end)
        await over.wait()

    known = Policy(protocol="h2c" if up == "2" else "http1", **policy)
    async with rig(known) as one, replica(serve) as port:
        one.scripted = partial(one.add_replica, port)
        if not at_zero:
            one.scripted()
        line = await one.connect()
        try:
            yield one, ENDS[down](line.reader, line.writer, is_client=True), asked
        finally:
            over.set()


async def test_bodies_without_a_length_and_trailers_pass_both_ways(down: str, up: str) -> None:
    async with between(down, up) as (one, client, asked):
        await client.ask("POST", [("x-asked", "1")])
        server = await asked
        assert await server.heard() == ("head", "POST", {"x-asked": "1"})
        for piece in (b"one", b"two"):
            await client.send(piece)
            assert await server.heard() == ("data", piece), "and not only when the next one comes"
        await client.end([("x-sum", "7")])
        assert await server.heard() == ("end", {"x-sum": "7"})
        await server.say(201, [("x-said", "2")])
        assert await client.heard() == ("head", 201, {"x-said": "2"})
        for piece in (b"three", b"four"):
            await server.send(piece)
            assert await client.heard() == ("data", piece), "and not only when the next one comes"
        await server.end([("x-done", "8")])
        assert await client.heard() == ("end", {"x-done": "8"})
        (exchange,) = await one.end_of(1)
        assert (exchange.result, one.server.memory.used_bytes) == (Result.SERVED, 0)


async def test_bodies_with_a_length_keep_it_both_ways(down: str, up: str) -> None:
    length = {"content-length": str(len(ANY_LENGTH))}
    async with between(down, up) as (one, client, asked):
        await client.ask("POST", [*length.items()])
        sending = one.nursery.start(_send_all(client), name="upload")
        server = await asked
        assert await server.heard() == ("head", "POST", length)
        assert await server.whole() == (ANY_LENGTH, ("end", {}))
        await sending
        await server.say(200, [*length.items()])
        answering = one.nursery.start(_send_all(server), name="answer")
        assert await client.heard() == ("head", 200, length)
        assert await client.whole() == (ANY_LENGTH, ("end", {}))
        await answering


async def _send_all(end: End) -> None:
    await end.send(ANY_LENGTH)
    await end.end()


async def test_both_directions_flow_at_the_same_time(down: str, up: str) -> None:
    async with between(down, up) as (_, client, asked):
        await client.ask("POST")
        server = await asked
        await server.heard()
        await client.send(b"word")
        assert await server.heard() == ("data", b"word")
        await server.say(200)
        assert (await client.heard())[:2] == ("head", 200)
        for number in range(5):
            await client.send(b"ask %d" % number)
            assert await server.heard() == ("data", b"ask %d" % number)
            await server.send(b"say %d" % number)
            assert await client.heard() == ("data", b"say %d" % number)
        await client.end()
        assert await server.heard() == ("end", {})
        await server.end()
        assert await client.heard() == ("end", {})


async def test_an_interim_answer_comes_before_the_final_one_with_its_fields(down: str, up: str) -> None:
    async with between(down, up) as (_, client, asked):
        await client.ask("GET", end=True)
        server = await asked
        assert (await server.heard())[:2] == ("head", "GET")
        assert await server.heard() == ("end", {})
        for link in ("</a>", "</b>"):
            await server.say(103, [("link", link)])
            assert await client.heard() == ("interim", 103, {"link": link})
        await server.say(204, end=True)
        assert await client.heard() == ("head", 204, {})
        assert await client.heard() == ("end", {})


async def test_an_answer_to_head_keeps_the_length_of_the_body_that_is_not_sent(down: str, up: str) -> None:
    async with between(down, up) as (_, client, asked):
        await client.ask("HEAD", end=True)
        server = await asked
        assert (await server.heard())[:2] == ("head", "HEAD")
        await server.heard()
        await server.say(200, [("content-length", "1000")], end=True)
        assert await client.heard() == ("head", 200, {"content-length": "1000"})
        assert await client.heard() == ("end", {})


async def test_an_answer_of_304_ends_with_its_head_whatever_length_it_speaks_of(down: str, up: str) -> None:
    async with between(down, up) as (_, client, asked):
        await client.ask("GET", end=True)
        server = await asked
        assert await server.heard() == ("head", "GET", {})
        await server.heard()
        await server.say(304, [("content-length", "1000"), ("x-tag", "a")], end=True)
        kind, status, fields = await client.heard()
        assert (kind, status, fields["x-tag"]) == ("head", 304, "a")
        assert await client.heard() == ("end", {})


async def test_an_answer_that_its_replica_breaks_off_is_cut_behind_what_came(down: str, up: str) -> None:
    async with between(down, up) as (one, client, asked):
        await client.ask("GET", end=True)
        server = await asked
        await server.heard()
        await server.say(200)
        await server.send(b"half")
        assert await client.heard() == ("head", 200, {})
        assert await client.heard() == ("data", b"half")
        await server.cut()
        assert await client.heard() == ("cut",)
        (exchange,) = await one.end_of(1)
        assert (exchange.result, exchange.code) == (Result.CUT, "replica_lost")
        _expect_reset(client)


async def test_a_post_that_its_replica_breaks_off_before_it_answers_is_told_502(down: str, up: str) -> None:
    async with between(down, up) as (one, client, asked):
        await client.ask("POST")
        await client.send(b"body")
        await client.end()
        server = await asked
        assert (await server.heard())[0] == "head"
        assert await server.whole() == (b"body", ("end", {}))
        await server.cut()
        assert (await client.heard())[:2] == ("head", 502)
        (exchange,) = await one.end_of(1)
        assert (exchange.result, exchange.code, exchange.attempts) == (Result.REFUSED, "replica_lost", 1)


@pytest.mark.parametrize("is_answering", [False, True], ids=["before the answer", "in the answer"])
async def test_a_client_that_goes_away_is_a_loss_for_its_replica(down: str, up: str, *, is_answering: bool) -> None:
    async with between(down, up) as (one, client, asked):
        await client.ask("GET", end=True)
        server = await asked
        await server.heard()
        await server.heard()
        if is_answering:
            await server.say(200)
            await server.send(b"half")
            assert [(await client.heard())[0] for _ in range(2)] == ["head", "data"]
        await client.cut()
        assert await server.heard() == ("cut",)
        (exchange,) = await one.end_of(1)
        assert exchange.result is Result.ABANDONED
        assert one.hold.replicas["chat-1"].gate.in_flight == one.hold.meter.in_flight == 0


@pytest.mark.parametrize("timer", ["idle_timeout", "total_timeout"])
async def test_a_timer_behind_the_head_cuts_the_answer_on_both_sides(down: str, up: str, timer: str) -> None:
    after: dict[str, Any] = {"idle_stream_timeout_s" if timer == "idle_timeout" else "total_timeout_s": 0.2}
    async with between(down, up, **after) as (one, client, asked):
        await client.ask("GET", end=True)
        server = await asked
        await server.heard()
        await server.heard()
        await server.say(200)
        await server.send(b"half")
        assert await client.heard() == ("head", 200, {})
        assert await client.heard() == ("data", b"half")
        assert await client.heard() == ("cut",)
        assert await server.heard() == ("cut",)
        (exchange,) = await one.end_of(1)
        assert (exchange.result, exchange.code) == (Result.CUT, timer)
        _expect_reset(client)


@pytest.mark.parametrize("timer", ["first_byte_timeout", "total_timeout"])
async def test_a_timer_before_the_head_is_told_as_504_and_the_replica_is_let_go(down: str, up: str, timer: str) -> None:
    after: dict[str, Any] = {f"{timer}_s": 0.2}
    async with between(down, up, **after) as (one, client, asked):
        await client.ask("GET", end=True)
        server = await asked
        await server.heard()
        await server.heard()
        assert (await client.heard())[:2] == ("head", 504)
        assert await server.heard() == ("cut",)
        (exchange,) = await one.end_of(1)
        assert (exchange.result, exchange.code) == (Result.REFUSED, timer)


EVENTS: Fields = [("accept", "text/event-stream")]
COMMENT: Heard = ("data", b": held\n\n")


async def _held(client: End) -> None:
    """It asks for a stream of events, and hears signs of life."""
    await client.ask("GET", EVENTS, end=True)
    early = {"content-type": "text/event-stream", "cache-control": "no-cache", "x-accel-buffering": "no"}
    assert await client.heard() == ("head", 200, early)
    assert [await client.heard() for _ in range(3)] == [COMMENT] * 3


async def _behind_comments(client: End) -> Heard:
    while (heard := await client.heard()) == COMMENT:
        continue
    return heard


async def test_a_held_client_hears_comments_until_its_model_runs_and_none_from_then_on(down: str, up: str) -> None:
    async with between(down, up, at_zero=True, hold_heartbeat_s=0.05) as (one, client, asked):
        await _held(client)
        one.scripted()
        server = await asked
        assert (await server.heard())[:2] == ("head", "GET")
        assert await server.heard() == ("end", {})
        await server.say(103, [("link", "</a>")])  # nobody can be told any more
        await server.say(200, [("content-type", "text/event-stream")])
        await server.send(b"data: 1\n\n")
        assert await _behind_comments(client) == ("data", b"data: 1\n\n")
        await asyncio.sleep(0.3)  # several beats, of which none may come
        await server.send(b"data: 2\n\n")
        assert await client.heard() == ("data", b"data: 2\n\n")
        await server.end([("x-done", "8")])
        assert await client.heard() == ("end", {"x-done": "8"})
        assert (await one.end_of(1))[0].result is Result.SERVED


async def test_a_refusal_behind_comments_is_an_event_of_a_whole_stream(down: str, up: str) -> None:
    async with between(down, up, at_zero=True, hold_heartbeat_s=0.05, hold_timeout_s=0.5) as (one, client, _):
        await _held(client)
        kind, event = await _behind_comments(client)
        assert (kind, event.startswith(b"event: error\ndata: {"), b"hold_timeout" in event) == ("data", True, True)
        assert await client.heard() == ("end", {})
        assert (await one.end_of(1))[0].code == "hold_timeout"


async def test_an_error_of_the_model_behind_comments_is_one_event_however_it_came(down: str, up: str) -> None:
    async with between(down, up, at_zero=True, hold_heartbeat_s=0.05) as (one, client, asked):
        await _held(client)
        one.scripted()
        server = await asked
        await server.heard()
        await server.heard()
        await server.say(503, [("content-type", "application/json")])
        for piece in (b'{"error": ', b'{"message": ', b'"full"}}'):
            await server.send(piece)
            await asyncio.sleep(0.05)  # so that each is a read of its own
        await server.end()
        assert await _behind_comments(client) == ("data", b'event: error\ndata: {"error": {"message": "full"}}\n\n')
        assert await client.heard() == ("end", {})
        assert (await one.end_of(1))[0].status == 503


async def test_a_loss_behind_comments_is_cut_as_any_other(down: str, up: str) -> None:
    async with between(down, up, at_zero=True, hold_heartbeat_s=0.05) as (one, client, asked):
        await _held(client)
        one.scripted()
        server = await asked
        await server.heard()
        await server.heard()
        await server.say(200, [("content-type", "text/event-stream")])
        await server.send(b"data: 1\n\n")
        assert await _behind_comments(client) == ("data", b"data: 1\n\n")
        await server.cut()
        assert await client.heard() == ("cut",)
        assert (await one.end_of(1))[0].code == "replica_lost"


def _expect_reset(client: End) -> None:
    """Of HTTP/2 only the stream was cut, with an error: its connection goes on."""
    if isinstance(client, Http2):
        assert client.resets == [f.INTERNAL_ERROR]
        assert not client.reader.at_eof()
