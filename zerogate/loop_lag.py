"""How late the loop comes to what is due: the measure of whether it stays smooth."""

import asyncio
from typing import Final

from zerogate.clock import now
from zerogate.counters import Histogram

_EVERY_S: Final = 0.1
"""Ten looks a second cost 0.03 % of a core and see every callback of 100 ms, and one of 10 ms in ten."""
LAG_BOUNDS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""uvloop's timers move in steps of 1 ms, so nothing below that is seen; 2 ms is what a callback may take."""


class LoopLag:
    """Measures the running loop from `start` to `close`."""

    def __init__(self) -> None:
        self.histogram = Histogram(LAG_BOUNDS_S)
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure the loop that runs."""
        self._plan(asyncio.get_running_loop())

    def close(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_s = now() + _EVERY_S
        self._timer = loop.call_later(_EVERY_S, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self.histogram.observe(max(0.0, now() - self._due_s))
        self._plan(loop)
