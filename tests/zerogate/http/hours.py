"""An event loop whose hours take a second: real sockets, and a clock that can be moved on.

Time passes as it does, until `skip`: then the loop waits for nothing any more but jumps to its next timer, as long as
no socket has anything to say. Every timer on the way fires at its own time, in its order, and every module that reads
the clock reads this one.
"""

import asyncio
import selectors
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import pytest

from zerogate import clock

GLANCE_S: Final = 0.002
"""How long a socket is given before the clock jumps: what one end of a loopback has written is there by then."""


class _Hasty(selectors.DefaultSelector):
    """Waits, or tells how much of a wait was left out."""

    skips = False
    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self.skips or timeout is None or timeout <= GLANCE_S:
            return super().select(timeout)
        found = super().select(GLANCE_S)
        if not found:
            self.skipped_s += timeout - GLANCE_S
        return found


class HastyLoop(asyncio.SelectorEventLoop):
    """See the module's text."""

    def __init__(self) -> None:
        self._hasty = _Hasty()
        super().__init__(self._hasty)

    def time(self) -> float:
        return time.perf_counter() + self._hasty.skipped_s

    async def skip(self, seconds: float) -> None:
        """Let so much time pass."""
        self._hasty.skips = True
        try:
            await asyncio.sleep(seconds)
        finally:
            self._hasty.skips = False


def run(work: Callable[[HastyLoop], Coroutine[Any, Any, None]]) -> None:
    """Run `work(loop)` to its end on such a loop, whose clock all modules read meanwhile."""
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=HastyLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, HastyLoop)
        for module in tuple(sys.modules.values()):
            if getattr(module, "now", None) is clock.now and module is not clock:
                patch.setattr(module, "now", loop.time)
        runner.run(work(loop))
