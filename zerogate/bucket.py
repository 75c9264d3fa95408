"""A token bucket: so many at once, and so many a second in the long run. Pure: `now_s` never goes back.

Used where something is slowed down or put off: requests to the API server, Events, and what sources of reports may say.
Floods of HTTP/2 have a leaner one on the path of bytes (`zerogate.http.h2.limits`).
"""

_ROUNDING = 1e-6
"""Sums of floats fall short of a whole token by rounding: without the margin a timer would fire for nothing."""


class Bucket:
    """`left`: what may be taken now, as of the last `refill`; below zero it is owed. It is full at first."""

    __slots__ = ("_at_s", "_burst", "_most_owed", "_per_s", "left")

    def __init__(self, per_s: float, burst: float, *, most_owed: float = float("inf")) -> None:
        self._per_s = per_s
        self._burst = burst
        self._most_owed = most_owed
        self._at_s: float | None = None
        self.left = burst

    def refill(self, now_s: float) -> None:
        """Add what has come since the last time."""
        if self._at_s is not None:
            self.left = min(self._burst, self.left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s

    @property
    def has_one(self) -> bool:
        return self.left >= 1.0 - _ROUNDING

    def take(self, count: float = 1.0) -> None:
        """Whether it is there or not."""
        self.left = max(self.left - count, -self._most_owed)

    def wait_s(self, wanted: float = 1.0) -> float:
        """Seconds until so much is there."""
        return max(0.0, (wanted - self.left) / self._per_s)
