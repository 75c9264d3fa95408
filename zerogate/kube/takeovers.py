"""Keeps the slices and target ports of all workloads that are taken over: the shell of `takeover.py` and `fronts.py`.

Part of the autoscaler; every replica watches, the leader writes. Fed with workloads and pods like any listener of a
`Feed`; Services and EndpointSlices are watched here. Which activators there are is read from the slices of their own
Service. The runtime asks `may_zero` before it takes a service to zero, and is told by `on_may_zero` when that changes.
All methods run on the event loop, and none of them waits but `aclose`.
"""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

from zerogate.clock import now
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import KubeError, NotFound
from zerogate.kube.event_book import About, Happening
from zerogate.kube.fronts import (
    TARGETS,
    Front,
    FrontPort,
    Move,
    Refused,
    Selected,
    fronts_of,
    has_name,
    moves_to_name,
    moves_to_number,
    operations,
    recorded,
)
from zerogate.kube.happenings import Happenings
from zerogate.kube.objects import ENDPOINT_SLICES, SERVICES, EndpointSlice, Key, Pod, Service
from zerogate.kube.port_ledger import FIRST, LAST, Claim, PortLedger
from zerogate.kube.takeover import (
    MANAGED_BY,
    MANAGER,
    SETTLE_S,
    WORKLOAD,
    WRITE_AGAIN_S,
    Act,
    Ask,
    DeleteSlice,
    Stand,
    WriteSlice,
    slice_name,
    slice_of,
)
from zerogate.kube.watching import Change, Watched
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)

ACTIVATORS: Final = "zerogate-activator"
"""The activators' own Service, in zerogate's namespace."""
CONNECT_S: Final = 1.0
AT_ONCE: Final = 64
"""Activators that are asked at a time."""
PORTS_AGAIN_S: Final = 30.0
"""Ports that were given back rest for minutes, and nothing tells when one is free."""
MOVE_AGAIN_S: Final = 60.0
"""Somebody who writes the number back (a GitOps controller) is answered so often."""


async def listens(address: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


class _Unit:
    """One Service that is answered for."""

    __slots__ = ("front", "is_moving", "move_at_s", "name_again_s", "retry_at_s", "stands", "timer")

    def __init__(self, front: Front) -> None:
        self.front = front
        self.stands: dict[str, Stand] = {}
        self.is_moving = False
        """Target ports are being written."""
        self.move_at_s = 0.0
        """When those that are due may be; 0: none are."""
        self.retry_at_s = self.name_again_s = 0.0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def claims(self) -> list[Claim]:
        return [(*self.front.key, port.name) for port in self.front.ports]


class Takeovers:
    """See the module's text."""

    def __init__(
        self,
        client: KubeClient,
        *,
        home: str,
        happenings: Happenings | None = None,
        activators: str = ACTIVATORS,
        ports: tuple[int, int] = (FIRST, LAST),
        namespace: str = "",
        settle_s: float = SETTLE_S,
        clock: Callable[[], float] = now,
        chance: Callable[[], float] = random.random,
        is_listening: Callable[[str, int], Awaitable[bool]] = listens,
    ) -> None:
        self.on_may_zero: Callable[[str], None] = lambda service: None
        """Told, in a turn of its own, when `may_zero` of a service may say otherwise."""
        self._client = client
        self._happenings = happenings
        self._activators_key = (home, activators)
        self._range = ports
        self._settle_s = settle_s
        self._clock = clock
        self._chance = chance
        self._is_listening = is_listening
        self._services = Watched(client, SERVICES, namespace=namespace)
        self._slices = Watched(client, ENDPOINT_SLICES)
        self._slices_of: dict[Key, dict[Key, EndpointSlice]] = {}
        """By Service."""
        self._taken: dict[str, Managed] = {}
        self._named: dict[str, dict[str, bool]] = {}
        """By service and pod: whether the pod has the sidecar's own port name."""
        self._heading: dict[str, None] = {}
        self._may_zero: dict[str, bool] = {}
        """As it was told last."""
        self._refused: dict[str, tuple[Refused, ...]] = {}
        self._units: dict[Key, _Unit] = {}
        self._portless: dict[Key, str] = {}
        """Services for which no port is left, with their workloads."""
        self._ports_timer: asyncio.TimerHandle | None = None
        self._ledger = PortLedger(*ports)
        self._leads = False
        self._is_synced = False
        self._dirty: dict[Key, None] = {}
        self._is_whole_due = False
        self._is_flush_due = False
        self._asking = asyncio.Semaphore(AT_ONCE)
        self._nursery = Nursery()

    def start(self) -> None:
        """Watch. Until all there is has been seen, nothing that is taken over goes to zero, and nothing is written: who
        may not see Services and slices, because no activators are installed, is not kept from anything else."""
        self._slices.start(self._on_slice)
        self._services.start(self._on_service)
        self._nursery.start(self._sync(), name="takeover")

    async def _sync(self) -> None:
        await asyncio.gather(self._slices.wait_synced(), self._services.wait_synced())
        self._is_synced = True
        self.lead(self._leads, anew=True)

    async def aclose(self) -> None:
        """Leave everything as it stands."""
        for unit in self._units.values():
            _forget_timer(unit)
        if self._ports_timer is not None:
            self._ports_timer.cancel()
        self._leads = False
        await asyncio.gather(self._slices.aclose(), self._services.aclose())
        await self._nursery.aclose()

    # What the composition root says

    def lead(self, leads: bool, *, anew: bool = False) -> None:
        """This process writes from now on, or another one does. To be called before the runtime's."""
        if leads == self._leads and not anew:
            return
        self._leads = leads
        self._refused = {}  # told by who leads, whoever knew before
        for unit in self._units.values():
            _forget_timer(unit)
        self._units.clear()
        self._portless.clear()
        first, last = self._range
        self._ledger = PortLedger(first, last, start=first + int(self._chance() * (last - first + 1)))
        if leads and self._is_synced:
            for key in sorted(self._slices.items):
                self._recover(self._slices.items[key])
        self._plan_whole()

    def on_services(self, services: Mapping[str, Managed]) -> None:
        """All workloads under zerogate."""
        taken = {name: entry for name, entry in services.items() if entry.wanted.cluster.takeover}
        if taken != self._taken:
            self._taken = taken
            for name in [name for name in self._named if name not in services]:
                del self._named[name]
            for name in [name for name in self._heading if name not in taken]:
                # it needs no leave any more
                del self._heading[name]
                self._may_zero.pop(name, None)
                asyncio.get_running_loop().call_soon(self.on_may_zero, name)
            self._plan_whole()

    def on_number(self, service: str, number: int, version: int) -> None:
        """Of no use here: what answers is told by slices."""

    def on_pod(self, service: str, pod: Pod) -> None:
        """A pod of the service is new or looks different."""
        pods = self._named.setdefault(service, {})
        if pod.metadata.is_deleting or pod.status.phase in ("Failed", "Succeeded"):
            self.on_pod_gone(service, pod.metadata.name)
        elif pods.get(pod.metadata.name) is not has_name(pod):
            pods[pod.metadata.name] = has_name(pod)
            self._plan_service(service)

    def on_pod_gone(self, service: str, name: str) -> None:
        """The pod was deleted."""
        if self._named.get(service, {}).pop(name, None) is not None:
            self._plan_service(service)

    def may_zero(self, service: str) -> bool:
        """The service heads for zero. Whether all its Services are answered for by now, or it is not taken over."""
        if service not in self._taken:
            return True
        if service not in self._heading:
            self._heading[service] = None
            self._head(service)
        self._may_zero[service] = self._is_prepared(service)
        return self._may_zero[service]

    def stay_up(self, service: str) -> None:
        """It does so no longer."""
        if service in self._heading:
            del self._heading[service]
            self._may_zero.pop(service, None)
            self._head(service)

    def troubles(self, service: str) -> tuple[str, ...]:
        """What keeps a service from being taken over, a sentence each: for people."""
        if service not in self._taken:
            return ()
        home = "/".join(self._activators_key)
        alone = [
            f"Service {unit.front.key[1]} is not answered for at zero over {family}: no activator of {home} is ready "
            "with such an address."
            for unit in self._units_of(service)
            for family in unit.stands
            if not self._activators(family)
        ]
        first, last = self._range
        portless = [
            f"Service {key[1]} is not answered for at zero: all ports of activators, {first} to {last}, are taken."
            for key, name in self._portless.items()
            if name == service
        ]
        return (*(_sentence(one) for one in self._refused.get(service, ())), *alone, *portless)

    def _head(self, service: str) -> None:
        for unit in self._units_of(service):
            for stand in unit.stands.values():
                stand.head_for_zero(service in self._heading, self._clock())
            self._plan(unit.front.key)

    def _is_prepared(self, service: str) -> bool:
        units = self._units_of(service)
        now_s = self._clock()
        is_whole = bool(units) and service not in self._portless.values()
        return is_whole and all(stand.may_zero(now_s) for unit in units for stand in unit.stands.values())

    def _units_of(self, service: str) -> list[_Unit]:
        return [unit for unit in self._units.values() if unit.front.service == service]

    # What the watches show

    def _on_service(self, _: Change, old: Service | None, new: Service | None) -> None:
        if old is None or new is None or old.spec != new.spec or old.metadata.annotations != new.metadata.annotations:
            self._plan_whole()

    def _on_slice(self, _: Change, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        seen = new or old
        if seen is None:
            return
        if old is not None:
            self._slices_of.get(_service_key(old), {}).pop(old.key, None)
        if new is not None:
            self._slices_of.setdefault(_service_key(new), {})[new.key] = new
        key = _service_key(seen)
        if not self._slices_of.get(key):
            self._slices_of.pop(key, None)
        if key == self._activators_key:
            self._plan_whole()
        elif is_ours(seen) and key in self._units:
            stand = self._units[key].stands.get(seen.address_type)
            if stand is not None and seen.metadata.name == slice_name(stand.front, stand.family):
                stand.on_slice(new, self._clock())
        self._plan(key)

    def _recover(self, found: EndpointSlice) -> None:
        if not is_ours(found):
            return
        for port in found.ports or ():
            claim = (*_service_key(found), port.name or "")
            if port.port is not None and not self._ledger.recover(claim, port.port):
                log.warning("the slice %s has port %s, which is not its own", "/".join(found.key), port.port)

    def _activators(self, family: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in self._slices_of.get(self._activators_key, {}).values():
            if one.address_type == family and not is_ours(one):
                for endpoint in one.endpoints or ():
                    if endpoint.is_ready and endpoint.addresses:
                        found[endpoint.addresses[0]] = endpoint.node_name
        return found

    def _pods_answer(self, front: Front, family: str) -> bool:
        slices = [
            one for one in self._slices_of.get(front.key, {}).values()
            if one.address_type == family and not is_ours(one)
            and any(endpoint.is_ready for endpoint in one.endpoints or ())
        ]  # fmt: skip
        led = {port.name or "" for one in slices for port in one.ports or () if port.port is not None}
        return bool(front.ports) and all(port.name in led for port in front.ports)

    # What follows

    def _plan_whole(self) -> None:
        self._is_whole_due = True
        self._flush_soon()

    def _plan_service(self, service: str) -> None:
        for unit in self._units_of(service):
            self._plan(unit.front.key)

    def _plan(self, key: Key) -> None:
        self._dirty[key] = None
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if not self._is_synced:
            return
        if not self._leads:
            if self._is_whole_due:
                self._is_whole_due = False
                _, self._refused = self._sort()
            return
        if self._is_whole_due:
            self._is_whole_due = False
            self._look_at_all()
            self._dirty = dict.fromkeys(self._units)
        dirty, self._dirty = self._dirty, {}
        for key in dirty:
            if key in self._units:
                self._drive(self._units[key])

    def _sort(self) -> tuple[dict[Key, Front], dict[str, tuple[Refused, ...]]]:
        """Which Services are fronts, and by workload what cannot be one. Followers are asked by people too."""
        selected = Selected(self._services.items.values())
        fronts: dict[Key, Front] = {}
        refused: dict[str, tuple[Refused, ...]] = {}
        for name, entry in self._taken.items():
            found, unfit = fronts_of(entry, selected.near(entry))
            refused[name] = tuple(unfit) if found else (*unfit, _none(entry)) if len(unfit) != 1 else tuple(unfit)
            for front in found:
                fronts.setdefault(front.key, front)
        return fronts, refused

    def _look_at_all(self) -> None:
        """Which Services are fronts now, and which are no longer."""
        fronts, refused = self._sort()
        self._tell(refused)
        self._portless.clear()
        for key, front in fronts.items():
            self._take(key, front)
        for service in self._services.items.values():
            if service.key not in fronts:
                self._let_go(service)
        for key in [key for key in self._units if key not in self._services.items]:
            self._forget(key)
        if self._portless and self._ports_timer is None:
            self._ports_timer = asyncio.get_running_loop().call_later(PORTS_AGAIN_S, self._look_for_ports)

    def _look_for_ports(self) -> None:
        self._ports_timer = None
        self._plan_whole()

    def _take(self, key: Key, front: Front) -> None:
        unit = self._units.get(key)
        if unit is None or unit.front.uid != front.uid:
            unit = self._units[key] = _Unit(front)
        unit.front = front
        now_s = self._clock()
        ports = [self._ledger.take(claim, now_s) for claim in unit.claims]
        if None in ports:
            log.warning("no port of %s is left for Service %s", self._range, "/".join(key))
            self._portless[key] = front.service
            return
        self._make_stands(unit, tuple(port for port in ports if port is not None))
        for stand in unit.stands.values():
            stand.stay()

    def _make_stands(self, unit: _Unit, ports: tuple[int, ...]) -> None:
        now_s = self._clock()
        for family in [family for family in unit.stands if family not in unit.front.families]:
            unit.stands[family].retire(now_s)
        for family in unit.front.families:
            stand = unit.stands.get(family)
            if stand is None:
                stand = unit.stands[family] = Stand(unit.front, family, ports, settle_s=self._settle_s)
                stand.lead(True, now_s)
                stand.head_for_zero(unit.front.service in self._heading, now_s)
                ours = self._slices.items.get((unit.front.key[0], slice_name(unit.front, family)))
                stand.on_slice(ours, now_s)
            stand.configure(unit.front, ports, now_s)

    def _let_go(self, service: Service) -> None:
        """A Service that is no front: give back what it was changed in."""
        key = service.key
        if key not in self._units:
            # what an earlier leader left
            ours = [one for one in self._slices_of.get(key, {}).values() if is_ours(one)]
            if not ours and not moves_to_number(service):
                return
            self._take(key, _left_behind(service, ours))
        unit = self._units[key]
        if not moves_to_number(service) and not unit.is_moving:
            for stand in unit.stands.values():
                stand.retire(self._clock())

    def _forget(self, key: Key) -> None:
        """The Service was deleted, and its slices with it."""
        unit = self._units.pop(key)
        _forget_timer(unit)
        for claim in unit.claims:
            self._ledger.give_back(claim, self._clock())

    def _drive(self, unit: _Unit) -> None:
        now_s = self._clock()
        _forget_timer(unit)
        self._move_targets(unit, now_s)
        times_s = [unit.move_at_s] if unit.move_at_s > now_s else []
        for stand in list(unit.stands.values()):
            stand.pods_answer = self._pods_answer(unit.front, stand.family)
            stand.on_activators(self._activators(stand.family), now_s)
            for act in stand.step(now_s):
                self._nursery.start(self._perform(unit, stand, act), name=f"takeover of {'/'.join(unit.front.key)}")
            if stand.is_gone:
                del unit.stands[stand.family]
            elif (at_s := stand.revisit_at_s(now_s)) is not None:
                times_s.append(at_s)
        if not unit.stands and unit.front.key not in self._fronts_wanted() and not unit.is_moving:
            service = self._services.items.get(unit.front.key)
            if service is None or not moves_to_number(service):
                self._forget(unit.front.key)
                return
        if times_s:
            key, delay_s = unit.front.key, max(0.0, min(times_s) - now_s)
            unit.timer = asyncio.get_running_loop().call_later(delay_s, self._plan, key)
        self._tell_may_zero(unit.front.service)

    def _fronts_wanted(self) -> frozenset[Key]:
        return frozenset(
            key for key, unit in self._units.items() if any(not stand.is_leaving for stand in unit.stands.values())
        )

    def _tell_may_zero(self, service: str) -> None:
        told = self._may_zero.get(service)
        if told is not None and told != self._is_prepared(service):
            self._may_zero[service] = not told
            asyncio.get_running_loop().call_soon(self.on_may_zero, service)

    async def _perform(self, unit: _Unit, stand: Stand, act: Act) -> None:
        if isinstance(act, Ask):
            await self._ask(stand, act)
        else:
            await self._write(stand, act)
        self._plan(unit.front.key)

    async def _ask(self, stand: Stand, act: Ask) -> None:
        async with self._asking:
            answers = [await self._is_listening(act.address, port) for port in act.ports]
        if all(answers) and stand.ports == act.ports:
            stand.on_listening(act.address)

    async def _write(self, stand: Stand, act: WriteSlice | DeleteSlice) -> None:
        name, namespace = slice_name(stand.front, stand.family), stand.front.key[0]
        try:
            if isinstance(act, DeleteSlice):
                with suppress(NotFound):
                    await self._client.delete(ENDPOINT_SLICES, name, namespace=namespace)
                stand.on_slice(None, self._clock())
            else:
                body = slice_of(stand, act.addresses)
                written = await self._client.apply(ENDPOINT_SLICES, name, body, namespace=namespace)
                stand.on_slice(written, self._clock())
        except KubeError as error:
            log.warning("Service %s: %s", "/".join(stand.front.key), error)
            stand.on_failed(self._clock() + (error.retry_after_s or WRITE_AGAIN_S))
        else:
            stand.on_written(self._clock())

    # Target ports

    def _move_targets(self, unit: _Unit, now_s: float) -> None:
        service = self._services.items.get(unit.front.key)
        if service is None or unit.is_moving:
            return
        moves = self._moves(unit, service)
        unit.move_at_s = max(unit.retry_at_s, unit.name_again_s if _is_to_name(moves) else 0.0) if moves else 0.0
        if moves and now_s >= unit.move_at_s:
            unit.is_moving = True
            self._nursery.start(self._move(unit, service, moves), name=f"target ports of {'/'.join(unit.front.key)}")

    def _moves(self, unit: _Unit, service: Service) -> tuple[Move, ...]:
        if unit.front.service not in self._taken or unit.front.key not in self._fronts_wanted():
            return moves_to_number(service)
        named = self._named.get(unit.front.service, {}).values()
        if all(named):
            return moves_to_name(unit.front)
        # pods that slipped through without a sidecar shall work all the same
        return () if any(named) else moves_to_number(service)

    async def _move(self, unit: _Unit, service: Service, moves: tuple[Move, ...]) -> None:
        """The record is written first and taken away last."""
        namespace, name = service.key
        is_back = not _is_to_name(moves)
        record = {**recorded(service), **{str(move.port): move.before for move in moves}}
        try:
            if not is_back:
                await self._record(service, json.dumps(record))
            await self._client.json_patch(SERVICES, name, operations(moves), namespace=namespace)
            if is_back:
                await self._record(service, None)
            if not is_back:
                unit.name_again_s = self._clock() + MOVE_AGAIN_S
        except KubeError as error:
            log.warning("Service %s/%s: its target ports could not be written: %s", namespace, name, error)
            unit.retry_at_s = self._clock() + (error.retry_after_s or WRITE_AGAIN_S)
        finally:
            unit.is_moving = False
        self._plan_whole()

    async def _record(self, service: Service, record: str | None) -> None:
        namespace, name = service.key
        body = {"metadata": {"annotations": {TARGETS: record}}}
        await self._client.merge_patch(SERVICES, name, body, namespace=namespace)

    # What people are told

    def _tell(self, refused: dict[str, tuple[Refused, ...]]) -> None:
        before, self._refused = self._refused, refused
        for service, ones in refused.items():
            for one in ones:
                if self._happenings is not None and one not in before.get(service, ()):
                    entry = self._taken[service]
                    is_service = one.uid != entry.uid
                    version, kind = ("v1", "Service") if is_service else (entry.resource.api_version, entry.kind)
                    about = About(version, kind, *one.key, one.uid)
                    self._happenings.tell(
                        Happening(about=about, reason="TakeoverRefused", note=_sentence(one), is_warning=True)
                    )


def is_ours(one: EndpointSlice) -> bool:
    """Whether zerogate keeps the slice."""
    return one.metadata.label(MANAGED_BY) == MANAGER


def _service_key(one: EndpointSlice) -> Key:
    return one.metadata.namespace, one.service


def _left_behind(service: Service, ours: Iterable[EndpointSlice]) -> Front:
    """A front as its slices describe it."""
    families = {one.address_type: one for one in ours}
    names = {port.name or "" for one in families.values() for port in one.ports or ()}
    workloads = [one.metadata.annotation(WORKLOAD) or "" for one in families.values()]
    ports = tuple(
        FrontPort(name=port.name, port=port.port, index=index, target=port.target_port or port.port, number=None)
        for index, port in enumerate(service.spec.ports)
        if port.name in names
    )
    return Front(
        key=service.key, uid=service.metadata.uid,
        service=f"{service.metadata.namespace}/{workloads[0] if workloads else ''}",
        families=tuple(families), ports=ports,
    )  # fmt: skip


def _is_to_name(moves: tuple[Move, ...]) -> bool:
    return isinstance(moves[0].after, str)


def _none(entry: Managed) -> Refused:
    return Refused(entry.key, entry.uid, "none of its Services can be, and it does not go to zero")


def _sentence(one: Refused) -> str:
    return f"{'/'.join(one.key)} is not taken over: {one.reason}."


def _forget_timer(unit: _Unit) -> None:
    if unit.timer is not None:
        unit.timer.cancel()
        unit.timer = None
