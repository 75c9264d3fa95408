"""Replicas that an earlier zerogate left running: who goes on, and what can be known of them.

A leftover is adopted where its service is defined as it was and its process still answers; everything else is cleared
away. Used by `zerogate.local.runtime` at its start; what there is was found by `leftovers`.
"""

import os
import time
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from zerogate import clock
from zerogate.http.probe import answers
from zerogate.local import processes
from zerogate.local.definition import LocalDefinition
from zerogate.local.launch import Launched
from zerogate.local.leftovers import Leftover
from zerogate.local.mark import Mark
from zerogate.runtime.interface import Address

ADOPTION_S: Final = 2.0
"""How long a replica left behind may take to answer before it is stopped instead."""


async def can_adopt(leftover: Leftover, definition: LocalDefinition | None) -> bool:
    """Whether it may go on: it is what `definition` says today, and it answers. Takes at most `ADOPTION_S`."""
    mark = leftover.mark
    if leftover.leader is None or definition is None or definition.definition_hash != mark.definition_hash:
        return False
    address = Address("127.0.0.1", mark.port)
    return await answers(
        address, definition.ready_path, timeout_s=ADOPTION_S, ready_below=definition.ready_below,
        protocol=definition.protocol,
    )  # fmt: skip


def as_launched(leftover: Leftover, definition: LocalDefinition) -> Launched:
    """The same as if it had been launched by us."""
    process = leftover.leader
    return Launched(
        leader=None if process is None else processes.Handle.of(process),
        started_s=clock.now() if process is None else _started_s(process),
        log_path=_output_of(process) or definition.log_file,
    )


def unknown(mark: Mark) -> LocalDefinition:
    """What can be known of a service that is no longer in the file."""
    known = LocalDefinition(
        service=mark.service, command=(), definition_hash=mark.definition_hash, log_file=Path(os.devnull)
    )
    return known if mark.stop_grace_s is None else replace(known, stop_grace_s=mark.stop_grace_s)


def _started_s(process: processes.Process) -> float:
    """Of a process that somebody else started, in `zerogate.clock.now`; a suspended machine makes it look older."""
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - process.start_ticks / os.sysconf("SC_CLK_TCK")
    return clock.now() - age_s


def _output_of(process: processes.Process | None) -> Path | None:
    """The file to which its stdout goes."""
    if process is None:
        return None
    try:
        path = Path(f"/proc/{process.pid}/fd/1").readlink()
    except OSError:
        return None
    return path if path.is_file() else None
