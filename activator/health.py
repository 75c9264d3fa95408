"""What a replica's own requests say about it, and how much it is trusted. Pure.

Failures that count are those that say something about the replica: it could not be reached, it broke off before its
answer, or it said 502, 503 or 504. Five in a row and it is to be left out; its time doubles with each failure after it
came back, and a success forgets everything. Whether it *may* be left out is for `activator.takers`.

The numbers are Envoy's where it has them (`consecutive_gateway_failure` 5), shorter where a GPU would stand idle.
"""

from typing import Final

from zerogate.counters import Result
from zerogate.http.exchange import Exchange

FAILURES: Final = 5
OUT_S: Final = 1.0
MOST_OUT_S: Final = 30.0
RAMP_S: Final = 10.0
"""How long a fresh replica, or one that came back, counts as busier than it is."""
LEAST_WEIGHT: Final = 0.1
FAILING_STATUSES: Final = frozenset({502, 503, 504})
LEAST_FAILING: Final = min(FAILING_STATUSES)
"""What a request that went well is looked at for: below it there is nothing to judge."""


class Health:
    """Of one replica that failed lately; a healthy one has none. Times in seconds, monotonic."""

    __slots__ = ("failures", "out_until_s", "times_out", "why")

    def __init__(self) -> None:
        self.failures = 0
        """In a row."""
        self.times_out = 0
        self.out_until_s = 0.0
        self.why = ""
        """Of the last failure, as a clause."""

    @property
    def is_failing(self) -> bool:
        """Whether it is better left out for a while."""
        return self.failures >= FAILURES

    def fail(self, why: str) -> None:
        """One more failure."""
        self.failures += 1
        self.why = why

    def leave(self, now_s: float) -> float:
        """Leave it out from now on; returns for how many seconds."""
        out_s = min(OUT_S * 2.0**self.times_out, MOST_OUT_S)
        self.times_out = min(self.times_out + 1, 16)
        self.out_until_s = now_s + out_s
        return out_s


def verdict(exchange: Exchange) -> str | None:
    """What the end of a request says about its replica: why it failed, "" for an answer of its own, None for nothing.

    A client that left and a timer that fired say nothing: a replica that is silent is the lookout's.
    """
    if exchange.result is Result.SERVED:
        return f"it answered {exchange.status}" if exchange.status in FAILING_STATUSES else ""
    return "no answer: it broke off" if exchange.code == "replica_lost" and exchange.first_byte_s is None else None


def weight(ramp_until_s: float, now_s: float) -> float:
    """How much of an ordinary replica's share one gets that is trusted in full only then: `LEAST_WEIGHT` to 1."""
    left_s = ramp_until_s - now_s
    return 1.0 if left_s <= 0 else max(LEAST_WEIGHT, 1.0 - left_s / RAMP_S)
