"""The control connections of one service: one to each of its replicas that has a sidecar.

Whoever knows the replicas (a cluster's watch) adds and removes them here; readiness and slots come from the sidecars.
"""

import asyncio
from collections.abc import Callable

from activator.hold import Hold
from activator.link import Link
from activator.tries import Newcomers
from zerogate.http.sweep import Sweep
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery


class Links:
    """See the module's text. `name`: this process's own, at most 64 letters, digits and `._-`, unlike any other's.
    `newcomers`: the one of the process."""

    def __init__(
        self, hold: Hold, name: str, *, sweep: Sweep, nursery: Nursery, jitter: Callable[[], float],
        newcomers: Newcomers,
    ) -> None:  # fmt: skip
        self._hold = hold
        self._name = name.encode("ascii")
        self._sweep = sweep
        self._nursery = nursery
        self._jitter = jitter
        self._newcomers = newcomers
        self._links: dict[str, Link] = {}
        self._is_planned = False
        hold.on_waiting = self._plan

    def add(self, replica_id: str, address: Address) -> None:
        """A replica exists: it takes requests once its sidecar says that it is ready."""
        if replica_id not in self._links:
            link = Link(
                self._hold, replica_id, address, self._name,
                sweep=self._sweep, nursery=self._nursery, jitter=self._jitter,
                newcomers=self._newcomers,
            )  # fmt: skip
            self._links[replica_id] = link
            link.start()

    def remove(self, replica_id: str) -> None:
        """A replica is gone. What still runs on it ends by its own connection."""
        link = self._links.pop(replica_id, None)
        if link is not None:
            link.close()

    def close(self) -> None:
        """All of them."""
        for replica_id in tuple(self._links):
            self.remove(replica_id)

    def _plan(self) -> None:
        # many begin and cease to wait in one turn of the loop: what is left of that is told once
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._report)

    def _report(self) -> None:
        self._is_planned = False
        for link in self._links.values():
            link.report()
