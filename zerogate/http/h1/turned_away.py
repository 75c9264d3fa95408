"""What hears the answer of a sidecar that had no place for a request. Pure.

Put by `turn` where the exchange stood.
"""

from zerogate.http.exchange import Exchange
from zerogate.http.heads import Field, RequestHead
from zerogate.http.sides import Downstream


class TurnedAway:
    """Stands where the exchange stood while a sidecar's refusal is read to its end, so that the connection is as good
    as before: whatever end that has, the exchange hears that it was not sent."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @property
    def head(self) -> RequestHead:
        return self._exchange.head

    @property
    def downstream(self) -> Downstream[Exchange]:
        return self._exchange.downstream

    @property
    def chunks(self) -> list[bytes] | None:
        return self._exchange.chunks

    @property
    def is_stalled(self) -> bool:
        return self._exchange.is_stalled

    def on_upstream_writable(self, writable: bool) -> None:
        self._exchange.on_upstream_writable(writable)

    def on_response_data(self, data: bytes, now_s: float) -> None:
        """The refusal's words are for nobody."""

    def on_response_chunks(self, chunks: bytes, size: int, now_s: float) -> None:
        """Nor when they come in chunks."""

    def on_response_end(self, trailers: list[Field], now_s: float) -> None:
        self._exchange.on_turned_away(now_s)

    def on_upstream_lost(self, cause: str, now_s: float, *, is_final: bool = False) -> None:
        self._exchange.on_turned_away(now_s)
