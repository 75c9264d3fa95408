"""What happened to services while the box runs: for the log, for status, for the metrics.

An observer of the runtime and of the autoscaler. It keeps totals and the last unexpected end per service; both are
bounded by the number of services.
"""

import logging

from autoscaler.decision import Decision
from zerogate.clock import now
from zerogate.quantities import format_duration
from zerogate.runtime.interface import BackOff, EndCause, Ended, Replica, ReplicaState

log = logging.getLogger("zerogate")


class ServiceHistory:
    """One service's totals."""

    __slots__ = ("decisions", "endings", "last_ending", "living_since_s", "replica_s", "starting")

    def __init__(self) -> None:
        self.decisions: dict[str, int] = {}
        """Decisions that changed something, by winner."""
        self.endings: dict[str, int] = {}
        """Replicas that are gone, by cause."""
        self.last_ending: Ended | None = None
        """The last end that was not our doing."""
        self.replica_s = 0.0
        """Seconds that replicas lived which are gone."""
        self.living_since_s: dict[str, float] = {}
        """When those that live were spawned."""
        self.starting: set[str] = set()
        """Those that were seen to start and are not ready yet: one that was found running is not among them."""

    def total_replica_s(self, now_s: float) -> float:
        """Seconds that replicas lived, those that still do included."""
        return self.replica_s + sum(now_s - started_s for started_s in self.living_since_s.values())


class History:
    """See the module's text."""

    def __init__(self) -> None:
        self._services: dict[str, ServiceHistory] = {}

    def of(self, service: str) -> ServiceHistory:
        """The service's totals; all zero for one to which nothing happened."""
        return self._services.get(service) or ServiceHistory()

    def forget(self, kept: set[str]) -> None:
        """Drop the services that are not in the file any more."""
        for service in [name for name in self._services if name not in kept]:
            del self._services[service]

    def _get(self, service: str) -> ServiceHistory:
        return self._services.setdefault(service, ServiceHistory())

    def on_replica(self, replica: Replica) -> None:
        """The runtime: a replica is new or changed."""
        history = self._get(replica.service)
        if replica.state is ReplicaState.GONE:
            self._on_gone(history, replica)
            return
        history.living_since_s.setdefault(replica.id, replica.started_s)
        if replica.state is ReplicaState.STARTING:
            history.starting.add(replica.id)
            where = f" on {replica.address} (pid {replica.pid})" if replica.pid is not None else ""
            log.info("%s: %s starts%s", replica.service, replica.id, where)
        elif replica.state is ReplicaState.READY and replica.id in history.starting and replica.ready_s is not None:
            took = format_duration(round(replica.ready_s - replica.started_s, 1))
            log.info("%s: %s is ready, it took %s", replica.service, replica.id, took)
        if replica.state is not ReplicaState.STARTING:
            history.starting.discard(replica.id)

    def _on_gone(self, history: ServiceHistory, replica: Replica) -> None:
        history.starting.discard(replica.id)
        started_s = history.living_since_s.pop(replica.id, None)
        if started_s is not None:
            history.replica_s += now() - started_s
        ended = replica.ended
        if ended is None:
            return
        history.endings[ended.cause.value] = history.endings.get(ended.cause.value, 0) + 1
        if ended.cause is EndCause.STOPPED:
            log.info("%s: %s is gone", replica.service, replica.id)
        else:
            history.last_ending = ended
            log.warning("%s: %s is gone: %s", replica.service, replica.id, ended.detail)

    def on_back_off(self, service: str, back_off: BackOff | None) -> None:
        """The runtime: starts are suspended, or allowed again."""
        if back_off is not None:
            wait = format_duration(max(0.1, round(back_off.next_try_s - now(), 1)))
            count = "1 failure" if back_off.failures == 1 else f"{back_off.failures} failures in a row"
            log.warning("%s: %s, the next start is allowed in %s", service, count, wait)

    def on_decision(self, decision: Decision) -> None:
        """The autoscaler: a decision that changed something."""
        history = self._get(decision.service)
        winner = decision.winner.value
        history.decisions[winner] = history.decisions.get(winner, 0) + 1
        if decision.desired != decision.current:
            log.info("%s: %d → %d, %s", decision.service, decision.current, decision.desired, decision.why)
