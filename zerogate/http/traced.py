"""What is kept of a traced request that has ended, until a thread makes spans of it. Pure.

Made on the loop in a microsecond or two, so it is plain values and nothing is formatted; made into spans by
`zerogate.http.spans`. It keeps no exchange alive.
"""

from typing import Final

import msgspec

from zerogate.counters import Result
from zerogate.http.exchange import Exchange
from zerogate.http.trace import Attempt, Trace
from zerogate.http.upstream import Upstream
from zerogate.runtime.interface import Address

API_PATHS: Final = frozenset(
    f"/v1/{name}"
    for name in (
        "chat/completions", "completions", "embeddings", "models", "responses", "rerank", "score", "moderations",
        "audio/transcriptions", "audio/translations", "audio/speech", "images/generations", "images/edits",
        "tokenize", "detokenize", "messages",
    )
)  # fmt: skip
"""Paths of the usual APIs of model servers: few enough to name spans by."""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a replica; times by the monotonic clock."""

    span_id: bytes
    replica: str
    address: Address | None
    is_secure: bool
    http_version: str
    dispatched_s: float
    sent_s: float | None
    """None: there was no connection."""
    ended_s: float
    cause: str
    """Why it came to nothing; empty for the one that ended with the request."""


class Traced(msgspec.Struct, frozen=True, kw_only=True):
    """A request that has ended. Ids as hexadecimal digits; times by the monotonic clock, but for `ended_at`."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    """Empty where the trace begins here."""
    flags: int
    state: bytes
    service: str
    """Empty where none took it."""
    route: str
    """A few for each service, or empty."""
    method: bytes
    target: bytes
    host: bytes
    scheme: bytes
    client: bytes
    user_agent: bytes
    http_version: str
    status: int
    result: Result
    code: str
    is_cold: bool
    received_s: float
    ended_s: float
    ended_at: float
    """Wall clock: what the other times are reckoned from."""
    first_byte_s: float | None
    holds: tuple[tuple[float, float], ...]
    tries: tuple[Tried, ...]

    @property
    def placed_s(self) -> float:
        """When it was known whose it is: it was held then, or dispatched, or answered."""
        firsts = [hold[0] for hold in self.holds[:1]] + [one.dispatched_s for one in self.tries[:1]]
        return min(firsts, default=self.ended_s)


def route_of(target: bytes, prefix: str | None) -> str:
    """The route as a trace shows it, one of a few whatever clients send: a path of the usual APIs, or the service's
    prefix."""
    path = target.partition(b"?")[0].decode("ascii", "replace")
    if path in API_PATHS:
        return path
    return f"{prefix.rstrip('/')}/*" if prefix and prefix != "/" else ""


def traced(service: str, route: str, exchange: Exchange, trace: Trace, ended_at: float) -> Traced:
    """The record of an exchange that has ended just now, at `ended_at` by the wall clock."""
    head = exchange.head
    trace.finish(exchange)
    assert exchange.result is not None
    return Traced(
        trace_id=trace.trace_id,
        span_id=trace.span_id,
        parent_id=trace.parent_id,
        flags=trace.flags,
        state=trace.state,
        service=service,
        route=route,
        method=head.method,
        target=head.target,
        host=head.host,
        scheme=exchange.downstream.arrival.scheme,
        client=exchange.downstream.peer,
        user_agent=head.user_agent,
        http_version="1.0" if head.http_1_0 else exchange.downstream.http_version,
        status=exchange.status,
        result=exchange.result,
        code=exchange.code,
        is_cold=exchange.is_cold,
        received_s=exchange.received_s,
        ended_s=exchange.ended_s,
        ended_at=ended_at,
        first_byte_s=exchange.first_byte_s,
        holds=tuple(trace.holds),
        tries=tuple(_tried(one, exchange.ended_s) for one in trace.attempts),
    )


def _tried(attempt: Attempt, ended_s: float) -> Tried:
    upstream = attempt.upstream
    pool = upstream.pool if isinstance(upstream, Upstream) else None
    return Tried(
        span_id=attempt.span_id,
        replica=upstream.id,
        address=pool.address if pool is not None else None,
        is_secure=pool is not None and pool.is_secure,
        http_version="2" if pool is not None and pool.protocol != "http1" else "1.1",
        dispatched_s=attempt.dispatched_s,
        sent_s=attempt.sent_s,
        ended_s=ended_s if attempt.ended_s is None else attempt.ended_s,
        cause=attempt.cause,
    )
