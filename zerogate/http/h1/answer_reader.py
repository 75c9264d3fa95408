"""Bytes of a replica's connection as answers: llhttp, held to our limits. Pure.

What httptools leaves open is closed here: it reports trailers as header fields, it cannot be told that the answer to a
HEAD has no body, and it takes status lines of any version. Called by `turn`, which knows what may come when.

Invariant: after a BadMessageError nothing more is read.
"""

from typing import Final, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from zerogate.http.h1.memo import HeadMemo, is_one_head
from zerogate.http.heads import MAX_FIELDS, MAX_HEAD_BYTES, BadMessageError, Field, ResponseHead, head_size
from zerogate.http.parse_heads import parse_response
from zerogate.http.write_heads import response_bytes

HEADS: Final[HeadMemo[ResponseHead]] = HeadMemo()
"""Answers with a length, by the bytes of their heads. One for all replicas: it is a memo of a pure function."""


class Listener(Protocol):
    """Who is told what was read. Each may raise BadMessageError."""

    def on_begin(self) -> None:
        """The first byte of a head."""

    def on_head(self, head: ResponseHead, fields: list[Field]) -> None:
        """A head, of an informational answer too; `fields` are as they came."""

    def on_body(self, data: bytes) -> None: ...
    def on_end(self, trailers: list[Field], *, keep_alive: bool) -> None:
        """The end of what the head announced, behind an informational one too."""


class AnswerReader:
    """See the module's text."""

    __slots__ = ("_fields", "_learned", "_listener", "_parser", "_reason", "head_bytes", "is_between", "on_body")

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.on_body = listener.on_body
        """Llhttp's word of a piece of the body goes straight on: it is what a stream of events consists of."""
        self._parser = HttpResponseParser(self)
        self._fields: list[Field] = []
        self._reason = b""
        self._learned = b""
        """Bytes of the head that is parsed right now, to be kept with what they mean."""
        self.head_bytes = 0
        """Bytes read since the last that belonged to a body: of a head, of trailers, of a chunk's extensions. With a
        piece of a body the listener sets it back."""
        self.is_between = False
        """A chunk has ended, and nothing of the next one's line was read to its end."""

    def feed(self, data: bytes, rest: bytes = b"") -> bytes | None:
        """Read `data`, then `rest`; raises BadMessageError. Returns what lies behind a 101, and None without one."""
        self.head_bytes += len(data)
        fed = data
        try:
            self._parser.feed_data(data)
            if rest:
                fed = rest
                self._parser.feed_data(rest)
        except HttpParserUpgrade as upgrade:
            return fed[upgrade.args[0] :] + (rest if fed is data else b"")
        except HttpParserError as failure:
            cause = failure.__context__ if isinstance(failure.__context__, BadMessageError) else failure
            raise BadMessageError(f"the answer is not valid HTTP/1.1 ({cause})", 502) from failure
        if len(self._fields) > MAX_FIELDS:  # before its end: one of 4 bytes takes 55 here
            raise BadMessageError(f"the answer has more than {MAX_FIELDS} header fields or trailers", 502)
        return None

    def learn(self, raw: bytes, rest: bytes) -> bytes | None:
        """The same for a head that comes again and what lies behind it: what its bytes mean is kept."""
        self._learned = raw
        try:
            return self.feed(raw, rest)
        finally:
            self._learned = b""

    def renew(self) -> None:
        """Forget what was read: the parser waits for a body that the answer to a HEAD does not have."""
        self._fields = []
        self._parser = HttpResponseParser(self)

    def close(self) -> None:
        """Let go of both sides: they call back, cycles that only the collector would undo."""
        del self._parser
        del self._listener
        del self.on_body

    # What llhttp tells

    def on_message_begin(self) -> None:
        self._listener.on_begin()

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        fields, self._fields = self._fields, []
        reason, self._reason = self._reason, b""
        if len(fields) > MAX_FIELDS:
            raise BadMessageError(f"the answer has more than {MAX_FIELDS} header fields", 502)
        if self.head_bytes > MAX_HEAD_BYTES and head_size(fields) > MAX_HEAD_BYTES:
            raise BadMessageError(f"the head of the answer is larger than {MAX_HEAD_BYTES} bytes", 502)
        head = parse_response(
            parser.get_status_code(), reason, parser.get_http_version(), fields, keep_alive=parser.should_keep_alive()
        )
        if self._learned:
            self._keep(head)
        if head.status >= 200:
            self.head_bytes = 0
        self._listener.on_head(head, fields)

    def on_chunk_header(self) -> None:
        self.is_between = False

    def on_chunk_complete(self) -> None:
        self.is_between = True

    def _keep(self, head: ResponseHead) -> None:
        """The first head of this read is parsed; one behind an informational answer is another one."""
        raw, self._learned = self._learned, b""
        if head.can_be_kept and is_one_head(raw, head.field_count):
            head.whole = response_bytes(head)
            HEADS.keep(raw, head)

    def on_message_complete(self) -> None:
        trailers, self._fields = self._fields, []
        if len(trailers) > MAX_FIELDS:
            raise BadMessageError(f"the answer has more than {MAX_FIELDS} trailers", 502)
        self._listener.on_end(trailers, keep_alive=self._parser.should_keep_alive())
