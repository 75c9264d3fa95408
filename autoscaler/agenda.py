"""When which service is decided about: one timer for all of them, and slices that leave the loop smooth.

A service is planned for at most one instant or not at all, and one that is not planned costs nothing. What is due runs
in slices of a millisecond with the rest of the loop in between, those who wait for a wake first. Owned by
`autoscaler.loop`; all methods are called on the event loop.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from zerogate.clock import now as real_now

log = logging.getLogger(__name__)

_SLICE_S: Final = 0.001
"""Half of what any callback may take in a process that carries traffic."""
_EARLY_S: Final = 0.001
"""Timers of an event loop fire up to its resolution early."""


class Agenda:
    """Calls `act(name)` for whoever is due. `clock` is the one that planned times are given in."""

    def __init__(
        self, act: Callable[[str], None], *, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        self._act = act
        self._loop = loop
        self._clock = clock
        self._planned: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._due: OrderedDict[str, None] = OrderedDict()
        self._timer: tuple[float, asyncio.TimerHandle] | None = None
        self._slice: asyncio.Handle | None = None

    def plan(self, name: str, at_s: float | None) -> None:
        """Act at that time, instead of whatever was planned before; None: not at all."""
        if at_s is None:
            self._planned.pop(name, None)
            return
        self._planned[name] = at_s
        if len(self._heap) > 2 * len(self._planned) + 64:
            self._heap = [(planned_s, planned) for planned, planned_s in self._planned.items()]
            heapify(self._heap)
        else:
            heappush(self._heap, (at_s, name))
        self._arm()

    def plan_by(self, name: str, at_s: float) -> None:
        """Act at that time at the latest."""
        planned_s = self._planned.get(name)
        if name not in self._due and (planned_s is None or planned_s > at_s):
            self.plan(name, at_s)

    def put_off(self, name: str, at_s: float) -> None:
        """Act at that time instead of what was planned before; what is due already stays due."""
        if name not in self._due:
            self.plan(name, at_s)

    def soon(self, name: str, *, first: bool = False) -> None:
        """Act in the next iteration of the loop; `first`: before all others that are due."""
        self._due[name] = None
        if first:
            self._due.move_to_end(name, last=False)
        if self._slice is None:
            self._slice = self._loop.call_soon(self._run_slice)

    def drop(self, name: str) -> None:
        """Forget the service."""
        self._planned.pop(name, None)
        self._due.pop(name, None)

    def close(self) -> None:
        """Act no more."""
        for handle in (self._slice, self._timer[1] if self._timer else None):
            if handle is not None:
                handle.cancel()
        self._planned.clear()
        self._due.clear()
        self._slice = self._timer = None

    def _arm(self) -> None:
        if not self._heap:
            return
        at_s = self._heap[0][0]
        if self._timer is not None:
            if self._timer[0] <= at_s:
                return
            self._timer[1].cancel()
        self._timer = at_s, self._loop.call_later(max(0.0, at_s - self._clock()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        limit_s = self._clock() + _EARLY_S
        while self._heap and self._heap[0][0] <= limit_s:
            at_s, name = heappop(self._heap)
            if self._planned.get(name) == at_s:
                del self._planned[name]
                self.soon(name)
        self._arm()

    def _run_slice(self) -> None:
        self._slice = None
        end_s = real_now() + _SLICE_S
        while self._due and real_now() < end_s:
            name, _ = self._due.popitem(last=False)
            try:
                self._act(name)
            except Exception:
                log.exception("deciding about %s failed; the others go on", name)
        if self._due and self._slice is None:
            self._slice = self._loop.call_soon(self._run_slice)
