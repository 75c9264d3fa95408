"""How long a new list took after the server had forgotten where a watch stood (410), and what that time went into.

Kept by `watching.py`, by the clock that it gives; shown in the log and by the benchmark at scale.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum, auto

import msgspec


class Part(StrEnum):
    """Of the time of a new list."""

    PAUSED = auto()
    """Waited before it was asked for: so that not all clients of a server list at once, or because it said so."""
    COLLECTED = auto()
    """Decoded what the pages held, with all else that ran on the loop meanwhile."""
    TOLD = auto()
    """Compared with what was known, and told to those who act, with all else that ran on the loop meanwhile."""


class Relist(msgspec.Struct, frozen=True, kw_only=True):
    """In seconds by the wall, from the server's word that a version is gone until all was told."""

    took_s: float
    paused_s: float
    collected_s: float
    told_s: float

    @property
    def awaited_s(self) -> float:
        """Nothing was there to be done: the server's own time and the transfer, as far as no page was worked off
        meanwhile. Of a list that came by watch-list all that is not paused or told, as its objects come one by one."""
        return self.took_s - self.paused_s - self.collected_s - self.told_s


class RelistClock:
    """Runs from `lost` to `whole`; outside of that nothing is counted."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lost_s: float | None = None
        self._spent: dict[Part, float] = {}

    def lost(self) -> None:
        """The server has just said that the version is gone. Said again before all is whole, the first time counts."""
        if self._lost_s is None:
            self._lost_s, self._spent = self._clock(), {}

    @contextmanager
    def counted(self, part: Part) -> Iterator[None]:
        """What is done in it belongs to this part; what fails in it to none."""
        began_s = self._clock()
        yield
        self._spent[part] = self._spent.get(part, 0.0) + self._clock() - began_s

    def whole(self) -> Relist | None:
        """The state is complete and told; None where it had not been lost, as for the first one."""
        if self._lost_s is None:
            return None
        took_s, self._lost_s = self._clock() - self._lost_s, None
        return Relist(
            took_s=took_s,
            paused_s=self._spent.get(Part.PAUSED, 0.0),
            collected_s=self._spent.get(Part.COLLECTED, 0.0),
            told_s=self._spent.get(Part.TOLD, 0.0),
        )
