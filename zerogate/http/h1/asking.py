"""The request's half of a turn on a connection to a replica: what an exchange asks of it. Pure.

Head, body and end are written as they come, and reading is stopped and ended here; what the answer means is `turn`,
which subclasses this: a layer of its own would cost a call per piece.

Invariant: a request ends once, and only a connection that is idle, or reads the end of its last answer, takes the next.
"""

from typing import Any, Protocol

from zerogate.http.exchange import Exchange
from zerogate.http.h1.turn_states import ASK, ASKED, CLOSE, CLOSED, EVENTS, IDLE, NEXT, STATES, IllegalTransitionError
from zerogate.http.h1.turned_away import TurnedAway
from zerogate.http.heads import Field
from zerogate.http.write_heads import trailer_bytes


class Keeper(Protocol):
    """Where a connection belongs: the pool of its replica."""

    may_turn_away: bool
    """Whether a sidecar of ours answers there: only then a refusal as not sent is believed."""
    heard_s: float
    """When the last byte came on any of its connections."""

    def give_back(self, connection: Any, now_s: float) -> None:
        """It is idle and may be used again."""

    def on_lost(self, connection: Any) -> None:
        """It is closed."""

    def request_bytes(self, exchange: Exchange) -> bytes:
        """The head of the request as it goes to this replica."""


class Asking:
    """See the module's text. `idle_since_s` is set by the pool while it lies there."""

    __slots__ = (
        "_exchange", "_has_asked", "_is_chunked", "_is_full", "_pool", "_transport", "idle_since_s", "state",
        "was_streamed",
    )  # fmt: skip

    may_refuse = False
    """HTTP/1.1 has no way to say so."""

    def __init__(self, pool: Keeper) -> None:
        self.state = IDLE
        self._pool = pool
        self._transport: Any = None
        self._exchange: Exchange | TurnedAway | None = None
        self._is_chunked = False
        """The request's body is."""
        self._has_asked = False
        """The request's last byte was written."""
        self._is_full = False
        """The replica has not taken what was written."""
        self.idle_since_s = 0.0
        self.was_streamed = False
        """Whether the last answer was chunked."""

    def _step(self, event: int) -> None:
        state = NEXT[self.state].get(event)
        if state is None:
            raise IllegalTransitionError(f"a connection that is {STATES[self.state]} cannot {EVENTS[event]}")
        self.state = state

    def send_head(self, exchange: Exchange, body: bytes | None = None) -> None:
        """Begin `exchange` on this connection; `body`: the whole of its body."""
        if self.state == IDLE:
            self.state = ASKED
        else:
            self._step(ASK)
        head = exchange.head
        self._exchange = exchange
        self._has_asked = body is not None or not head.has_body
        self._is_chunked = head.chunked
        self.was_streamed = False
        data = self._pool.request_bytes(exchange)
        self._transport.write(data if body is None else data + body)

    def send_whole(self, exchange: Exchange, body: bytes) -> None:
        """One write for both: a sixth of what a chat request costs."""
        self.send_head(exchange, body)

    def send_data(self, data: bytes) -> None:
        if self._is_chunked:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._transport.write(data)

    def send_end(self, trailers: list[Field]) -> None:
        if self._has_asked:
            raise IllegalTransitionError("a request that was sent cannot end once more")
        self._has_asked = True
        if self._is_chunked:
            self._transport.write(trailer_bytes(trailers))

    def pause(self) -> None:
        if self.state != CLOSED:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.state != CLOSED:
            self._transport.resume_reading()

    def finish(self) -> None:
        self._exchange = None
        if self.state != CLOSED:
            self._step(CLOSE)
            self._transport.close()
            self._pool.on_lost(self)

    def abort(self) -> None:
        self._exchange = None
        self.close()

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent on it now."""
        return self.state != CLOSED and not self._transport.is_closing()

    def close(self) -> None:
        """End it at once; what it carries hears nothing."""
        if self.state != CLOSED:
            self._step(CLOSE)
            self._transport.abort()
            self._pool.on_lost(self)
