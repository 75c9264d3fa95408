"""Who closes the gates of replicas that are to go, and knows how much is inside them.

`Gates` is what the process needs of it. `ReportedGates` closes nothing: it only waits until the sidecar's own reports
say that a replica is empty, so new requests may still come in meanwhile.
"""

from collections.abc import Callable
from typing import Final, Protocol

from autoscaler.cluster.coverage import source_of
from zerogate.runtime.interface import Quiescer, Replica, ReplicaState

LOOK_S: Final = 1.0
"""As often as sidecars report."""


class Gates(Quiescer, Protocol):
    """A Quiescer that also says how many requests are inside a replica now."""

    def busy(self, replica_id: str) -> int: ...


class ReportedGates:
    """See the module's text. Observes the runtime, to know which pod a replica is in.

    `pod_of(replica_id)` and `on_idle` are the runtime's; `in_flight_of(source, service)`: by the last report.
    """

    def __init__(
        self,
        *,
        pod_of: Callable[[str], str | None],
        in_flight_of: Callable[[str, str], int],
        on_idle: Callable[[str], None],
    ) -> None:
        self._pod_of = pod_of
        self._in_flight_of = in_flight_of
        self._on_idle = on_idle
        self._services: dict[str, str] = {}
        self._closed: dict[str, None] = {}

    def busy(self, replica_id: str) -> int:
        service, pod = self._services.get(replica_id), self._pod_of(replica_id)
        return 0 if service is None or pod is None else self._in_flight_of(source_of(service, pod), service)

    def close_gate(self, replica_id: str) -> bool:
        if not self.busy(replica_id):
            return True
        self._closed[replica_id] = None
        return False

    def reopen_gate(self, replica_id: str) -> None:
        self._closed.pop(replica_id, None)

    def look(self) -> None:
        """Called every `LOOK_S`: tells of those that have become empty."""
        for replica_id in list(self._closed):
            if not self.busy(replica_id):
                self._closed.pop(replica_id, None)
                self._on_idle(replica_id)

    def on_replica(self, replica: Replica) -> None:
        """The runtime: a replica is new or changed."""
        if replica.state is ReplicaState.GONE:
            self._services.pop(replica.id, None)
            self._closed.pop(replica.id, None)
        else:
            self._services[replica.id] = replica.service

    def on_back_off(self, service: str, back_off: object) -> None:
        """Nothing here."""
