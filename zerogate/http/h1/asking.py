"""The request's half of a turn on a connection to a replica: what an exchange asks of it. Pure.

Head, body and end are written as they come, and reading is stopped and ended here; what the answer means is `turn`,
which subclasses this: a layer of its own would cost a call per piece.

What the replica has not taken counts in the process's memory while it takes no more, unless it counts there already as
kept: what waits is the end of what was sent, so what is kept to be sent again is the same bytes. While that memory is
short, less may wait.

Invariants: a closed connection counts for nothing; a request ends once, and only a connection that is idle, or reads
the end of its last answer, takes the next.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from zerogate.http.exchange import Exchange
from zerogate.http.h1.turn_states import ASK, ASKED, CLOSE, CLOSED, EVENTS, IDLE, NEXT, STATES, IllegalTransitionError
from zerogate.http.h1.turned_away import TurnedAway
from zerogate.http.heads import Field
from zerogate.http.memory import BufferMemory
from zerogate.http.write_heads import trailer_bytes

TAKEN_AT_ONCE_BYTES: Final = 16 * 1024
"""Of a body: with a head of the usual size it fits into what kernels receive before their program reads (64 KiB)."""


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
        "_exchange", "_has_asked", "_is_chunked", "_is_tight", "_memory", "_pool", "_sent_bytes", "_transport",
        "_waiting_bytes", "idle_since_s", "is_closing", "is_full", "state", "was_streamed",
    )  # fmt: skip

    may_refuse = False
    """HTTP/1.1 has no way to say so."""

    def __init__(self, pool: Keeper) -> None:
        self.state = IDLE
        self._pool = pool
        self._transport: Any = None
        self.is_closing: Callable[[], bool]
        """The transport's own, set with it: whether it is about to end, for the pool in which this one lies idle."""
        self._exchange: Exchange | TurnedAway | None = None
        self._is_chunked = False
        """The request's body is."""
        self._has_asked = False
        """The request's last byte was written."""
        self.is_full = False
        """The replica has not taken what was written."""
        self._sent_bytes = 0
        """Of the body of the request that runs or was the last, up to the piece that made it large."""
        self._is_tight = False
        """Hardly anything may wait."""
        self._memory: BufferMemory | None = None
        """Where `_waiting_bytes` count: its exchange may be gone before they are."""
        self._waiting_bytes = 0
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
        if self._sent_bytes:
            self._begin_anew()
        if body is not None:
            self._count_sent(len(body))
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

    def _begin_anew(self) -> None:
        """The body before was answered, so it was read."""
        if self._sent_bytes > TAKEN_AT_ONCE_BYTES:
            self.on_large_body_over()
        self._sent_bytes = 0

    def _count_sent(self, size: int) -> None:
        self._sent_bytes += size
        if self._sent_bytes > TAKEN_AT_ONCE_BYTES:
            self.on_large_body()

    def on_large_body(self) -> None:
        """What is written from now on may have to wait until the replica reads on; for the protocol around it."""

    def on_large_body_over(self) -> None:
        """The replica has read what was large; for the protocol around it."""

    def send_data(self, data: bytes) -> None:
        if self._sent_bytes <= TAKEN_AT_ONCE_BYTES:
            self._count_sent(len(data))
        exchange = self._exchange
        if exchange is not None and exchange.downstream.memory.is_short is not self._is_tight:
            self._tighten(not self._is_tight)
        if self._is_chunked:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._transport.write(data)
        if self.is_full:
            self.count_waiting()

    def _tighten(self, is_tight: bool) -> None:
        """Let less, or as much as usual, of the request wait. Seen to when there is something to write: what waits
        already is as much as it was."""
        self._is_tight = is_tight
        self._transport.set_write_buffer_limits(high=0 if is_tight else None)

    def count_waiting(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            self._memory = exchange.downstream.memory
        if self._memory is None:
            return
        counts = self.is_full and self.state != CLOSED and (exchange is None or exchange.chunks is None)
        size = int(self._transport.get_write_buffer_size()) if counts else 0
        self._waiting_bytes = self._memory.recount_upload(self._waiting_bytes, size)

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

    def close(self) -> None:
        """End it at once; what it carries hears nothing."""
        if self.state != CLOSED:
            self._step(CLOSE)
            self._transport.abort()
            self._waits_for_nothing()
            self._pool.on_lost(self)

    def _waits_for_nothing(self) -> None:
        """What was written is taken, or of no use any more."""
        if self._memory is not None:
            self._waiting_bytes = self._memory.recount_upload(self._waiting_bytes, 0)
            self._memory = None
