"""A scripted replica that speaks HTTP/2, by another implementation than ours: the `h2` library on asyncio's streams.

async def script(it: Peer) -> None:
    asked = await it.request()
    it.answer(asked.stream, b"hello")
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.settings import Settings

from tests.zerogate.http.rig import Rig, replica, rig
from zerogate.policy import Policy

EventT = TypeVar("EventT", bound=Event)
Headers = list[tuple[str, str]]
OK: Headers = [(":status", "200")]


class Asked(msgspec.Struct):
    """A request as it came."""

    stream: int
    fields: dict[str, str]
    body: bytes = b""
    trailers: dict[str, str] = {}


class Peer:
    """One connection to the replica. What was sent is written when the script waits for something, or by `flush`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, settings: dict[int, int]) -> None:
        self.reader = reader
        self.writer = writer
        config = H2Configuration(
            client_side=False, header_encoding="latin-1", validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )  # fmt: skip
        self.core = H2Connection(config)
        initial: dict[Any, int] = {**self.core.local_settings, **settings}
        self.core.local_settings = Settings(client=False, initial_values=initial)
        self.core.initiate_connection()
        self.events: list[Event] = []
        self.opens_windows = True

    async def flush(self) -> None:
        self.writer.write(self.core.data_to_send())
        await self.writer.drain()

    async def next(self, kind: type[EventT], stream: int | None = None) -> EventT:
        """The next event of a kind, of that stream where it is given; what came before is kept for later."""
        async with asyncio.timeout(10):
            while True:
                for event in self.events:
                    if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                        self.events.remove(event)
                        return event
                await self.flush()
                data = await self.reader.read(65536)
                if not data:
                    raise asyncio.IncompleteReadError(b"", None)
                events = self.core.receive_data(data)
                self.events += events
                for event in events:
                    if isinstance(event, DataReceived) and self.opens_windows:
                        self.core.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    async def head(self) -> Asked:
        """The head of the next request."""
        event = await self.next(RequestReceived)
        return Asked(event.stream_id, dict(event.headers))  # type: ignore[arg-type]

    async def request(self) -> Asked:
        """The next request as a whole; its windows are opened as it comes."""
        return await self.rest(await self.head())

    async def rest(self, asked: Asked) -> Asked:
        """What is left of a request."""
        await self.next(StreamEnded, asked.stream)
        mine = [event for event in self.events if getattr(event, "stream_id", None) == asked.stream]
        for event in mine:
            self.events.remove(event)
            if isinstance(event, DataReceived):
                asked.body += event.data
            elif isinstance(event, TrailersReceived):
                asked.trailers = dict(event.headers)  # type: ignore[arg-type]
        return asked

    def head_of_answer(self, stream: int, headers: Headers = OK, *, end: bool = False) -> None:
        self.core.send_headers(stream, headers, end_stream=end)

    def answer(self, stream: int, body: bytes, headers: Headers = OK, trailers: Headers | None = None) -> None:
        """A whole answer that fits the window."""
        self.core.send_headers(stream, headers)
        self.core.send_data(stream, body, end_stream=trailers is None)
        if trailers is not None:
            self.core.send_headers(stream, trailers, end_stream=True)

    async def send(self, stream: int, body: bytes) -> None:
        """A piece of body, as fast as the windows allow."""
        while body:
            room = min(self.core.local_flow_control_window(stream), self.core.max_outbound_frame_size)
            if room <= 0:
                await self.next(WindowUpdated)
                continue
            self.core.send_data(stream, body[:room])
            body = body[room:]
            await self.flush()

    def reset(self, stream: int, code: int) -> None:
        self.core.reset_stream(stream, code)

    def goaway(self, last_stream: int, code: int = 0) -> None:
        """Written by hand: the library would close its side with it."""
        payload = last_stream.to_bytes(4, "big") + code.to_bytes(4, "big")
        self.raw(7, 0, 0, payload)

    def raw(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """A frame behind what was sent so far."""
        self.writer.write(self.core.data_to_send())
        self.writer.write(
            len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
        )  # fmt: skip

    async def until_closed(self) -> None:
        """Wait until the other side has closed; everything is let pass."""
        try:
            await self.next(_Never)
        except asyncio.IncompleteReadError:
            return

    async def was_reset(self, stream: int) -> int:
        """Wait for RST_STREAM; its code."""
        return int((await self.next(StreamReset, stream)).error_code or 0)

    async def was_told_to_go(self) -> int:
        """Wait for GOAWAY; its code."""
        return int((await self.next(ConnectionTerminated)).error_code or 0)


class _Never(Event):
    """An event that does not come."""


PeerScript = Callable[[Peer], Awaitable[None]]


class Replica:
    """The scripts of a replica's connections: each next one runs the next script, further ones the last."""

    def __init__(self, *scripts: PeerScript, settings: dict[int, int] | None = None) -> None:
        self.scripts = scripts
        self.settings = settings or {}
        self.connections = 0
        self.failures: list[BaseException] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        peer = Peer(reader, writer, self.settings)
        try:
            await script(peer)
            await peer.flush()
            await peer.until_closed()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            raise
        except BaseException as failure:
            self.failures.append(failure)
            raise


async def echo(it: Peer) -> None:
    """Answers each request with its body, or its path where it has none."""
    while True:
        asked = await it.request()
        it.answer(asked.stream, asked.body or asked.fields[":path"].encode())
        await it.flush()


@asynccontextmanager
async def rig_of(*scripts: PeerScript, settings: dict[int, int] | None = None, **policy: Any) -> AsyncIterator[Rig]:
    """A rig with such a replica; it is `rig.scripted`."""
    one = Replica(*scripts, settings=settings)
    async with rig(Policy(protocol="h2c", **policy)) as it, replica(one) as port:
        it.add_replica(port)
        it.scripted = one
        yield it
        assert not one.failures, one.failures
