"""The memory of one process for bytes that wait: what counts in it, and when it is short. Pure.

Four kinds count: bodies of requests that are *kept* (to wait, to be searched, to be sent again), *answers* that
clients do not take, *uploads* that replicas do not take, *heads* that have begun to come and whatever else a client has
sent before its turn. The second and the third are counted by connections, while the one that they are written to takes
no more, so that what is written through costs nothing; of HTTP/2, whose connections carry many of them, also by each
stream, from the first byte that no window lets out. A head counts from the end of the read that did not bring it whole.
Nobody here waits for anybody: who is new is refused while it is short, a head that finds no room ends its connection,
and whatever flows goes on as fast as its own other end takes it.

Made by the composition, one for each process; `zerogate.http.server` tells its clients' connections that it is short,
those to replicas look when they write, and the owners of requests (`activator.hold`, `queueproxy.slots`) refuse.
"""

from collections.abc import Callable
from typing import Final

BUFFER_MEMORY_BYTES: Final = 1024 * 1024 * 1024
"""Sixteen of the largest bodies that are searched for their model."""
_STREAMS_OWN: Final = 8
"""One part of so many is not for bodies that are kept: full queues must not stop what flows, whose ends free them."""
_HEADS_OWN: Final = 8
"""One part of so many is the most for heads: whoever sends only halves of them must not drive out bodies and answers.
Of the default that is two thousand of the largest, each of which has 30 s."""
_ENOUGH: Final = 16
"""Short until one part of so many is free again, so that it does not change with each client that takes a little."""


def _unheard(is_short: bool) -> None:
    """Nobody asked to be told."""


class BufferMemory:
    """See the module's text. Bodies stop to be kept at `is_full`; what flows makes it short when it reaches the bound,
    of which `on_short` is told, and of the end of that."""

    __slots__ = ("answer_bytes", "head_bytes", "is_short", "limit_bytes", "on_short", "upload_bytes", "used_bytes")

    def __init__(self, limit_bytes: int = BUFFER_MEMORY_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        """Of all kinds together."""
        self.answer_bytes = 0
        self.upload_bytes = 0
        self.head_bytes = 0
        self.is_short = False
        """As of the last look."""
        self.on_short: Callable[[bool], None] = _unheard

    @property
    def is_full(self) -> bool:
        """Whether no more of bodies is to be kept."""
        return self.used_bytes >= self.limit_bytes - self.limit_bytes // _STREAMS_OWN

    @property
    def body_bytes(self) -> int:
        """Of bodies that are kept."""
        return self.used_bytes - self.answer_bytes - self.upload_bytes - self.head_bytes

    @property
    def is_out_of_heads(self) -> bool:
        """Whether there is more of heads than may be: whose head is not whole has to let go of it."""
        return self.head_bytes > self.limit_bytes // _HEADS_OWN or self.used_bytes > self.limit_bytes

    def recount_answer(self, before: int, size: int) -> int:
        """So much of an answer waits for its client instead of `before`; returns it."""
        self.answer_bytes += size - before
        self._change(size - before)
        return size

    def recount_upload(self, before: int, size: int) -> int:
        """So much of a request's body waits for its replica instead of `before`; returns it."""
        self.upload_bytes += size - before
        self._change(size - before)
        return size

    def recount_head(self, before: int, size: int) -> int:
        """So much of what is not a whole request, or has no turn yet, is there of a client instead of `before`; returns
        it. Like bodies, heads alone never make it short: they are refused where they come."""
        self.head_bytes += size - before
        self.used_bytes += size - before
        if self.is_short:
            self.look()
        return size

    def _change(self, more: int) -> None:
        self.used_bytes += more
        if self.is_short:
            self.look()
        elif more > 0 and self.used_bytes >= self.limit_bytes:
            self._turn(True)

    def look(self) -> bool:
        """Whether it is short now: bodies that are gone are not told, and alone they never make it short."""
        enough_bytes = self.limit_bytes - self.limit_bytes // _ENOUGH
        if self.is_short and (self.used_bytes < enough_bytes or not (self.answer_bytes or self.upload_bytes)):
            self._turn(False)
        return self.is_short

    def _turn(self, is_short: bool) -> None:
        self.is_short = is_short
        self.on_short(is_short)
