"""How many requests may be sent again, and after which pause. Pure.

A fifth of those that come, and three a second in any case: so retries help where a single replica fails, and do not
double the load where all of them do. A token bucket; what comes is read from a counter when a retry is asked for, so
that requests that need none cost nothing. Whoever sends requests to replicas has one per service (`activator.setbacks`,
`queueproxy.setbacks`).
"""

from typing import Final

from zerogate.errors import Refusal

RATIO: Final = 0.2
"""Finagle's and Linkerd's default: the load on what is left grows by a fifth at most."""
FLOOR_PER_S: Final = 3.0
"""A service with a request now and then would have no retry at all without."""
BURST_S: Final = 10.0
"""What is not used is kept for so long."""
PAUSE_S: Final = 0.025
"""Most time between the first attempt that broke off and the next one (Envoy's base), twice as much with each further
one; how much of it, by chance: what one replica's end broke off does not meet it, or the others, in one instant."""
RECKON_S: Final = 1.0
"""The larger of share and floor is taken second by second: over shorter times the two would add up."""


class RetryBudget:
    """See the module's text. Times in seconds, monotonic; `requests` is a count that only grows."""

    __slots__ = ("_requests", "_since_s", "_tokens")

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._requests = 0
        self._tokens = FLOOR_PER_S * BURST_S

    def take(self, requests: int, now_s: float) -> bool:
        """Whether one more may be sent again, of so many `requests` that came so far."""
        passed_s = now_s - self._since_s
        if passed_s >= RECKON_S:
            per_s = max(RATIO * (requests - self._requests) / passed_s, FLOOR_PER_S)
            self._tokens = min(self._tokens + per_s * passed_s, per_s * BURST_S)
            self._since_s = now_s
            self._requests = requests
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def spent(failed: str) -> Refusal:
    """What a request is told that might have been sent again, but too many were. `failed`: what happened to it, a
    sentence."""
    detail = (
        f"{failed} The request is not sent again, because too many of the last ones were: that would only add to the "
        "load. Try again later."
    )
    return Refusal(status=503, code="retry_budget_spent", detail=detail, retry_after_s=1.0)


def pause_s(attempts: int, chance_ratio: float) -> float:
    """How long to wait after so many attempts; `chance_ratio`: of 0..1, drawn anew for each."""
    return PAUSE_S * 2.0 ** (attempts - 1) * chance_ratio
