"""The replicas of one service as its runtime tells them, what their boots teach, and who goes first. Pure.

A victim is a ready one, idle longest; where all are busy the least busy one, which drains, and nothing is cut. One that
is starting is named only where a person or a ceiling leaves no choice. Kept by `autoscaler.loop`, one book per service
that ever had a replica.
"""

from collections.abc import Callable

from autoscaler.decision import Replicas
from autoscaler.run_time import BootTimes
from zerogate.runtime.interface import Replica, ReplicaState


class ReplicaBook:
    """What is known about one service's replicas."""

    __slots__ = ("_busy_s", "_last_ready_s", "_replicas", "boots")

    def __init__(self, boots: BootTimes) -> None:
        self.boots = boots
        self._replicas: dict[str, Replica] = {}
        self._busy_s: dict[str, float] = {}
        self._last_ready_s: float | None = None

    def on_replica(self, replica: Replica) -> None:
        """One is new or changed."""
        before = self._replicas.get(replica.id)
        if replica.state is ReplicaState.GONE:
            self._replicas.pop(replica.id, None)
            self._busy_s.pop(replica.id, None)
            return
        self._replicas[replica.id] = replica
        if replica.ready_s is not None:
            self._last_ready_s = max(replica.ready_s, self._last_ready_s or replica.ready_s)
            if before is not None and before.state is ReplicaState.STARTING and replica.state is ReplicaState.READY:
                self.boots.learn(max(0.0, replica.ready_s - replica.started_s))

    def all(self) -> tuple[Replica, ...]:
        """Those that are not gone, in the order in which they appeared."""
        return tuple(self._replicas.values())

    def summary(self, now_s: float, *, next_try_at_s: float | None) -> Replicas:
        """What a decision sees of them."""
        starting = [one for one in self._replicas.values() if one.state is ReplicaState.STARTING]
        draining = sum(one.state is ReplicaState.DRAINING for one in self._replicas.values())
        # a backlog is not spread over the age of one that will not come
        oldest_s = min((one.started_s for one in starting if not one.is_overdue), default=None)
        return Replicas(
            starting=len(starting),
            overdue=sum(one.is_overdue for one in starting),
            ready=len(self._replicas) - len(starting) - draining,
            draining=draining,
            last_ready_at_s=self._last_ready_s,
            boot_time_s=self.boots.p95_s(),
            starting_for_s=None if oldest_s is None else max(0.0, now_s - oldest_s),
            next_try_at_s=next_try_at_s,
        )

    def note_busy(self, busy: Callable[[str], int], now_s: float) -> None:
        """Remember who is busy now, so that "idle longest" has a meaning later. Only several need a choice."""
        if len(self._replicas) > 1:
            for name in self._replicas:
                if busy(name):
                    self._busy_s[name] = now_s

    def victims(self, keep: int, busy: Callable[[str], int], *, is_forced: bool) -> tuple[str, ...]:
        """Who goes so that `keep` stay, first ones first: of the ready ones beyond `keep` those that are idle, longest
        first, then those with the fewest requests inside, which drain: balanced traffic leaves none idle, and streams
        would keep all of them for ever. Before them those that are overdue. `is_forced`: then also those that are
        starting, the youngest first. Fewer than wished where nobody may go.
        """
        ready, starting = self._of(ReplicaState.READY), self._of(ReplicaState.STARTING)
        spare = max(0, len(ready) + len(starting) - keep)
        chosen = [one.id for one in starting if one.is_overdue][:spare]
        ordered = sorted((busy(one.id), self._idle_since_s(one), one.id) for one in ready)
        chosen += [name for _, _, name in ordered[: max(0, len(ready) - keep)]]
        if is_forced:
            youngest = sorted((one for one in starting if one.id not in chosen), key=lambda one: -one.started_s)
            chosen += [one.id for one in youngest[: max(0, spare - len(chosen))]]
        return tuple(chosen)

    def _of(self, state: ReplicaState) -> list[Replica]:
        return [one for one in self._replicas.values() if one.state is state]

    def _idle_since_s(self, replica: Replica) -> float:
        return max(self._busy_s.get(replica.id, 0.0), replica.ready_s or 0.0)
