"""The process's own numbers, from /proc, and how many files it may open.

`usage` blocks for as long as it takes to count open files: called in a thread.
"""

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What the process uses now."""

    cpu_s: float
    resident_bytes: int
    open_files: int
    most_open_files: int


def usage() -> Usage:
    """Reads it; fields that this system does not tell are 0."""
    times = os.times()
    return Usage(
        cpu_s=times.user + times.system,
        resident_bytes=_resident_bytes(),
        open_files=_open_files(),
        most_open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def raise_open_files() -> None:
    """As many open files as the machine allows: the usual 1,024 are 500 requests, two for each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
