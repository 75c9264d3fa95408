"""What follows from an attempt that failed in a sidecar: it is made again after a pause, or given up. None of it waits.

A connection from the pool may be closed under a request, because the model server has had it idle for too long. What
may be repeated is sent again in the slot that it has; what met no connection at all goes back as not sent, to whoever
knows of another replica. So does what would be repeated here if this sidecar were not leaving. Where the model server
has ceased to be ready it does not: what ended this one would be passed on to end the next. No more is sent again than
the budget allows (`zerogate.retries`): a model server that breaks off everything is not asked three times as often for
it.

Owned by `queueproxy.slots`.
"""

from collections.abc import Callable
from typing import Final

from queueproxy import refusals
from zerogate.counters import ServiceCounters
from zerogate.errors import Refusal
from zerogate.gate import Gate
from zerogate.http.account import kept_bytes
from zerogate.http.exchange import Exchange
from zerogate.http.phases import CONNECTING, HELD
from zerogate.http.upstream import Choose
from zerogate.retries import RetryBudget, pause_s

MAX_ATTEMPTS: Final = 3
"""One connection that was closed says nothing; twice in a row is a fault."""
_STEPS: Final = 1000


class Setbacks:
    """See the module's text. `give_up(exchange, why, now_s)` is called where the gate was shut in the pause. `choose`
    is chance, `call_later` and `clock` are the loop's."""

    def __init__(
        self,
        service: str,
        gate: Gate,
        counters: ServiceCounters,
        *,
        give_up: Callable[[Exchange, Refusal, float], None],
        choose: Choose,
        call_later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
    ) -> None:
        self.is_leaving = False
        """Nothing is let in any more, for good."""
        self._service = service
        self._gate = gate
        self._counters = counters
        self._budget = RetryBudget(clock())
        self._give_up = give_up
        self._choose = choose
        self._call_later = call_later
        self._clock = clock

    def after(self, exchange: Exchange, cause: str, requests: int, now_s: float) -> Refusal | None:
        """Why it is given up; None: it pauses and is sent again. `requests`: so many came so far."""
        if exchange.phase == CONNECTING:
            # after an attempt that may have arrived nothing is "not sent" any more
            again = exchange.attempts > 1
            return (refusals.unreachable_again if again else refusals.unreachable)(self._service, cause)
        if exchange.attempts >= MAX_ATTEMPTS:
            return refusals.lost(self._service, cause)
        if not self._gate.is_open:
            return self._shut_out(cause)
        if not self._budget.take(requests, now_s):
            return refusals.over_budget(self._service, cause)
        self._counters.retries_by_why["lost"] += 1
        self._pause(exchange, cause, now_s)
        return None

    def _pause(self, exchange: Exchange, cause: str, now_s: float) -> None:
        """Its slot stays its own. Not at once: what broke it off broke others off too, and they should not come back in
        step; and it may have been read, so it is no first try."""
        until_s = now_s + exchange.terms.first_byte_s
        exchange.hold(exchange.ticket, deadline_s=until_s, now_s=now_s, keep_bytes=kept_bytes(exchange))
        wait_s = pause_s(exchange.attempts, self._choose(_STEPS + 1) / _STEPS)
        self._call_later(wait_s, lambda: self._send_again(exchange, cause))

    def _send_again(self, exchange: Exchange, cause: str) -> None:
        if exchange.phase != HELD or exchange.upstream is None:
            return  # it has ended meanwhile
        now_s = self._clock()
        if now_s >= exchange.deadline_s:
            exchange.due(now_s)  # the sweep has not come by yet
        elif self._gate.is_open:
            exchange.dispatch(exchange.upstream, now_s)
        else:
            self._give_up(exchange, self._shut_out(cause), now_s)

    def _shut_out(self, cause: str) -> Refusal:
        return refusals.draining(self._service) if self.is_leaving else refusals.lost(self._service, cause)
