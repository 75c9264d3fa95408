"""The processes of one replica: its leader, and what was found to come from it.

Engines leave their process group and even wipe their environment: what belongs to a replica is looked up in the process
table, by mark, session and descent, and remembered by pidfd, so that no signal ever meets a pid that was given away
again. Owned by `zerogate.local.replica`, which knows when to look and whom to end.
"""

import logging
import signal

from zerogate.local.mark import Mark
from zerogate.local.processes import Handle, Scanner

log = logging.getLogger(__name__)


class Members:
    """See the module's text. `leader` is None where only its descendants are left."""

    def __init__(self, mark: Mark, leader: Handle | None, scanner: Scanner) -> None:
        self._mark = mark
        self._leader = leader
        self._scanner = scanner
        self.known: dict[int, Handle] = {}
        """All but the leader, by pid."""

    async def count(self, *, is_leader_known: bool) -> bool:
        """Look up what belongs to the replica and remember it; False where descriptors ran out on the way.

        `is_leader_known`: the leader's pid is still its own.
        """
        leader = self._leader.pid if self._leader is not None and is_leader_known else None
        try:
            table = await self._scanner.table()
            living = [handle.pid for handle in self.living()]
            for process in table.members(mark=str(self._mark), leader=leader, roots=living):
                if process.pid != leader and process.pid not in living:
                    self._remember(Handle.of(process))
        except OSError as error:
            log.warning("%s: the process table could not be read: %s", self._mark.replica_id, error.strerror)
            return False
        return True

    def _remember(self, handle: Handle | None) -> None:
        if handle is not None:
            if (reused := self.known.pop(handle.pid, None)) is not None:
                reused.close()
            self.known[handle.pid] = handle

    def living(self) -> list[Handle]:
        """Those besides the leader that have not ended."""
        return [handle for handle in self.known.values() if handle.is_alive()]

    def send(self, number: signal.Signals) -> None:
        """Send it to all."""
        for handle in self._all():
            handle.signal(number)

    def send_to_group(self, number: signal.Signals) -> None:
        """Send it to the leader and to those that stayed in its process group, the leader last."""
        if self._leader is not None:
            for handle in self.known.values():
                if handle.group == self._leader.pid:
                    handle.signal(number)
            self._leader.signal(number)

    def close(self) -> None:
        """Let go of their descriptors, and wait for the leader if it is a child that has ended."""
        for handle in self._all():
            handle.close()

    def _all(self) -> list[Handle]:
        return [*([] if self._leader is None else [self._leader]), *self.known.values()]
