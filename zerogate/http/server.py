"""The client's side of HTTP/1.1: bytes of a connection become exchanges, exchanges become bytes.

One `ServerConnection` per client connection. It owns framing, keep-alive, pipelining (answered in order: one exchange
runs, what was read beyond it waits parsed, and no more is read), and the end of the connection. What a request is for
is decided by `place`, which the composition gives.
"""

import asyncio
import logging
import socket
import struct
from collections import deque
from typing import Any, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from zerogate.clock import now
from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.http.answers import render
from zerogate.http.exchange import ANSWERING, Exchange, Placer
from zerogate.http.heads import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_TARGET_BYTES,
    BadMessageError,
    Field,
    RequestHead,
    ResponseHead,
    head_size,
    parse_request,
    response_bytes,
    trailer_bytes,
)
from zerogate.http.memo import HEAD_END, KEPT_BYTES, HeadMemo, is_one_head
from zerogate.http.sides import BodyMemory
from zerogate.http.sweep import NEVER, Sweep

log = logging.getLogger(__name__)

HEAD_TIMEOUT_S: Final = 30.0
"""For a whole head; nginx allows 60 s, Go's servers none."""
KEEP_ALIVE_S: Final = 75.0
"""nginx's default; longer than the 60 s of the usual cloud balancer, which must close first."""
LINGER_S: Final = 2.0
"""How long an unread body is read and thrown away after an early answer, so that the client reads the answer."""
SKIP_BYTES: Final = 256 * 1024
"""Rest of an unread body that is dropped to keep the connection: what one read brings."""
LINGER_BYTES: Final = 64 * 1024 * 1024
GONE_CHECK_S: Final = 0.05
"""How often a connection that is not read is asked whether its client is still there."""
MAX_PIPELINED: Final = 128
"""Requests parsed ahead on one connection; real clients do not pipeline."""

_HEADS: Final[HeadMemo[RequestHead]] = HeadMemo()
"""Requests without a body or with a counted one. One for all connections: it is a memo of a pure function."""
_KNOWN: Final = _HEADS.known
_NO_FIELDS: Final[list[Field]] = []

_RESET: Final = struct.pack("ii", 1, 0)
_CLOSE_WAIT: Final = 8  # linux/tcp_states.h
_CLOSED: Final = 7

_PAUSED_BODY: Final = 1
_PAUSED_PIPELINE: Final = 2


class Server:
    """What all connections of a listener share."""

    def __init__(self, place: Placer, sweep: Sweep, *, memory: BodyMemory | None = None) -> None:
        self.place = place
        self.sweep = sweep
        self.memory = memory or BodyMemory()
        self.connections: set[ServerConnection] = set()
        self.is_draining = False
        self._emptied: asyncio.Event | None = None
        self.bad_requests = 0
        """Messages that were refused before they were a request."""
        self.accepted = 0
        """Connections taken so far."""

    def connection(self) -> "ServerConnection":
        """The protocol of a new connection: the factory for `create_server`."""
        return ServerConnection(self)

    def drain(self) -> None:
        """Answer what runs, take no further request on any connection."""
        self.is_draining = True
        for connection in tuple(self.connections):
            connection.close_if_idle()

    def emptied(self) -> asyncio.Event:
        """Set once no connection is left."""
        if self._emptied is None:
            self._emptied = asyncio.Event()
            self.on_closed()
        return self._emptied

    def on_closed(self) -> None:
        """A connection is closed."""
        if self._emptied is not None and not self.connections:
            self._emptied.set()


class ServerConnection(asyncio.Protocol):
    """See the module's text."""

    __slots__ = (
        "_body_left", "_chunked", "_closing", "_current", "_fields", "_head_bytes", "_idle_since_s", "_in_head",
        "_is_between", "_last_word", "_linger_left", "_linger_until_s", "_now_s", "_out", "_parser", "_paused",
        "_pipelined", "_receiving", "_server", "_target", "_transport", "_until_close", "memory", "peer", "tick",
        "visit_s",
    )  # fmt: skip

    def __init__(self, server: Server) -> None:
        self._server = server
        self.memory = server.memory
        self.tick = 0
        self.visit_s = NEVER
        self._parser = HttpRequestParser(self)
        self._transport: Any = None
        self.peer = b""
        """The client's address, as text."""
        self._current: Exchange | None = None
        self._receiving: Exchange | None = None
        self._pipelined: deque[Exchange] | None = None
        self._fields: list[Field] = []
        self._target = b""
        self._in_head = False
        self._is_between = True
        """The parser has read whole messages and nothing beyond."""
        self._body_left = 0
        """Bytes of a body that is counted: its head was known, and the parser has seen nothing of the message."""
        self._last_word: Refusal | None = None
        self._out: list[bytes] = []
        self._head_bytes = 0
        """Bytes read since the last that belonged to a body: of a head, of trailers, of a chunk's extensions."""
        self._paused = 0
        self._closing = False
        self._chunked = False
        self._until_close = False
        self._linger_until_s = 0.0
        self._linger_left = 0
        self._now_s = 0.0
        self._idle_since_s = 0.0

    # The transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = peer[0].encode() if isinstance(peer, tuple) else b"unix"
        self._server.connections.add(self)
        self._server.accepted += 1
        self._idle_since_s = now()
        self._server.sweep.watch(self, self._idle_since_s + HEAD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._server.connections.discard(self)
        self._server.on_closed()
        self._server.sweep.forget(self)
        waiting, self._pipelined = self._pipelined, None
        self._receiving = None
        if self._current is not None:
            self._current.on_downstream_gone(now())
        for exchange in waiting or ():
            exchange.on_downstream_gone(now())  # what it kept of a body counts against the process until it ends
        # it calls back into this connection: a cycle that would stay, with all heads in it, until the collector comes
        del self._parser

    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._linger(len(data))
            return
        self._now_s = now_s = now()
        if self._body_left:
            data = self._take_body(data)
            if not data or self._closing:
                return
        if self._is_between and self._current is None:
            end = data.find(HEAD_END) + len(HEAD_END)
            if len(HEAD_END) <= end <= KEPT_BYTES:
                raw = data[:end]
                head = _KNOWN.get(raw)
                if head is not None:
                    self._current = exchange = Exchange(self, head, now_s)
                    if head.has_body:
                        self._receiving = exchange
                        self._body_left = head.content_length or 0
                    self._server.place(exchange, now_s)
                    if len(data) > end:
                        self._go_on(data[end:])
                    return
                if _HEADS.comes_again(raw):
                    if self._learn(raw) and len(data) > end:
                        self._go_on(data[end:])
                    return
        self._feed(data)

    def _learn(self, raw: bytes) -> bool:
        """Parse a head that is not known, on its own, and keep what it means. Returns whether it is a head."""
        is_valid = self._feed(raw)
        exchange = self._current
        if exchange is not None and exchange.head.can_be_kept and is_one_head(raw, exchange.head.field_count):
            _HEADS.keep(raw, exchange.head)
        return is_valid

    def _go_on(self, data: bytes) -> None:
        """What lies behind a head in the same read."""
        if self._body_left:
            data = self._take_body(data)
        if data and not self._closing:
            self._feed(data)

    def _take_body(self, data: bytes) -> bytes:
        """Give the exchange what belongs to its counted body; returns what lies behind."""
        exchange = self._receiving
        left = self._body_left
        self._body_left = max(0, left - len(data))
        if exchange is not None:
            exchange.on_request_data(data[:left], self._now_s)
            if not self._body_left:
                self._receiving = None
                exchange.on_request_end(_NO_FIELDS, self._now_s)
        return data[left:]

    def _feed(self, data: bytes) -> bool:
        """Let the parser read; returns whether it found nothing wrong."""
        self._head_bytes += len(data)
        rest = b""
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            # an offer to change the protocol, not taken: what follows is the next request (RFC 9110 section 7.8)
            self._parser = HttpRequestParser(self)
            self._is_between = True
            rest = data[upgrade.args[0] :]
        except HttpParserError as failure:
            if not self._closing:
                cause = failure.__context__ if isinstance(failure.__context__, BadMessageError) else None
                if cause is not None:
                    self._refuse_message(cause.status, str(cause))
                else:
                    self._refuse_message(400, f"the request is not valid HTTP/1.1: {failure}")
            return False
        if self._is_between:
            self._head_bytes = 0
        elif self._head_bytes > MAX_HEAD_BYTES:
            what = "head" if self._in_head else "trailer section"
            self._refuse_message(431, f"the {what} of the request is larger than {MAX_HEAD_BYTES} bytes")
            return False
        return self._feed(rest) if rest and not self._closing else True

    def pause_writing(self) -> None:
        if self._current is not None:
            self._current.on_downstream_writable(False, now())

    def resume_writing(self) -> None:
        if self._current is not None:
            self._current.on_downstream_writable(True, now())

    # The parser

    def on_message_begin(self) -> None:
        self._is_between = False
        self._in_head = True
        self._idle_since_s = self._now_s

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > MAX_TARGET_BYTES:
            raise BadMessageError(f"the request target is longer than {MAX_TARGET_BYTES} bytes", 414)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._closing:
            raise BadMessageError("a request after the last one of its connection")
        parser = self._parser
        fields, self._fields = self._fields, []
        target, self._target = self._target, b""
        if len(fields) > MAX_FIELDS:
            raise BadMessageError(f"the request has more than {MAX_FIELDS} header fields", 431)
        if self._head_bytes > MAX_HEAD_BYTES and head_size(fields) > MAX_HEAD_BYTES:
            raise BadMessageError(f"the head of the request is larger than {MAX_HEAD_BYTES} bytes", 431)
        head = parse_request(
            parser.get_method(),
            target,
            parser.get_http_version(),
            fields,
            keep_alive=parser.should_keep_alive(),
        )
        self._head_bytes = 0
        exchange = Exchange(self, head, self._now_s)
        if self._current is not None:
            self._queue(exchange)
            self._receiving = exchange
        else:
            self._current = self._receiving = exchange
            self._server.place(exchange, self._now_s)

    def _queue(self, exchange: Exchange) -> None:
        if self._pipelined is None:
            self._pipelined = deque()
        if len(self._pipelined) >= MAX_PIPELINED:
            raise BadMessageError(f"more than {MAX_PIPELINED} requests were pipelined", 429)
        self._pipelined.append(exchange)
        self._pause(_PAUSED_PIPELINE)

    def on_body(self, data: bytes) -> None:
        self._head_bytes = 0
        if self._receiving is not None:
            self._receiving.on_request_data(data, self._now_s)

    def on_message_complete(self) -> None:
        if len(self._fields) > MAX_FIELDS:
            raise BadMessageError(f"the request has more than {MAX_FIELDS} trailers", 431)
        self._is_between = True
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            trailers, self._fields = self._fields, []
            exchange.on_request_end(trailers, self._now_s)

    def _refuse_message(self, status: int, detail: str) -> None:
        """The bytes have no single meaning: say so and close, after what was asked before is answered."""
        self._server.bad_requests += 1
        refusal = Refusal(status=status, code="bad_request", detail=detail[0].upper() + detail[1:] + ".", hopeless=True)
        exchange, self._receiving = self._receiving, None
        if exchange is not None and exchange is self._current and exchange.phase < ANSWERING:
            exchange.refuse(refusal, self._now_s)
        elif exchange is not None:
            # in the middle of a body whose answer has begun or is not at its turn: nothing can be said in order
            self.reset()
        elif self._current is not None:
            self._last_word = refusal
            self._pause(_PAUSED_PIPELINE)
        else:
            self._say_last_word(refusal)

    def _say_last_word(self, refusal: Refusal) -> None:
        answer = render(refusal, openai_shape=False)
        self._closing = True
        self._transport.write(self._own_answer(answer.status, answer.headers, answer.body, b"GET", close=True))
        self._start_linger()

    # What an exchange asks for

    def watch(self, deadline_s: float) -> None:
        self._server.sweep.watch(self, deadline_s)

    def pause_body(self) -> None:
        self._pause(_PAUSED_BODY)

    def resume_body(self) -> None:
        self._resume(_PAUSED_BODY)

    def send_informational(self, status: int, reason: bytes, lines: bytes) -> None:
        self._transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines))

    def send_head(self, head: ResponseHead, *, extra: bytes, has_body: bool) -> None:
        exchange = self._current
        assert exchange is not None
        framing = b""
        if not has_body:
            self._chunked = False
            if head.content_length is not None and head.status >= 200 and head.status != 204:
                framing = b"Content-Length: %d\r\n" % head.content_length
        elif head.content_length is not None:
            self._chunked = False
            framing = b"Content-Length: %d\r\n" % head.content_length
        elif exchange.head.http_1_0:
            self._chunked = False
            self._until_close = True
        else:
            self._chunked = True
            framing = b"Transfer-Encoding: chunked\r\n"
        self._out.append(
            b"HTTP/1.1 %d %b\r\n%b%b%b%b\r\n"
            % (head.status, head.reason, head.lines, framing, extra, self._persistence())
        )

    def _persistence(self) -> bytes:
        exchange = self._current
        if exchange is None or self._until_close or self._server.is_draining or not exchange.head.keep_alive:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if exchange.head.http_1_0 else b""

    def send_data(self, data: bytes) -> None:
        if self._chunked:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._out.append(data)

    def send_end(self, trailers: list[Field]) -> None:
        if self._chunked:
            self._out.append(trailer_bytes(trailers))
        self.flush()

    def send_whole(self, head: ResponseHead, body: bytes, *, extra: bytes) -> None:
        exchange = self._current
        assert exchange is not None
        if exchange.head.is_plain and not extra and not self._server.is_draining and not self._until_close:
            self._transport.write((head.whole or response_bytes(head)) + body)
            return
        self.send_head(head, extra=extra, has_body=True)
        self.send_data(body)
        self.send_end(_NO_FIELDS)

    def flush(self) -> None:
        """Write what was sent since the last flush: one system call for all that one read of the replica brought."""
        out = self._out
        if out:
            self._out = []
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def send_refusal(self, refusal: Refusal, *, extra: bytes) -> None:
        exchange = self._current
        assert exchange is not None
        answer = render(refusal, openai_shape=exchange.head.target.startswith(b"/v1/"))
        self._send_own(answer.status, answer.headers, answer.body, extra)

    def send_answer(self, status: int, headers: tuple[Field, ...], body: bytes) -> None:
        self._send_own(status, headers, body, b"")

    def _send_own(self, status: int, headers: tuple[Field, ...], body: bytes, extra: bytes) -> None:
        exchange = self._current
        assert exchange is not None
        close = self._persistence() == b"Connection: close\r\n" or not self._can_skip_body(exchange)
        self._until_close = close
        self._transport.write(self._own_answer(status, headers, body, exchange.head.method, close=close, extra=extra))

    def _own_answer(
        self, status: int, headers: tuple[Field, ...], body: bytes, method: bytes, *, close: bool, extra: bytes = b""
    ) -> bytes:
        lines = b"".join(b"%b: %b\r\n" % field for field in headers)
        connection = b"Connection: close\r\n" if close else b""
        reason = REASONS.get(status, b"")
        head = b"HTTP/1.1 %d %b\r\n%bContent-Length: %d\r\n%b%b\r\n" % (
            status, reason, lines, len(body), extra, connection,
        )  # fmt: skip
        return head if method == b"HEAD" else head + body

    def reset(self) -> None:
        """Close without the end of the answer; with a reset where only the close itself would mark the end."""
        self.flush()
        self._closing = True
        transport = self._transport
        if self._until_close:
            sock = transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        else:
            transport.close()

    def on_ended(self, exchange: Exchange) -> None:
        """The exchange is over: the next pipelined one, the next request, or the end of the connection."""
        self._current = None
        if exchange.result is Result.ABANDONED or exchange.result is Result.CUT or self._closing:
            self._closing = True
            if exchange.result is Result.ABANDONED:
                self._transport.close()
            return
        if not exchange.is_request_done and not self._can_skip_body(exchange):
            self._closing = True
            self._start_linger()
            return
        if self._until_close or self._server.is_draining or not exchange.head.keep_alive:
            self._closing = True
            self._transport.close()
            return
        self._idle_since_s = self._now_s
        if self._pipelined:
            asyncio.get_running_loop().call_soon(self._next)
        elif self._last_word is not None:
            self._say_last_word(self._last_word)
        elif self._paused:
            self._resume(_PAUSED_BODY | _PAUSED_PIPELINE)

    def _can_skip_body(self, exchange: Exchange) -> bool:
        """Whether what is left of the request's body is nothing, or little enough to be read and dropped."""
        head = exchange.head
        if exchange.is_request_done or not head.has_body:
            return True
        if head.content_length is None or (head.expects_continue and not exchange.bytes_in):
            return False
        return head.content_length - exchange.bytes_in <= SKIP_BYTES

    def _next(self) -> None:
        if self._current is None and self._pipelined and not self._closing:
            self._now_s = now()
            exchange = self._current = self._pipelined.popleft()
            if not self._pipelined:
                self._resume(_PAUSED_PIPELINE)
            self._server.place(exchange, self._now_s)

    # Reading, idling, leaving

    def _pause(self, reason: int) -> None:
        if not self._paused and not self._closing:
            self._transport.pause_reading()
            self._server.sweep.watch(self, now() + GONE_CHECK_S)
        self._paused |= reason

    def _resume(self, reason: int) -> None:
        if self._paused:
            self._paused &= ~reason
            if not self._paused and not self._closing:
                self._transport.resume_reading()

    def abort(self) -> None:
        """Cut whatever is on its way."""
        self._closing = True
        self._transport.abort()

    def close_if_idle(self) -> None:
        """Close unless a request is being read or answered."""
        if self._current is None and not self._in_head and not self._pipelined:
            self._closing = True
            self._transport.close()

    def _start_linger(self) -> None:
        """Send the end of our side, then read and drop: closing with unread bytes would destroy the answer."""
        self._linger_until_s = now() + LINGER_S
        self._linger_left = LINGER_BYTES
        if self._paused:
            self._paused = 0
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._server.sweep.watch(self, self._linger_until_s)

    def _linger(self, size: int) -> None:
        self._linger_left -= size
        if self._linger_until_s and self._linger_left < 0:
            self._transport.abort()

    def due(self, now_s: float) -> float | None:
        """The sweep's visit: timers of the exchange, or of the connection itself."""
        exchange = self._current
        if exchange is not None:
            if self._paused and self._is_peer_gone():
                self._transport.abort()
                return None
            deadline_s = exchange.due(now_s)
            if deadline_s is not None and self._paused:
                return min(deadline_s, now_s + GONE_CHECK_S)
            return deadline_s if deadline_s is not None or self._current is not None else now_s + KEEP_ALIVE_S
        if self._linger_until_s:
            if now_s >= self._linger_until_s:
                self._transport.abort()
                return None
            return self._linger_until_s
        if self._closing:
            return None
        limit_s = HEAD_TIMEOUT_S if self._in_head or not self._idle_since_s else KEEP_ALIVE_S
        if now_s >= self._idle_since_s + limit_s:
            self._closing = True
            self._transport.close()
            return None
        return self._idle_since_s + limit_s

    def _is_peer_gone(self) -> bool:
        """Whether the client has closed, told by the kernel: a connection that is not read shows no end of file."""
        sock = self._transport.get_extra_info("socket")
        if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in (_CLOSE_WAIT, _CLOSED)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""
        return int(self._transport.get_write_buffer_size())


REASONS: Final = {
    200: b"OK", 202: b"Accepted", 400: b"Bad Request", 404: b"Not Found", 405: b"Method Not Allowed",
    408: b"Request Timeout", 413: b"Content Too Large", 414: b"URI Too Long", 417: b"Expectation Failed",
    429: b"Too Many Requests", 431: b"Request Header Fields Too Large", 500: b"Internal Server Error",
    501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable", 504: b"Gateway Timeout",
}  # fmt: skip
