"""The gate of one replica: who may enter. Pure: no clock, no I/O.

Slots belong to the replica, so there is one gate per replica and it is the only one that counts who is inside.
Two ways in, because a crowd that was held must not fall onto a fresh replica at once: `try_enter` for a warm
request, bounded by the replica's hard limit (0: none but `MOST_INSIDE`), and `try_release` for a held one, bounded by
the hard limit or else by the target concurrency. WebSockets stay for hours: the hard limit counts them, the pacing of a
crowd does not, or a few of them would keep everybody else waiting. Whoever got in leaves exactly once, however the
request ended.
"""

from typing import Final

from zerogate.errors import ZerogateError
from zerogate.meter import Meter

MOST_INSIDE: Final = 16_384
"""Inside one replica at once, where there is no limit: over HTTP/1.1 each has a connection of its own, for which Linux
has 28,232 ports to one address, and this process a descriptor. Whoever comes beyond that waits."""


class GateError(ZerogateError):
    """A slot was left that nobody held: a bug in the caller, never a user's mistake."""


class Gate:
    """Slots of one replica: `in_flight` of them taken, `is_open` while it takes new requests."""

    __slots__ = ("in_flight", "is_open", "lasting", "limit", "release_limit")

    def __init__(self, *, limit: int, release_limit: int) -> None:
        """`limit`: most requests inside at once, 0 for none. `release_limit`: the same for held ones, at least 1."""
        self.configure(limit=limit, release_limit=release_limit)
        self.in_flight = 0
        self.lasting = 0
        """WebSockets among those inside; whoever has the gate counts them."""
        self.is_open = True

    def configure(self, *, limit: int, release_limit: int) -> None:
        """Change the bounds; who is inside stays, even if that is more than the new ones allow."""
        self.limit = limit
        self.release_limit = min(limit, release_limit) if limit else release_limit

    def try_enter(self) -> bool:
        """Take a slot for a warm request; False where the gate is closed or full."""
        if not self.is_open or self.in_flight >= (self.limit or MOST_INSIDE):
            return False
        self.in_flight += 1
        return True

    def try_release(self) -> bool:
        """Take a slot for a held request; False where the gate is closed or holds as many as may be released."""
        if not self.may_release:
            return False
        self.in_flight += 1
        return True

    @property
    def may_release(self) -> bool:
        """Whether a held request may enter now."""
        if not self.is_open or self.in_flight >= (self.limit or MOST_INSIDE):
            return False
        return self.in_flight - self.lasting < self.release_limit

    def leave(self) -> None:
        """Give a slot back. Raises GateError where none is taken."""
        if self.in_flight <= 0:
            raise GateError("a request left a gate that it had not entered")
        self.in_flight -= 1

    def turn_away(self) -> bool:
        """A slot that was taken here was not there after all. True where somebody will say when there is one."""
        return False

    @property
    def meter(self) -> Meter | None:
        """Counts what is inside, where nobody behind the gate does."""
        return None

    def close(self) -> None:
        """Take nothing new; what is inside finishes."""
        self.is_open = False

    def close_if_idle(self) -> bool:
        """Close, but only with nobody inside: the step that makes "idle" true and keeps it true."""
        if self.in_flight:
            return False
        self.is_open = False
        return True

    def reopen(self) -> None:
        """Take requests again: the replica was not stopped after all."""
        self.is_open = True
