"""The pods of one workload as replicas: which there are, what observers are told of each, how often they failed. Pure.

`now_s` is an argument. What changes is told in the call that changes it, and each thing once. What a pod means is said
by `lives.py`, who drains by the workload's `steering`. `zerogate.kube.runtime` feeds it with pods, and with the time
when `revisit_at_s` has come.

Invariants: a replica is told before it is told to be gone, and never after; `whose` has the last life of each pod.
"""

from collections.abc import Sequence

from zerogate.kube.acts import Member, Order
from zerogate.kube.catalog import port_of, sidecar_port
from zerogate.kube.lives import Life, cost_of, deleted, lives_of, ordinal_of, template_of
from zerogate.kube.objects import Pod
from zerogate.kube.steering import Steering
from zerogate.kube.target import Target
from zerogate.runtime.backoff import Streak, after_failure
from zerogate.runtime.interface import Address, EndCause, Replica, ReplicaState, RuntimeObserver


class Fleet:
    """See the module's text. `whose`: fleets by the last life of each of their pods; one for all of them."""

    __slots__ = (
        "_lives", "_observers", "_pods", "_replicas", "_troubled", "_whose", "steering", "streak", "target",
    )  # fmt: skip

    def __init__(self, target: Target, observers: Sequence[RuntimeObserver], whose: dict[str, "Fleet"]) -> None:
        self.target = target
        self.steering = Steering(target.order)
        self.steering.is_floored = target.is_floored
        self.streak: Streak | None = None
        self._observers = observers
        self._whose = whose
        self._pods: dict[str, Pod] = {}
        self._lives: dict[str, Life] = {}
        """The last that was told of each pod."""
        self._replicas: dict[str, Replica] = {}
        """Those that are not gone, by their id."""
        self._troubled: dict[str, float] = {}
        """Since when something known keeps a pod from being ready, by its name."""

    # What there is

    def replicas(self) -> list[Replica]:
        """Those that are not gone."""
        return list(self._replicas.values())

    def members(self) -> list[Member]:
        """The pods that count for the workload's number."""
        return [
            Member(
                id=name,
                state=ReplicaState.READY if pod.is_ready else ReplicaState.STARTING,
                cost=cost_of(pod),
                ordinal=ordinal_of(pod),
                is_bare=sidecar_port(pod) is None,
            )
            for name, pod in self._pods.items()
            if pod.is_present
        ]

    def is_rolling(self) -> bool:
        """Pods of more than one template are there."""
        hashes = {template_of(pod) for pod in self._pods.values() if not pod.metadata.is_deleting}
        return self.target.order is Order.BY_COST and len(hashes) > 1

    def pod_of(self, replica_id: str) -> str | None:
        """The pod whose present life it is; None where it has none any longer."""
        return next((life.pod for life in self._lives.values() if life.id == replica_id), None)

    def life_of(self, pod: str) -> str:
        """The id of the pod's last life."""
        return self._lives[pod].id

    def has_left(self, pod: str) -> bool:
        """Its last life has ended, and it is being deleted: there will be no other one."""
        return self._lives[pod].state is ReplicaState.GONE and self._pods[pod].metadata.is_deleting

    def troubles(self) -> tuple[str, ...]:
        """What keeps pods from being ready, each once: for people."""
        return tuple(dict.fromkeys(life.trouble for life in self._lives.values() if life.trouble))

    # What happens

    def on_pod(self, pod: Pod, now_s: float) -> None:
        """It is new or looks different."""
        name = pod.metadata.name
        known = self._pods.get(name)
        if known is not None and known.metadata.uid != pod.metadata.uid:
            # a StatefulSet's next pod has the name of the last one
            self.on_pod_gone(name, now_s)
        self._pods[name] = pod
        before = self._lives.get(name)
        for life in lives_of(pod, before):
            if before is not None and before.id != life.id:
                self._whose.pop(before.id, None)
            self._lives[name] = life
            self._whose[life.id] = self
            self._note_trouble(life, now_s)
            self._show(pod, life, now_s)

    def on_pod_gone(self, name: str, now_s: float) -> bool:
        """It was deleted. Whether it was known."""
        if name not in self._pods:
            return False
        pod, life = self._pods.pop(name), self._lives.pop(name)
        self._whose.pop(life.id, None)
        self._troubled.pop(name, None)
        if life.state is not ReplicaState.GONE:
            self._show(pod, deleted(life), now_s)
        return True

    def disband(self, now_s: float) -> None:
        """The workload is not ours any more."""
        for name in list(self._pods):
            self.on_pod_gone(name, now_s)

    def on_time(self, now_s: float) -> None:
        """Tell who has been kept from being ready for too long by now."""
        for name in list(self._troubled):
            self._show(self._pods[name], self._lives[name], now_s)

    def revisit_at_s(self, now_s: float) -> float | None:
        """When `on_time` has something to tell though nothing happened."""
        times_s = (since_s + self.target.start_timeout_s for since_s in self._troubled.values())
        return min((at_s for at_s in times_s if at_s > now_s), default=None)

    def show_drains(self, before: frozenset[str], now_s: float) -> None:
        """Tell who drains, and who does so no longer, if those that did are others than `before`."""
        if self.steering.draining != before:
            for name, pod in list(self._pods.items()):
                self._show(pod, self._lives[name], now_s)

    def forgive(self) -> None:
        """Forget the failures."""
        if self.streak is not None:
            self.streak = None
            self._tell_back_off()

    # What is told

    def _note_trouble(self, life: Life, now_s: float) -> None:
        if life.trouble is None or life.state is not ReplicaState.STARTING:
            self._troubled.pop(life.pod, None)
        else:
            self._troubled.setdefault(life.pod, now_s)

    def _show(self, pod: Pod, life: Life, now_s: float) -> None:
        """Tell the replica of this life if it is new or another than was told."""
        known = self._replicas.get(life.id)
        if known is None and life.state is ReplicaState.GONE:
            return
        ready_s = known.ready_s if known is not None else None
        if life.was_ready and ready_s is None:
            ready_s = now_s
        replica = Replica(
            service=self.target.service,
            id=life.id,
            state=self._state(life),
            address=Address(pod.status.pod_ip, port_of(pod, self.target.port) or 0),
            started_s=known.started_s if known is not None else now_s,
            ready_s=ready_s,
            ended=life.ended,
            is_overdue=self._is_overdue(life, now_s),
        )
        if replica == known:
            return
        if life.state is ReplicaState.GONE:
            del self._replicas[life.id]
        else:
            self._replicas[life.id] = replica
        for observer in self._observers:
            observer.on_replica(replica)
        self._count_failure(replica, now_s)

    def _is_overdue(self, life: Life, now_s: float) -> bool:
        since_s = self._troubled.get(life.pod)
        return since_s is not None and now_s >= since_s + self.target.start_timeout_s

    def _state(self, life: Life) -> ReplicaState:
        if life.state is not ReplicaState.GONE and life.pod in self.steering.draining:
            return ReplicaState.DRAINING
        return life.state

    def _count_failure(self, replica: Replica, now_s: float) -> None:
        before = self.streak
        ended = replica.ended
        if ended is not None and ended.cause is not EndCause.STOPPED:
            ready_s = min((one.ready_s for one in self._replicas.values() if one.ready_s is not None), default=None)
            self.streak = after_failure(before, ended, ready_s=ready_s or replica.ready_s, now_s=now_s)
        elif replica.state is ReplicaState.READY:
            self.streak = None
        if self.streak != before:
            self._tell_back_off()

    def _tell_back_off(self) -> None:
        told = self.streak.as_back_off() if self.streak is not None else None
        for observer in self._observers:
            observer.on_back_off(self.target.service, told)
