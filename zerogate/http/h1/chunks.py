"""Chunks that need not be taken apart: as they came they are what would be written. Pure.

Servers of models send each event as a chunk of its own, and what is written to the client is the very same bytes. With
a thousand streams a read finds nothing of its stream in the processor's caches, so what is not touched counts: parser,
reader and writer are three cold objects for each event. Called by `turn`, between chunks only.
"""

from typing import Final

_LONGEST_LINE: Final = 8
"""Six digits of a size and the end of the line: no read brings more."""
_KEPT_SIZES: Final = 1024
"""Different sizes that are remembered; those of an engine's events are a few dozen."""

_sizes: Final[dict[bytes, int]] = {}
"""By what stands before the chunk. A memo of a pure function."""


def whole_chunks(data: bytes) -> int:
    """How many bytes of a body are in `data`; 0 unless it consists of whole chunks that are written as we write them:
    lower-case digits, no extension, none of them the last one."""
    at = found = 0
    end = len(data)
    while at < end:
        line_end = data.find(b"\r\n", at, at + _LONGEST_LINE)
        size = _size_of(data[at:line_end]) if line_end > at else 0
        at = line_end + size + 4
        if not size or data[at - 2 : at] != b"\r\n":
            return 0
        found += size
    return found


def _size_of(digits: bytes) -> int:
    size = _sizes.get(digits)
    if size is None:
        try:
            size = int(digits, 16)
        except ValueError:
            return 0
        if size < 0 or b"%x" % size != digits:
            return 0
        if len(_sizes) >= _KEPT_SIZES:
            _sizes.clear()
        _sizes[digits] = size
    return size
