"""Log files of replicas: opened for appending and given to the child, so that it needs nobody to write them.

A pipe through zerogate would kill an adopted child with SIGPIPE and cost a copy of every line. The price: zerogate
does not see the bytes pass, so a file is bounded by looking at it. Between starts a large file is moved aside (nobody
writes to it then); while a replica runs, it is copied aside and truncated in place, because the child's descriptor
cannot be changed; with O_APPEND the child goes on at the new end. What is written between copy and truncation is
lost, as with logrotate's copytruncate. Invariant: a file and what was moved aside are at most 2 × `LIMIT_BYTES`, plus
what was written since the last look. A log that cannot be written never keeps a model from running: it goes to
/dev/null, and status says so.

These functions block: they are called in threads.
"""

import errno
import os
import re
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

LIMIT_BYTES: Final = 16 * 1024 * 1024
"""A day of a chatty engine (a few hundred bytes per request)."""

TAIL_LINES: Final = 20
TAIL_BYTES: Final = 16 * 1024
LINE_CHARACTERS: Final = 500
"""A stack trace fits; a megabyte of JSON on one line does not."""

_TERMINAL_CODES: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


class OpenLog(msgspec.Struct, frozen=True, kw_only=True):
    """Where a replica writes. `offset`: where its own lines begin. The caller closes `fd`."""

    fd: int
    path: Path
    offset: int
    warning: str | None = None


def slot_path(log_file: Path, slot: int) -> Path:
    """The file of the replica in that slot (from 1): `chat.log`, `chat.2.log` …"""
    return log_file if slot == 1 else log_file.with_name(f"{log_file.stem}.{slot}{log_file.suffix}")


def open_log(path: Path, header: str) -> OpenLog:
    """Open for appending and write the header line, or fall back to /dev/null with a warning."""
    fd = -1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = _open(path)
        if os.fstat(fd).st_size > LIMIT_BYTES:
            os.close(fd)
            fd = -1
            path.replace(_aside(path))
            fd = _open(path)
        os.write(fd, f"{header}\n".encode())
        return OpenLog(fd=fd, path=path, offset=os.fstat(fd).st_size)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        warning = f"Its output is lost: {path} cannot be written ({error.strerror}). Free the disk or change log-file."
        return OpenLog(fd=os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), path=path, offset=0, warning=warning)


def _open(path: Path) -> int:
    """A named pipe is refused: to open it waits for a reader, perhaps for ever, and without one it ends its writer."""
    with suppress(FileNotFoundError):
        if stat.S_ISFIFO(path.stat().st_mode):
            raise OSError(errno.EPIPE, "it is a pipe and not a file")
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def trim(path: Path) -> bool:
    """Bound the file of a running replica; True where it was truncated."""
    try:
        if path.stat().st_size <= LIMIT_BYTES:
            return False
        try:
            shutil.copyfile(path, _aside(path))
        except OSError:
            _aside(path).unlink(missing_ok=True)  # a full disk: better the lines than the model
        os.truncate(path, 0)
    except OSError:
        return False
    return True


def tail(path: Path, offset: int) -> tuple[str, ...]:
    """The last lines from `offset` on, oldest first, bounded, without what only a terminal understands."""
    if not path.is_file():
        return ()  # a device has no lines of ours, and a pipe would be waited for
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(offset if offset <= size else 0, size - TAIL_BYTES)
            file.seek(start)
            text = file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ()
    lines = [_plain(line) for line in text.split("\n")]
    return tuple([line for line in lines if line][-TAIL_LINES:])


def _plain(line: str) -> str:
    """Progress bars rewrite their line: the last state counts."""
    shown = line.rstrip("\r").rpartition("\r")[2]
    return _TERMINAL_CODES.sub("", shown).rstrip()[:LINE_CHARACTERS]


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".1")
