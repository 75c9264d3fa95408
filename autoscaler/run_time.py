"""Learned durations of one service: how long a request runs, how long a replica boots. Pure, bounded memory.

W, the run time, turns an arrival rate into concurrency (Little's law) and a backlog into work. Both learners start
with "not known", and their values can be carried over a restart. Kept by `autoscaler.sources` and `autoscaler.loop`.
"""

from math import ceil
from typing import Final

_MOST_REQUESTS: Final = 100.0
"""The mean forgets beyond about so many completions: enough to be calm, few enough to follow a changed model."""

_OLD_ENOUGH_S: Final = 5.0
"""Where nothing completed yet, the running ones' age counts only from here: younger, it says nothing about W."""

_MOST_BOOTS: Final = 32
"""Boots remembered; of so few the p95 is the second longest, of fewer than 20 the longest."""


class RunTime:
    """Mean seconds that a request spends in a replica."""

    __slots__ = ("completed_s", "completions")

    def __init__(self, completed_s: float = 0.0, completions: float = 0.0) -> None:
        self.completed_s = completed_s
        self.completions = completions

    def learn(self, completed_s: float, completions: int) -> None:
        """So many requests completed, which ran `completed_s` seconds together."""
        self.completed_s += completed_s
        self.completions += completions
        if self.completions > _MOST_REQUESTS:
            self.completed_s *= _MOST_REQUESTS / self.completions
            self.completions = _MOST_REQUESTS

    def estimate_s(self, *, running: int, running_age_s: float) -> float | None:
        """W in seconds, None where it is not known. `running_age_s` is the sum of the ages of the `running` ones.

        Long streams complete rarely, so where the mean over completed and running ones together is longer than that
        of the completed alone, it holds: an age is the least that a run time can be.
        """
        if self.completions <= 0:
            age_s = running_age_s / running if running > 0 else 0.0
            return age_s if age_s >= _OLD_ENOUGH_S else None
        completed = self.completed_s / self.completions
        together = (self.completed_s + running_age_s) / (self.completions + running)
        return max(completed, together)


class BootTimes:
    """Seconds from spawn to ready of the last boots, oldest first."""

    __slots__ = ("boots_s",)

    def __init__(self, boots_s: tuple[float, ...] = ()) -> None:
        self.boots_s = boots_s[-_MOST_BOOTS:]

    def learn(self, boot_s: float) -> None:
        """One replica went from spawn to ready in so many seconds."""
        self.boots_s = (*self.boots_s, boot_s)[-_MOST_BOOTS:]

    def p95_s(self) -> float | None:
        """The boot time that 95 of 100 starts do not exceed; None where nothing ever became ready."""
        if not self.boots_s:
            return None
        return sorted(self.boots_s)[ceil(0.95 * len(self.boots_s)) - 1]
