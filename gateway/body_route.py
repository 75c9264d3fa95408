"""Reads a request's body as far as its model's name, a slice at a time, and hands the name over.

The peeks are pure and do a bounded piece of work per call. This shell feeds them what the exchange hands over, pauses
the client while a piece is not finished, goes on in a later turn of the loop, and guards the bounds: per request and
for the process.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.peeked import Peek, Peeked
from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.phases import ROUTING
from zerogate.http.requests import MEMORY_FULL

REQUEST_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Kept of one body while its route is looked for: twenty photographs as base64."""

MOST_TURNS: Final = 2000
"""Turns of the loop that one body may use up, about 1 ms each: ordinary JSON needs 500 for 64 MiB, and a text made of
brackets must not keep a core busy for half a minute."""

Found = Callable[[Exchange, Peeked, float], None]
CallSoon = Callable[[Callable[[], None]], object]


class BodyRoute:
    """One body being read; a `BodyReader` of its exchange."""

    __slots__ = (
        "_call_soon", "_chunks", "_exchange", "_found", "_is_ended", "_is_scheduled", "_now_s", "_peek",
        "_position", "_turns",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, peek: Peek, found: Found, call_soon: CallSoon) -> None:
        self._exchange = exchange
        self._peek = peek
        self._found = found
        self._call_soon = call_soon
        self._chunks: deque[bytes] = deque()
        self._position = 0
        self._is_ended = False
        self._is_scheduled = False
        self._now_s = 0.0
        self._turns = 0

    def start(self, now_s: float) -> None:
        """Begin with what has come already."""
        length = self._exchange.head.content_length
        if length is not None and length > REQUEST_LIMIT_BYTES:
            self._exchange.refuse(_too_large(), now_s)
        elif self._exchange.downstream.memory.is_full:
            self._exchange.refuse(MEMORY_FULL, now_s)
        else:
            self._exchange.read_body(self, now_s)

    def on_chunk(self, chunk: bytes, now_s: float) -> None:
        self._now_s = now_s
        exchange = self._exchange
        if exchange.buffered_bytes > REQUEST_LIMIT_BYTES:
            exchange.refuse(_too_large(), now_s)
        elif exchange.downstream.memory.is_full:
            exchange.refuse(MEMORY_FULL, now_s)
        elif len(chunk) == exchange.head.content_length and (peeked := self._peek.read_whole(chunk)) is not None:
            exchange.stop_reading()
            self._found(exchange, peeked, now_s)
        else:
            self._chunks.append(chunk)
            if not self._is_scheduled:
                self._work()

    def on_end(self, now_s: float) -> None:
        self._now_s = now_s
        self._is_ended = True
        if not self._is_scheduled:
            self._work()

    def _continue(self) -> None:
        self._is_scheduled = False
        if self._exchange.phase == ROUTING:
            self._exchange.downstream.resume_body()
            self._work()

    def _work(self) -> None:
        while self._chunks and not self._peek.is_settled:
            chunk = self._chunks[0]
            self._position = self._peek.feed(chunk, self._position)
            if self._position < len(chunk):
                self._turns += 1
                if self._turns > MOST_TURNS:
                    self._exchange.refuse(_TOO_DENSE, self._now_s)
                    return
                self._is_scheduled = True
                self._exchange.downstream.pause_body()
                self._call_soon(self._continue)
                return
            self._position = 0
            self._chunks.popleft()
        if self._is_ended or self._peek.is_settled:
            self._exchange.stop_reading()
            self._found(self._exchange, self._peek.finish(), self._now_s)


def _too_large() -> Refusal:
    detail = (
        f"The body is larger than {REQUEST_LIMIT_BYTES >> 20} MiB, the most that is kept to find its model's name. "
        "Call the service by its own host or path prefix: then the body is passed on without being kept."
    )
    return Refusal(status=413, code="body_too_large", detail=detail, hopeless=True)


_TOO_DENSE: Final = Refusal(
    status=413,
    code="body_too_dense",
    detail="Finding the model's name in this body takes too long: it is made of little else than "
    "brackets. Call the service by its own host or path prefix.",
    hopeless=True,
)
