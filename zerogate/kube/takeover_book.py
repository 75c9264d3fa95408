"""Which Services are answered for, on which ports, and what is due for each of them. Pure: `now_s` is an argument.

The whole around `taken.py` (one Service) and `takeover.py` (one of its slices). Events come in: the workloads and their
pods, who leads, what the watches show. They mark what has to be looked at; `flush` looks, and gives what is due, each
of it once. The shell is `zerogate.kube.takeovers`, whose live views of what the watches show `services` and `slices`
are.

Invariants: nothing is due for who does not lead; a port of activators is one Service's alone; a Service that is a front
no longer gets back what it was changed in, and then its ports are free.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from zerogate.kube.all_fronts import fronts_among, happening_of, sentence_of
from zerogate.kube.catalog import Managed
from zerogate.kube.event_book import Happening
from zerogate.kube.fronts import Front, Refused, has_name, moves_to_number
from zerogate.kube.objects import EndpointSlice, Key, Pod, Service, ServiceSpec
from zerogate.kube.port_ledger import Claim, PortLedger
from zerogate.kube.slice_book import SliceBook, service_key
from zerogate.kube.taken import MoveTargets, Taken, claims_of, left_behind
from zerogate.kube.takeover import SETTLE_S, Act, Stand

PORTS_AGAIN_S: Final = 30.0
"""Ports that were given back rest for minutes, and nothing tells when one is free."""


class Perform(msgspec.Struct, frozen=True):
    """Do this for the slice of a Service; then tell its stand how it went, and say `plan`."""

    taken: Taken
    stand: Stand
    act: Act


class Retarget(msgspec.Struct, frozen=True):
    """Write a Service's target ports; then tell it how that went, and say `plan_whole`."""

    taken: Taken
    move: MoveTargets


class Revisit(msgspec.Struct, frozen=True):
    """Say `plan` at this time, and not at the one before; None: at none."""

    key: Key
    at_s: float | None


class MayZero(msgspec.Struct, frozen=True):
    """Say that `may_zero` of this workload may say otherwise."""

    service: str


class LookAgain(msgspec.Struct, frozen=True):
    """Somebody has no port: say `plan_whole` after `PORTS_AGAIN_S`."""


Due = Perform | Retarget | Revisit | MayZero | LookAgain | Happening


class TakeoverBook:
    """See the module's text. `ports`: the first and the last of the activators'."""

    def __init__(
        self,
        services: Mapping[Key, Service],
        slices: SliceBook,
        *,
        ports: tuple[int, int],
        settle_s: float = SETTLE_S,
    ) -> None:
        self._services = services
        self._slices = slices
        self._range = ports
        self._settle_s = settle_s
        self._workloads: dict[str, Managed] = {}
        """Those that are taken over."""
        self._named: dict[str, dict[str, bool]] = {}
        """By service and pod: whether the pod has the sidecar's own port name."""
        self._heading: dict[str, bool] = {}
        """Those that head for zero, and whether they may, as it was told last."""
        self._refused: dict[str, tuple[Refused, ...]] = {}
        self._taken: dict[Key, Taken] = {}
        self._keys_of: dict[str, dict[Key, None]] = {}
        """Of the Services that are answered for, by workload."""
        self._portless: dict[str, list[Refused]] = {}
        """Services for which too few ports are left, by workload."""
        self._ledger = PortLedger(*ports)
        self._leads = False
        self._dirty: dict[Key, None] = {}
        self._is_whole_due = False
        self._due: list[Due] = []

    # What the composition root says

    def lead(self, leads: bool, *, start: int, recovers: bool) -> list[tuple[EndpointSlice, int]]:
        """This process writes from now on, or another one does. `start`: where ports are looked for first; `recovers`:
        the slices there are have been seen. Gives back those of ours with a port that is not their own."""
        self._leads = leads
        self._refused = {}  # told by who leads, whoever knew before
        self._taken.clear()
        self._keys_of.clear()
        self._portless.clear()
        self._ledger = PortLedger(*self._range, start=start)
        self.plan_whole()
        if not leads or not recovers:
            return []
        return [
            (one, port.port)
            for one in self._slices.all_of_ours()
            for port in one.ports or ()
            if port.port is not None and not self._ledger.recover((*service_key(one), port.name or ""), port.port)
        ]

    def on_services(self, services: Mapping[str, Managed]) -> list[str]:
        """All workloads under zerogate. Gives back those that headed for zero and need no leave for it any more."""
        for name in [name for name in self._named if name not in services]:
            del self._named[name]
        workloads = {name: entry for name, entry in services.items() if entry.wanted.cluster.takeover}
        if workloads == self._workloads:
            return []
        self._workloads = workloads
        free = [name for name in self._heading if name not in workloads]
        for name in free:
            del self._heading[name]
        self.plan_whole()
        return free

    def on_pod(self, service: str, pod: Pod) -> None:
        """A pod of the service is new or looks different."""
        pods = self._named.setdefault(service, {})
        if not pod.is_present:
            self.on_pod_gone(service, pod.metadata.name)
        elif pods.get(pod.metadata.name) is not has_name(pod):
            pods[pod.metadata.name] = has_name(pod)
            self._plan_workload(service)

    def on_pod_gone(self, service: str, name: str) -> None:
        """The pod was deleted."""
        if self._named.get(service, {}).pop(name, None) is not None:
            self._plan_workload(service)

    def may_zero(self, service: str, now_s: float) -> bool:
        """The service heads for zero. Whether all its Services are answered for by now, or it is not taken over."""
        if service not in self._workloads:
            return True
        if service not in self._heading:
            self._heading[service] = False
            self._head(service, now_s)
        self._heading[service] = self._is_prepared(service, now_s)
        return self._heading[service]

    def stay_up(self, service: str, now_s: float) -> None:
        """It does so no longer."""
        if service in self._heading:
            del self._heading[service]
            self._head(service, now_s)

    def troubles(self, service: str) -> tuple[str, ...]:
        """What keeps a service from being taken over, a sentence each: for people."""
        if service not in self._workloads:
            return ()
        home = "/".join(self._slices.home)
        alone = [
            f"Service {taken.front.key[1]} is not answered for at zero over {family}: no activator of {home} is ready "
            "with such an address."
            for taken in self.taken_of(service)
            for family in (stand.family for stand in taken.present)
            if not self._slices.activators(family)
        ]
        return (*(sentence_of(one) for one in self._refused.get(service, ())), *alone)

    def _head(self, service: str, now_s: float) -> None:
        for taken in self.taken_of(service):
            for stand in taken.present:
                stand.head_for_zero(service in self._heading, now_s)
            self.plan(taken.front.key)

    def _is_prepared(self, service: str, now_s: float) -> bool:
        taken = self.taken_of(service)
        is_whole = bool(taken) and service not in self._portless
        return is_whole and all(stand.may_zero(now_s) for one in taken for stand in one.present)

    def taken_of(self, service: str) -> list[Taken]:
        """The workload's Services that are answered for."""
        return [self._taken[key] for key in self._keys_of.get(service, ())]

    # What the watches show

    def on_service(self, old: Service | None, new: Service | None) -> None:
        """A Service has changed."""
        if old is None or new is None or _gist(old) != _gist(new):
            self.plan_whole()

    def on_slice(self, seen: EndpointSlice, new: EndpointSlice | None, now_s: float) -> None:
        """A slice has changed; `new` is None where it was deleted."""
        key = service_key(seen)
        if key == self._slices.home:
            self.plan_whole()
        elif key in self._taken:
            self._taken[key].on_slice(seen, new, now_s)
        self.plan(key)

    # What follows

    def plan_whole(self) -> None:
        """Everything has to be looked at."""
        self._is_whole_due = True

    def plan(self, key: Key) -> None:
        """This Service has to be looked at."""
        self._dirty[key] = None

    def _plan_workload(self, service: str) -> None:
        for taken in self.taken_of(service):
            self.plan(taken.front.key)

    @property
    def is_due(self) -> bool:
        """`flush` has something to look at."""
        return self._is_whole_due or bool(self._dirty)

    def flush(self, now_s: float) -> list[Due]:
        """What is due now."""
        is_whole, self._is_whole_due = self._is_whole_due, False
        if is_whole and not self._leads:
            _, self._refused = fronts_among(self._workloads, self._services.values())
        elif is_whole:
            self._look_at_all(now_s)
            self._dirty = dict.fromkeys(self._taken)
        dirty, self._dirty = self._dirty, {}
        for key in dirty:
            if key in self._taken:
                self._drive(self._taken[key], now_s)
        due, self._due = self._due, []
        return due

    def _look_at_all(self, now_s: float) -> None:
        """Which Services are fronts now, and which are no longer."""
        fronts, refused = fronts_among(self._workloads, self._services.values())
        self._portless.clear()
        for front in fronts.values():
            if not self._take(front, now_s):
                self._portless.setdefault(front.service, []).append(self._without_ports(front))
        self._tell({name: (*ones, *self._portless.get(name, ())) for name, ones in refused.items()})
        for service in self._services.values():
            if service.key not in fronts:
                self._let_go(service, now_s)
        for key in [key for key in self._taken if key not in self._services]:
            self._forget(key, now_s)
        if self._portless:
            self._due.append(LookAgain())

    def _without_ports(self, front: Front) -> Refused:
        first, last = self._range
        reason = f"all ports of activators, {first} to {last}, are taken"
        if len(front.ports) > 1:
            reason = f"it needs {len(front.ports)} ports of activators, and fewer of {first} to {last} are free"
        return Refused(front.key, front.uid, reason)

    def _take(self, front: Front, now_s: float) -> bool:
        """Answer for it. False where activators have too few ports left: then none is taken, and what is answered for
        already stays as it is."""
        taken, claims = self._taken.get(front.key), claims_of(front)
        ports = self._ledger.take_all(claims, now_s)
        if taken is not None and taken.front.uid != front.uid:
            self._leave(taken, claims if ports is not None else [], now_s)
            taken = None
        if ports is None:
            return False
        if taken is None:
            taken = Taken(front)
        else:
            self._leave(taken, claims, now_s)
            taken.front = front
        self._list(taken)
        heads = front.service in self._heading
        taken.make_stands(ports, self._slices, now_s, settle_s=self._settle_s, heads=heads)
        return True

    def _let_go(self, service: Service, now_s: float) -> None:
        """A Service that is no front: give back what it was changed in."""
        key = service.key
        if key not in self._taken:
            # what an earlier leader left
            ours = self._slices.of_ours(key)
            if not ours and not moves_to_number(service):
                return
            front = left_behind(service, ours)
            if not self._take(front, now_s):
                self._list(Taken(front))
        self._taken[key].let_go(service, now_s)

    def _forget(self, key: Key, now_s: float) -> None:
        """The Service was deleted and its slices with it, or nothing of the takeover is left."""
        self._leave(self._taken[key], [], now_s)
        self._due.append(Revisit(key, None))

    def _list(self, taken: Taken) -> None:
        self._taken[taken.front.key] = taken
        self._keys_of.setdefault(taken.front.service, {})[taken.front.key] = None

    def _leave(self, taken: Taken, kept: Sequence[Claim], now_s: float) -> None:
        """It is not what it was: its ports are free but for those that are `kept`."""
        key, keys = taken.front.key, self._keys_of[taken.front.service]
        del self._taken[key], keys[key]
        if not keys:
            del self._keys_of[taken.front.service]
        for claim in claims_of(taken.front):
            if claim not in kept:
                self._ledger.give_back(claim, now_s)

    def _drive(self, taken: Taken, now_s: float) -> None:
        key, workload = taken.front.key, taken.front.service
        service = self._services.get(key)
        if service is not None:
            named = self._named.get(workload, {}).values() if workload in self._workloads else None
            move = taken.due_moves(service, named, now_s)
            if move is not None:
                self._due.append(Retarget(taken, move))
        self._due += [Perform(taken, stand, act) for stand, act in taken.step(self._slices, now_s)]
        if taken.is_over(service):
            self._forget(key, now_s)
            return
        self._due.append(Revisit(key, taken.revisit_at_s(now_s)))
        self._tell_may_zero(workload, now_s)

    def _tell_may_zero(self, service: str, now_s: float) -> None:
        told = self._heading.get(service)
        if told is not None and told != self._is_prepared(service, now_s):
            self._heading[service] = not told
            self._due.append(MayZero(service))

    # What people are told

    def _tell(self, refused: dict[str, tuple[Refused, ...]]) -> None:
        before, self._refused = self._refused, refused
        for service, ones in refused.items():
            for one in ones:
                if one not in before.get(service, ()):
                    self._due.append(happening_of(self._workloads[service], one))


def _gist(service: Service) -> tuple[str, ServiceSpec, Mapping[str, str] | None]:
    """What of it matters here; another one under the same name may have come unseen."""
    return service.metadata.uid, service.spec, service.metadata.annotations
