"""The runtime of a cluster: what its pods say, as replicas; what is wanted, as writes to `/scale`.

The same interface as `zerogate.local.runtime`, with what a cluster makes different: pods are started, restarted and
ended by controllers, so nothing here starts or stops one; a replica's container that ends is started anew by the
kubelet, so suspended starts are told and not made; and closing the runtime leaves everything running.

Thin: what is due is said by `steering.py`, what pods come to as replicas by `fleet.py`; `writes.py` carries out what
takes the API server. The composition root feeds it from watches (`on_number`, `on_pod`, `on_pod_gone`) and gives it
`Hands` for what is written. All methods are called on the event loop.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from zerogate.kube.acts import Act, CloseGate, ReopenGate, SetCost, SetFloor, TellForeign, WriteScale
from zerogate.kube.fleet import Fleet
from zerogate.kube.foreign import ForeignWrite
from zerogate.kube.objects import Pod
from zerogate.kube.target import Hands, StandIn, Target
from zerogate.kube.writes import Writes
from zerogate.runtime.interface import Quiescer, Replica, RuntimeObserver, Scale
from zerogate.tasks import Nursery

_INHERITED_S: Final = 2.0
"""The last leader's last write comes by the watch: within 0.1 s, and within 2 s from a server that is busy."""


class Timer(Protocol):
    def cancel(self) -> None: ...


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
        self._writes = Writes(hands, nursery, clock=clock, again=self._steer)
        self._call_later = call_later
        self._clock = clock
        self._fleets: dict[str, Fleet] = {}
        self._fleet_of: dict[str, Fleet] = {}
        """By the last life of each pod."""
        self._timers: dict[Fleet, Timer] = {}
        self._heading: dict[Fleet, None] = {}
        """Those that head for zero, as the stand-in was told."""
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
        if fleet is None or pod is None or fleet.has_left(pod):
            return None
        return f"{fleet.target.key[0]}/{pod}"

    def _find(self, replica_id: str) -> tuple[Fleet | None, str | None]:
        """Whose it is, and the pod whose last life it is: between two lives a pod is still there to be taken."""
        fleet = self._fleet_of.get(replica_id)
        pod = fleet.pod_of(replica_id) if fleet is not None else None
        return (None, None) if pod is None else (fleet, pod)

    def clear_back_off(self, service: str) -> None:
        """Forget the failures. The kubelet keeps its own pauses between restarts."""
        fleet = self._fleets.get(service)
        if fleet is not None:
            fleet.forgive()

    def replicas(self) -> list[Replica]:
        """All that are not gone."""
        return [replica for fleet in self._fleets.values() for replica in fleet.replicas()]

    async def aclose(self, *, drain_deadline_s: float) -> None:
        """Write no more. What runs goes on: this process is not what keeps it alive."""
        del drain_deadline_s
        self._is_closed = True
        self._writes.close()
        for fleet in self._fleets.values():
            self._forget_timer(fleet)

    # What the composition root feeds it with

    def configure(self, targets: Mapping[str, Target]) -> None:
        """All workloads there are. Those that are left out are let go as they stand."""
        for service in [service for service in self._fleets if service not in targets]:
            self._release(self._fleets.pop(service))
        for service, target in targets.items():
            fleet = self._fleets.get(service)
            if fleet is None:
                fleet = self._fleets[service] = Fleet(target, self._observers, self._fleet_of)
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
            self._writes.give_up_costs()
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

    def _tell_steering(self, fleet: Fleet) -> None:
        draining = fleet.steering.draining
        fleet.steering.lead(self._leads, inherits_until_s=self._inherits_until_s)
        fleet.show_drains(draining, self._clock())

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
        if fleet is not None:
            fleet.on_pod(pod, self._clock())
            self._steer(fleet)

    def on_pod_gone(self, service: str, name: str) -> None:
        """The pod was deleted."""
        fleet = self._fleets.get(service)
        if fleet is not None and fleet.on_pod_gone(name, self._clock()):
            self._steer(fleet)

    def number(self, service: str) -> int | None:
        """How many replicas the workload asks for, as far as it is known."""
        fleet = self._fleets.get(service)
        return fleet.steering.number if fleet is not None else None

    def troubles(self, service: str) -> tuple[str, ...]:
        """What keeps pods of the service from being ready, each once: for people."""
        fleet = self._fleets.get(service)
        return fleet.troubles() if fleet is not None else ()

    def is_behind(self, service: str) -> bool:
        """Replicas of it may be there that are not known, since what was written last has not been seen yet."""
        fleet = self._fleets.get(service)
        return fleet is not None and fleet.steering.is_behind(self._clock())

    def floor_trouble(self, service: str) -> str:
        """Why the floor of its HPA is not what is wanted; empty where it is, or there is none."""
        fleet = self._fleets.get(service)
        return fleet.steering.floor_trouble if fleet is not None and fleet.target.is_floored else ""

    def write_trouble(self, service: str) -> str:
        """Why the number that is wanted is not written; empty where it is, or another process has to."""
        fleet = self._fleets.get(service)
        return fleet.steering.write_trouble if fleet is not None and self._leads else ""

    def wake_trouble(self, service: str) -> str:
        """Why the service stays at zero though something shall run, as a clause for clients, who are not told of
        rights; empty where it does not, or another process has to write."""
        fleet = self._fleets.get(service)
        if fleet is None or fleet.steering.number != 0:
            return ""
        if self.write_trouble(service):
            return "the autoscaler cannot write its number of replicas"
        if self._leads and self.floor_trouble(service):
            return "the autoscaler cannot write its HPA's minReplicas"
        return ""

    def last_foreign_write(self, service: str) -> tuple[ForeignWrite, bool] | None:
        """(the last number that somebody else wrote, whether hands are off because of it)."""
        fleet = self._fleets.get(service)
        if fleet is None or fleet.steering.foreign.last is None:
            return None
        return fleet.steering.foreign.last, fleet.steering.foreign.is_hands_off

    # Acts

    def _steer(self, fleet: Fleet) -> None:
        """Do what is due; what that makes due, too. Nothing for a workload that was let go while it was written."""
        if self._is_closed or self._fleets.get(fleet.target.service) is not fleet:
            return
        now_s = self._clock()
        fleet.on_time(now_s)
        fleet.steering.on_members(fleet.members(), is_rolling=fleet.is_rolling())
        draining = fleet.steering.draining
        self._ask_stand_in(fleet)
        for act in fleet.steering.step(now_s):
            self._act(fleet, act)
        fleet.show_drains(draining, now_s)
        self._plan_revisit(fleet, now_s)

    def _ask_stand_in(self, fleet: Fleet) -> None:
        steering, service = fleet.steering, fleet.target.service
        if self._stand_in is None:
            return
        if steering.heads_for_zero:
            self._heading[fleet] = None
            steering.may_zero = self._stand_in.may_zero(service)
        elif fleet in self._heading:
            del self._heading[fleet]
            self._stand_in.stay_up(service)

    def _act(self, fleet: Fleet, act: Act) -> None:
        match act:
            case WriteScale() | SetCost() | SetFloor():
                self._writes.start(fleet, act)
            case CloseGate(pod):
                self._close_gate(fleet, pod)
            case ReopenGate(pod):
                if self._quiescer is not None:
                    self._quiescer.reopen_gate(fleet.life_of(pod))
            case TellForeign(write, is_hands_off):
                self._hands.tell_foreign(fleet.target, write, is_hands_off=is_hands_off)

    def _close_gate(self, fleet: Fleet, pod: str) -> None:
        replica_id = fleet.life_of(pod)
        if self._quiescer is None or self._quiescer.close_gate(replica_id):
            # in a turn of its own: the steering is in the middle of a step
            self._call_later(0.0, lambda: self.on_idle(replica_id))

    def _plan_revisit(self, fleet: Fleet, now_s: float) -> None:
        self._forget_timer(fleet)
        times_s = (fleet.steering.revisit_at_s(now_s), fleet.revisit_at_s(now_s))
        at_s = min((at_s for at_s in times_s if at_s is not None), default=None)
        if at_s is not None:
            self._timers[fleet] = self._call_later(at_s - now_s, lambda: self._steer(fleet))

    def _forget_timer(self, fleet: Fleet) -> None:
        timer = self._timers.pop(fleet, None)
        if timer is not None:
            timer.cancel()

    def _release(self, fleet: Fleet) -> None:
        self._forget_timer(fleet)
        self._heading.pop(fleet, None)
        self._writes.give_up_costs(fleet)
        # what waits for its turn is not sent any more
        fleet.steering.lead(False)
        fleet.disband(self._clock())
