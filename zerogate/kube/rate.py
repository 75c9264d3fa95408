"""How fast we ask the API server, and who goes first. Pure.

A token bucket shared by everything, refilled at `rate`. Wakes are served from a bucket of their own first, so nothing
else can make them wait; what they take is charged to the shared one too, which may go into debt for it, so the sum
stays bounded. Within a priority it is first come, first served; a lower priority goes only when none above it waits.
Reviews of tokens have a bucket to themselves: thousands of them come at once after a start, and neither may a write of
a number wait for them nor they for 50 a second.
"""

from collections import deque
from enum import IntEnum

import msgspec

from zerogate.bucket import Bucket


class Priority(IntEnum):
    """Lower goes first."""

    WAKE = 0
    """A request is held for this write: a scale from zero."""
    WRITE = 1
    READ = 2
    REVIEW = 3
    """Whether a token is somebody's. It writes nothing, and neither waits for the others nor they for it."""
    LEASE = 4
    """Who leads: one request every two seconds, that waits for nothing, least of all for thousands of wakes."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Requests a second and how many at once after a pause."""

    rate: float = 50.0
    """client-go's default is 5 and most controllers set 20 to 50; a watch is one request however long it lasts."""
    burst: float = 100.0
    wake_rate: float = 400.0
    """Twice what one API server on two cores was seen to accept: it should push back itself, by 429, before we do."""
    wake_burst: float = 500.0
    review_rate: float = 300.0
    """10,000 sidecars of an autoscaler that was started anew are known within 35 s; one that is not heard for a minute
    withholds zero. A review costs the server about 0.7 ms of a core, and us half of that."""
    review_burst: float = 300.0


class Throttle:
    """Tickets wait here until their turn. `now` never goes back."""

    def __init__(self, rates: Rates | None = None) -> None:
        rates = rates or Rates()
        self._shared = Bucket(rates.rate, rates.burst, most_owed=rates.burst)
        self._wakes = Bucket(rates.wake_rate, rates.wake_burst)
        self._reviews = Bucket(rates.review_rate, rates.review_burst)
        self._waiting: tuple[deque[int], ...] = tuple(deque() for _ in Priority)
        self._last = 0

    def enter(self, priority: Priority) -> int:
        """A new ticket at the end of its line."""
        self._last += 1
        self._waiting[priority].append(self._last)
        return self._last

    def leave(self, ticket: int) -> None:
        """The ticket is not wanted any more; nothing happens where it had its turn already."""
        for line in self._waiting:
            if ticket in line:
                line.remove(ticket)

    def due(self, now: float) -> tuple[list[int], float | None]:
        """The tickets whose turn it is, in order, and seconds until the next one's (None: nobody waits)."""
        self._shared.refill(now)
        self._wakes.refill(now)
        self._reviews.refill(now)
        let_go: list[int] = []
        wakes, *others, reviews, leases = self._waiting
        while leases:
            self._shared.take()
            let_go.append(leases.popleft())
        while wakes and self._wakes.has_one:
            self._wakes.take()
            self._shared.take()
            let_go.append(wakes.popleft())
        for line in others:
            while line and self._shared.has_one:
                self._shared.take()
                let_go.append(line.popleft())
        while reviews and self._reviews.has_one:
            self._reviews.take()
            let_go.append(reviews.popleft())
        waits = [self._wakes.wait_s()] if wakes else []
        if reviews:
            waits.append(self._reviews.wait_s())
        if any(others):
            waits.append(self._shared.wait_s())
        return let_go, min(waits, default=None)
