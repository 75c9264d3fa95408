"""The last resort: every process that carries the mark of one instance is killed. Blocks.

Found by the mark and not by what is known of them: for the second Ctrl-C, when nobody waits for what would be found
later. Used by `zerogate.local.runtime`.
"""

import signal
from collections.abc import Collection

from zerogate.local import processes
from zerogate.local.mark import Mark


def kill_marked(instance: str, leaders: Collection[int | None]) -> bool:
    """Kill what carries a mark of `instance` and wait for its end, but not for ever; whether there was any.

    `leaders`: pids of those that somebody else waits for. Raises OSError where the processes cannot be read.
    """
    table = processes.read_table()
    marked = [pid for text, pids in table.by_mark.items() if _is_of(instance, text) for pid in pids]
    handles = [handle for pid in marked if (handle := processes.Handle.of(table.by_pid[pid])) is not None]
    for handle in handles:
        handle.signal(signal.SIGKILL)
    processes.wait_for_end(handles, 0.5)
    for handle in handles:
        handle.close(reap=handle.pid not in leaders)  # those are waited for by their replica
    return bool(handles)


def _is_of(instance: str, text: str) -> bool:
    mark = Mark.parse(text)
    return mark is not None and mark.instance == instance
