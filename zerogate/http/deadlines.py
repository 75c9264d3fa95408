"""Which timer of a request that was sent to a replica is over. Pure.

Five timers bound a request (`zerogate.http.sides.RequestTerms`), and a client of gRPC sets one of its own; the hold's
is its owner's. Asked by `exchange` at each visit of the sweep; what is then done about it is decided there.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from zerogate.http.phases import CONNECTING, SENT

if TYPE_CHECKING:
    from zerogate.http.exchange import Exchange

STALLED_S: Final = 600.0
"""A client that takes nothing for so long keeps a slot of a GPU from others; nginx gives it one minute. Who takes 100
bytes a second is never stalled."""


NO_CONNECTION: Final = "no_connection"
"""No refusal yet: nothing was sent, and another replica may be tried."""


class Overdue(NamedTuple):
    """The timer that is over, by the code of its refusal, and why."""

    code: str
    why: str


def running(exchange: "Exchange", now_s: float) -> float | Overdue:
    """The timer that is over, or when to look again; its phase is connecting, sent or answering."""
    terms = exchange.terms
    total_s = exchange.dispatched_s + terms.total_s if terms.total_s is not None else float("inf")
    if now_s >= total_s:
        return Overdue("total_timeout", f"it did not end within {terms.total_s:g} s")
    allowed_s = exchange.head.timeout_s
    if allowed_s is not None:
        until_s = exchange.received_s + allowed_s + terms.grace_s
        if now_s >= until_s:
            return exceeded(allowed_s)
        total_s = min(total_s, until_s)
    if exchange.phase == CONNECTING:
        if now_s >= exchange.deadline_s:
            return Overdue(NO_CONNECTION, f"no connection within {terms.connect_s:g} s")
        return min(exchange.deadline_s, total_s)
    if exchange.phase == SENT and not exchange.is_stalled and (exchange.is_request_done or exchange.head.chunked):
        if now_s >= exchange.deadline_s:
            return Overdue("first_byte_timeout", f"the replica sent no answer within {terms.first_byte_s:g} s")
        return min(exchange.deadline_s, total_s)
    if exchange.is_stalled:
        deadline_s = exchange.last_byte_s + STALLED_S
        if now_s >= deadline_s:
            return Overdue("client_stalled", f"its client took nothing for {STALLED_S:g} s")
        return min(deadline_s, total_s, now_s + terms.idle_s)  # from then on silence counts, if it reads
    deadline_s = exchange.last_byte_s + terms.idle_s
    if now_s >= deadline_s:
        return Overdue("idle_timeout", f"no byte came for {terms.idle_s:g} s")
    return min(deadline_s, total_s)


def exceeded(allowed_s: float) -> Overdue:
    """The deadline that a client of gRPC has set is over."""
    return Overdue("deadline_exceeded", f"its client allowed {allowed_s:g} s")
