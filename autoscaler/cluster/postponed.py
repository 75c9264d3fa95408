"""Which writes did not succeed, and when each of them may be tried again, so that others get their turn before. Pure.

`now_s` is an argument. Each failure in a row doubles the pause of what failed, and of nothing else. What needs no write
any more is forgotten, so there are never more entries than things to be written.
"""

from collections.abc import Collection, Hashable
from typing import Final

FIRST_S: Final = 10.0
"""After a refusal: somebody may have to allow it first."""
MOST_S: Final = 600.0
"""Whoever has allowed it sees it done within ten minutes; a thousand that nobody allows cost two requests a second."""


class Postponed:
    """See the module's text. A thing is anything hashable."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, tuple[float, float]] = {}
        """Its last pause, and when that ends."""

    def __len__(self) -> int:
        return len(self._entries)

    def until_s(self, *things: Hashable) -> float | None:
        """When what is about all of these may be tried again; None: none of them has failed."""
        return max((self._entries[thing][1] for thing in things if thing in self._entries), default=None)

    def on_failed(self, thing: Hashable, now_s: float, *, first_s: float = FIRST_S) -> None:
        """It was tried, and did not succeed. `first_s`: the pause after a first failure."""
        pause_s = min(MOST_S, 2.0 * self._entries[thing][0]) if thing in self._entries else first_s
        self._entries[thing] = pause_s, now_s + pause_s

    def on_done(self, *things: Hashable) -> None:
        """It succeeded."""
        for thing in things:
            self._entries.pop(thing, None)

    def keep(self, things: Collection[Hashable]) -> None:
        """Forget all others: they need no write any more."""
        for thing in [thing for thing in self._entries if thing not in things]:
            del self._entries[thing]

    def is_due(self, now_s: float) -> bool:
        """Something may be tried again."""
        return any(now_s >= until_s for _, until_s in self._entries.values())
