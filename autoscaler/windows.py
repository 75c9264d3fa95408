"""The recent past of one service: request-seconds and arrivals in a ring of buckets. Pure: times are arguments.

What is added is an amount that fell between two instants (the difference of two readings of an integral), so a
request of 20 ms counts with 0.02 request-seconds however rarely anybody looks. Sums over a window weigh the oldest
bucket by the part of it that the window covers. Invariants: memory is bounded by the span whatever is added, and the
sum over the whole span is what was added within it. Made by `autoscaler.sources` for services that have traffic.
"""

from array import array
from math import ceil, floor
from typing import Final

_MOST_BUCKETS: Final = 600
"""10 minutes in seconds, ten times the default stable window; longer ones get coarser buckets, not more of them."""


class Windows:
    """Sums over any window up to `span_s`."""

    __slots__ = ("_arrivals", "_head", "_running", "_size", "span_s", "width_s")

    def __init__(self, span_s: float) -> None:
        self.span_s = span_s
        self.width_s = max(1.0, span_s / _MOST_BUCKETS)
        self._size = ceil(span_s / self.width_s) + 2
        self._running = array("d", bytes(8 * self._size))
        self._arrivals = array("d", bytes(8 * self._size))
        self._head: int | None = None

    def add(self, start_s: float, end_s: float, *, running_s: float, arrivals: float) -> None:
        """Spread request-seconds and arrivals evenly over start..end; what lies before the span is forgotten."""
        last = floor(end_s / self.width_s)
        first = min(floor(start_s / self.width_s), last)
        self._advance(last)
        if first == last:
            self._put(last, running_s, arrivals)
            return
        length_s = end_s - start_s
        for bucket in range(max(first, self._oldest), last + 1):
            inside_s = min(end_s, (bucket + 1) * self.width_s) - max(start_s, bucket * self.width_s)
            self._put(bucket, running_s * inside_s / length_s, arrivals * inside_s / length_s)

    def sums(self, window_s: float, now_s: float) -> tuple[float, float]:
        """(request-seconds, arrivals) in the last `window_s` before `now_s`."""
        if self._head is None:
            return 0.0, 0.0
        start = (now_s - min(window_s, self.span_s)) / self.width_s
        partial = floor(start)
        weight = partial + 1 - start
        running_s, arrivals = self._whole(max(partial + 1, self._oldest))
        if self._oldest <= partial <= self._head:
            running_s += weight * self._running[partial % self._size]
            arrivals += weight * self._arrivals[partial % self._size]
        return running_s, arrivals

    def seconds(self, since_s: float, window_s: float, now_s: float) -> float:
        """How many seconds from `since_s` until now `sums` over this window would count had they been added.

        Those of the oldest bucket weigh as it does: else one that was half filled when its report came would count
        its half by the weight and the rest in full.
        """
        start = (now_s - min(window_s, self.span_s)) / self.width_s
        edge_s = (floor(start) + 1) * self.width_s
        oldest_s = min(edge_s, now_s) - max(since_s, edge_s - self.width_s)
        return max(0.0, now_s - max(since_s, edge_s)) + (floor(start) + 1 - start) * max(0.0, oldest_s)

    def resized(self, span_s: float) -> "Windows":
        """The same past under another span, as far as both reach."""
        other = Windows(span_s)
        if self._head is not None:
            for bucket in range(self._oldest, self._head + 1):
                slot, start_s = bucket % self._size, bucket * self.width_s
                other.add(start_s, start_s + self.width_s, running_s=self._running[slot], arrivals=self._arrivals[slot])
        return other

    @property
    def _oldest(self) -> int:
        return (self._head or 0) - self._size + 1

    def _put(self, bucket: int, running_s: float, arrivals: float) -> None:
        if bucket >= self._oldest:
            self._running[bucket % self._size] += running_s
            self._arrivals[bucket % self._size] += arrivals

    def _whole(self, first: int) -> tuple[float, float]:
        head = self._head or 0
        if first > head:
            return 0.0, 0.0
        low, high = first % self._size, head % self._size
        if low <= high:
            return sum(self._running[low : high + 1]), sum(self._arrivals[low : high + 1])
        return (
            sum(self._running[low:]) + sum(self._running[: high + 1]),
            sum(self._arrivals[low:]) + sum(self._arrivals[: high + 1]),
        )

    def _advance(self, bucket: int) -> None:
        if self._head is None:
            self._head = bucket
        for fresh in range(max(self._head + 1, bucket - self._size + 1), bucket + 1):
            self._running[fresh % self._size] = 0.0
            self._arrivals[fresh % self._size] = 0.0
        self._head = max(self._head, bucket)
