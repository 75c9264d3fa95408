"""Reading a log that is still being written: its last lines, then what comes, across rotations.

Blocking file work without waiting: the admin API calls it in a thread. A rotated log is read to its end before the new
file under the same name is begun; one that was cut short is begun anew.
"""

import os
from io import FileIO
from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 64 * 1024
_FURTHEST_BYTES: Final = 8 * 1024 * 1024
"""How far back the last lines are looked for: a log without line ends must not be read as a whole."""


class Tail:
    """Follows the file at `path`, which need not exist yet. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None

    def __enter__(self) -> "Tail":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def skip_to_last(self, lines: int) -> None:
        """Go on with the last `lines` lines of what there is."""
        self._open()
        if self._file is not None:
            self._file.seek(_start_of_last_lines(self._file, lines))

    def read(self) -> bytes:
        """The next block, at most 64 KiB; empty where nothing was written since."""
        self._open()
        if self._file is None:
            return b""
        block = self._file.read(_BLOCK_BYTES) or b""
        if not block and self._is_over():
            self.close()
            self._open()
            block = (self._file.read(_BLOCK_BYTES) or b"") if self._file is not None else b""
        return block

    def _open(self) -> None:
        if self._file is None and self._path.is_file():
            self._file = FileIO(self._path)

    def _is_over(self) -> bool:
        """Whether the name stands for another file by now, or for a shorter one."""
        assert self._file is not None
        try:
            there, here = os.stat(self._path), os.fstat(self._file.fileno())
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino) or there.st_size < self._file.tell()


def _start_of_last_lines(file: FileIO, lines: int) -> int:
    end = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return end
    least, start, found = max(0, end - _FURTHEST_BYTES), end, 0
    while start > least:
        size = min(_BLOCK_BYTES, start - least)
        start -= size
        file.seek(start)
        block = file.read(size) or b""
        at = len(block) - 1 if start + size == end else len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            found += 1
            if found == lines:
                return start + at + 1
    return start
