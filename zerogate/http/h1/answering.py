"""Answers as bytes on a client's connection of HTTP/1.1: what an exchange asks of its client's side. Pure.

Framing by what the answer and the client allow (`answer`), the word about the connection, and one write for all that
one read of the replica brought. Which exchange is answered, and what becomes of the connection afterwards, is decided
by `server`, which subclasses this: a layer of its own would cost a call per piece.
"""

from typing import Any, Final

from zerogate.errors import Refusal
from zerogate.http.answers import render_for
from zerogate.http.exchange import Exchange
from zerogate.http.h1.answer import CHUNKED, COUNTED, UNTIL_CLOSE, framing, own_answer
from zerogate.http.h1.reader import NO_FIELDS
from zerogate.http.heads import Field, ResponseHead
from zerogate.http.server import Server
from zerogate.http.write_heads import response_bytes, trailer_bytes

SKIP_BYTES: Final = 256 * 1024
"""Rest of an unread body that is dropped to keep the connection: what one read brings."""


class Answering:
    """See the module's text."""

    __slots__ = ("_current", "_ending", "_out", "_server", "_transport")

    http_version = "1.1"

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: Any = None
        self._current: Exchange | None = None
        """The exchange whose turn it is."""
        self._ending = COUNTED
        """How the body of the answer that is being sent ends."""
        self._out: list[bytes] = []

    def send_informational(self, status: int, reason: bytes, lines: bytes) -> None:
        self._transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines))

    def send_head(self, head: ResponseHead, *, extra: bytes, has_body: bool) -> None:
        exchange = self._current
        assert exchange is not None
        self._ending, line = framing(head, has_body=has_body, http_1_0=exchange.head.http_1_0)
        self._out.append(
            b"HTTP/1.1 %d %b\r\n%b%b%b%b\r\n" % (head.status, head.reason, head.lines, line, extra, self._persistence())
        )

    def _persistence(self) -> bytes:
        exchange = self._current
        if (
            exchange is None
            or self._ending == UNTIL_CLOSE
            or self._server.answers_are_last
            or not exchange.head.keep_alive
        ):
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if exchange.head.http_1_0 else b""

    def send_data(self, data: bytes) -> None:
        if self._ending == CHUNKED:
            self._out.append(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._out.append(data)

    @property
    def takes_chunks(self) -> bool:
        return self._ending == CHUNKED

    def send_chunks(self, chunks: bytes) -> None:
        self._transport.write(chunks)

    def send_end(self, trailers: list[Field]) -> None:
        if self._ending == CHUNKED:
            self._out.append(trailer_bytes(trailers))
        self.flush()

    def send_whole(self, head: ResponseHead, body: bytes, extra: bytes) -> None:
        exchange = self._current
        assert exchange is not None
        if exchange.head.is_plain and not extra and not self._server.answers_are_last:
            self._transport.write((head.whole or response_bytes(head)) + body)
            return
        self.send_head(head, extra=extra, has_body=True)
        self.send_data(body)
        self.send_end(NO_FIELDS)

    def flush(self) -> None:
        """Write what was sent since the last flush: one system call for all that one read of the replica brought."""
        out = self._out
        if out:
            self._out = []
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def send_refusal(self, refusal: Refusal, *, extra: bytes) -> None:
        exchange = self._current
        assert exchange is not None
        answer = render_for(refusal, exchange.head)
        self._send_own(answer.status, answer.headers, answer.body, extra)

    def send_answer(self, status: int, headers: tuple[Field, ...], body: bytes) -> None:
        self._send_own(status, headers, body, b"")

    def _send_own(self, status: int, headers: tuple[Field, ...], body: bytes, extra: bytes) -> None:
        exchange = self._current
        assert exchange is not None
        close = self._persistence() == b"Connection: close\r\n" or not self._can_skip_body(exchange)
        self._ending = UNTIL_CLOSE if close else COUNTED
        self._transport.write(own_answer(status, headers, body, exchange.head.method, close=close, extra=extra))

    def _can_skip_body(self, exchange: Exchange) -> bool:
        """Whether what is left of the request's body is nothing, or little enough to be read and dropped."""
        head = exchange.head
        if exchange.is_request_done or not head.has_body:
            return True
        if head.content_length is None or (head.expects_continue and not exchange.bytes_in):
            return False
        return head.content_length - exchange.bytes_in <= SKIP_BYTES
