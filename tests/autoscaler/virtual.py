"""The stock event loop in virtual time: timers fire at once, in order, and the clock jumps to them."""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _NoWait(selectors.DefaultSelector):
    """Never waits; tells how long the loop would have slept."""

    def __init__(self, slept: Callable[[float], None]) -> None:
        super().__init__()
        self._slept = slept

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is planned, and the test still waits")
        self._slept(max(timeout, 0.0))
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`run_for` is the only way in which its time passes."""

    def __init__(self) -> None:
        self._virtual_s = 1000.0
        super().__init__(_NoWait(self._sleep))

    def _sleep(self, timeout_s: float) -> None:
        self._virtual_s += timeout_s

    def time(self) -> float:
        return self._virtual_s

    def run_for(self, seconds: float) -> None:
        """Let so much time pass, with everything that is planned in it."""
        self.run_until_complete(asyncio.sleep(seconds))

    def planned(self) -> list[float]:
        """Seconds until each timer that is set."""
        timers: list[Any] = self._scheduled  # type: ignore[attr-defined]
        return sorted(timer.when() - self.time() for timer in timers if not timer.cancelled())
