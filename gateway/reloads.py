"""Changed files on their way to the workers: who has to take one yet, and who waits to hear of it. Pure."""

from collections.abc import Iterable
from typing import Final

import msgspec

APPLY_S: Final = 5.0
"""For all workers to work by a changed file, before whoever asked is told that it takes longer."""

Asker = tuple[int, int]
"""The process that asked, and its own number of the question."""


class Applied(msgspec.Struct, frozen=True):
    """What an asker is told. `missing`: workers that have not taken the file yet."""

    asker: Asker
    missing: int


class _Reload(msgspec.Struct):
    edition: int
    workers: set[int]
    asker: Asker | None
    deadline_s: float


class Reloads:
    """See the module's text. Bounded by time: each is forgotten after `APPLY_S`."""

    def __init__(self) -> None:
        self._pending: list[_Reload] = []

    def begin(self, edition: int, workers: Iterable[int], asker: Asker | None, now_s: float) -> None:
        """These workers were told of an edition of the file."""
        self._pending.append(_Reload(edition, set(workers), asker, now_s + APPLY_S))

    def on_applied(self, worker: int, edition: int) -> None:
        """A worker works by this edition, and so by none before it."""
        for reload in self._pending:
            if reload.edition <= edition:
                reload.workers.discard(worker)

    def on_end(self, worker: int) -> None:
        """A worker is gone: whoever replaces it begins with the newest edition."""
        for reload in self._pending:
            reload.workers.discard(worker)

    @property
    def next_s(self) -> float | None:
        """When `due` has something to say at the latest."""
        return min((reload.deadline_s for reload in self._pending), default=None)

    def due(self, now_s: float) -> list[Applied]:
        """Who is to be told now."""
        over = [reload for reload in self._pending if not reload.workers or now_s >= reload.deadline_s]
        self._pending = [reload for reload in self._pending if reload not in over]
        return [Applied(reload.asker, len(reload.workers)) for reload in over if reload.asker is not None]
