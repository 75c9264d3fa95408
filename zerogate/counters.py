"""Plain-integer metrics of the request path. Pure: no clock, no I/O, no metrics library.

A Prometheus counter costs as much as the rest of the accounting of a request, so the path adds to integers and a
collector turns them into metrics when somebody scrapes. Every label value is known beforehand: nothing that a client
sends can add a series.
"""

from bisect import bisect_left
from enum import StrEnum
from typing import Final

import msgspec


class Result(StrEnum):
    """How a request ended: exactly one for each that was accepted."""

    SERVED = "served"
    """A replica's answer went out to its end."""
    REFUSED = "refused"
    """zerogate answered itself: a bound, a timeout, a failed start, an unknown route."""
    ABANDONED = "abandoned"
    """The client went away first."""
    CUT = "cut"
    """The answer was reset after its head: the replica died or a timer ended it."""


SERVED: Final = Result.SERVED
ABANDONED: Final = Result.ABANDONED
CUT: Final = Result.CUT
"""For what runs with each request: an attribute of an Enum is looked up for 70 ns each time, a global for 2."""


WAIT_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""From one readiness probe to the longest hold: cold starts take 1 s (small, cached) to 10 min (a new node)."""


class Exemplar(msgspec.Struct, frozen=True):
    """One value that was counted, and the trace that tells how it came about. `at`: wall clock, seconds since 1970."""

    trace_id: str
    value: float
    at: float


class Histogram:
    """Counts of values up to each bound (not cumulative), one more for what is above, and their sum."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...] = WAIT_BOUNDS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] | None = None
        """The last one of each bucket, by its place in `counts`; None where nothing was traced."""

    def observe(self, value: float) -> None:
        """Count one value, in the unit of the bounds."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def exemplify(self, exemplar: Exemplar) -> None:
        """Keep a value that was counted as the example of its bucket."""
        if self.exemplars is None:
            self.exemplars = {}
        self.exemplars[bisect_left(self.bounds, exemplar.value)] = exemplar


class ServiceCounters:
    """What one process counted for one service."""

    __slots__ = (
        "abandoned", "cold_starts", "cut", "ejections_by_why", "first_byte", "hold", "refused_by_code", "request",
        "retries_by_why", "served", "start", "status_classes", "websockets",
    )  # fmt: skip

    def __init__(self) -> None:
        self.served = 0
        self.abandoned = 0
        self.cut = 0
        self.refused_by_code: dict[str, int] = {}
        """Refusals by `Refusal.code`; the codes are constants of the program."""
        self.status_classes = [0] * 6
        """Served answers by first digit of their status; index 0 is never used."""
        self.retries_by_why = {"connect": 0, "lost": 0, "turned_away": 0}
        """Attempts that were made again: there was no connection, it broke before the answer, a sidecar had no slot."""
        self.ejections_by_why = {"connect": 0, "lost": 0, "status": 0}
        """How often a replica was left out, by what it did last."""
        self.cold_starts = 0
        """Requests that met a service without a ready replica."""
        self.websockets = 0
        """Open now."""
        self.hold = Histogram()
        """Seconds that held requests waited until they were dispatched."""
        self.start = Histogram()
        """Seconds from a replica's spawn to its readiness."""
        self.first_byte = Histogram()
        """Seconds from a request's dispatch to its response head."""
        self.request = Histogram()
        """Seconds from a served request's head to the last byte of its answer; WebSockets are left out."""

    @property
    def retries(self) -> int:
        """Attempts that were made again, for whatever reason."""
        return sum(self.retries_by_why.values())

    def refuse(self, code: str) -> None:
        """Count one refusal under its code."""
        self.refused_by_code[code] = self.refused_by_code.get(code, 0) + 1
