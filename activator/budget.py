"""How many requests may be sent again: a fifth of those that come, and three a second in any case. Pure.

So that retries help where a single replica fails, and do not double the load where all of them do. A token bucket;
what comes is read from a counter when a retry is asked for, so that requests that need none cost nothing.
"""

from typing import Final

RATIO: Final = 0.2
"""Finagle's and Linkerd's default: the load on what is left grows by a fifth at most."""
FLOOR_PER_S: Final = 3.0
"""A service with a request now and then would have no retry at all without."""
BURST_S: Final = 10.0
"""What is not used is kept for so long."""
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
