"""Slots that the processes of one gateway share: bytes of a file in memory, each locked by who has the slot.

The kernel gives back what a process had that ended, however it did, and a process that is being replaced keeps what it
still uses. A lock costs a system call (a microsecond), which only replicas without a sidecar pay that have a limit.
The file is made before the processes are forked: locks are a process's own, the descriptor is everybody's.

Each process begins to look at a place of its own, so that what it has lies together: slots of one process that lie
together are one lock to the kernel, and who meets it passes it in one step. A thousand slots that others have cost some
steps so, and not a thousand.
"""

import fcntl
import hashlib
import os
import struct
from typing import Final

_MOST: Final = 1 << 20
"""Bytes of one replica: more than a `concurrency-limit` may be. The file stays empty, since locks need no bytes."""
_LOCK: Final = struct.Struct("@hhqqi4x")
"""`struct flock` of Linux with 64 bits: type, whence, start, length, process."""
_SPREAD: Final = 0x9E3779B1
"""2³² over the golden ratio: numbers of processes that follow each other come to places far from each other."""


def slot_file() -> int:
    """The descriptor of a new file, inherited by forks. It lives as long as one of them."""
    return os.memfd_create("zerogate slots", os.MFD_CLOEXEC)


class SlotLocks:
    """The slots of one replica. `uid` is its own, the same in all processes. One for each replica and process: the
    kernel gives a process again what it has."""

    __slots__ = ("__weakref__", "_begin", "_file", "_place", "_taken")

    def __init__(self, file: int, uid: str) -> None:
        self._file = file
        digest = hashlib.blake2b(uid.encode(), digest_size=5).digest()
        self._begin = int.from_bytes(digest, "big") * _MOST
        self._place = (os.getpid() * _SPREAD) & 0xFFFFFFFF
        """Where this process begins to look, as a part of 2³²."""
        self._taken: dict[int, None] = {}

    def take(self, most: int) -> int | None:
        """One of the first `most` slots that nobody has; None where all are taken."""
        place = self._place * most >> 32
        found = self._take_in(place, most)
        return found if found is not None else self._take_in(0, min(place, most))

    def give_back(self) -> None:
        """One that was taken here: the last by number, which a smaller share no longer has."""
        slot = max(self._taken)
        del self._taken[slot]
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._begin + slot)

    def _take_in(self, slot: int, end: int) -> int | None:
        while slot < end:
            if slot in self._taken:
                slot += 1
            elif self._lock(slot):
                self._taken[slot] = None
                return slot
            else:
                slot = self._end_of_lock(slot)
        return None

    def _lock(self, slot: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._begin + slot)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _end_of_lock(self, slot: int) -> int:
        """The first slot after those that another process has from this one on; the next one where it has just gone."""
        asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, self._begin + slot, 1, 0)
        kind, _, start, length, _ = _LOCK.unpack(fcntl.fcntl(self._file, fcntl.F_GETLK, asked))
        return slot + 1 if kind == fcntl.F_UNLCK else int(start + length - self._begin)
