"""The memory of one process for bytes that wait: who counts in it, and when it is short. Pure.

Made by the composition, one for each process; `zerogate.http.server` lets its clients know that it is short, and the
owners of requests (`activator.hold`, `queueproxy.slots`) refuse who is new meanwhile.
"""

from collections.abc import Callable
from typing import Final

BUFFER_MEMORY_BYTES: Final = 1024 * 1024 * 1024
"""Sixteen of the largest bodies that are searched for their model."""
_ANSWERS_OWN: Final = 8
"""One part of so many is not for bodies: full queues must not stop the answers whose ends free them."""
_ENOUGH: Final = 16
"""Short until one part of so many is free again, so that it does not change with each client that takes a little."""


def _unheard(is_short: bool) -> None:
    """Nobody asked to be told."""


class BufferMemory:
    """Bytes that one process keeps against one bound: of request bodies, and of answers that slow clients leave.

    Of an answer they are counted while its client's connection says that it takes no more, so that what is written
    through costs nothing. Bodies stop at `is_full`. Answers that reach the bound make it short: who is new is refused,
    and each answer goes on as fast as its own client takes it, so none of them waits for another. `on_short` is told of
    both changes.
    """

    __slots__ = ("answer_bytes", "is_short", "limit_bytes", "on_short", "used_bytes")

    def __init__(self, limit_bytes: int = BUFFER_MEMORY_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        """Of bodies and answers together."""
        self.answer_bytes = 0
        self.is_short = False
        """As of the last look."""
        self.on_short: Callable[[bool], None] = _unheard

    @property
    def is_full(self) -> bool:
        """Whether no more of bodies is to be kept."""
        return self.used_bytes >= self.limit_bytes - self.limit_bytes // _ANSWERS_OWN

    @property
    def body_bytes(self) -> int:
        return self.used_bytes - self.answer_bytes

    def keep_answer(self, size: int) -> None:
        """So much of an answer waits for its client."""
        self.answer_bytes += size
        self.used_bytes += size
        if not self.is_short and self.used_bytes >= self.limit_bytes:
            self._turn(True)

    def drop_answer(self, size: int) -> None:
        """It was taken, or is of no use any more."""
        self.answer_bytes -= size
        self.used_bytes -= size
        if self.is_short:
            self.look()

    def recount_answer(self, before: int, size: int) -> int:
        """So much of an answer waits instead of `before`; returns it."""
        if before:
            self.drop_answer(before)
        if size:
            self.keep_answer(size)
        return size

    def look(self) -> bool:
        """Whether it is short now: bodies that are gone are not told."""
        enough_bytes = self.limit_bytes - self.limit_bytes // _ENOUGH
        if self.is_short and (self.used_bytes < enough_bytes or not self.answer_bytes):
            self._turn(False)
        return self.is_short

    def _turn(self, is_short: bool) -> None:
        self.is_short = is_short
        self.on_short(is_short)
