"""The question of a probe, in one version of HTTP: its bytes, and what an answer means. Pure.

`zerogate.http.probe` owns the socket and the times. A reader is fed what comes on one connection, and raises
`UnreadableError` for what is no answer. A question is asked again on the same connection only where the reader says so.
"""

from collections.abc import Callable
from typing import Protocol

import httptools

from zerogate.errors import ZerogateError
from zerogate.runtime.interface import Address

Answered = Callable[[bool, str], None]
"""`answered(is_ready, what)`: told once per question; `what` is a clause about the server, "it answers 503"."""


class UnreadableError(ZerogateError):
    """What came is no answer; `str` is a clause about the server."""


class Reader(Protocol):
    """Reads one answer."""

    can_reuse: bool
    """Whether the connection is ready for another question."""

    def feed(self, piece: bytes) -> None:
        """What came; raises UnreadableError."""


class Question(Protocol):
    """See the module's text."""

    data: bytes

    def reader(self, answered: Answered) -> Reader: ...


class Http1Question:
    """GET over HTTP/1.1. Any answer with a status below `ready_below` is ready."""

    def __init__(self, address: Address, path: str, *, ready_below: int) -> None:
        host = "localhost" if address.path else str(address)
        self.data = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: zerogate-probe\r\nAccept: */*\r\n\r\n"
        ).encode("latin-1")
        self.ready_below = ready_below

    def reader(self, answered: Answered) -> "Http1Reader":
        return Http1Reader(answered, self.ready_below)


class Http1Reader:
    """The head says it all: an endless body must not delay the news."""

    def __init__(self, answered: Answered, ready_below: int) -> None:
        self.can_reuse = False
        self._answered = answered
        self._ready_below = ready_below
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserError as error:
            raise UnreadableError(f"its answer is not HTTP: {error}") from error

    def on_headers_complete(self) -> None:
        """Called by httptools while it is fed."""
        status = self._parser.get_status_code()
        if status >= 200:  # or the real answer follows
            self._answered(status < self._ready_below, f"it answers {status}")

    def on_message_complete(self) -> None:
        """Called by httptools while it is fed."""
        if self._parser.get_status_code() >= 200:
            self.can_reuse = self._parser.should_keep_alive()
