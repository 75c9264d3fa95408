"""What follows from attempts that failed: rests, replicas that are left out, and whether one is made again.

An attempt fails where no connection comes about, where the replica breaks off before its answer, or where it answers
with a failing status. The findings are kept by `activator.takers`; here are the times after which they end, the budget
for what is sent again, and the counters. Owned by `activator.hold`; none of the methods waits.
"""

import logging
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from activator.health import verdict
from activator.reach import MAX_ATTEMPTS
from activator.takers import Takers
from zerogate.counters import Result, ServiceCounters
from zerogate.http.exchange import Exchange
from zerogate.http.phases import CONNECTING
from zerogate.http.sides import Destination
from zerogate.http.upstream import Choose, Upstream
from zerogate.retries import RetryBudget, pause_s

REST_S: Final = 0.1
"""After a failed connect a replica gets nothing for about so long: its end is about to be told, or it is full. Between
half and one and a half of it, by chance: many gateways that lost the same replica do not come back in step."""
_STEPS: Final = 1000

log = logging.getLogger(__name__)


class Next(Enum):
    """What becomes of a request whose attempt failed."""

    AGAIN = auto()
    AFTER_PAUSE = auto()
    """The same, but not at once."""
    HOPELESS = auto()
    """It was tried often enough."""
    HOPELESS_FOR_ALL = auto()
    """No replica can be reached, whoever asks."""
    OVER_BUDGET = auto()
    """Too many were tried again."""


class Setbacks:
    """See the module's text. `release(now_s)` is called where a replica may take something again."""

    def __init__(
        self,
        service: str,
        takers: Takers,
        counters: ServiceCounters,
        *,
        release: Callable[[float], None],
        choose: Choose,
        call_later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
    ) -> None:
        self._service = service
        self._takers = takers
        self._reach = takers.reach
        self._counters = counters
        self._budget = RetryBudget(clock())
        self._release = release
        self._choose = choose
        self._call_later = call_later
        self._clock = clock

    def after(
        self, exchange: Exchange, upstream: Destination[Exchange], cause: str, requests: int, now_s: float
    ) -> Next:
        """An attempt was not sent, or broke and may be repeated. `requests`: so many came so far."""
        if exchange.phase == CONNECTING:
            why, is_news = "connect", self._on_unreachable(exchange, upstream, cause, now_s)
            if self._takers.hopeless():
                return Next.HOPELESS_FOR_ALL
        else:
            why, is_news = "lost", True
            self.fail(upstream, why, f"no answer: {cause}", now_s)
            if exchange.attempts >= MAX_ATTEMPTS:
                return Next.HOPELESS
        if is_news and not self._budget.take(requests, now_s):
            return Next.OVER_BUDGET
        self._counters.retries_by_why[why] += 1
        return Next.AGAIN if why == "connect" else Next.AFTER_PAUSE

    def pause(self, exchange: Exchange, then: Callable[[Exchange], None]) -> None:
        """Call `then` when the request may be sent again."""
        self._call_later(pause_s(exchange.attempts, self._choose(_STEPS + 1) / _STEPS), lambda: then(exchange))

    def turn_away(self, upstream: Destination[Exchange], now_s: float) -> None:
        """A sidecar had no slot. Not a failure, and not for the budget: the replica saw nothing, and its sidecar says
        how many it takes."""
        self._counters.retries_by_why["turned_away"] += 1
        if not upstream.gate.turn_away():
            self._rest(upstream, now_s)

    def judge(self, upstream: Destination[Exchange], exchange: Exchange, now_s: float) -> None:
        """A request has left the replica that may say something about it."""
        says = verdict(exchange)
        if says:
            self.fail(upstream, "status" if exchange.result is Result.SERVED else "lost", says, now_s)
        elif says is not None:
            self._takers.succeed(upstream)

    def fail(self, upstream: Destination[Exchange], why: str, says: str, now_s: float) -> None:
        """One more failure of a replica; it may be left out for that."""
        out_s = self._takers.fail(upstream, says, now_s)
        if out_s is None:
            return
        self._counters.ejections_by_why[why] += 1
        log.warning("%s: %s is left out for %.0f s: %s", self._service, upstream.id, out_s, says)
        self._call_later(out_s, lambda: self._come_back(upstream, now_s + out_s))

    def _come_back(self, upstream: Destination[Exchange], out_until_s: float) -> None:
        now_s = self._clock()
        self._takers.come_back(upstream, out_until_s, now_s)
        self._release(now_s)

    def _on_unreachable(self, exchange: Exchange, upstream: Destination[Exchange], cause: str, now_s: float) -> bool:
        """Returns whether the failure is news, and not one of a crowd that met the same."""
        known = self._takers.by_id.get(upstream.id)
        if known is not upstream:
            return False  # it is gone
        known.pool.on_reached = lambda: self._on_reached(known)
        is_news = self._reach.failed(upstream, exchange, cause, now_s)
        if not self._reach.is_tried(upstream):
            self._rest(upstream, now_s)
        if is_news:
            self.fail(upstream, "connect", f"no connection: {cause}", now_s)
        return is_news

    def _on_reached(self, upstream: Upstream) -> None:
        upstream.pool.on_reached = None
        self._reach.forget(upstream)
        self._release(self._clock())

    def _rest(self, upstream: Destination[Exchange], now_s: float) -> None:
        rest_s = REST_S * (0.5 + self._choose(_STEPS + 1) / _STEPS)
        upstream.rests_until_s = until_s = now_s + rest_s
        self._call_later(rest_s, lambda: self._end_rest(upstream, until_s))

    def _end_rest(self, upstream: Destination[Exchange], until_s: float) -> None:
        # the timer says when: it may fire a little before the clock reads `until_s`, and it fires once
        if upstream.rests_until_s == until_s:
            upstream.rests_until_s = 0.0
        self._release(self._clock())
