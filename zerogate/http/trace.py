"""What is noted of a request that is traced: its place in the trace, its holds, its attempts. Pure.

An exchange that is traced has a `Trace`; others have None, and the one thing they pay is that it is looked at where
the request goes out. The stamps are those that the exchange keeps anyway. Made by whoever places requests
(`zerogate.http.tracing`), asked for fields by the pools, made a record of when the exchange has ended.

The replica's parent is the span of the attempt that carries the request to it, so that a caller and the called are
told apart in the trace although both speak of the same request.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from zerogate.http.trace_context import RANDOM_ID, SAMPLED, Incoming, context_lines, is_chosen

if TYPE_CHECKING:
    from zerogate.http.exchange import Exchange
    from zerogate.http.sides import Destination

NewId = Callable[[int], int]
"""A random number of so many bits: injected."""

_TRACE_BITS: Final = 128
_SPAN_BITS: Final = 64


class Attempt(msgspec.Struct, kw_only=True):
    """One try to have a replica answer. Times by the monotonic clock."""

    span_id: bytes
    upstream: "Destination[Exchange]"
    dispatched_s: float
    sent_s: float | None
    """When there was a connection and the head went out; None: there was none."""
    ended_s: float | None = None
    """None: when the request ended."""
    cause: str = ""
    """Why it did not come to an answer."""


class Trace:
    """See the module's text. `span_id` is that of the request itself; what is not sampled notes nothing."""

    __slots__ = ("_lines", "_new_id", "attempts", "flags", "holds", "is_sampled", "parent_id", "span_id", "state",
                 "trace_id")  # fmt: skip

    def __init__(self, incoming: Incoming, ratio: float, new_id: NewId) -> None:
        """`ratio`: the share of the traces that begin here which is recorded; a parent has decided for its own."""
        self._lines = incoming.lines
        self._new_id = new_id
        self.state = incoming.state
        parent = incoming.parent
        if parent is not None:
            self.trace_id, self.parent_id, flags = parent.trace_id, parent.span_id, parent.flags
            self.is_sampled = bool(flags & SAMPLED)
            self.flags = flags & (SAMPLED | RANDOM_ID)
        else:
            self.trace_id = b"%032x" % (new_id(_TRACE_BITS) or 1)
            self.parent_id = b""
            self.is_sampled = is_chosen(self.trace_id, ratio)
            self.flags = SAMPLED if self.is_sampled else 0
        self.span_id = self._new_span_id()
        self.holds: list[tuple[float, float]] = []
        """When it began and ceased to be held, each time."""
        self.attempts: list[Attempt] = []

    def _new_span_id(self) -> bytes:
        return b"%016x" % (self._new_id(_SPAN_BITS) or 1)  # all zeros would be no id

    def sent(self, exchange: "Exchange") -> bytes:
        """The request goes out on a connection it has got just now: its fields, with the replica's parent."""
        span_id = self.span_id
        if self.is_sampled and exchange.upstream is not None:
            span_id = self._new_span_id()
            self.attempts.append(
                Attempt(
                    span_id=span_id, upstream=exchange.upstream, dispatched_s=exchange.dispatched_s,
                    sent_s=exchange.last_byte_s,
                )
            )  # fmt: skip
        return self._lines + context_lines(self.trace_id, span_id, self.flags, self.state)

    def held(self, began_s: float, ended_s: float) -> None:
        """A hold is over."""
        if self.is_sampled:
            self.holds.append((began_s, ended_s))

    def unsent(self, exchange: "Exchange", cause: str, now_s: float) -> None:
        """An attempt came to nothing and may be made again elsewhere."""
        if not self.is_sampled:
            return
        self.finish(exchange)
        if self.attempts:
            self.attempts[-1].ended_s = now_s
            self.attempts[-1].cause = cause

    def finish(self, exchange: "Exchange") -> None:
        """Note an attempt that has got no connection (yet)."""
        if exchange.upstream is not None and len(self.attempts) < exchange.attempts:
            self.attempts.append(
                Attempt(
                    span_id=self._new_span_id(), upstream=exchange.upstream, dispatched_s=exchange.dispatched_s,
                    sent_s=None,
                )
            )  # fmt: skip
