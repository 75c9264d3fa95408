"""One timer for all requests of a process.

A `call_later` and its cancel for each of five timers would cost as much as the rest of a request. Here an item is
visited at a tick; on the visit it fires what is due and says when it wants to be seen next. Deadlines that move later,
as they do with every byte of a stream, cost nothing; one that moves before the next visit moves the item once.
Precision: one tick, and after a gap in which the process did not run one more. Nothing runs while nothing is watched,
and where little is, nothing runs before the first of it is due: a process that only keeps connections open sleeps.
"""

import asyncio
import logging
from typing import Final, Protocol

from zerogate.clock import now

TICK_S: Final = 0.05
"""Shortest timer that users can set is 1 s; 20 wake-ups a second cost 0.25 % of a core where nothing else happens."""
FEW: Final = 32
"""Ticks with something to visit, up to which the first one is looked for: a process with more has no time to sleep."""
VISITS_PER_CALL: Final = 1000
"""A visit costs about 0.5 µs, firing up to 10 µs: a larger batch goes on in the next pass of the loop."""

GAP_S: Final = 1.0
"""A turn that is so late was kept from running: the process was stopped, or its machine."""

NEVER: Final = float("inf")

log = logging.getLogger(__name__)


class Watched(Protocol):
    """Something with deadlines. Both attributes belong to the sweep and begin as `NEVER`, 0."""

    visit_s: float
    """When it will be visited at the latest; a deadline that is not earlier needs no `watch`."""
    tick: int

    def due(self, now_s: float) -> float | None:
        """Fire what is due at `now_s`; return the next deadline (absolute, seconds), or None to be left alone."""


class Sweep:
    """The ticks of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._ticks: dict[int, dict[Watched, None]] = {}
        self._turning: dict[Watched, None] = {}
        self._last = 0
        self._next = 0
        """The tick of the next turn; 0 within one."""
        self._count = 0
        self._turn_at_s = 0.0
        self._has_waited = False
        self._timer: asyncio.Handle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is watched and no timer runs."""
        return self._timer is None

    def watch(self, item: Watched, deadline_s: float) -> None:
        """See `item` at `deadline_s` or up to one tick later; a visit that is already planned earlier stays."""
        tick = int(deadline_s / TICK_S) + 1
        if item.tick:
            if item.tick <= tick:
                return
            self.forget(item)
        if self._timer is None:
            now_s = now()
            self._last = int(now_s / TICK_S)
            self._next = tick = max(tick, self._last + 1)
            self._plan(now_s)
        else:
            tick = max(tick, self._last + 1)
            if tick < self._next:
                self._hurry(self._timer, tick)
        item.tick = tick
        item.visit_s = tick * TICK_S
        self._ticks.setdefault(tick, {})[item] = None
        self._count += 1

    def forget(self, item: Watched) -> None:
        """Do not visit `item` again."""
        if item.tick:
            bucket = self._turning if item.tick <= self._last else self._ticks[item.tick]
            del bucket[item]
            item.tick = 0
            item.visit_s = NEVER
            self._count -= 1

    def _plan(self, now_s: float) -> None:
        self._turn_at_s = max(now_s, self._next * TICK_S)
        self._timer = self._loop.call_later(self._turn_at_s - now_s, self._turn)

    def _hurry(self, timer: asyncio.Handle, tick: int) -> None:
        """Something is due before what the timer waits for."""
        timer.cancel()
        self._next = tick
        self._plan(now())

    def _turn(self) -> None:
        now_s = now()
        if now_s - self._turn_at_s > GAP_S and not self._has_waited:
            # what came in the gap still lies in the sockets, and may be what a deadline waits for: it is read first
            self._has_waited = True
            self._next = int(now_s / TICK_S) + 1
            self._plan(now_s)
            return
        self._has_waited = False
        # a tick's own time divided by a tick may be a little less than the tick
        target = max(int(now_s / TICK_S), self._next if now_s >= self._turn_at_s else 0)
        self._next = 0
        for _ in range(VISITS_PER_CALL):
            while not self._turning and self._last < target:
                self._last += 1
                self._turning = self._ticks.pop(self._last, self._turning)
            if not self._turning:
                self._timer = None
                if self._count:
                    self._next = min(self._ticks) if len(self._ticks) <= FEW else self._last + 1
                    self._plan(now_s)
                else:
                    self._ticks.clear()  # those of what was forgotten: in time they would be past and never visited
                return
            item = next(iter(self._turning))
            self.forget(item)
            self._visit(item, now_s)
        self._turn_at_s = now_s
        self._timer = self._loop.call_soon(self._turn)

    def _visit(self, item: Watched, now_s: float) -> None:
        try:
            again_s = item.due(now_s)
        except Exception:
            log.exception("a timer of %r failed", item)
            return
        if again_s is not None:
            self.watch(item, again_s)
