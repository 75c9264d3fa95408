"""What an earlier zerogate of the same instance left running. Pure."""

from collections.abc import Sequence

import msgspec

from zerogate.local.mark import Mark
from zerogate.local.processes import Process, Table


class Leftover(msgspec.Struct, frozen=True, kw_only=True):
    """One replica found by its mark. `leader`: the process that was spawned, or None where only others are left."""

    mark: Mark
    leader: Process | None


def find_leftovers(table: Table, instance: str) -> Sequence[Leftover]:
    """All replicas of `instance` and of no other, the oldest first."""
    found = []
    for text, pids in table.by_mark.items():
        mark = Mark.parse(text)
        if mark is not None and mark.instance == instance:
            processes = sorted((table.by_pid[pid] for pid in pids), key=lambda p: (p.start_ticks, p.pid))
            found.append((processes[0].start_ticks, Leftover(mark=mark, leader=_leader(processes))))
    return [leftover for _, leftover in sorted(found, key=lambda pair: pair[0])]


def _leader(processes: Sequence[Process]) -> Process | None:
    """The spawned process leads a session. So may an engine's worker, but it is younger."""
    return next((p for p in processes if p.pid == p.session), None)
