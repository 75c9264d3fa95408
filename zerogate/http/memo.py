"""Heads that were parsed before, by their exact bytes. Pure.

Clients and replicas send the same head again and again: an SDK varies little but the length, a server its date once a
second. What llhttp and `heads` make of the same bytes at a message's begin is always the same, so it is kept: a head
that is known costs one look-up instead of a callback per field. Called by `server` and `client`, which put in only
heads that leave their parser at the begin of a message or of a counted body.

Invariants: a head in here is never changed; what is kept is bounded in number and in size, whatever is sent. Two
generations: what is asked for survives, what came once goes, and nothing is moved on a hit among the recent.
"""

from typing import Final, Generic, TypeVar

KEPT_HEADS: Final = 256
"""Per generation. With `KEPT_BYTES` and what is made of a head, at most 5 MiB in all."""
KEPT_BYTES: Final = 2048
"""Of one head: SDKs send 700, browsers with cookies some more."""
HEAD_END: Final = b"\r\n\r\n"

Head = TypeVar("Head")


class HeadMemo(Generic[Head]):
    """See the module's text."""

    __slots__ = ("_older", "recent")

    def __init__(self) -> None:
        self.recent: dict[bytes, Head] = {}
        """For reading: the first place to look."""
        self._older: dict[bytes, Head] = {}

    def recall(self, raw: bytes) -> Head | None:
        """A head that is not among the recent ones, and now is; None where it is not known."""
        head = self._older.get(raw)
        if head is not None:
            self.keep(raw, head)
        return head

    def keep(self, raw: bytes, head: Head) -> None:
        """Remember what these bytes mean. Longer ones are not kept."""
        if len(raw) > KEPT_BYTES:
            return
        if len(self.recent) >= KEPT_HEADS:
            self._older, self.recent = self.recent, {}
        self.recent[raw] = head

    def __len__(self) -> int:
        return len(self.recent) + len(self._older)


def is_one_head(raw: bytes, fields: int) -> bool:
    """Whether the bytes are one head and nothing else, given the number of fields that the parser found in it.

    The begin line, a line per field, the empty line at the end: a head that ended earlier has fewer fields.
    """
    return raw.count(b"\n") == fields + 2
