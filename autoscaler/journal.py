"""What was decided, kept for whoever asks later. Pure.

`Journal` holds the last changes of one service: decisions that repeat number and winner collapse into the entry that
they repeat, so a quiet night does not push the interesting hour out. `Turn` is everything that one decision was made
from, as one line of JSON; `replay` decides again from such lines, and the outcome is the same byte for byte.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from autoscaler.decide import decide
from autoscaler.decision import Decision, Memory, Observation
from zerogate.policy import Policy

_MOST_ENTRIES: Final = 64
"""Changes per service: a day of a service that wakes every twenty minutes."""


class Entry(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A decision that changed something, and how long it held."""

    decision: Decision
    repeats: int = 0
    """How often the same was decided again."""
    last_wall_s: float
    """When it was decided last."""


class Journal:
    """The last changes of one service, oldest first, at most 64."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: tuple[Entry, ...] = ()

    def add(self, decision: Decision) -> bool:
        """Keep a decision; False where it only repeats the last one."""
        last = self._entries[-1] if self._entries else None
        if last is not None and _is_same(last.decision, decision):
            again = Entry(decision=last.decision, repeats=last.repeats + 1, last_wall_s=decision.wall_s)
            self._entries = (*self._entries[:-1], again)
            return False
        self._entries = (*self._entries, Entry(decision=decision, last_wall_s=decision.wall_s))[-_MOST_ENTRIES:]
        return True

    def entries(self) -> tuple[Entry, ...]:
        """The changes, oldest first."""
        return self._entries


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One decision with everything that it was made from."""

    policy: Policy
    observation: Observation
    memory: Memory
    now_s: float
    decision: Decision


def encode(turn: Turn) -> bytes:
    """The turn as one line of JSON, with its line end."""
    return msgspec.json.encode(turn) + b"\n"


def replay(lines: Iterable[bytes]) -> Iterator[tuple[Turn, Decision]]:
    """(what was recorded, what is decided from it now) for each line. Raises msgspec.DecodeError on foreign lines."""
    decoder = msgspec.json.Decoder(Turn)
    for line in lines:
        turn = decoder.decode(line)
        yield turn, decide(turn.policy, turn.observation, turn.memory, turn.now_s)[0]


def _is_same(one: Decision, other: Decision) -> bool:
    return one.desired == other.desired and one.winner == other.winner
