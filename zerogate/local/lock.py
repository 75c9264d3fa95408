"""One zerogate per instance: a locked file in its state directory.

The lock is the kernel's (flock): it ends with the process however that ends, and the text inside only serves people.
The descriptor is not inherited, so children of a killed zerogate do not hold it.
"""

import fcntl
import os
from pathlib import Path

from zerogate.errors import MachineError


class InstanceLock:
    """Held from `acquire` to `release`."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "lock"
        self._fd: int | None = None

    def acquire(self) -> None:
        """Raises MachineError where another process has it or the directory cannot be used."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise MachineError(
                f"The state folder {self._path.parent} cannot be used ({error.strerror}). "
                "Make it writable, or choose another with state-dir: in the file."
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(fd)
            raise MachineError(
                f"Another zerogate ({holder}) keeps its state in {self._path.parent}. "
                "Stop it, or give this one a folder of its own with state-dir: in the file."
            ) from error
        self._fd = fd
        self._write(fd, f"pid {os.getpid()}\n")

    def release(self) -> None:
        """Let another one start. May be called twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, fd: int, text: str) -> None:
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, text.encode(), 0)
        except OSError:
            return  # a full disk: the lock holds all the same
