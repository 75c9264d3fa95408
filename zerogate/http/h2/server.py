"""The client's side of HTTP/2: one connection on its transport, and a `Downstream` for each of its streams.

The state is `connection.Connection`'s; here are the transport, the clock, the sweep and the exchanges. Whatever a turn
of the loop brings is written at its end, in one piece. A connection comes to be here by ALPN, or because its first
bytes are the preface of HTTP/2 (`take_over`).
"""

import asyncio
import os
from typing import Any, Final

from zerogate.clock import now
from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.http.answers import render, render_for
from zerogate.http.exchange import Exchange
from zerogate.http.h1 import peer
from zerogate.http.h1.linger import Linger
from zerogate.http.h1.peer import address
from zerogate.http.h2 import frames as f
from zerogate.http.h2.connection import Connection
from zerogate.http.h2.fields import fields_of, own_fields, request_head, response_fields, trailers_of
from zerogate.http.h2.frames import ViolationError
from zerogate.http.h2.hpack import HpackField
from zerogate.http.h2.limits import Limits
from zerogate.http.h2.streams import CLOSED, Stream
from zerogate.http.handshake import KEY_BYTES, take_connect
from zerogate.http.heads import BadMessageError, Field, ResponseHead, may_trail
from zerogate.http.server import Connection as AnyConnection
from zerogate.http.server import Server
from zerogate.http.sides import PLAIN, Arrival, BodyMemory
from zerogate.http.sweep import NEVER
from zerogate.http.tunnel import Tunnel

LIMITS: Final = Limits()
KEEP_ALIVE_S: Final = 75.0
"""Without a stream; the same as HTTP/1.1's."""
HEAD_TIMEOUT_S: Final = 30.0
"""For the preface, and for a head that comes in pieces; the same as HTTP/1.1's."""
LOOK_S: Final = 15.0
"""How often a connection with streams is looked at: for answers that nobody takes, heads that do not end."""
GOAWAY_S: Final = 1.0
"""Between the two words of leaving: a round trip, for the requests that were on their way."""
PATIENCE_S: Final = 10.0
"""How long the word of leaving waits for an instant without a stream: clients by the Python library `h2`, httpx among
them, take nothing after a GOAWAY and fail all streams that still run. Those that never rest (gRPC) need it to move."""


class ServerStream(Stream):
    """One request of a client: what its exchange sees of it."""

    http_version = "2"
    __slots__ = (
        "_early", "_exchange", "_owner", "_server", "_tunnel", "arrival", "memory", "peer", "tick", "visit_s",
    )  # fmt: skip

    def __init__(self, owner: "ServerConnection", id: int, receive_window: int, send_window: int) -> None:  # noqa: A002
        super().__init__(id, receive_window=receive_window, send_window=send_window)
        self._owner = owner
        self._server = owner.server
        self._exchange: Exchange | None = None
        self._tunnel: Tunnel | None = None
        self._early: list[bytes] | None = None
        """What came of a WebSocket before it was open: at most a window, which is not opened before."""
        self.memory: BodyMemory = owner.server.memory
        self.peer = owner.peer
        self.arrival = owner.arrival
        self.tick = 0
        self.visit_s = NEVER

    # What the connection tells

    def on_head(self, fields: list[HpackField], ended: bool) -> None:
        now_s = self._owner.core.now_s
        try:
            head = request_head(fields, ended=ended)
            if head.upgrade is not None:
                take_connect(head, os.urandom(KEY_BYTES))
                self._early = []
                self._owner.core.pause(self)
        except BadMessageError as bad:
            self._server.bad_requests += 1
            self._say(bad, is_head=(b":method", b"HEAD", False) in fields)
            return
        except ViolationError as malformed:
            self._server.bad_requests += 1
            raise ViolationError(malformed.code, malformed.reason, self.id) from None
        self.body_left = head.content_length
        self._exchange = exchange = Exchange(self, head, now_s)
        self._server.place(exchange, now_s)

    def _say(self, bad: BadMessageError, *, is_head: bool) -> None:
        """Answer a request that is not taken."""
        detail = str(bad)[0].upper() + str(bad)[1:] + "."
        answer = render(
            Refusal(status=bad.status, code="bad_request", detail=detail, hopeless=True), openai_shape=False
        )
        self._send_own(answer.status, answer.headers, answer.body, b"", is_head=is_head)
        self._owner.core.stop(self)

    def on_data(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.on_client_data(data, self._owner.core.now_s)
        elif self._early is not None:
            self._early.append(data)
        elif self._exchange is not None:
            self._exchange.on_request_data(data, self._owner.core.now_s)

    def on_end(self, trailers: list[HpackField]) -> None:
        exchange = self._exchange
        try:
            fields = trailers_of(trailers) if trailers else []
        except ViolationError as malformed:
            raise ViolationError(malformed.code, malformed.reason, self.id) from None
        if self._tunnel is not None:
            self._tunnel.on_client_end(self._owner.core.now_s)
        elif exchange is not None and self._early is not None:
            exchange.on_downstream_gone(self._owner.core.now_s)
            self._owner.core.reset(self, f.CANCEL)
        elif exchange is not None and exchange.head.has_body:
            exchange.on_request_end(fields, self._owner.core.now_s)

    def on_reset(self, code: int, reason: str, *, by_peer: bool) -> None:
        if self._exchange is not None:
            self._exchange.on_downstream_gone(now())

    def on_writable(self, writable: bool) -> None:
        if self._exchange is not None:
            self._exchange.on_downstream_writable(writable, now())

    # What the exchange asks for

    def send_informational(self, status: int, reason: bytes, lines: bytes) -> None:
        self._owner.core.send_head(self, [(b":status", b"%d" % status, False), *fields_of(lines)])

    def send_head(self, head: ResponseHead, *, extra: bytes, has_body: bool) -> None:
        fields = response_fields(head, extra=extra, has_body=has_body)
        self._owner.core.send_head(self, fields, end=not has_body or self._is_trailers_only(head))

    def _is_trailers_only(self, head: ResponseHead) -> bool:
        """Whether an answer of gRPC has nothing behind its head: a client looks for its status at the stream's end."""
        return head.content_length == 0 and self._exchange is not None and self._exchange.head.is_grpc

    def send_data(self, data: bytes) -> None:
        if not self.has_sent_end:
            self._owner.core.send_data(self, data)

    def send_end(self, trailers: list[Field]) -> None:
        if not self.has_sent_end:
            fields = [(name.lower(), value.strip(), False) for name, value in trailers if may_trail(name)]
            self._owner.core.send_end(self, fields)

    def send_whole(self, head: ResponseHead, body: bytes, *, extra: bytes) -> None:
        core = self._owner.core
        if self._is_trailers_only(head):
            core.send_head(self, response_fields(head, extra=extra, has_body=True), end=True)
            return
        core.send_head(self, response_fields(head, extra=extra, has_body=True))
        core.send_data(self, body)
        core.send_end(self, [])

    def flush(self) -> None:
        """All streams of the connection are written at the end of the turn."""

    def send_refusal(self, refusal: Refusal, *, extra: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        answer = render_for(refusal, exchange.head)
        is_head = exchange.head.method == b"HEAD"
        self._send_own(answer.status, answer.headers, answer.body, extra, is_head=is_head)

    def send_answer(self, status: int, headers: tuple[Field, ...], body: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        self._send_own(status, headers, body, b"", is_head=exchange.head.method == b"HEAD")

    def _send_own(self, status: int, headers: tuple[Field, ...], body: bytes, extra: bytes, *, is_head: bool) -> None:
        core = self._owner.core
        is_bare = is_head or not body
        core.send_head(self, own_fields(status, headers, len(body), extra), end=is_bare)
        if not is_bare:
            core.send_data(self, body)
            core.send_end(self, [])

    def reset(self) -> None:
        self._owner.core.reset(self, f.INTERNAL_ERROR)

    def pause_body(self) -> None:
        self._owner.core.pause(self)

    def resume_body(self) -> None:
        self._owner.core.resume(self)

    @property
    def tunnel_side(self) -> "ServerStream":
        return self

    def send_switch(self, head: ResponseHead, tunnel: Tunnel, *, extra: bytes) -> None:
        core, exchange = self._owner.core, self._exchange
        assert exchange is not None
        fields = [field for field in fields_of(head.lines + extra) if field[0] != b"sec-websocket-accept"]
        core.send_head(self, [(b":status", b"200", False), *fields])
        self._tunnel = tunnel
        self._owner.watch_line()
        early, self._early = self._early, None
        core.resume(self)
        for data in early or ():
            tunnel.on_client_data(data, core.now_s)
        if self._server.is_draining:
            exchange.leave_tunnel(now())

    def send_frames(self, data: bytes) -> None:
        if not self.has_sent_end:
            self._owner.core.send_data(self, data)

    def end_tunnel(self, *, lingers: bool) -> None:
        self._tunnel = None
        if not self.has_sent_end:
            self._owner.core.send_end(self, [])
            self._owner.core.stop(self)

    def leave_tunnel(self) -> None:
        """Close the WebSocket, if it is one."""
        if self._exchange is not None:
            self._exchange.leave_tunnel(now())

    def watch(self, deadline_s: float) -> None:
        self._server.sweep.watch(self, deadline_s)

    def due(self, now_s: float) -> float | None:
        """The sweep's visit."""
        return self._exchange.due(now_s) if self._exchange is not None else None

    def on_ended(self, exchange: Exchange) -> None:
        self._exchange = None
        self._server.sweep.forget(self)
        if self.state != CLOSED and exchange.result in (Result.SERVED, Result.REFUSED):
            self._owner.core.stop(self)


class ServerConnection(asyncio.Protocol):
    """See the module's text."""

    __slots__ = (
        "_is_blocked", "_is_closing", "_leave_s", "_linger", "_loop", "_transport", "arrival", "core", "peer",
        "server", "tick", "visit_s",
    )  # fmt: skip

    def __init__(self, server: Server, *, arrival: Arrival = PLAIN, peer: bytes = b"", limits: Limits = LIMITS) -> None:
        """`peer`: the client's address where it is not the transport's."""
        self.server = server
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self.arrival = arrival
        self.peer = peer
        """The client's address, as text."""
        self._is_blocked = False
        self._is_closing = False
        self._linger: Linger | None = None
        self._leave_s: float | None = None
        """When the client is told of the last stream that is taken, acknowledged or not."""
        self.tick = 0
        self.visit_s = NEVER
        self.core = Connection(
            self, self._stream, is_server=True, limits=limits, now_s=now(), settings={f.ENABLE_CONNECT_PROTOCOL: 1}
        )

    def _stream(self, id: int, receive_window: int, send_window: int) -> Stream:  # noqa: A002
        return ServerStream(self, id, receive_window, send_window)

    # The transport

    def connection_made(self, transport: Any) -> None:
        self.peer = self.peer or address(transport)
        self._begin(transport)
        if self.server.enter(self, self.peer) is not None:
            self.core.fail(f.ENHANCE_YOUR_CALM, "too many connections")
        self._flush()

    def take_over(self, old: AnyConnection, transport: Any, data: bytes) -> None:
        """Go on with a connection that `old` has begun to read: `data` is all that came."""
        transport.set_protocol(self)
        self.server.replace(old, self)
        self._begin(transport)
        self.data_received(data)

    def _begin(self, transport: Any) -> None:
        self._transport = transport
        self.server.sweep.watch(self, now() + HEAD_TIMEOUT_S)
        if self.server.is_draining:
            self.core.finish_goaway()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        self.server.leave(self, self.peer)
        self.server.sweep.forget(self)
        self.core.close("the connection was closed")

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            if self._linger is not None:
                self._linger.take(len(data))
            return
        self.core.receive(data, now())
        self._flush()

    def pause_writing(self) -> None:
        self._is_blocked = True
        self.core.block()

    def resume_writing(self) -> None:
        self._is_blocked = False
        self.core.unblock()
        self._flush()

    def _flush(self) -> None:
        core = self.core
        now_s = now()
        while core.has_output and not self._is_blocked and not self._is_closing:
            self._transport.write(core.take(now_s))
        if self._leave_s is not None and not core.goaway_sent and not core.streams:
            self._leave(now_s)
            self.server.sweep.watch(self, self._leave_s)
            return  # asked for again by the word that was given
        if core.failure is not None or (core.has_left and not core.streams):
            self._close(now_s)

    def _close(self, now_s: float) -> None:
        """The last word is written: let the client read it."""
        if self._is_closing:
            return
        last_word = self.core.take(now_s)
        if last_word:
            self._transport.write(last_word)
        self.core.close("the connection could not go on")
        self._is_closing = True
        self._linger = Linger(self._transport, now_s)
        self.server.sweep.watch(self, self._linger.until_s)

    def watch_line(self) -> None:
        """One of the streams may be silent for hours."""
        peer.watch_line(self._transport)

    # What the core tells

    def on_output(self) -> None:
        self._loop.call_soon(self._flush)

    def on_settings(self) -> None:
        """Nothing here depends on them."""

    def on_pong(self, payload: bytes) -> None:
        """What it was for is the core's."""

    def on_goaway(self, last_stream: int, code: int, reason: bytes) -> None:
        """The client opens no further stream: close once those that run have ended."""
        self.core.finish_goaway()

    def on_failed(self, error: ViolationError) -> None:
        self.server.bad_requests += 1
        self._loop.call_soon(self._flush)

    # Idling, leaving

    def abort(self) -> None:
        """Cut whatever is on its way."""
        self._is_closing = True
        self._transport.abort()

    def close_if_idle(self) -> None:
        """Tell the client that we leave; its streams are answered, and the connection is closed after the last."""
        for stream in tuple(self.core.streams.values()):
            if isinstance(stream, ServerStream):
                stream.leave_tunnel()
        if self._leave_s is None and not self._is_closing:
            self._leave_s = now() + PATIENCE_S
            self._leave(now())
            self.server.sweep.watch(self, self._next_look(now()) or NEVER)

    def _leave(self, now_s: float) -> None:
        """The next step of leaving, where it is time for it."""
        core = self.core
        if self._leave_s is None or core.has_left:
            return
        if core.goaway_sent:
            if now_s >= self._leave_s:
                core.finish_goaway()
        elif not core.streams or now_s >= self._leave_s:
            core.begin_goaway()
            self._leave_s = now_s + GOAWAY_S

    def due(self, now_s: float) -> float | None:
        """The sweep's visit: the connection's own timers."""
        if self._linger is not None:
            return self._linger.due(now_s)
        if self._is_closing:
            return None
        core = self.core
        self._leave(now_s)
        self._check_slow(now_s)
        core.reap(now_s)
        if core.idle_since_s is not None and now_s >= core.idle_since_s + self._patience_s:
            core.finish_goaway()
        self._flush()
        return self._next_look(now_s)

    def _check_slow(self, now_s: float) -> None:
        since_s = self.core.block_since_s
        if since_s is not None and now_s >= since_s + HEAD_TIMEOUT_S:
            self.core.fail(f.ENHANCE_YOUR_CALM, "a field block that did not end in time")

    @property
    def _patience_s(self) -> float:
        return KEEP_ALIVE_S if self.core.has_settings else HEAD_TIMEOUT_S

    def _next_look(self, now_s: float) -> float | None:
        if self._is_closing:
            return self._linger.until_s if self._linger is not None else None
        idle_since_s = self.core.idle_since_s
        next_s = now_s + LOOK_S if idle_since_s is None else idle_since_s + self._patience_s
        if self.core.block_since_s is not None:
            next_s = min(next_s, self.core.block_since_s + HEAD_TIMEOUT_S)
        if self._leave_s is not None and not self.core.has_left:
            next_s = min(next_s, self._leave_s)
        return next_s

    @property
    def buffered_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""
        return int(self._transport.get_write_buffer_size()) + self.core.queued_bytes
