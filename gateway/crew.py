"""Who of a gateway's processes is forked, told to leave, or replaced, and when. Pure: `now_s` is an argument.

A crew has *places*; in each one process serves. Its *number* is given at the fork and never used again. One that ends
unasked is replaced: at once, and after further ends soon after their start with a growing pause. A restart goes from
place to place: a successor is forked, and when it is ready its predecessor is told to leave; one that ends before
it was ready ends the restart.

Invariants: a place never has more than one that serves and one that is to follow it; while all leave nothing is forked.
"""

from collections.abc import Callable
from typing import Final

import msgspec

HEALTHY_S: Final = 10.0
"""Whoever served for so long did not fail because of how it starts: the next end is the first again."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
"""A fork in two seconds is no load, and connections of that place wait no longer."""


class Fork(msgspec.Struct, frozen=True):
    """Start a process."""

    place: int
    number: int


class TellToLeave(msgspec.Struct, frozen=True):
    """Let a process finish what it has and end. `is_last`: nobody takes its place."""

    number: int
    is_last: bool


class Restarted(msgspec.Struct, frozen=True):
    """A restart is over: everybody was replaced, or a successor did not come up and who is left stays."""

    is_complete: bool


Effect = Fork | TellToLeave | Restarted


class _Place:
    __slots__ = ("failures", "fork_s", "server", "successor")

    def __init__(self) -> None:
        self.server: int | None = None
        """Who has the place, ready or not."""
        self.successor: int | None = None
        self.failures = 0
        """Ends soon after a start, in a row."""
        self.fork_s: float | None = None
        """When it is to be forked anew."""


class Crew:
    """See the module's text. Each method returns what is to be done, in order."""

    def __init__(self, places: int, new_number: Callable[[], int]) -> None:
        self._places = [_Place() for _ in range(places)]
        self._new_number = new_number
        self._begun_s: dict[int, float] = {}
        self._place_of: dict[int, int] = {}
        self._ready: dict[int, None] = {}
        self._to_restart: list[int] = []
        """Places whose turn has not come; the first one's successor was forked."""
        self.is_leaving = False
        self.replaced = 0
        """Ends that nobody had asked for."""

    @property
    def present(self) -> tuple[int, ...]:
        """Numbers of all processes that have not ended."""
        return tuple(self._begun_s)

    @property
    def serving(self) -> int:
        """Places whose process is ready."""
        return sum(place.server in self._ready for place in self._places)

    @property
    def next_s(self) -> float | None:
        """When `due` has something to do; None while nothing is planned."""
        return min((place.fork_s for place in self._places if place.fork_s is not None), default=None)

    def due(self, now_s: float) -> list[Effect]:
        """Fork what is due; at the beginning, everybody."""
        if self.is_leaving:
            return []
        effects: list[Effect] = []
        for index, place in enumerate(self._places):
            if place.server is None and (place.fork_s is None or place.fork_s <= now_s):
                place.fork_s = None
                place.server = self._fork(index, now_s, effects)
        return effects

    def _fork(self, index: int, now_s: float, effects: list[Effect]) -> int:
        number = self._new_number()
        self._begun_s[number] = now_s
        self._place_of[number] = index
        effects.append(Fork(index, number))
        return number

    def on_ready(self, number: int, now_s: float) -> list[Effect]:
        """A process serves."""
        if number not in self._begun_s:
            return []
        self._ready[number] = None
        effects: list[Effect] = []
        place = self._places[self._place_of[number]]
        if place.successor == number:
            self._hand_over(place, effects)
            self._restart_next(now_s, effects)
        return effects

    def _hand_over(self, place: _Place, effects: list[Effect]) -> None:
        if place.server is not None:
            effects.append(TellToLeave(place.server, is_last=False))
        place.server, place.successor = place.successor, None

    def on_leaving(self, number: int, now_s: float) -> list[Effect]:
        """A process takes no more requests, though nobody here told it: its place is given to another at once."""
        effects: list[Effect] = []
        self._ready.pop(number, None)
        if not self.is_leaving:
            self._vacate(number, now_s, effects, pause_s=0.0)
        return effects

    def on_end(self, number: int, now_s: float) -> list[Effect]:
        """A process has ended."""
        begun_s = self._begun_s.pop(number, now_s)
        effects: list[Effect] = []
        self._ready.pop(number, None)
        if not self.is_leaving:
            self._vacate(number, now_s, effects, pause_s=self._pause_s(number, now_s - begun_s))
        self._place_of.pop(number, None)
        return effects

    def _pause_s(self, number: int, age_s: float) -> float:
        place = self._places[self._place_of[number]]
        if place.server != number:
            return 0.0
        self.replaced += 1
        failures = place.failures = 0 if age_s > HEALTHY_S else place.failures
        place.failures += 1
        return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16)) if failures else 0.0

    def _vacate(self, number: int, now_s: float, effects: list[Effect], *, pause_s: float) -> None:
        place = self._places[self._place_of[number]]
        if place.successor == number:
            place.successor = None
            self._to_restart.clear()
            effects.append(Restarted(is_complete=False))
        elif place.server == number:
            place.server = None
            if place.successor is not None:
                place.server, place.successor = place.successor, None
                self._restart_next(now_s, effects)
            else:
                place.fork_s = now_s + pause_s
                effects += self.due(now_s)

    def restart(self, now_s: float) -> list[Effect]:
        """Replace everybody, one after the other. Nothing where that is under way, or all leave."""
        effects: list[Effect] = []
        if not self._to_restart and not self.is_leaving:
            self._to_restart = list(range(len(self._places)))
            self._begin_restart(now_s, effects)
        return effects

    def _restart_next(self, now_s: float, effects: list[Effect]) -> None:
        del self._to_restart[:1]
        self._begin_restart(now_s, effects)

    def _begin_restart(self, now_s: float, effects: list[Effect]) -> None:
        while self._to_restart:
            place = self._places[self._to_restart[0]]
            if place.server is not None:
                place.successor = self._fork(self._to_restart[0], now_s, effects)
                return
            del self._to_restart[0]  # it is about to be forked anyway
        effects.append(Restarted(is_complete=True))

    def leave(self) -> list[Effect]:
        """All leave."""
        if self.is_leaving:
            return []
        self.is_leaving = True
        self._to_restart.clear()
        for place in self._places:
            place.fork_s = None
        return [TellToLeave(number, is_last=True) for number in self._begun_s]
