"""The replicas without a sidecar of one process: their gates, what is measured of them, and what is shut by order.

Whoever knows the replicas (a cluster's watch) says which may be sent to (`BareReplica`); an autoscaler that wants to
stop one has its gate shut here by a lease, as it has a sidecar's, and hears when nothing is inside any more. Slots that
another process of this gateway gave back are looked for while somebody waits. Used by the gateway's workers and by the
activator; why: docs/decisions/027-pods-without-a-sidecar.md.
"""

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Final
from weakref import WeakValueDictionary

from activator.bare_gates import PassGate, SharedGate, Slots
from activator.bare_replica import BareReplica
from activator.hold import Hold
from activator.holds import Holds
from activator.slot_locks import SlotLocks
from zerogate.clock import now
from zerogate.gate import Gate
from zerogate.http.pools import make_pool
from zerogate.http.sweep import NEVER, Sweep
from zerogate.http.upstream import Upstream
from zerogate.meter import Meter
from zerogate.reporting.leases import Leases
from zerogate.reporting.sender import Answer
from zerogate.reporting.wire import MOST_INSIDE, Order, Quiesced
from zerogate.tasks import Nursery

LOOK_S: Final = 0.02
"""A slot that another process gave back waits for half of it, on average; only looked for while somebody waits."""
MOST_SHUT: Final = 4096
"""Replicas that are shut at once; orders about more are not answered, so nothing is stopped for them."""


class Unshared:
    """Slots of a process that is alone: a count."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self, most: int) -> int | None:
        if self._taken >= most:
            return None
        self._taken += 1
        return self._taken - 1

    def give_back(self) -> None:
        self._taken -= 1


class _Here:
    """A replica that may be sent to."""

    __slots__ = ("gate", "is_shut", "known")

    def __init__(self, known: BareReplica, gate: Gate) -> None:
        self.known = known
        self.gate = gate
        self.is_shut = False


class _Shut:
    """Whose leases keep a replica shut."""

    __slots__ = ("answers", "leases")

    def __init__(self) -> None:
        self.leases = Leases()
        self.answers: dict[str, Answer] = {}


class Bare:
    """See the module's text. `slot_file`: of `activator.slot_locks`, where several processes share slots."""

    def __init__(self, holds: Holds, *, sweep: Sweep, nursery: Nursery, slot_file: int | None) -> None:
        self.tick = 0
        self.visit_s = NEVER
        self._holds = holds
        self._sweep = sweep
        self._nursery = nursery
        self._slot_file = slot_file
        self._meters: dict[str, tuple[Meter, Meter]] = {}
        """By service: of what is inside, and of what was passed to another gateway."""
        self._here: dict[str, dict[str, _Here]] = {}
        """By service, and by the replica's name."""
        self._slots: WeakValueDictionary[str, Slots] = WeakValueDictionary()
        """By UID, as long as a gate has them: one that is ready again has what is still inside from before."""
        self._left: dict[str, list[SharedGate]] = {}
        """Gates of replicas that are known no more, by name, with requests inside."""
        self._shut: dict[str, _Shut] = {}
        self._looking: dict[str, None] = {}
        """Services that are looked for slots for."""
        self._sequence = 0

    def meters(self, service: str) -> tuple[Meter, Meter] | None:
        """(what was and is inside, what was passed on); None where the service never had such a replica here."""
        return self._meters.get(service)

    def inside(self) -> dict[str, int]:
        """Requests inside the replicas, by name; those that have none are left out."""
        names = {name: None for here in self._here.values() for name in here} | dict.fromkeys(self._left)
        counts = ((name, self._inside(name)) for name in names)
        return dict(islice(((name, count) for name, count in counts if count), MOST_INSIDE))

    # What there is

    def set_replicas(self, service: str, replicas: Iterable[BareReplica]) -> None:
        """All of a service that are ready; its hold has to be there, where there are any."""
        wanted = {one.name: one for one in replicas if one.slots != 0 or one.via is not None}
        here = self._here.get(service)
        if here is None and not wanted:
            return
        hold = self._holds.get(service)
        here = self._here.setdefault(service, {})
        for name, one in list(here.items()):
            if name not in wanted or not _is_same(one.known, wanted[name]):
                self._remove(hold, name, here.pop(name))
        if hold is not None:
            for name, replica in wanted.items():
                if name in here:
                    self._share(here[name], replica)
                else:
                    here[name] = self._add(hold, replica)
            hold.release_more(now())
        if not here:
            del self._here[service]

    def _add(self, hold: Hold, replica: BareReplica) -> _Here:
        measured, passed = self._meters_of(hold)
        gate: Gate
        if replica.slots == 0:
            assert replica.via is not None
            gate = PassGate(passed)
            pool = make_pool("http1", replica.via, self._sweep, self._nursery)
        else:
            gate = SharedGate(measured, self._slots_of(replica.uid), soon=asyncio.get_running_loop().call_soon)
            pool = make_pool(replica.protocol, replica.address, self._sweep, self._nursery)
        one = _Here(replica, gate)
        self._share(one, replica)
        shut = self._shut.get(replica.name)
        one.is_shut = shut is not None and shut.leases.until_s(now()) is not None
        if one.is_shut:
            gate.close()
        hold.add(Upstream(service=hold.service, id=replica.name, gate=gate, pool=pool), now())
        if one.is_shut:
            hold.close_gate(replica.name)
        return one

    def _slots_of(self, uid: str) -> Slots:
        slots = self._slots.get(uid)
        if slots is None:
            slots = self._slots[uid] = Unshared() if self._slot_file is None else SlotLocks(self._slot_file, uid)
        return slots

    def _meters_of(self, hold: Hold) -> tuple[Meter, Meter]:
        meters = self._meters.get(hold.service)
        if meters is None or not hold.has_measured:
            for gone in [service for service in self._meters if self._holds.get(service) is None]:
                del self._meters[gone]
            meters = self._meters[hold.service] = (Meter(), Meter())
            hold.has_measured = True
            before = hold.on_waiting

            def on_waiting() -> None:
                before()
                self._look_soon(hold)

            hold.on_waiting = on_waiting
        return meters

    @staticmethod
    def _share(one: _Here, replica: BareReplica) -> None:
        one.known = replica
        if isinstance(one.gate, SharedGate):
            one.gate.share(slots=replica.slots, release=replica.release)

    def _remove(self, hold: Hold | None, name: str, one: _Here) -> None:
        if hold is not None:
            hold.remove(name)
        if isinstance(one.gate, SharedGate):
            self._left.setdefault(name, []).append(one.gate)
        self._forget_left(name)

    def _forget_left(self, name: str) -> None:
        left = [gate for gate in self._left.pop(name, ()) if gate.in_flight]
        if left:
            self._left[name] = left

    # Slots that others give back

    def _look_soon(self, hold: Hold) -> None:
        if self._slot_file is not None and hold.queue.length and hold.service not in self._looking:
            self._looking[hold.service] = None
            asyncio.get_running_loop().call_later(LOOK_S, self._look, hold)

    def _look(self, hold: Hold) -> None:
        self._looking.pop(hold.service, None)
        if self._holds.get(hold.service) is hold and self._here.get(hold.service):
            hold.release_more(now())
            self._look_soon(hold)

    # What is shut by order

    def is_shut(self, name: str) -> bool:
        """Whether an order keeps requests away from the replica."""
        return name in self._shut

    def on_order(self, order: Order, answer: Answer) -> None:
        """An autoscaler has a replica shut, goes on doing so, or opens it."""
        name, now_s = order.replica, now()
        if not name or (name not in self._shut and len(self._shut) >= MOST_SHUT):
            return
        shut = self._shut.setdefault(name, _Shut())
        if shut.leases.hear(order, now_s):
            shut.answers[order.asker] = answer
            self._apply(name, shut, now_s)
            self._say(name, order.asker, order.number, answer)
            self._forget(name, shut, now_s)

    def on_idle(self, replica_id: str) -> None:
        """The last request has left a replica that is shut, or gone."""
        self._forget_left(replica_id)
        shut = self._shut.get(replica_id)
        if shut is not None:
            for asker, number in shut.leases.holders(now()).items():
                self._say(replica_id, asker, number, shut.answers[asker])

    def due(self, now_s: float) -> float | None:
        """Leases may have run out."""
        for name, shut in list(self._shut.items()):
            self._apply(name, shut, now_s)
            self._forget(name, shut, now_s)
        ends_s = [end_s for shut in self._shut.values() if (end_s := shut.leases.until_s(now_s)) is not None]
        return min(ends_s, default=None)

    def _apply(self, name: str, shut: _Shut, now_s: float) -> None:
        until_s = shut.leases.until_s(now_s)
        if until_s is not None:
            self._sweep.watch(self, until_s)
        for service, here in self._here.items():
            one, hold = here.get(name), self._holds.get(service)
            if one is None or hold is None or one.is_shut is (until_s is not None):
                continue
            one.is_shut = until_s is not None
            if one.is_shut:
                hold.close_gate(name)
            else:
                hold.reopen_gate(name, now_s)

    def _forget(self, name: str, shut: _Shut, now_s: float) -> None:
        holders = shut.leases.holders(now_s)
        shut.answers = {asker: answer for asker, answer in shut.answers.items() if asker in holders}
        if not holders:
            self._shut.pop(name, None)

    def _say(self, name: str, asker: str, number: int, answer: Answer) -> None:
        self._sequence += 1
        answer(Quiesced(asker, number, self._sequence, self._inside(name), name))

    def _inside(self, name: str) -> int:
        """What was passed to another gateway is inside by its word."""
        gates: list[Gate] = list(self._left.get(name, ()))
        gates += [here[name].gate for here in self._here.values() if name in here]
        return sum(gate.in_flight for gate in gates if isinstance(gate, SharedGate))

    @property
    def remembered(self) -> int:
        """Replicas that are known no more, with requests inside."""
        return len(self._left)


def _is_same(one: BareReplica, other: BareReplica) -> bool:
    """Whether one gate can go on as the other's."""
    return (one.uid, one.address, one.protocol, one.via) == (other.uid, other.address, other.protocol, other.via)
