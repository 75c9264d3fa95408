"""One request of an HTTP/2 client: a stream that its exchange knows as its client.

An answer that is cut ends with RST_STREAM, with one exception: a stream of gRPC that ran out of its time between two
messages is told so by trailers, because a client of gRPC shows a reset as a failure of the line. Half a message never
gets trailers behind it. Owned by `server`, which has transport and clock.
"""

import os
from typing import Final, Protocol

from zerogate.clock import now
from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.http.answers import render, render_for
from zerogate.http.exchange import Exchange
from zerogate.http.grpc import GRPC, MessageFollower, late_trailers
from zerogate.http.h2 import frames as f
from zerogate.http.h2.connection import Connection
from zerogate.http.h2.fields import fields_of, own_fields, request_head, response_fields, trailers_of
from zerogate.http.h2.frames import ViolationError
from zerogate.http.h2.hpack import HpackField
from zerogate.http.h2.streams import CLOSED, Stream
from zerogate.http.handshake import ACCEPT, KEY_BYTES, take_connect
from zerogate.http.heads import BadMessageError, Field, RequestHead, ResponseHead, field_of, may_trail
from zerogate.http.memory import BufferMemory
from zerogate.http.server import Server
from zerogate.http.sides import Arrival
from zerogate.http.sweep import NEVER
from zerogate.http.tunnel import Tunnel

_IN_TIME: Final = frozenset({"deadline_exceeded", "total_timeout", "idle_timeout"})
"""The codes of exchanges that were ended by a timer while their clients read."""


class Owner(Protocol):
    """What a stream needs of its connection."""

    server: Server
    core: Connection
    peer: bytes
    arrival: Arrival

    def watch_line(self) -> None:
        """One of the streams may be silent for hours."""


class ServerStream(Stream):
    """One request of a client: what its exchange sees of it."""

    http_version = "2"
    __slots__ = (
        "_early", "_exchange", "_messages", "_owner", "_server", "_tunnel", "arrival", "memory", "peer", "tick",
        "visit_s",
    )  # fmt: skip

    def __init__(self, owner: Owner, id: int, receive_window: int, send_window: int) -> None:  # noqa: A002
        super().__init__(id, receive_window=receive_window, send_window=send_window)
        self._owner = owner
        self._server = owner.server
        self._exchange: Exchange | None = None
        self._tunnel: Tunnel | None = None
        self._early: list[bytes] | None = None
        """What came of a WebSocket before it was open: at most a window, which is not opened before."""
        self._messages: MessageFollower | None = None
        """Of an answer of gRPC: whether it stands between two messages."""
        self.memory: BufferMemory = owner.server.memory
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

    def count_waiting(self) -> None:
        self.counted_bytes = self.memory.recount_answer(self.counted_bytes, self.queued_bytes)

    # What the exchange asks for

    def send_informational(self, status: int, reason: bytes, lines: bytes) -> None:
        self._owner.core.send_head(self, [(b":status", b"%d" % status, False), *fields_of(lines)])

    def send_head(self, head: ResponseHead, *, extra: bytes, has_body: bool) -> None:
        fields = response_fields(head, extra=extra, has_body=has_body)
        self._owner.core.send_head(self, fields, end=not has_body or self._is_trailers_only(head))
        if has_body and self._exchange is not None and _streams_grpc(self._exchange.head, head):
            self._messages = MessageFollower()

    def _is_trailers_only(self, head: ResponseHead) -> bool:
        """Whether an answer of gRPC has nothing behind its head: a client looks for its status at the stream's end."""
        return head.content_length == 0 and self._exchange is not None and self._exchange.head.is_grpc

    def send_data(self, data: bytes) -> None:
        if not self.has_sent_end:
            self._owner.core.send_data(self, data)
            if self._messages is not None:
                self._messages.feed(data)

    takes_chunks = False
    """They are HTTP/1.1's."""

    def send_chunks(self, chunks: bytes) -> None:
        """Never: see `takes_chunks`."""

    def send_end(self, trailers: list[Field]) -> None:
        if not self.has_sent_end:
            fields = [(name.lower(), value.strip(), False) for name, value in trailers if may_trail(name)]
            self._owner.core.send_end(self, fields)

    def send_whole(self, head: ResponseHead, body: bytes, extra: bytes) -> None:
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
        core, messages = self._owner.core, self._messages
        code = self._exchange.code if self._exchange is not None else ""
        if messages is None or code not in _IN_TIME or self.has_sent_end:
            core.reset(self, f.INTERNAL_ERROR)
        elif messages.is_at_boundary:
            core.send_end(self, [(name, value, False) for name, value in late_trailers(code)])
            core.stop(self)
        else:
            core.reset(self, f.CANCEL)  # gRPC's own servers do so at a deadline

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
        fields = [field for field in fields_of(head.lines + extra) if field[0] != ACCEPT]
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


def _streams_grpc(request: RequestHead, answer: ResponseHead) -> bool:
    """Whether trailers end the answer. Of gRPC-Web they are part of the body, and a length leaves no place for them."""
    if not request.is_grpc or answer.content_length is not None:
        return False
    kind = (field_of(answer.lines, b"content-type") or b"").partition(b";")[0].strip().lower()
    return kind == GRPC or kind.startswith(GRPC + b"+")
