"""Slots that the processes of one gateway share: bytes of a file in memory, each locked by who has the slot.

The kernel gives back what a process had that ended, however it did, and a process that is being replaced keeps what it
still uses. A lock costs a system call (a microsecond), which only replicas without a sidecar pay that have a limit.
The file is made before the processes are forked: locks are a process's own, the descriptor is everybody's.
"""

import fcntl
import hashlib
import os
from typing import Final

_MOST: Final = 1 << 20
"""Bytes of one replica: more than a `concurrency-limit` may be. The file stays empty, since locks need no bytes."""


def slot_file() -> int:
    """The descriptor of a new file, inherited by forks. It lives as long as one of them."""
    return os.memfd_create("zerogate slots", os.MFD_CLOEXEC)


class SlotLocks:
    """The slots of one replica. `uid` is its own, the same in all processes. One for each replica and process: the
    kernel gives a process again what it has."""

    __slots__ = ("__weakref__", "_begin", "_file", "_taken")

    def __init__(self, file: int, uid: str) -> None:
        self._file = file
        digest = hashlib.blake2b(uid.encode(), digest_size=5).digest()
        self._begin = int.from_bytes(digest, "big") * _MOST
        self._taken: dict[int, None] = {}

    def take(self, most: int) -> int | None:
        """One of the first `most` slots that nobody has; None where all are taken."""
        for slot in range(most):
            if slot not in self._taken and self._lock(slot):
                self._taken[slot] = None
                return slot
        return None

    def give_back(self) -> None:
        """One that was taken here: the last by number, which a smaller share no longer has."""
        slot = max(self._taken)
        del self._taken[slot]
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._begin + slot)

    def _lock(self, slot: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._begin + slot)
        except (BlockingIOError, PermissionError):
            return False
        return True
