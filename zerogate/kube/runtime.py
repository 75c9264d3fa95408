"""The runtime of a cluster: what its pods say, as replicas; what is wanted, as writes to `/scale`.

The same interface as `zerogate.local.runtime`, with what a cluster makes different: pods are started, restarted and
ended by controllers, so nothing here starts or stops one; a replica's container that ends is started anew by the
kubelet, so suspended starts are told and not made; and closing the runtime leaves everything running.

Thin: what is due is said by `steering.py`, what a pod means by `lives.py`. The composition root feeds it from watches
(`on_number`, `on_pod`, `on_pod_gone`) and gives it `Hands` for what takes the API server. All methods are called on the
event loop.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from zerogate.kube.catalog import port_of, version_number
from zerogate.kube.errors import KubeError
from zerogate.kube.foreign import ForeignWrite
from zerogate.kube.lives import Life, cost_of, deleted, lives_of, ordinal_of, template_of
from zerogate.kube.objects import Key, Pod, Resource, Workload
from zerogate.kube.scaling import ReplicasDiffer
from zerogate.kube.steering import (
    Act,
    CloseGate,
    Member,
    Order,
    ReopenGate,
    SetCost,
    SetFloor,
    Steering,
    TellForeign,
    WriteScale,
)
from zerogate.runtime.backoff import Streak, after_failure
from zerogate.runtime.interface import Address, EndCause, Quiescer, Replica, ReplicaState, RuntimeObserver, Scale
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)

_INHERITED_S: Final = 2.0
"""The last leader's last write comes by the watch: within 0.1 s, and within 2 s from a server that is busy."""
_AGAIN_S: Final = 1.0
"""After a write that failed for no fault of its own; the server's own word (429) may ask for longer."""


class Target(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One workload under zerogate. `port`: where the model server takes requests, by number or name; None: its first.
    Pods with a sidecar take them there instead."""

    service: str
    kind: str
    resource: Resource[Workload]
    key: Key
    uid: str
    order: Order
    ceiling: int
    port: str | None = None
    start_timeout_s: float = 600.0
    """For what keeps a pod from being ready, where that is known."""
    is_floored: bool = False
    """An HPA scales it from one up: only its floor is moved, and zero."""


class Hands(Protocol):
    """What takes the API server. Errors are KubeError; `zerogate.kube.hands` is the real one."""

    async def write_scale(self, target: Target, write: WriteScale) -> int:
        """Replace the number on condition; the version that the workload has since. Raises ReplicasDiffer."""

    async def write_cost(self, target: Target, pod: str, cost: int) -> None:
        """Write the pod's deletion cost; 0 takes it away. A pod that is gone is no error."""

    async def write_floor(self, target: Target, replicas: int) -> int:
        """Write the `minReplicas` of its HPA; what it is now, which is `maxReplicas` at most."""

    def tell_foreign(self, target: Target, write: ForeignWrite, *, is_hands_off: bool) -> None:
        """Say where people look that somebody else writes the number."""


class StandIn(Protocol):
    """Who answers for services at zero; `zerogate.kube.takeovers` is one."""

    def may_zero(self, service: str) -> bool:
        """The service heads for zero: prepare for it. Whether that is done; if not, `on_may_zero` follows."""

    def stay_up(self, service: str) -> None:
        """It does so no longer."""


class Timer(Protocol):
    def cancel(self) -> None: ...


class _Fleet:
    """One workload."""

    __slots__ = (
        "costs", "heads_for_zero", "lives", "pods", "replicas", "steering", "streak", "target", "timer", "trouble",
        "troubled",
    )  # fmt: skip

    def __init__(self, target: Target) -> None:
        self.target = target
        self.steering = Steering(target.order)
        self.steering.is_floored = target.is_floored
        self.pods: dict[str, Pod] = {}
        self.lives: dict[str, Life] = {}
        """The last that was told of each pod."""
        self.replicas: dict[str, Replica] = {}
        """Those that are not gone, by their id."""
        self.costs: dict[str, int] = {}
        """Deletion costs that are to be written, by pod; the latest counts."""
        self.streak: Streak | None = None
        self.timer: Timer | None = None
        self.trouble = ""
        """Why its HPA's floor is not what is wanted."""
        self.troubled: dict[str, tuple[float, Timer]] = {}
        """Since when something known keeps a pod from being ready, by its name, and what looks again."""
        self.heads_for_zero = False
        """As the stand-in was told."""

    def pod_of(self, replica_id: str) -> str | None:
        """The pod whose present life it is; None where it has none any longer."""
        return next((life.pod for life in self.lives.values() if life.id == replica_id), None)

    def members(self) -> list[Member]:
        return [
            Member(
                id=name,
                state=ReplicaState.READY if pod.is_ready else ReplicaState.STARTING,
                cost=cost_of(pod),
                ordinal=ordinal_of(pod),
            )
            for name, pod in self.pods.items()
            if not pod.metadata.is_deleting and pod.status.phase not in ("Failed", "Succeeded")
        ]

    def is_rolling(self) -> bool:
        """Pods of more than one template are there."""
        hashes = {template_of(pod) for pod in self.pods.values() if not pod.metadata.is_deleting}
        return self.target.order is Order.BY_COST and len(hashes) > 1


class KubernetesRuntime:
    """See the module's text."""

    def __init__(
        self,
        hands: Hands,
        nursery: Nursery,
        *,
        call_later: Callable[[float, Callable[[], None]], Timer],
        clock: Callable[[], float],
    ) -> None:
        self._hands = hands
        self._nursery = nursery
        self._call_later = call_later
        self._clock = clock
        self._fleets: dict[str, _Fleet] = {}
        self._fleet_of: dict[str, _Fleet] = {}
        """By the last life of each pod."""
        self._observers: list[RuntimeObserver] = []
        self._quiescer: Quiescer | None = None
        self._stand_in: StandIn | None = None
        self._leads = False
        self._inherits_until_s = float("-inf")
        self._is_closed = False

    # What the users of the runtime say

    def subscribe(self, observer: RuntimeObserver) -> None:
        """Tell `observer` what there is, and every change from now on."""
        self._observers.append(observer)
        for replica in self.replicas():
            observer.on_replica(replica)
        for service, fleet in self._fleets.items():
            if fleet.streak is not None:
                observer.on_back_off(service, fleet.streak.as_back_off())

    def set_quiescer(self, quiescer: Quiescer) -> None:
        """Say who closes gates: on a cluster each is in its replica's sidecar."""
        self._quiescer = quiescer

    def scale(self, effect: Scale) -> None:
        """So many shall run. More than the ceiling are never asked for."""
        fleet = self._fleets.get(effect.service)
        if fleet is None or self._is_closed:
            return
        victims = tuple(pod for id_ in effect.victims if (pod := fleet.pod_of(id_)) is not None)
        number = min(effect.replicas, fleet.target.ceiling)
        fleet.steering.want(msgspec.structs.replace(effect, replicas=number, victims=victims))
        self._steer(fleet)

    def on_idle(self, replica_id: str) -> None:
        """The gate of a replica that drains says: nothing is inside."""
        fleet, pod = self._find(replica_id)
        if fleet is not None and pod is not None:
            fleet.steering.on_idle(pod)
            self._steer(fleet)

    def on_busy(self, replica_id: str) -> None:
        """Somebody has come into a replica that was idle, or nobody knows: it is not to be stopped before `on_idle`."""
        fleet, pod = self._find(replica_id)
        if fleet is not None and pod is not None:
            fleet.steering.on_busy(pod)
            self._steer(fleet)

    def source_of(self, replica_id: str) -> str | None:
        """Who reports for it, its pod's sidecar: NAMESPACE/POD. None where it has no pod, or is not ours any more, or
        has ended in a pod that is being deleted."""
        fleet, pod = self._find(replica_id)
        if fleet is None or pod is None:
            return None
        if fleet.lives[pod].state is ReplicaState.GONE and fleet.pods[pod].metadata.is_deleting:
            return None
        return f"{fleet.target.key[0]}/{pod}"

    def _find(self, replica_id: str) -> tuple[_Fleet | None, str | None]:
        """Whose it is, and the pod whose last life it is: between two lives a pod is still there to be taken."""
        fleet = self._fleet_of.get(replica_id)
        pod = fleet.pod_of(replica_id) if fleet is not None else None
        return (None, None) if pod is None else (fleet, pod)

    def clear_back_off(self, service: str) -> None:
        """Forget the failures. The kubelet keeps its own pauses between restarts."""
        fleet = self._fleets.get(service)
        if fleet is not None and fleet.streak is not None:
            fleet.streak = None
            self._tell_back_off(fleet)

    def replicas(self) -> list[Replica]:
        """All that are not gone."""
        return [replica for fleet in self._fleets.values() for replica in fleet.replicas.values()]

    async def aclose(self, *, drain_deadline_s: float) -> None:
        """Write no more. What runs goes on: this process is not what keeps it alive."""
        del drain_deadline_s
        self._is_closed = True
        for fleet in self._fleets.values():
            self._forget_timer(fleet)
            for name in list(fleet.troubled):
                _forget_trouble(fleet, name)

    # What the composition root feeds it with

    def configure(self, targets: Mapping[str, Target]) -> None:
        """All workloads there are. Those that are left out are let go as they stand."""
        for service in [service for service in self._fleets if service not in targets]:
            self._release(self._fleets.pop(service))
        for service, target in targets.items():
            fleet = self._fleets.get(service)
            if fleet is None:
                fleet = self._fleets[service] = _Fleet(target)
                fleet.steering.lead(self._leads)
            elif fleet.target is not target and fleet.target != target:
                fleet.target = target
                fleet.steering.is_floored = target.is_floored
                fleet.steering.on_policy_changed()
                self._steer(fleet)

    def set_stand_in(self, stand_in: StandIn) -> None:
        """Say who has to be asked before a service goes to zero."""
        self._stand_in = stand_in

    def on_may_zero(self, service: str) -> None:
        """The stand-in's answer may be another than before."""
        fleet = self._fleets.get(service)
        if fleet is not None:
            self._steer(fleet)

    def lead(self, leads: bool) -> None:
        """This process writes from now on, or another one does: `begin_to_lead` and `lead_one` in one."""
        for service in self.begin_to_lead(leads):
            self.lead_one(service)

    def begin_to_lead(self, leads: bool) -> list[str]:
        """This process writes from now on, or another one does. Who does not is silent about all workloads at once. Who
        does is silent about each until `lead_one`, to be called for all of these: of thousands, in slices."""
        self._leads = leads
        self._inherits_until_s = self._clock() + _INHERITED_S
        if not leads:
            for fleet in self._fleets.values():
                self._tell_steering(fleet)
        return list(self._fleets)

    def lead_one(self, service: str) -> None:
        """Go on with this workload as the one who leads, or who does not."""
        fleet = self._fleets.get(service)
        if fleet is not None:
            if self._leads:
                self._tell_steering(fleet)
            self._steer(fleet)

    def _tell_steering(self, fleet: _Fleet) -> None:
        draining = fleet.steering.draining
        fleet.steering.lead(self._leads, inherits_until_s=self._inherits_until_s)
        self._show_drains(fleet, draining)

    def on_number(self, service: str, number: int, version: int) -> None:
        """The watch shows the workload with this number of replicas. `version`: its resource version."""
        fleet = self._fleets.get(service)
        if fleet is not None:
            fleet.steering.on_number(number, version, self._clock())
            self._steer(fleet)

    def on_policy_changed(self, service: str) -> None:
        """A person has said anew what they want: what others wrote before is forgiven."""
        fleet = self._fleets.get(service)
        if fleet is not None:
            fleet.steering.on_policy_changed()
            self._steer(fleet)

    def on_pod(self, service: str, pod: Pod) -> None:
        """A pod of the workload is new or looks different."""
        fleet = self._fleets.get(service)
        if fleet is None:
            return
        name = pod.metadata.name
        known = fleet.pods.get(name)
        if known is not None and known.metadata.uid != pod.metadata.uid:
            # a StatefulSet's next pod has the name of the last one
            self._lose(fleet, name)
        fleet.pods[name] = pod
        self._read(fleet, pod)
        self._steer(fleet)

    def on_pod_gone(self, service: str, name: str) -> None:
        """The pod was deleted."""
        fleet = self._fleets.get(service)
        if fleet is not None and name in fleet.pods:
            self._lose(fleet, name)
            self._steer(fleet)

    def number(self, service: str) -> int | None:
        """How many replicas the workload asks for, as far as it is known."""
        fleet = self._fleets.get(service)
        return fleet.steering.number if fleet is not None else None

    def troubles(self, service: str) -> tuple[str, ...]:
        """What keeps pods of the service from being ready, each once: for people."""
        fleet = self._fleets.get(service)
        if fleet is None:
            return ()
        return tuple(dict.fromkeys(life.trouble for life in fleet.lives.values() if life.trouble))

    def floor_trouble(self, service: str) -> str:
        """Why the floor of its HPA is not what is wanted; empty where it is, or there is none."""
        fleet = self._fleets.get(service)
        return fleet.trouble if fleet is not None and fleet.target.is_floored else ""

    def last_foreign_write(self, service: str) -> tuple[ForeignWrite, bool] | None:
        """(the last number that somebody else wrote, whether hands are off because of it)."""
        fleet = self._fleets.get(service)
        if fleet is None or fleet.steering.foreign.last is None:
            return None
        return fleet.steering.foreign.last, fleet.steering.foreign.is_hands_off

    # Pods and replicas

    def _read(self, fleet: _Fleet, pod: Pod) -> None:
        name = pod.metadata.name
        before = fleet.lives.get(name)
        for life in lives_of(pod, before):
            if before is not None and before.id != life.id:
                self._fleet_of.pop(before.id, None)
            fleet.lives[name] = life
            self._fleet_of[life.id] = fleet
            self._note_trouble(fleet, life)
            self._show(fleet, pod, life)

    def _note_trouble(self, fleet: _Fleet, life: Life) -> None:
        """Look again when it was in the way for too long."""
        if life.trouble is None or life.state is not ReplicaState.STARTING:
            _forget_trouble(fleet, life.pod)
        elif life.pod not in fleet.troubled:
            self._look_again_at(fleet, life.pod, self._clock())

    def _look_again_at(self, fleet: _Fleet, name: str, since_s: float) -> None:
        left_s = max(0.0, since_s + fleet.target.start_timeout_s - self._clock())
        timer = self._call_later(left_s, lambda: self._look_again(fleet, name, since_s))
        fleet.troubled[name] = since_s, timer

    def _look_again(self, fleet: _Fleet, name: str, since_s: float) -> None:
        if self._clock() < since_s + fleet.target.start_timeout_s:
            self._look_again_at(fleet, name, since_s)  # somebody has asked for longer meanwhile
        else:
            self._show(fleet, fleet.pods[name], fleet.lives[name])

    def _lose(self, fleet: _Fleet, name: str) -> None:
        pod, life = fleet.pods.pop(name), fleet.lives.pop(name)
        self._fleet_of.pop(life.id, None)
        _forget_trouble(fleet, name)
        if life.state is not ReplicaState.GONE:
            self._show(fleet, pod, deleted(life))

    def _show(self, fleet: _Fleet, pod: Pod, life: Life) -> None:
        """Tell the replica of this life if it is new or another than was told."""
        known = fleet.replicas.get(life.id)
        if known is None and life.state is ReplicaState.GONE:
            return
        now_s = self._clock()
        ready_s = known.ready_s if known is not None else None
        if life.was_ready and ready_s is None:
            ready_s = now_s
        replica = Replica(
            service=fleet.target.service,
            id=life.id,
            state=self._state(fleet, life),
            address=Address(pod.status.pod_ip, port_of(pod, fleet.target.port) or 0),
            started_s=known.started_s if known is not None else now_s,
            ready_s=ready_s,
            ended=life.ended,
            is_overdue=self._is_overdue(fleet, life),
        )
        if replica == known:
            return
        if life.state is ReplicaState.GONE:
            del fleet.replicas[life.id]
        else:
            fleet.replicas[life.id] = replica
        self._tell(replica)
        self._count_failure(fleet, replica)

    def _is_overdue(self, fleet: _Fleet, life: Life) -> bool:
        since = fleet.troubled.get(life.pod)
        return since is not None and self._clock() >= since[0] + fleet.target.start_timeout_s

    @staticmethod
    def _state(fleet: _Fleet, life: Life) -> ReplicaState:
        if life.state is not ReplicaState.GONE and life.pod in fleet.steering.draining:
            return ReplicaState.DRAINING
        return life.state

    def _count_failure(self, fleet: _Fleet, replica: Replica) -> None:
        before = fleet.streak
        ended = replica.ended
        if ended is not None and ended.cause is not EndCause.STOPPED:
            ready_s = min((one.ready_s for one in fleet.replicas.values() if one.ready_s is not None), default=None)
            fleet.streak = after_failure(before, ended, ready_s=ready_s or replica.ready_s, now_s=self._clock())
        elif replica.state is ReplicaState.READY:
            fleet.streak = None
        if fleet.streak != before:
            self._tell_back_off(fleet)

    def _tell(self, replica: Replica) -> None:
        for observer in self._observers:
            observer.on_replica(replica)

    def _tell_back_off(self, fleet: _Fleet) -> None:
        told = fleet.streak.as_back_off() if fleet.streak is not None else None
        for observer in self._observers:
            observer.on_back_off(fleet.target.service, told)

    # Acts

    def _steer(self, fleet: _Fleet) -> None:
        """Do what is due; what that makes due, too."""
        if self._is_closed:
            return
        now_s = self._clock()
        fleet.steering.on_members(fleet.members(), is_rolling=fleet.is_rolling())
        draining = fleet.steering.draining
        self._ask_stand_in(fleet)
        for act in fleet.steering.step(now_s):
            self._act(fleet, act)
        self._show_drains(fleet, draining)
        self._plan_revisit(fleet, now_s)

    def _show_drains(self, fleet: _Fleet, before: frozenset[str]) -> None:
        if fleet.steering.draining != before:
            for name, pod in list(fleet.pods.items()):
                self._show(fleet, pod, fleet.lives[name])

    def _ask_stand_in(self, fleet: _Fleet) -> None:
        steering, service = fleet.steering, fleet.target.service
        if self._stand_in is None:
            return
        if steering.heads_for_zero:
            fleet.heads_for_zero = True
            steering.may_zero = self._stand_in.may_zero(service)
        elif fleet.heads_for_zero:
            fleet.heads_for_zero = False
            self._stand_in.stay_up(service)

    def _act(self, fleet: _Fleet, act: Act) -> None:
        target = fleet.target
        match act:
            case WriteScale():
                self._nursery.start(self._write_scale(fleet, act), name=f"scale {target.service}")
            case SetCost(pod, cost):
                if pod not in fleet.costs:
                    self._nursery.start(self._write_cost(fleet, pod), name=f"cost of {pod}")
                fleet.costs[pod] = cost
            case SetFloor(replicas):
                self._nursery.start(self._write_floor(fleet, replicas), name=f"floor of {target.service}")
            case CloseGate(pod):
                self._close_gate(fleet, pod)
            case ReopenGate(pod):
                if self._quiescer is not None:
                    self._quiescer.reopen_gate(fleet.lives[pod].id)
            case TellForeign(write, is_hands_off):
                self._hands.tell_foreign(target, write, is_hands_off=is_hands_off)

    def _close_gate(self, fleet: _Fleet, pod: str) -> None:
        replica_id = fleet.lives[pod].id
        if self._quiescer is None or self._quiescer.close_gate(replica_id):
            # in a turn of its own: the steering is in the middle of a step
            self._call_later(0.0, lambda: self.on_idle(replica_id))

    def _plan_revisit(self, fleet: _Fleet, now_s: float) -> None:
        self._forget_timer(fleet)
        at_s = fleet.steering.revisit_at_s(now_s)
        if at_s is not None:
            fleet.timer = self._call_later(at_s - now_s, lambda: self._steer(fleet))

    @staticmethod
    def _forget_timer(fleet: _Fleet) -> None:
        if fleet.timer is not None:
            fleet.timer.cancel()
            fleet.timer = None

    async def _write_scale(self, fleet: _Fleet, write: WriteScale) -> None:
        steering = fleet.steering
        try:
            version = await self._hands.write_scale(fleet.target, write)
        except ReplicasDiffer as difference:
            steering.on_conflict(difference.found, version_number(difference.version), self._clock())
        except KubeError as error:
            log.warning("%s: the number of replicas could not be written: %s", fleet.target.service, error)
            steering.on_failed(self._clock() + (error.retry_after_s or _AGAIN_S))
        else:
            steering.on_written(version, self._clock())
        self._steer(fleet)

    async def _write_floor(self, fleet: _Fleet, replicas: int) -> None:
        try:
            await self._hands.write_floor(fleet.target, replicas)
        except KubeError as error:
            log.warning("%s: the HPA's minReplicas could not be written: %s", fleet.target.service, error)
            fleet.steering.on_floor_failed(self._clock() + (error.retry_after_s or _AGAIN_S))
            fleet.trouble = str(error)
        else:
            fleet.steering.on_floor(replicas)
            fleet.trouble = ""
        self._steer(fleet)

    async def _write_cost(self, fleet: _Fleet, pod: str) -> None:
        written: int | None = None
        while fleet.costs[pod] != written and not self._is_closed:
            cost = fleet.costs[pod]
            try:
                await self._hands.write_cost(fleet.target, pod, cost)
                written = cost
            except KubeError as error:
                log.warning("%s: the deletion cost of %s could not be written: %s", fleet.target.service, pod, error)
                await asyncio.sleep(error.retry_after_s or _AGAIN_S)
        del fleet.costs[pod]

    def _release(self, fleet: _Fleet) -> None:
        self._forget_timer(fleet)
        for name in list(fleet.pods):
            self._lose(fleet, name)


def _forget_trouble(fleet: _Fleet, name: str) -> None:
    if name in fleet.troubled:
        _, timer = fleet.troubled.pop(name)
        timer.cancel()
