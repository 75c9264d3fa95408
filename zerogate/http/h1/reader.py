"""Bytes of a client's connection as request heads, pieces of bodies and trailers: llhttp, held to our limits.

What httptools leaves open is closed here: it cannot pause (one read yields every pipelined request, so the listener
has to take them), it reports trailers as header fields, it takes some requests of RTSP for HTTP's, and at an offer to
change the protocol it stops behind the head, taking a body for something else. Java's client makes such an offer with
each POST.

Invariants: after a BadMessageError nothing more is read; what lies behind an offer of a WebSocket is never read as a
request, whatever the answer (its connection ends with it). Called by `server`, once per read that it cannot answer
from its memo of heads.
"""

from typing import Final, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from zerogate.http.h1.rtsp import Line, rtsp_lines
from zerogate.http.handshake import take_offer
from zerogate.http.heads import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_TARGET_BYTES,
    BadMessageError,
    Field,
    RequestHead,
    head_size,
)
from zerogate.http.parse_heads import parse_request
from zerogate.http.write_heads import framing_line

NO_FIELDS: Final[list[Field]] = []
_LOOKED_AT: Final = bytearray()
"""Stands for the begin of a head whose first line was looked at."""
MOST_EARLY_BYTES: Final = 64 * 1024
"""A client of a WebSocket has to wait for the 101 (RFC 6455 section 4.1); one that does not is indulged so far."""


class Listener(Protocol):
    """Who is told what was read. Each may raise BadMessageError."""

    def on_begin(self) -> None:
        """The first byte of a head."""

    def on_head(self, head: RequestHead) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_end(self, trailers: list[Field]) -> None: ...
    def on_flood(self) -> None:
        """More than `MOST_EARLY_BYTES` came behind the offer of a WebSocket: end the connection."""


class RequestReader:
    """See the module's text."""

    __slots__ = (
        "_body_bytes",
        "_early",
        "_fields",
        "_has_offer",
        "_is_behind_head",
        "_line",
        "_listener",
        "_offered",
        "_parser",
        "_read",
        "_rtsp_lines",
        "_target",
        "doubt_bytes",
        "head_bytes",
        "in_head",
        "is_between",
    )

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._parser = HttpRequestParser(self)
        self._fields: list[Field] = []
        self._target = b""
        self.head_bytes = 0
        """Bytes read since the last that belonged to a body or to another message: of a head, of trailers, of a chunk's
        extensions, of what came too early behind an offer."""
        self.doubt_bytes = 0
        """Of a head that began behind a body in the same read: up to so many more, of which some were the body's."""
        self._body_bytes = 0
        """Of the body that was read last, its last piece."""
        self._read = b""
        """What is being read."""
        self._rtsp_lines: frozenset[Line] | None = None
        """In the whole read, once a head has ended there: it goes on behind each offer to change the protocol."""
        self._line: bytearray | None = None
        """What came in earlier reads of a head, until its first line is there."""
        self._offered: RequestHead | None = None
        """The head of a request with a body that offers to change the protocol."""
        self._is_behind_head = False
        """The parser is told of a head that was read already."""
        self.in_head = False
        """A head has begun and is not complete."""
        self.is_between = True
        """Whole messages have been read and nothing beyond."""
        self._has_offer = False
        """The last head read offers another protocol that may be taken: what follows is not HTTP."""
        self._early = b""

    @property
    def begun_bytes(self) -> int:
        """What is kept of a message that is not whole, or came too early, at most."""
        return self.head_bytes + self.doubt_bytes + len(self._line or b"")

    def feed(self, data: bytes) -> None:
        """Read on; raises BadMessageError where the bytes have no single meaning."""
        self._rtsp_lines = None
        while data:
            if self._has_offer and self.is_between:
                self._keep_early(data)
                return
            self._read = read = data
            try:
                data = self._feed(read)
            finally:
                self._read = b""
            if self.is_between:
                self.head_bytes = self.doubt_bytes = 0
                continue
            if self.in_head:
                self._keep_line(read if self.head_bytes else self._begun_behind(read))
            if self.head_bytes > MAX_HEAD_BYTES:
                what = "head" if self.in_head else "trailer section"
                raise BadMessageError(f"the {what} of the request is larger than {MAX_HEAD_BYTES} bytes", 431)
            if len(self._fields) > MAX_FIELDS:  # before its end: one of 4 bytes takes 55 here
                raise BadMessageError(f"the request has more than {MAX_FIELDS} header fields or trailers", 431)

    def _begun_behind(self, data: bytes) -> bytes:
        """A head began behind something else in the same read, and llhttp does not say where: it has no empty line, so
        it is at most what lies behind the last one, and what of that is no body's is at least its. Returns the most."""
        end = data.rfind(b"\r\n\r\n")
        most = data[end + 4 :] if end >= 0 else data
        self.head_bytes = max(1, len(most) - self._body_bytes)
        self.doubt_bytes = max(0, len(most) - self.head_bytes)
        return most

    def _keep_line(self, data: bytes) -> None:
        """A head has not come whole: keep it as it came, until its first line is there and can be looked at."""
        if self._line is _LOOKED_AT:
            return
        if self._line is None:
            self._line = bytearray()
        self._line += data
        if self._fields:
            self._refuse_rtsp(rtsp_lines(self._line))
            self._line = _LOOKED_AT

    def _refuse_rtsp(self, lines: frozenset[Line]) -> None:
        """Raises BadMessageError where the first line of the request is among them; its fields have begun to come."""
        follows = self._fields[0][0] if self._fields else b""
        if (self._parser.get_method(), self._target, follows) in lines:
            raise BadMessageError("RTSP is not spoken here, only HTTP")

    def _feed(self, data: bytes) -> bytes:
        """Read until an offer to change the protocol, which is not taken; returns what lies behind it."""
        self.head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._parser = HttpRequestParser(self)
            offered, self._offered = self._offered, None
            if offered is not None:
                self._go_on_behind(offered)
            else:
                self.is_between = True
            return data[upgrade.args[0] :]
        except HttpParserError as failure:
            cause = failure.__context__
            if isinstance(cause, BadMessageError):
                raise cause from None
            raise BadMessageError(f"the request is not valid HTTP/1.1: {failure}") from failure
        return b""

    def _go_on_behind(self, head: RequestHead) -> None:
        """The offer is not taken (RFC 9110 section 7.8): what follows is the body that the head announced."""
        self._is_behind_head = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % framing_line(head))
        self._is_behind_head = False

    def _keep_early(self, data: bytes) -> None:
        self._early += data
        self.head_bytes = len(self._early)
        if len(self._early) > MOST_EARLY_BYTES:
            self._listener.on_flood()

    def ends_here(self) -> None:
        """The request whose head is told of is the last one: what lies behind it is another protocol's."""
        self._has_offer = True

    def take_early(self) -> bytes:
        """What came behind the offer of another protocol, which reads on."""
        early, self._early = self._early, b""
        self.head_bytes = 0
        return early

    def stop(self) -> None:
        """Let go of what has come of a message; nothing more is to be read."""
        self._parser = HttpRequestParser(self)
        self._fields, self._target, self._line = [], b"", None
        self.head_bytes = self.doubt_bytes = 0
        self.in_head = self.is_between = False

    def close(self) -> None:
        """Let go of both sides: they call back, cycles that would keep all heads until the collector comes."""
        del self._parser
        del self._listener

    # What llhttp tells

    def on_message_begin(self) -> None:
        if self._is_behind_head:
            return
        self.is_between = False
        self.in_head = True
        self._listener.on_begin()

    def on_url(self, url: bytes) -> None:
        if self._is_behind_head:
            return
        self._target += url
        if len(self._target) > MAX_TARGET_BYTES:
            raise BadMessageError(f"the request target is longer than {MAX_TARGET_BYTES} bytes", 414)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_behind_head:
            return
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self._is_behind_head:
            return
        self.in_head = False
        self._look_at_line()
        parser = self._parser
        fields, self._fields = self._fields, []
        target, self._target = self._target, b""
        if len(fields) > MAX_FIELDS:
            raise BadMessageError(f"the request has more than {MAX_FIELDS} header fields", 431)
        if self.head_bytes + self.doubt_bytes > MAX_HEAD_BYTES and head_size(fields) > MAX_HEAD_BYTES:
            raise BadMessageError(f"the head of the request is larger than {MAX_HEAD_BYTES} bytes", 431)
        method = parser.get_method()
        keep_alive = parser.should_keep_alive()
        head = parse_request(method, target, parser.get_http_version(), fields, keep_alive=keep_alive)
        if head.upgrade is not None:
            take_offer(head)
            self._has_offer = head.websocket_key is not None
        self.head_bytes = self.doubt_bytes = self._body_bytes = 0
        if head.has_body and parser.should_upgrade():
            self._offered = head
        self._listener.on_head(head)

    def _look_at_line(self) -> None:
        line, self._line = self._line, None
        if line is None:
            if self._rtsp_lines is None:
                self._rtsp_lines = rtsp_lines(self._read)
            if self._rtsp_lines:
                self._refuse_rtsp(self._rtsp_lines)
        elif line is not _LOOKED_AT:
            self._refuse_rtsp(rtsp_lines(line + self._read))

    def on_body(self, data: bytes) -> None:
        self.head_bytes = 0
        self._body_bytes = len(data)
        self._listener.on_body(data)

    def on_message_complete(self) -> None:
        if self._offered is not None:
            return
        if len(self._fields) > MAX_FIELDS:
            raise BadMessageError(f"the request has more than {MAX_FIELDS} trailers", 431)
        self.is_between = True
        self.head_bytes = 0
        trailers, self._fields = self._fields, []
        self._listener.on_end(trailers)
