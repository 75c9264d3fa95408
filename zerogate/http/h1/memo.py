"""Heads that were parsed before, by their exact bytes. Pure.

Clients and replicas send the same head again and again: an SDK varies little but the length, a server its date once a
second. What llhttp and `heads` make of the same bytes at a message's begin is always the same, so it is kept: a head
that is known costs one look-up instead of a callback per field. Called by `server` and `client`, which put in only
heads that leave their parser at the begin of a message or of a counted body.

Invariants: a head in here is never changed; what is kept is bounded in number and in size, whatever is sent. A head is
kept when it comes for the second time, so those with an identifier of their own cost little and drive nothing out.
"""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

KEPT_HEADS: Final = 512
"""With `KEPT_BYTES` and what is made of a head, at most 4 MiB in all. When they are full they are forgotten."""
KEPT_BYTES: Final = 2048
"""Of one head: SDKs send 700, browsers with cookies some more."""
SEEN_HEADS: Final = 2048
"""Heads that are remembered by their hash alone to have come once."""
HEAD_END: Final = b"\r\n\r\n"
END_BYTES: Final = len(HEAD_END)
LINE_FEED: Final = HEAD_END[-1]

Head = TypeVar("Head")


class HeadMemo(Generic[Head]):
    """See the module's text. `known` is for reading: that spares the path a call."""

    __slots__ = ("_seen", "known")

    def __init__(self) -> None:
        self.known: dict[Hashable, Head] = {}
        self._seen: set[int] = set()

    def comes_again(self, raw: Hashable) -> bool:
        """Whether a head that is not known came before: then it is worth keeping."""
        seen = self._seen
        mark = hash(raw)
        if mark in seen:
            return True
        if len(seen) >= SEEN_HEADS:
            seen.clear()
        seen.add(mark)
        return False

    def keep(self, raw: Hashable, head: Head) -> None:
        """Remember what these bytes mean."""
        if len(self.known) >= KEPT_HEADS:
            self.known.clear()
        self.known[raw] = head


def is_one_head(raw: bytes, fields: int) -> bool:
    """Whether the bytes are one head and nothing else, given the number of fields that the parser found in it.

    The begin line, a line per field, the empty line at the end: a head that ended earlier has fewer fields.
    """
    return raw.count(b"\n") == fields + 2
