"""Holds each change of a state to its table, also those that are made in line and ask nobody."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final


class HeldTo:
    """An attribute for a subclass of what has the state, in whose `__slots__` is `slot`. `after`: which states may
    follow each of them; `names`: for the failure."""

    def __init__(self, slot: str, after: Mapping[int, Collection[int]], names: Sequence[str]) -> None:
        self._slot: Final = slot
        self._after: Final = after
        self._names: Final = names

    def __get__(self, it: Any, owner: type | None = None) -> Any:
        return getattr(it, self._slot)

    def __set__(self, it: Any, state: int) -> None:
        before = getattr(it, self._slot, None)
        assert before is None or state in self._after[before], f"{self._names[before]} → {self._names[state]}"
        setattr(it, self._slot, state)
