"""Who else writes a workload's number of replicas, and what that forbids us. Pure: `now_s` is an argument.

An HPA, a person or a GitOps controller may write the number too. It is told, not fought: after each such write nothing
is written for a minute but from zero, since somebody who waits cannot be left waiting; after three within ten minutes
nothing at all until the policy changes, because two writers that disagree never end.
"""

from collections import deque
from typing import Final

import msgspec

SILENT_S: Final = 60.0
"""An HPA syncs every 15 s and a person looks at what the command did: either has had its effect by then."""
MOST_WRITES: Final = 3
WITHIN_S: Final = 600.0
"""Three in ten minutes are no accident. A GitOps controller repeats itself every three to five minutes."""


class ForeignWrite(msgspec.Struct, frozen=True):
    """Somebody else changed the number."""

    at_s: float
    before: int
    """What it was as far as we knew."""
    found: int

    @property
    def is_wake(self) -> bool:
        """As gateways do it themselves when no leader answers them: told, and nobody's quarrel."""
        return (self.before, self.found) == (0, 1)


class ForeignWrites:
    """The foreign writes of one workload, as far back as they matter."""

    __slots__ = ("_is_hands_off", "_writes")

    def __init__(self) -> None:
        self._writes: deque[ForeignWrite] = deque(maxlen=MOST_WRITES)
        self._is_hands_off = False

    @property
    def is_hands_off(self) -> bool:
        """Nothing is written until `forgive`."""
        return self._is_hands_off

    @property
    def last(self) -> ForeignWrite | None:
        return self._writes[-1] if self._writes else None

    def note(self, write: ForeignWrite) -> None:
        """One more."""
        self._writes.append(write)
        if len(self._writes) == MOST_WRITES and write.at_s - self._writes[0].at_s <= WITHIN_S:
            self._is_hands_off = True

    def forgive(self) -> None:
        """The policy has changed: whoever changed it has decided who writes."""
        self._writes.clear()
        self._is_hands_off = False

    def silent_until_s(self) -> float:
        """Until then only 0 → N is written."""
        return self._writes[-1].at_s + SILENT_S if self._writes else float("-inf")

    def may_write(self, old: int, now_s: float) -> bool:
        """May `old` be replaced now?"""
        if self._is_hands_off:
            return False
        return old == 0 or now_s >= self.silent_until_s()
