"""Waits for the begin of a request's body, where that says which replica it had better go to. Pure.

Only where there is a choice: with no replica free or only one, nothing is read before the request is sent or held.
Bounded by the number of bytes that are asked for, and by the memory that the process has for bodies.
"""

from zerogate.http.exchange import Exchange, Placer


class PromptReader:
    """A `BodyReader` that calls `place` once, when `size_bytes` have come, or the body's end, or memory is short."""

    __slots__ = ("_exchange", "_place", "_size_bytes")

    def __init__(self, exchange: Exchange, size_bytes: int, place: Placer) -> None:
        self._exchange = exchange
        self._size_bytes = size_bytes
        self._place = place

    def on_chunk(self, chunk: bytes, now_s: float) -> None:
        """A piece has come."""
        exchange = self._exchange
        if exchange.buffered_bytes >= self._size_bytes or exchange.downstream.memory.is_full:
            self.on_end(now_s)

    def on_end(self, now_s: float) -> None:
        """That is all."""
        self._exchange.stop_reading()
        self._place(self._exchange, now_s)
