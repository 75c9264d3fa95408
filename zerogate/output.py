"""Standard output that is never waited for: a reader that is behind must not hold up the loop."""

import os
import select
from typing import Final

STDOUT: Final = 1

_AT_ONCE_BYTES: Final = select.PIPE_BUF
"""What a pipe that is ready takes without blocking, whatever is in it already (pipe(7))."""


class Output:
    """A file descriptor that others may share, and that therefore stays a blocking one.

    Several processes may write to it: lines are not torn, as long as they are shorter than 4 KiB.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._readiness = select.poll()
        self._readiness.register(descriptor, select.POLLOUT)

    def write(self, data: bytes) -> int:
        """Write what is taken without waiting; how many bytes that was. Raises OSError where nobody can take it."""
        taken = 0
        while taken < len(data) and self._readiness.poll(0):
            end = taken + _AT_ONCE_BYTES
            if end < len(data):
                end = data.rfind(b"\n", taken, end) + 1 or end
            taken += os.write(self._descriptor, data[taken:end])
        return taken
