"""Long work on the loop in slices, so that no callback takes longer than the requests beside it can bear."""

import asyncio
from typing import Final

from zerogate.clock import now

SLICE_S: Final = 0.0005
"""A quarter of the 2 ms that any callback may take in a process that carries traffic: the collector of garbage and the
write of what a slice made come on top."""


class Pace:
    """One for each piece of work, however many loops it has: `await pace.rest()` after each step.

    The rest of the loop runs in between whenever a slice is used up. A step must be far shorter than a slice.
    """

    __slots__ = ("_end_s",)

    def __init__(self) -> None:
        self._end_s = now() + SLICE_S

    async def rest(self) -> None:
        """Let others run where the slice is used up."""
        if now() >= self._end_s:
            await asyncio.sleep(0)
            self._end_s = now() + SLICE_S
