"""The replica's side of HTTP/1.1: one connection that carries one exchange at a time.

It serialises the request's head and body, parses the answer, and tells the exchange. When an answer is complete and
both sides agree, the connection goes back to its pool; any doubt about where a message ends closes it instead.
"""

import asyncio
from typing import Any, Final, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from zerogate.clock import now
from zerogate.http.exchange import Exchange
from zerogate.http.h1.memo import HEAD_END, KEPT_BYTES, HeadMemo, is_one_head
from zerogate.http.h1.tunnel_ends import ReplicaEnd
from zerogate.http.handshake import check_acceptance
from zerogate.http.heads import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    BadMessageError,
    Field,
    ResponseHead,
    has_no_body,
    head_size,
    parse_response,
    response_bytes,
    trailer_bytes,
)

FINISH_S: Final = 5.0
"""For a replica to take what was written before its connection is closed; one that hangs never would."""

_NO_FIELDS: Final[list[Field]] = []
_HEADS: Final[HeadMemo[ResponseHead]] = HeadMemo()
"""Answers with a length, by the bytes of their heads. One for all replicas: it is a memo of a pure function."""
_KNOWN: Final = _HEADS.known


class Keeper(Protocol):
    """Where a connection belongs: the pool of its replica."""

    may_turn_away: bool
    """Whether a sidecar of ours answers there: only then a refusal as not sent is believed."""
    heard_s: float
    """When the last byte came on any of its connections."""

    def give_back(self, connection: "ClientConnection", now_s: float) -> None:
        """It is idle and may be used again."""

    def on_lost(self, connection: "ClientConnection") -> None:
        """It is closed."""

    def request_bytes(self, exchange: Exchange) -> bytes:
        """The head of the request as it goes to this replica."""


class ClientConnection(asyncio.Protocol):
    """See the module's text. `idle_since_s` is set while it lies in the pool."""

    __slots__ = (
        "_body_left", "_exchange", "_fields", "_head_bytes", "_in_head", "_is_early", "_is_feeding", "_is_fresh",
        "_is_open", "_is_over", "_is_turned_away", "_learned", "_now_s", "_parser", "_pool", "_reason",
        "_request_chunked", "_request_done", "_saw_end", "_switch", "_transport", "_until_close", "idle_since_s",
        "was_streamed",
    )  # fmt: skip

    may_refuse = False
    """HTTP/1.1 has no way to say so."""

    def __init__(self, pool: Keeper) -> None:
        self._pool = pool
        self._parser = HttpResponseParser(self)
        self._transport: Any = None
        self._exchange: Exchange | None = None
        self._fields: list[Field] = []
        self._reason = b""
        self._in_head = False
        self._head_bytes = 0
        self._is_fresh = False
        """Nothing of the answer has come."""
        self._body_left = 0
        """Bytes of a body that is counted: its head was known, and the parser has seen nothing of the answer."""
        self._learned = b""
        """Bytes of the head that is parsed right now, to be kept with what they mean."""
        self._is_over = False
        """The answer to a HEAD has come: what lies behind it in the same read is nobody's."""
        self._is_turned_away = False
        """What comes is a sidecar's refusal: it is read to its end, so that the connection is as good as before."""
        self._until_close = False
        self._request_chunked = False
        self._request_done = False
        self._switch: ResponseHead | None = None
        """The 101 that opens a WebSocket."""
        self._saw_end = False
        """The replica has ended its side."""
        self._is_open = False
        self._is_feeding = False
        self._is_early = False
        self._now_s = 0.0
        self.idle_since_s = 0.0
        self.was_streamed = False
        """Whether the last answer was chunked."""

    # The transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        was_open, self._is_open = self._is_open, False
        del self._parser  # it calls back into this connection: a cycle that only the collector would undo
        if not was_open:
            return
        exchange, self._exchange = self._exchange, None
        self._pool.on_lost(self)
        if exchange is None:
            return
        if self._is_turned_away:
            self._is_turned_away = False
            exchange.on_turned_away(now())
        elif self._until_close and self._saw_end and exc is None:
            exchange.on_response_end(_NO_FIELDS, now())
        else:
            exchange.on_upstream_lost(str(exc) if exc is not None else "the connection was closed", now())

    def eof_received(self) -> None:
        # over TLS this is the replica's goodbye, and a connection that is lost without one was cut
        self._saw_end = True

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self._close()
            return
        self._now_s = self._pool.heard_s = now_s = now()
        if self._body_left:
            self._take_body(exchange, data)
            return
        if self._is_fresh:
            self._is_fresh = False
            end = data.find(HEAD_END) + len(HEAD_END)
            if len(HEAD_END) <= end <= KEPT_BYTES and exchange.head.method != b"HEAD":
                raw = data[:end]
                head = _KNOWN.get(raw)
                if head is not None:
                    length = head.content_length
                    assert length is not None
                    size = len(data) - end
                    if size == length and self._request_done:
                        self._exchange = None
                        self._pool.give_back(self, now_s)
                        exchange.on_response(head, data[end:], now_s)
                        return
                    if size <= length:
                        self._begin_body(exchange, head, data[end:])
                        return
                elif _HEADS.comes_again(raw):
                    self._learn(exchange, raw, data[end:])
                    return
        self._feed(exchange, data)

    def _learn(self, exchange: Exchange, raw: bytes, rest: bytes) -> None:
        """Parse a head that is not known, on its own, and keep what it means."""
        self._learned = raw
        self._feed(exchange, raw, rest)
        self._learned = b""

    def _keep(self, head: ResponseHead) -> None:
        """The first head of this read is parsed; one behind an informational answer is another one."""
        raw, self._learned = self._learned, b""
        if head.can_be_kept and is_one_head(raw, head.field_count):
            head.whole = response_bytes(head)
            _HEADS.keep(raw, head)

    def _begin_body(self, exchange: Exchange, head: ResponseHead, data: bytes) -> None:
        """The head was known: count its body instead of parsing it."""
        self._in_head = False
        exchange.on_response_head(head, self._now_s)
        self._body_left = head.content_length or 0
        self._take_body(exchange, data)

    def _take_body(self, exchange: Exchange, data: bytes) -> None:
        """A piece of a counted body. Bytes beyond it are nobody's: the connection is not used again."""
        left = self._body_left - len(data)
        if left > 0:
            self._body_left = left
            if data:
                exchange.on_response_data(data, self._now_s)
            exchange.downstream.flush()
            return
        self._body_left = 0
        if data:
            exchange.on_response_data(data[:left] if left else data, self._now_s)
        self._finish(not left)

    def _feed(self, exchange: Exchange, data: bytes, rest: bytes = b"") -> None:
        """Let the parser read `data`, then `rest`."""
        self._is_early = False
        self._head_bytes += len(data)
        self._is_feeding = True
        fed = data
        try:
            self._parser.feed_data(data)
            if rest:
                fed = rest
                self._parser.feed_data(rest)
        except HttpParserUpgrade as upgrade:
            behind = fed[upgrade.args[0] :] + (rest if fed is data else b"")
            self._become_end(exchange, behind)
        except HttpParserError as failure:
            if self._is_over:
                self._until_close = True
            else:
                cause = failure.__context__ if isinstance(failure.__context__, BadMessageError) else failure
                self._fail(f"the answer is not valid HTTP/1.1 ({cause})")
        finally:
            self._is_feeding = False
        if self._is_over:
            self._finish_headed()
        elif self._exchange is exchange:
            # only now: one read brings the head together with much of the body
            if self._head_bytes > MAX_HEAD_BYTES:
                what = "head" if self._in_head else "trailer section"
                self._fail(f"the {what} of the answer is larger than {MAX_HEAD_BYTES} bytes")
                return
            exchange.downstream.flush()

    def _become_end(self, exchange: Exchange, behind: bytes) -> None:
        """The parser has met a 101: from here on it is a tunnel, if it was asked for and is right."""
        head, self._switch = self._switch, None
        if head is None or self._exchange is not exchange:
            self._fail("the replica changed the protocol without being asked to")
            return
        self._head_bytes = 0  # what lies behind the head in this read is not HTTP
        tunnel = exchange.on_switched(head, self._now_s)
        if self._is_open:
            self._transport.set_protocol(ReplicaEnd(self, tunnel, self._pool))
            if behind:
                tunnel.on_replica_data(behind, self._now_s)

    def _finish_headed(self) -> None:
        """The answer to a HEAD is complete. Its parser still waits for a body: the next one meets a new parser."""
        self._is_over = False
        self._fields = []
        self._parser = HttpResponseParser(self)
        self._finish(True)

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.on_upstream_writable(False)

    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.on_upstream_writable(True)

    # What the exchange asks for

    def send_head(self, exchange: Exchange) -> None:
        """Begin `exchange` on this connection."""
        self._begin(exchange)
        self._transport.write(self._pool.request_bytes(exchange))

    def send_whole(self, exchange: Exchange, body: bytes) -> None:
        """One write for both: a sixth of what a chat request costs."""
        self._begin(exchange)
        self._request_done = True
        self._transport.write(self._pool.request_bytes(exchange) + body)

    def _begin(self, exchange: Exchange) -> None:
        self._is_early = self._is_feeding
        self._exchange = exchange
        self._until_close = False
        self.was_streamed = False
        self._is_fresh = True
        self._in_head = True
        self._head_bytes = 0
        self._request_chunked = exchange.head.chunked
        self._request_done = not exchange.head.has_body

    def send_data(self, data: bytes) -> None:
        if self._request_chunked:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._transport.write(data)

    def send_end(self, trailers: list[Field]) -> None:
        self._request_done = True
        if self._request_chunked:
            self._transport.write(trailer_bytes(trailers))

    def pause(self) -> None:
        if self._is_open:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._is_open:
            self._transport.resume_reading()

    def finish(self) -> None:
        self._exchange = None
        if self._is_open:
            self._is_open = False
            transport = self._transport
            transport.close()
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(FINISH_S, transport.abort)
            self._pool.on_lost(self)

    def abort(self) -> None:
        self._exchange = None
        self._close()

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent on it now."""
        return self._is_open and not self._transport.is_closing()

    def close(self) -> None:
        """Close an idle connection."""
        self._close()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._transport.abort()
            self._pool.on_lost(self)

    def _fail(self, cause: str) -> None:
        exchange, self._exchange = self._exchange, None
        self._close()
        if exchange is not None:
            exchange.on_upstream_lost(cause, self._now_s)

    # The parser

    def on_message_begin(self) -> None:
        if self._exchange is None or self._is_early or self._is_over:
            # bytes that came before this exchange was sent cannot be its answer
            raise BadMessageError("more bytes than one answer", 502)

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        if exchange is None:
            raise BadMessageError("more bytes than one answer", 502)
        parser = self._parser
        status = parser.get_status_code()
        keep_alive = parser.should_keep_alive()
        fields, self._fields = self._fields, []
        reason, self._reason = self._reason, b""
        if len(fields) > MAX_FIELDS:
            raise BadMessageError(f"the answer has more than {MAX_FIELDS} header fields", 502)
        if self._head_bytes > MAX_HEAD_BYTES and head_size(fields) > MAX_HEAD_BYTES:
            raise BadMessageError(f"the head of the answer is larger than {MAX_HEAD_BYTES} bytes", 502)
        head = parse_response(status, reason, parser.get_http_version(), fields, keep_alive=keep_alive)
        if self._learned:
            self._keep(head)
        if status < 200:
            if status == 101:
                self._check_switch(exchange, head, fields)
                return
            exchange.on_informational(status, head.reason, head.lines)
            return
        self._in_head = False
        self._head_bytes = 0
        self._until_close = (
            not head.chunked and head.content_length is None and not has_no_body(status, exchange.head.method)
        )
        self.was_streamed = head.chunked
        if head.not_sent and self._pool.may_turn_away:
            self._is_turned_away = True
        else:
            exchange.on_response_head(head, self._now_s)
        if exchange.head.method == b"HEAD":
            # over only after this read: the parser takes what may lie behind for the body that the length announces
            self._is_over = True
            self._until_close = not keep_alive

    def _check_switch(self, exchange: Exchange, head: ResponseHead, fields: list[Field]) -> None:
        key = exchange.head.websocket_key
        if key is None:
            raise BadMessageError("the replica changed the protocol without being asked to", 502)
        try:
            check_acceptance(fields, key)
        except BadMessageError as bad:
            exchange.on_bad_switch(str(bad), self._now_s)
        else:
            self._switch = head

    def on_body(self, data: bytes) -> None:
        if self._is_over:
            raise BadMessageError("a body where there is none", 502)
        self._head_bytes = 0
        if self._exchange is not None and not self._is_turned_away:
            self._exchange.on_response_data(data, self._now_s)

    def on_message_complete(self) -> None:
        if self._exchange is None or self._in_head or self._is_over:
            self._fields = []
            return
        if len(self._fields) > MAX_FIELDS:
            raise BadMessageError(f"the answer has more than {MAX_FIELDS} trailers", 502)
        self._finish(self._parser.should_keep_alive())

    def _finish(self, keep_alive: bool) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if keep_alive and self._request_done and not self._until_close and self._is_open:
            if exchange.is_stalled:
                self._transport.resume_reading()
            self._pool.give_back(self, self._now_s)
        else:
            self._close()
        fields, self._fields = self._fields, []
        if self._is_turned_away:
            self._is_turned_away = False
            exchange.on_turned_away(self._now_s)
        else:
            exchange.on_response_end(fields, self._now_s)
