"""The replica's side of HTTP/2: one connection that carries many exchanges, each as a stream of its own.

The shell around `connection` toward a replica; what a stream does is `client_stream`'s. A client that does not read
holds back the window of its own stream, never the connection's: the others go on. Owned by `pool`.
"""

import asyncio
from typing import Any, Final, Protocol

from zerogate.clock import now
from zerogate.http.exchange import Exchange
from zerogate.http.h2.client_stream import ClientStream
from zerogate.http.h2.connection import Connection
from zerogate.http.h2.frames import ViolationError
from zerogate.http.h2.hpack import HpackField
from zerogate.http.h2.limits import Limits
from zerogate.http.h2.outgoing import HIGH_BYTES
from zerogate.http.h2.streams import Stream
from zerogate.http.line import notice_death
from zerogate.http.memory import BufferMemory

LIMITS: Final = Limits(connection_window_bytes=16 * 1024 * 1024)
"""The connection's window is never held back; it is so large that 256 streams can fill their own windows at once."""
LEAVE_S: Final = 5.0
"""For a replica to take what was written before its connection is closed; HTTP/1.1's."""
FINISH_S: Final = 1.0
"""For a replica to end the stream of a WebSocket that is closed: a round trip and what it has to write before."""
REST_S: Final = 0.02
SPARE: Final = 1
"""Servers may count a stream for a moment after they have sent its end, as gRPC's do, and refuse the next one of a full
connection. One that was seen to do so is given a moment, and one stream less than it says that it takes."""


class Keeper(Protocol):
    """Where a connection belongs: the pool of its replica. Told on the loop."""

    heard_s: float
    """When the last byte came on any of its connections."""

    def on_place(self, connection: "ClientConnection") -> None:
        """A stream has ended, and there may be none left; or the replica allows more."""

    def on_leaving(self, connection: "ClientConnection") -> None:
        """The replica takes no further stream on it."""

    def on_lost(self, connection: "ClientConnection") -> None:
        """It is closed."""

    def request_fields(self, exchange: Exchange) -> list[HpackField]:
        """The head of the request as it goes to this replica."""


class ClientConnection(asyncio.Protocol):
    """See the module's text. `state` is the connection as a state machine; its sink is this."""

    state: Connection

    def __init__(self, pool: Keeper) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._transport: Any = None
        self._opening: ClientStream | None = None
        self.settled = asyncio.Event()
        """The replica's settings have come, or never will."""
        self._is_open = False
        self._idle_since_s = now()
        self._is_blocked = False
        self._memory: BufferMemory | None = None
        """Where `_counted_bytes` count; its exchanges know of it."""
        self._counted_bytes = 0
        """What was written and the replica has not taken, of all streams together, as far as it counts."""
        self.is_tight = False
        """Hardly anything may wait."""
        self._is_retired = False
        self._agreed: str | None = "h2"
        """What ALPN has chosen, where there is TLS."""
        self._has_refused = False
        self.is_resting = False
        """It refused a stream a moment ago."""
        self._unflushed: dict[Exchange, None] = {}

    # The transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._is_open = True
        notice_death(transport)
        self.state = Connection(self, self._make, is_server=False, limits=LIMITS, now_s=now())
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._agreed = tls.selected_alpn_protocol()
            if self._agreed != "h2":
                self.settled.set()
                return
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = self._is_blocked = False
        self._count_waiting()
        self.state.close(str(exc) if exc is not None else "the connection was closed")
        self.settled.set()
        self._pool.on_lost(self)

    def data_received(self, data: bytes) -> None:
        self._pool.heard_s = now_s = now()
        self.state.receive(data, now_s)
        while self._unflushed:
            exchange, _ = self._unflushed.popitem()
            if exchange.connection is not None:
                exchange.downstream.flush()
        self._write()

    def pause_writing(self) -> None:
        self._is_blocked = True
        self.state.block()
        self._count_waiting()

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._count_waiting()
        self.state.unblock()
        self._write()

    def _write(self) -> None:
        while self._is_open and not self._is_blocked and self.state.has_output:
            self._transport.write(self.state.take(now()))
        if self._is_blocked:
            self._count_waiting()  # heads and resets, which no window holds back

    def _count_waiting(self) -> None:
        """What the transport has, and what is to be written; the streams' queues count by themselves."""
        if self._memory is not None:
            size = self._transport.get_write_buffer_size() + self.state.look_back() if self._is_blocked else 0
            self._counted_bytes = self._memory.recount_upload(self._counted_bytes, size)

    def tighten(self, is_tight: bool) -> None:
        """Let less, or as much as usual, of the requests wait. Seen to when there is something to write: what waits
        already is as much as it was."""
        self.is_tight = is_tight
        self.state.high_bytes = 0 if is_tight else HIGH_BYTES
        self._transport.set_write_buffer_limits(high=0 if is_tight else None)

    # What its streams ask for

    def open(self, stream: ClientStream, exchange: Exchange) -> None:
        """Begin the exchange on this stream."""
        self._opening = stream
        self._memory = exchange.downstream.memory
        head = exchange.head
        self.state.open(self._pool.request_fields(exchange), end=not head.has_body and head.websocket_key is None)

    def _make(self, id: int, receive_window: int, send_window: int) -> Stream:  # noqa: A002
        stream = self._opening
        assert stream is not None
        self._opening = None
        Stream.__init__(stream, id, receive_window=receive_window, send_window=send_window)
        return stream

    def flush_later(self, exchange: Exchange) -> None:
        """Its client is written to once all of this read is looked at."""
        self._unflushed[exchange] = None

    def end_soon(self, stream: ClientStream) -> None:
        """Our end of the stream is given; the replica has a while for its own."""
        self._loop.call_later(FINISH_S, stream.give_up)

    def on_stream_over(self) -> None:
        """One of its streams has ended."""
        self._idle_since_s = self.state.now_s
        if self._is_retired:
            self.retire()
        self._pool.on_place(self)

    def on_refused(self) -> None:
        """A stream was refused: what the replica still counts has to end there first."""
        self._has_refused = True
        if not self.is_resting:
            self.is_resting = True
            self._loop.call_later(REST_S, self._end_rest)

    def _end_rest(self) -> None:
        self.is_resting = False
        self._pool.on_place(self)

    # What the pool asks for

    @property
    def can_open(self) -> bool:
        """Whether it takes one more stream."""
        if not self.is_usable or self.is_resting or not self.state.can_open:
            return False
        most = self.state.peer_streams
        return not self._has_refused or most is None or self.streams < max(1, most - SPARE)

    @property
    def is_usable(self) -> bool:
        """Whether it takes streams, if not one more right now."""
        return self._is_open and not self._is_retired and self.state.failure is None

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self.state.streams)

    @property
    def idle_since_s(self) -> float | None:
        """Since when there is none; None while there is one."""
        return self._idle_since_s if not self.state.streams else None

    @property
    def failure(self) -> str | None:
        """Why it cannot be used, if it cannot."""
        if self._agreed != "h2":
            return f"it does not speak HTTP/2 over TLS (by ALPN it chose {self._agreed or 'nothing'})"
        if self._is_open and self.state.failure is None:
            return None
        reason = self.state.failure.reason if self.state.failure is not None else "the connection was closed"
        return reason if self.state.has_settings else f"it does not speak HTTP/2 ({reason})"

    def abort(self) -> None:
        """Close at once; the streams are told."""
        if self._is_open:
            self._transport.abort()

    def retire(self) -> None:
        """Open nothing more on it; close it when its last stream has ended. Each of them ends by its own timers, except
        WebSockets, which we never cut; what was written then has `LEAVE_S` to be taken."""
        self._is_retired = True
        if self._is_open and not self.state.streams:
            self.state.finish_goaway()
            self._close()

    def _close(self) -> None:
        """Close behind the last word; a replica that hangs would never take it."""
        if self._transport.is_closing():
            return
        self._write()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(LEAVE_S, self.abort)

    # What the state machine tells

    def on_output(self) -> None:
        self._loop.call_soon(self._write)

    def on_settings(self) -> None:
        if not self.settled.is_set():
            self.settled.set()
        else:
            self._pool.on_place(self)

    def on_goaway(self, last_stream: int, code: int, reason: bytes) -> None:
        self._pool.on_leaving(self)
        self.retire()

    def on_pong(self, payload: bytes) -> None:
        """Never: nothing is asked."""

    def on_failed(self, error: ViolationError) -> None:
        self.settled.set()
        self.state.close(f"it breaks the rules of HTTP/2: {error.reason}")
        self._close()
