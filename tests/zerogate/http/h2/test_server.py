"""HTTP/2 on real sockets: the library `h2`, curl and httpx ask, a replica of HTTP/1.1 answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import httpx
import pytest

from tests.certificates import Authority
from tests.programs import CURL, needs_curl
from tests.zerogate.http.rig import LONGEST_S, Rig, answering, echo, read_request, replica, rig, settled
from zerogate.clock import now
from zerogate.counters import Result
from zerogate.http.certificates import ClientCertificates, server_contexts
from zerogate.http.entrance import TrustedSenders
from zerogate.http.h1.server import ServerConnection as Http1Connection
from zerogate.http.h2 import server as server_module
from zerogate.http.h2.frames import goaway_frame
from zerogate.http.h2.limits import Limits
from zerogate.http.server import ConnectionLimits
from zerogate.policy import Policy

pytestmark = pytest.mark.uvloop

Headers = list[tuple[str, str]]


class Peer:
    """A client by the library `h2`: `events` are what came, in order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        configuration = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="utf-8"
        )
        self.h2 = h2.connection.H2Connection(configuration)
        self.h2.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.acknowledges = True
        self._next = 1

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def ask(self, path: str = "/", *, body: bytes | None = None, end: bool = True, more: Headers = []) -> int:  # noqa: B006
        """Open a stream; its id."""
        stream, self._next = self._next, self._next + 2
        method = "GET" if body is None else "POST"
        if body is not None and end:
            more = [*more, ("content-length", str(len(body)))]
        head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "chat"), *more]
        self.h2.send_headers(stream, head, end_stream=body is None and end)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=end)
        await self.flush()
        return stream

    async def more(self) -> list[h2.events.Event]:
        """What the next read brings; an empty list at the end of the connection."""
        data = await asyncio.wait_for(self.reader.read(1 << 16), LONGEST_S)
        if not data:
            return []
        events = list(self.h2.receive_data(data))
        for event in events:
            if isinstance(event, h2.events.DataReceived) and self.acknowledges:
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        await self.flush()
        self.events += events
        return events

    async def until(self, kind: type[h2.events.Event], stream: int | None = None) -> h2.events.Event:
        """The first event of this kind, of this stream."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and (stream is None or getattr(event, "stream_id", None) == stream):
                    return event
            if not await self.more():
                raise EOFError(f"no {kind.__name__}: {self.events}")

    async def answer(self, stream: int) -> tuple[dict[str, str], bytes]:
        """(head, body) of an answer that is complete."""
        await self.until(h2.events.StreamEnded, stream)
        return self.head_of(stream), self.body_of(stream)

    def head_of(self, stream: int) -> dict[str, str]:
        for event in self.events:
            if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
                return {str(name): str(value) for name, value in event.headers or ()}
        raise AssertionError(self.events)

    def body_of(self, stream: int) -> bytes:
        return b"".join(
            event.data or b""
            for event in self.events
            if isinstance(event, h2.events.DataReceived) and event.stream_id == stream
        )

    async def closed(self) -> None:
        while await self.more():
            pass


async def peer_of(one: Rig, address: tuple[str, int] | None = None) -> Peer:
    """One more client of the rig, which ends with it."""
    client = one.clients.own(*await asyncio.open_connection(*(address or one.address)))
    return Peer(client.reader, client.writer)


@asynccontextmanager
async def asking(one: Rig) -> AsyncIterator[Peer]:
    peer = await peer_of(one)
    await peer.flush()
    try:
        yield peer
    finally:
        peer.writer.close()


@asynccontextmanager
async def directly(one: Rig, limits: Limits = server_module.LIMITS) -> AsyncIterator[tuple[str, int]]:
    """An address where every connection is HTTP/2 from its beginning."""
    loop = asyncio.get_running_loop()

    def connection() -> asyncio.Protocol:
        return server_module.ServerConnection(one.server, limits=limits)

    listener = await loop.create_server(connection, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()
    finally:
        listener.close()


async def test_many_requests_share_one_connection() -> None:
    async with rig(script=echo) as one, asking(one) as peer:
        streams = [await peer.ask(f"/{number}", body=b"x" * number * 40) for number in range(1, 50)]
        for number, stream in enumerate(streams, 1):
            head, body = await peer.answer(stream)
            assert (head[":status"], len(body)) == ("200", number * 40)
        assert one.server.accepted == 1
        assert {exchange.result for exchange in await one.end_of(49)} == {Result.SERVED}
        assert one.server.memory.used_bytes == 0


async def test_a_preface_that_comes_byte_by_byte_is_the_same_preface() -> None:
    async with rig(script=echo) as one, asking(one) as peer:
        stream, other = await peer.ask("/a"), await peer_of(one)
        data = other.h2.data_to_send()
        for at in range(len(data)):
            other.writer.write(data[at : at + 1])
            await other.writer.drain()
            await asyncio.sleep(0)
        again = await other.ask("/b")
        assert (await other.answer(again))[1] == b"/b"
        assert (await peer.answer(stream))[1] == b"/a"
        other.writer.close()


def _has_begun(connection: object) -> bool:
    """Whether the first bytes were read, by themselves."""
    return isinstance(connection, Http1Connection) and (bool(connection._early) or connection.is_reading_head)


@pytest.mark.parametrize("begin", [b"P", b"PR", b"PRI ", b"PUT / HTTP/1.1\r\n"], ids=["P", "PR", "PRI", "PUT"])
async def test_what_only_begins_like_the_preface_is_http_1(begin: bytes) -> None:
    async with rig(script=echo) as one:
        client = await one.connect()
        await client.send(begin)
        async with asyncio.timeout(30):
            while not any(_has_begun(connection) for connection in one.server.connections):
                await asyncio.sleep(0)
        if begin.startswith(b"PUT"):
            await client.send(b"Host: chat\r\nContent-Length: 2\r\n\r\nhi")
            assert await client.answer() == b"hi"
        else:
            await client.send(b"OST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 2\r\n\r\nhi")
            assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200" if begin == b"P" else b"HTTP/1.1 400")


async def test_the_preface_behind_a_request_of_http_1_is_no_preface() -> None:
    async with rig(script=echo) as one:
        client = await one.connect()
        assert await client.get("/a") == b"/a"
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 400")


async def test_a_stream_of_events_passes_as_it_comes_with_its_trailers() -> None:
    step = asyncio.Event()

    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n")
        for _ in range(3):
            writer.write(b"9\r\ndata: x\n\n\r\n")
            await step.wait()
            step.clear()
        writer.write(b"0\r\nX-Sum: 7\r\n\r\n")

    async with rig(script=events) as one, asking(one) as peer:
        stream = await peer.ask()
        for count in range(1, 4):
            while len(peer.body_of(stream)) < 9 * count:
                await peer.more()
            step.set()
        await peer.answer(stream)
        trailers = await peer.until(h2.events.TrailersReceived, stream)
        assert isinstance(trailers, h2.events.TrailersReceived)
        assert [tuple(map(str, field)) for field in trailers.headers or ()] == [("x-sum", "7")]


async def test_interim_answers_and_the_word_to_continue_are_passed_on() -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        assert await reader.readexactly(2) == b"hi"
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with rig(script=early) as one, asking(one) as peer:
        stream = await peer.ask(body=b"", end=False, more=[("expect", "100-continue"), ("content-length", "2")])
        await peer.until(h2.events.InformationalResponseReceived, stream)
        peer.h2.send_data(stream, b"hi", end_stream=True)
        await peer.flush()
        await peer.answer(stream)
        statuses = [
            next(str(value) for _, value in event.headers or ())
            for event in peer.events
            if isinstance(event, h2.events.InformationalResponseReceived)
        ]
        assert statuses == ["100", "103"]
        assert peer.head_of(stream)[":status"] == "204"


async def test_an_answer_to_head_has_its_length_and_no_body() -> None:
    script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    async with rig(script=script) as one, asking(one) as peer:
        peer.h2.send_headers(
            1, [(":method", "HEAD"), (":scheme", "http"), (":path", "/"), (":authority", "chat")], end_stream=True
        )
        await peer.flush()
        head, body = await peer.answer(1)
        assert (head["content-length"], body) == ("1000", b"")


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"], ids=["counted", "chunked"]
)
async def test_an_answer_of_grpc_without_a_message_has_its_status_where_clients_look(framing: bytes) -> None:
    """With a length there is nothing behind the head; without one the status comes behind the body."""
    status = b"grpc-status: 9\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n" + framing
    answer += status + b"\r\n" if b"Length" in framing else b"\r\n0\r\n" + status + b"\r\n"
    more = [("content-type", "application/grpc"), ("te", "trailers")]
    async with rig(script=answering(*[answer] * 4)) as one, asking(one) as peer:
        for _ in range(4):  # a head that comes again is not parsed again
            stream = await peer.ask(body=b"", more=more)
            await peer.until(h2.events.StreamEnded, stream)
            fields = peer.head_of(stream)
            if b"Length" not in framing:
                trailers = await peer.until(h2.events.TrailersReceived, stream)
                assert isinstance(trailers, h2.events.TrailersReceived)
                fields = {str(name): str(value) for name, value in trailers.headers or ()}
            assert fields["grpc-status"] == "9"
            data = [event for event in peer.events if isinstance(event, h2.events.DataReceived)]
            assert [event.stream_id for event in data] == []


async def test_a_refusal_is_an_answer_with_its_retry_after() -> None:
    async with rig(Policy(queue_limit=0)) as one, asking(one) as peer:
        head, body = await peer.answer(await peer.ask("/v1/x"))
        assert head[":status"] == "429"
        assert "retry-after" in head
        assert b"error" in body


@pytest.mark.parametrize("answers", ["zerogate", "the replica"])
async def test_an_upload_without_an_end_is_ended_behind_its_early_answer(answers: str) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    refuses = answers == "zerogate"
    async with rig(Policy(queue_limit=0), script=None if refuses else early) as one, asking(one) as peer:
        stream = await peer.ask(body=b"x" * 1000, end=False)
        await peer.until(h2.events.StreamEnded, stream)
        assert peer.head_of(stream)[":status"] == "429"
        reset = await peer.until(h2.events.StreamReset, stream)
        assert isinstance(reset, h2.events.StreamReset)
        assert reset.error_code == h2.errors.ErrorCodes.NO_ERROR
        (connection,) = one.server.connections
        assert isinstance(connection, server_module.ServerConnection)
        assert not connection.core.streams


@pytest.mark.parametrize(
    ("fields", "status"), [([("expect", "maybe")], "417"), ([("x-a", "y")] * 129, "431")], ids=["417", "431"]
)
async def test_a_request_that_is_not_taken_is_answered_and_the_connection_stays(fields: Headers, status: str) -> None:
    async with rig(script=echo) as one, asking(one) as peer:
        head, _ = await peer.answer(await peer.ask(more=fields))
        assert head[":status"] == status
        assert (await peer.answer(await peer.ask("/next")))[1] == b"/next"
        assert one.server.bad_requests == 1


async def test_a_head_that_is_not_taken_is_answered_without_a_body() -> None:
    async with rig(script=echo) as one, asking(one) as peer:
        fields = [(":method", "HEAD"), (":scheme", "http"), (":path", "/"), (":authority", "chat"), ("expect", "x")]
        peer.h2.send_headers(1, fields, end_stream=True)
        await peer.flush()
        head, body = await peer.answer(1)
        assert (head[":status"], body) == ("417", b"")


async def test_a_malformed_request_is_reset_and_reaches_no_replica() -> None:
    async with rig(script=echo) as one, asking(one) as peer:
        stream = await peer.ask(more=[("x-a", "b\r\nhost: evil")])
        event = await peer.until(h2.events.StreamReset, stream)
        assert isinstance(event, h2.events.StreamReset)
        assert event.error_code == h2.errors.ErrorCodes.PROTOCOL_ERROR
        assert (await peer.answer(await peer.ask("/next")))[1] == b"/next"
        assert len(one.ended) == 1


async def test_a_client_that_resets_its_stream_abandons_its_request() -> None:
    async with rig() as one, asking(one) as peer:
        stream = await peer.ask(body=b"x" * 1000)
        while not one.wakes:
            await asyncio.sleep(0.001)
        peer.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        await peer.flush()
        assert [exchange.result for exchange in await one.end_of(1)] == [Result.ABANDONED]
        assert one.server.memory.used_bytes == 0


async def test_a_client_that_goes_away_abandons_all_its_requests() -> None:
    async with rig() as one, asking(one) as peer:
        for _ in range(20):
            await peer.ask(body=b"x" * 1000)
        while one.server.memory.used_bytes < 20_000:
            await asyncio.sleep(0.001)
        peer.writer.transport.abort()
        assert {exchange.result for exchange in await one.end_of(20)} == {Result.ABANDONED}
        assert one.server.memory.used_bytes == 0
        assert not one.server.connections


async def test_a_replica_lost_in_the_middle_resets_the_stream() -> None:
    script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello", then_close=True)
    async with rig(script=script) as one, asking(one) as peer:
        stream = await peer.ask()
        event = await peer.until(h2.events.StreamReset, stream)
        assert isinstance(event, h2.events.StreamReset)
        assert event.error_code == h2.errors.ErrorCodes.INTERNAL_ERROR
        assert peer.body_of(stream) == b"hello"
        assert (await one.end_of(1))[0].result is Result.CUT


async def test_a_slow_reader_stops_its_replica_and_nobody_else() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            head, _ = await read_request(reader)
            if b"/short" in head:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            for _ in range(1000):
                writer.write(b"x" * 100_000)
                await writer.drain()
                sent += 100_000

    async with rig(script=endless) as one, asking(one) as peer:
        peer.acknowledges = False
        peer.h2.increment_flow_control_window(1_000_000)
        await peer.flush()
        slow = await peer.ask("/long")
        while len(peer.body_of(slow)) < 65_535:
            await peer.more()
        assert await settled(lambda: sent) < 20_000_000
        (connection,) = one.server.connections
        assert connection.buffered_bytes < 2 * 256 * 1024
        assert (await peer.answer(await peer.ask("/short")))[1] == b"ok"


@pytest.mark.parametrize("ends", ["taken", "reset"])
async def test_what_a_stream_has_not_taken_counts_against_the_memory_until_it_is_taken_or_the_stream_is_over(
    ends: str,
) -> None:
    size = 3_000_000

    async def large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, bytes(size)))
        await reader.read()

    async with rig(script=large) as one, asking(one) as peer:
        memory = one.server.memory
        memory.limit_bytes = 64 * 1024
        peer.acknowledges = False
        stream = await peer.ask("/")
        async with asyncio.timeout(10):
            while not memory.is_short:
                await peer.more()
        if ends == "taken":
            peer.acknowledges = True
            peer.h2.increment_flow_control_window(2 * size)
            peer.h2.increment_flow_control_window(2 * size, stream)
            await peer.flush()
            assert len((await peer.answer(stream))[1]) == size
        else:
            peer.h2.reset_stream(stream)
            await peer.flush()
        async with asyncio.timeout(10):
            while memory.used_bytes:
                await asyncio.sleep(0.01)
        assert not memory.is_short


async def test_an_answer_that_nobody_opens_a_window_for_is_given_up_and_its_memory_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its exchange has ended: no timer of a request is there any more."""
    for name in ("HEAD_TIMEOUT_S", "LOOK_S"):
        monkeypatch.setattr(server_module, name, 0.05)
    body = bytes(100_000)
    script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    async with rig(script=script) as one, directly(one, Limits(stalled_s=0.2)) as address:
        peer = await peer_of(one, address)
        peer.acknowledges = False
        stream = await peer.ask()
        (exchange,) = await one.end_of(1)
        assert exchange.result is Result.SERVED
        assert one.server.memory.used_bytes > 0
        reset = await peer.until(h2.events.StreamReset, stream)
        assert isinstance(reset, h2.events.StreamReset)
        assert reset.error_code == h2.errors.ErrorCodes.CANCEL
        assert len(peer.body_of(stream)) == 65_535
        assert one.server.memory.used_bytes == 0


async def upload_until_stopped(peer: Peer) -> int:
    """Upload for as long as the window is opened again; how many bytes went."""
    stream = await peer.ask(body=b"", end=False)
    total = 0
    while True:
        room = min(peer.h2.local_flow_control_window(stream), 16_384)
        if room:
            peer.h2.send_data(stream, b"x" * room)
            total += room
            await peer.flush()
            continue
        try:
            await asyncio.wait_for(peer.more(), 0.5)
        except TimeoutError:
            return total


async def test_an_upload_for_a_replica_that_does_not_read_stops_at_its_window() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with rig(script=deaf) as one, asking(one) as peer:
        assert await upload_until_stopped(peer) < 16_000_000
        assert one.server.memory.used_bytes <= 2 * 65_536


async def test_a_held_upload_of_unknown_length_stops_at_two_marks() -> None:
    async with rig() as one, asking(one) as peer:
        total = await upload_until_stopped(peer)
        assert 65_536 <= total <= 2 * 65_536 + 16_384
        assert one.server.memory.used_bytes == total


async def upload(peer: Peer, stream: int, total: int) -> None:
    """Send a body as its windows allow."""
    while total:
        room = min(peer.h2.local_flow_control_window(stream), 16_384, total)
        if room:
            total -= room
            peer.h2.send_data(stream, b"x" * room, end_stream=not total)
            await peer.flush()
        else:
            await peer.more()


async def test_a_held_upload_of_known_length_is_read_to_its_end_and_arrives_whole() -> None:
    async with rig() as one, asking(one) as peer, replica(echo) as port:
        stream = await peer.ask(body=b"", end=False, more=[("content-length", "300000")])
        await asyncio.wait_for(upload(peer, stream, 300_000), 10)
        while one.server.memory.used_bytes < 300_000:
            await asyncio.sleep(0.001)
        one.add_replica(port)
        head, body = await peer.answer(stream)
        assert (head[":status"], len(body)) == ("200", 300_000)
        assert "server-timing" in head
        assert one.server.memory.used_bytes == 0


async def test_twenty_held_uploads_of_unknown_length_do_not_stop_another_request() -> None:
    async def sized(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size, length = 0, int(b"chunked" in head)
            while length:
                length = int(await reader.readuntil(b"\r\n"), 16)
                size += length
                await reader.readexactly(length + 2)
            content = b"%d" % size
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))

    async with rig() as one, asking(one) as peer, replica(sized) as port:
        streams = [await peer.ask(body=b"", end=False) for _ in range(20)]
        for stream in streams:
            while peer.h2.local_flow_control_window(stream) < 50_000:
                await peer.more()
            await upload_part(peer, stream, 50_000)
        one.add_replica(port, limit=30)
        other = await peer.ask("/other")
        for stream in streams:
            await upload(peer, stream, 200_000)
        assert {(await peer.answer(stream))[1] for stream in streams} == {b"250000"}
        assert (await peer.answer(other))[1] == b"0"


async def upload_part(peer: Peer, stream: int, size: int) -> None:
    for at in range(0, size, 16_384):
        peer.h2.send_data(stream, b"x" * min(16_384, size - at))
    await peer.flush()


class Slow:
    """A replica that says when it was asked, and answers at `step`."""

    def __init__(self) -> None:
        self.asked, self.step = asyncio.Event(), asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        self.asked.set()
        await self.step.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.mark.slow
async def test_draining_lets_streams_finish_and_closes_then() -> None:
    slow = Slow()
    async with rig(script=slow) as one, asking(one) as peer:
        stream = await peer.ask()
        await slow.asked.wait()
        one.server.drain()
        slow.step.set()
        assert (await peer.answer(stream))[1] == b"ok"
        await peer.closed()
        last = [event for event in peer.events if isinstance(event, h2.events.ConnectionTerminated)]
        assert [event.last_stream_id for event in last] == [2**31 - 1, stream]
        await asyncio.wait_for(one.server.emptied().wait(), 10)


async def test_a_client_that_goes_away_has_what_it_asked_for_and_its_connection_is_closed_then() -> None:
    slow = Slow()
    async with rig(script=slow) as one, asking(one) as peer:
        await peer.ask()
        await slow.asked.wait()
        peer.writer.write(goaway_frame(0, h2.errors.ErrorCodes.NO_ERROR))
        slow.step.set()
        # the library would take nothing behind the GOAWAY that answers its own
        assert b"\0\0\2\0\1\0\0\0\1ok" in await asyncio.wait_for(peer.reader.read(), LONGEST_S)


async def test_a_client_that_never_rests_is_told_of_a_drain_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "PATIENCE_S", 0.2)
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.set()
        await asyncio.Event().wait()

    async with rig(script=silent) as one, asking(one) as peer:
        await peer.ask()
        await asked.wait()
        one.server.drain()
        event = await peer.until(h2.events.ConnectionTerminated)
        assert isinstance(event, h2.events.ConnectionTerminated)
        assert event.last_stream_id == 2**31 - 1


@pytest.mark.slow
async def test_draining_closes_connections_without_a_stream() -> None:
    async with rig(script=echo) as one, asking(one) as peer:
        await peer.answer(await peer.ask())
        assert len(one.server.connections) == 1
        one.server.drain()
        await peer.closed()
        await asyncio.wait_for(one.server.emptied().wait(), 10)
        assert not one.server.connections
        assert [event for event in peer.events if isinstance(event, h2.events.ConnectionTerminated)]


@pytest.mark.slow
async def test_a_client_that_acknowledges_nothing_cannot_hold_a_drain() -> None:
    async with rig(script=echo) as one:
        client = await one.connect()
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        await client.until(b"\4\1\0\0\0\0")
        one.server.drain()
        await asyncio.wait_for(one.server.emptied().wait(), 10)
        goaway = b"\7\0\0\0\0\0"
        assert (await client.rest()).count(goaway) == 2, "what is on its way is still taken, then nothing"


async def test_a_connection_that_sends_only_the_preface_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEAD_TIMEOUT_S", 0.2)
    async with rig(script=echo) as one:
        client = await one.connect()
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        began_s = now()
        await client.rest()
        assert now() - began_s < 5


async def test_a_head_that_comes_slowly_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEAD_TIMEOUT_S", 0.2)
    async with rig(script=echo) as one:
        client = await one.connect()
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        await client.send(b"\0\0\1\1\1\0\0\0\1\x82")
        assert b"a field block that did not end in time" in await client.rest()


async def test_an_idle_connection_is_closed_with_a_goaway(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEEP_ALIVE_S", "HEAD_TIMEOUT_S", "LOOK_S"):
        monkeypatch.setattr(server_module, name, 0.2)
    async with rig(script=echo) as one, asking(one) as peer:
        await peer.answer(await peer.ask())
        event = await peer.until(h2.events.ConnectionTerminated)
        assert isinstance(event, h2.events.ConnectionTerminated)
        assert event.error_code == h2.errors.ErrorCodes.NO_ERROR
        await peer.closed()


async def test_a_connection_that_is_http_2_from_the_beginning_needs_no_other() -> None:
    async with rig(script=echo) as one, directly(one) as address:
        peer = await peer_of(one, address)
        await peer.flush()
        assert (await peer.answer(await peer.ask("/b")))[1] == b"/b"


async def test_one_connection_too_many_is_told_so() -> None:
    async with rig(script=echo) as one, asking(one) as peer, directly(one) as address:
        one.server.limits = ConnectionLimits(total=1)
        await peer.answer(await peer.ask("/a"))
        other = await peer_of(one, address)
        event = await other.until(h2.events.ConnectionTerminated)
        assert isinstance(event, h2.events.ConnectionTerminated)
        assert event.error_code == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


async def test_over_tls_alpn_chooses_it_and_replicas_are_told_of_tls(tmp_path: Path) -> None:
    async def heads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))

    authority = Authority()
    contexts = server_contexts([authority.issue(tmp_path, "server")], None)
    tls = authority.trusted()
    tls.set_alpn_protocols(["h2", "http/1.1"])
    async with rig(script=heads, contexts=contexts) as one:
        client = await one.connect(tls)
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        peer = Peer(client.reader, client.writer)
        await peer.flush()
        head, body = await peer.answer(await peer.ask(body=b"x" * 1000))
        assert head[":status"] == "200"
        assert b"\r\nX-Forwarded-Proto: https\r\n" in body
        one.server.drain()
        await peer.until(h2.events.ConnectionTerminated)


async def test_over_tls_replicas_are_told_whom_a_balancer_and_a_certificate_name(tmp_path: Path) -> None:
    async def heads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))

    authority = Authority()
    clients = ClientCertificates(authority.write(tmp_path / "ca.crt"), required=True)
    contexts = server_contexts([authority.issue(tmp_path, "server")], clients)
    tls = authority.trusted(authority.issue(tmp_path, "job", uris=["spiffe://test/job"], is_client=True))
    tls.set_alpn_protocols(["h2"])
    balancers = TrustedSenders((ip_network("127.0.0.0/8"),))
    async with rig(script=heads, contexts=contexts, trusted=balancers) as one:
        client = await one.connect()
        client.writer.write(b"PROXY TCP4 203.0.113.9 10.0.0.1 50000 443\r\n")
        await client.writer.start_tls(tls, server_hostname="127.0.0.1")
        peer = Peer(client.reader, client.writer)
        await peer.flush()
        _, head = await peer.answer(await peer.ask())
        assert b"\r\nX-Forwarded-For: 203.0.113.9\r\n" in head
        assert b"URI=spiffe://test/job" in head


async def test_over_tls_the_preface_alone_does_not_choose_it(tmp_path: Path) -> None:
    authority = Authority()
    contexts = server_contexts([authority.issue(tmp_path, "server")], None)
    async with rig(script=echo, contexts=contexts) as one:
        client = await one.connect(authority.trusted())
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 400")


@needs_curl
async def test_curl_speaks_it() -> None:
    async with rig(script=echo) as one:
        host, port = one.address
        process = await asyncio.create_subprocess_exec(
            str(CURL), "-s", "--http2-prior-knowledge", "--max-time", "10", "-w", "%{http_version}", "--data-binary",
            "x" * 100_000, f"http://{host}:{port}/", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert out == b"x" * 100_000 + b"2"


async def test_httpx_finishes_what_runs_when_its_server_leaves() -> None:
    slow = Slow()
    async with rig(script=slow) as one, httpx.AsyncClient(http1=False, http2=True, trust_env=False) as client:
        host, port = one.address
        asking = asyncio.gather(client.get(f"http://{host}:{port}/"))
        await slow.asked.wait()
        one.server.drain()
        slow.step.set()
        assert [answer.content for answer in await asking] == [b"ok"]


async def test_httpx_speaks_it() -> None:
    async with rig(script=echo) as one, httpx.AsyncClient(http1=False, http2=True, trust_env=False) as client:
        host, port = one.address
        answers = await asyncio.gather(
            *(client.post(f"http://{host}:{port}/", content=b"x" * 1000 * number) for number in range(40))
        )
        assert {answer.http_version for answer in answers} == {"HTTP/2"}
        assert [len(answer.content) for answer in answers[1:]] == [1000 * number for number in range(1, 40)]


async def test_a_listener_serves_both_versions_on_one_port() -> None:
    async with rig(script=echo) as one, asking(one) as peer:
        client = await one.connect()
        assert await client.get("/a") == b"/a"
        assert (await peer.answer(await peer.ask("/b")))[1] == b"/b"
        assert len(one.server.connections) == 2
