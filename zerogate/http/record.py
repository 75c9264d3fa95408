"""What is known of one request while it is served: every attribute of an exchange, and what follows from them. Pure.

The state of `zerogate.http.exchange`, which subclasses this by way of `kept_body`: a request is one object, and no call
is spent on its making but one. `phases` says which phase may follow which. Access logs, traces and owners read the
attributes; only the methods of the exchange change them.
"""

from typing import TYPE_CHECKING, Any, Final

from zerogate.counters import Result
from zerogate.http.heads import Field, RequestHead
from zerogate.http.phases import CONNECTING, NEXT, PHASES, ROUTING, IllegalTransitionError
from zerogate.http.sides import DEFAULT_TERMS, BodyReader, Destination, Downstream, Owner, UpstreamConnection
from zerogate.http.trace import Trace
from zerogate.http.tunnel import Tunnel

if TYPE_CHECKING:
    from zerogate.http.exchange import Exchange

NEVER: Final = float("inf")

BUFFER_BYTES: Final = 64 * 1024
"""Body kept while there is nowhere to send it, before the client is paused; uvloop's own high-water mark."""

_NO_TRAILERS: Final[list[Field]] = []
"""Never changed: an exchange gets another list with the end of its request."""


class Record:
    """See the module's text."""

    __slots__ = (
        "attempts",
        "avoids",
        "beat_at_s",
        "buffered_bytes",
        "bytes_in",
        "bytes_out",
        "chunks",
        "code",
        "connection",
        "deadline_s",
        "dispatched_s",
        "downstream",
        "ended_s",
        "first_byte_s",
        "head",
        "held_at_s",
        "hold_s",
        "is_cold",
        "is_request_done",
        "is_stalled",
        "keep_bytes",
        "last_byte_s",
        "owner",
        "phase",
        "reader",
        "received_s",
        "replay_bytes",
        "result",
        "status",
        "terms",
        "ticket",
        "trace",
        "trailers",
        "tunnel",
        "upstream",
    )  # fmt: skip

    def __init__(self, downstream: "Downstream[Exchange]", head: RequestHead, now_s: float) -> None:
        self.downstream: Downstream[Exchange] = downstream
        self.head = head
        self.received_s = now_s
        self.phase = ROUTING
        self.owner: Owner[Exchange] | None = None
        self.terms = DEFAULT_TERMS
        self.upstream: Destination[Exchange] | None = None
        self.connection: UpstreamConnection[Exchange] | None = None
        self.reader: BodyReader | None = None
        self.ticket: Any = None
        """The holder's own; not looked at here."""
        self.chunks: list[bytes] | None = None
        self.buffered_bytes = 0
        self.keep_bytes = BUFFER_BYTES
        self.replay_bytes = 0
        """How much of the body is kept after it was sent."""
        self.is_request_done = not head.has_body
        self.trailers = _NO_TRAILERS
        self.attempts = 0
        self.avoids: Destination[Exchange] | None = None
        """Where its last attempt failed; for whoever has a choice."""
        self.deadline_s = 0.0
        self.held_at_s: float | None = None
        self.hold_s = 0.0
        self.beat_at_s = NEVER
        """When a held client gets its next sign of life."""
        self.is_cold = False
        """It met a service without a ready replica."""
        self.dispatched_s = 0.0
        self.first_byte_s: float | None = None
        self.last_byte_s = now_s
        self.is_stalled = False
        """The client does not take more at the moment."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.status = 0
        self.result: Result | None = None
        self.code = ""
        """The code of the refusal, or why it was cut."""
        self.tunnel: Tunnel | None = None
        """Set with the 101; what the connections hear goes straight to it."""
        self.trace: Trace | None = None
        """Set before it is placed, where it is traced."""

    def _to(self, phase: int) -> None:
        if phase not in NEXT[self.phase]:
            raise IllegalTransitionError(f"an exchange cannot go from {PHASES[self.phase]} to {PHASES[phase]}")
        self.phase = phase

    @property
    def is_over_limit(self) -> bool:
        """Whether its body is, or says that it will be, longer than its owner takes."""
        limit_bytes = self.terms.body_limit_bytes
        return self.bytes_in > limit_bytes or (self.head.content_length or 0) > limit_bytes

    @property
    def wants_connection(self) -> bool:
        """Whether a connection that was asked for is still wanted."""
        return self.phase == CONNECTING

    @property
    def _may_repeat(self) -> bool:
        """Whether it may be sent again although it may have arrived."""
        return self.head.is_idempotent or self.terms.retries_stale

    @property
    def left_s(self) -> float | None:
        """What is left of the time that a client of gRPC allows, at the last byte; None where it sets no deadline."""
        timeout_s = self.head.timeout_s
        return None if timeout_s is None else self.received_s + timeout_s - self.last_byte_s

    def held_so_far_s(self, now_s: float) -> float:
        """Seconds that it has been held, in all: what `Server-Timing` says in the end."""
        return self.hold_s + (now_s - self.held_at_s if self.held_at_s is not None else 0.0)

    def timing(self) -> bytes:
        """The Server-Timing line of a request that waited, or nothing."""
        if not self.hold_s:
            return b""
        start_s = self.upstream.start_s if self.is_cold and self.upstream is not None else None
        start = b", start;dur=%.1f" % (start_s * 1000) if start_s is not None else b""
        return b"Server-Timing: hold;dur=%.1f%b\r\n" % (self.hold_s * 1000, start)
