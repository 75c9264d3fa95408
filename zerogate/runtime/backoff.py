"""How long starts of a service are suspended after failures. Pure: `now_s` is an argument.

One second, doubled with each failure in a row up to five minutes: short enough that a typo fixed by hand is tried
soon, long enough that a model that cannot start does not keep the disk and the GPU busy. The first crash of a
replica that had been ready costs nothing, because a request may already be waiting for its successor, and neither does
the first start whose port somebody else took: the next one has another. Failures
while starts are suspended belong to the same incident and do not lengthen it.
"""

import msgspec

from zerogate.runtime.interface import BackOff, EndCause, Ended

FIRST_S = 1.0
MOST_S = 300.0
FORGIVEN_AFTER_S = 300.0
"""A replica that was ready so long since the last failure proves that the service works."""


class Streak(msgspec.Struct, frozen=True, kw_only=True):
    """Failures in a row. `failed_s`: when the last one happened; `next_try_s`: no start before."""

    failures: int
    suspensions: int
    """How many of them suspended starts: the exponent of the next delay."""
    failed_s: float
    next_try_s: float
    last: Ended

    def is_suspended(self, now_s: float) -> bool:
        return now_s < self.next_try_s

    def as_back_off(self) -> BackOff:
        return BackOff(failures=self.failures, next_try_s=self.next_try_s, last=self.last)


def after_failure(streak: Streak | None, ended: Ended, *, ready_s: float | None, now_s: float) -> Streak:
    """The streak with one more failure.

    `ready_s`: the earliest instant at which one of the service's present replicas (the failed one included) became
    ready, None where none was.
    """
    if streak is not None and streak.is_suspended(now_s):
        return msgspec.structs.replace(streak, last=ended)
    if streak is not None and ready_s is not None and now_s - max(ready_s, streak.failed_s) >= FORGIVEN_AFTER_S:
        streak = None
    if streak is None and ended.cause in (EndCause.CRASHED, EndCause.PORT_TAKEN):
        return Streak(failures=1, suspensions=0, failed_s=now_s, next_try_s=now_s, last=ended)
    failures, suspensions = (0, 0) if streak is None else (streak.failures, streak.suspensions)
    delay_s = min(FIRST_S * 2.0 ** min(suspensions, 16), MOST_S)
    return Streak(
        failures=failures + 1,
        suspensions=suspensions + 1,
        failed_s=now_s,
        next_try_s=now_s + delay_s,
        last=ended,
    )
