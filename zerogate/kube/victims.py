"""Who leaves when a workload's number falls, and how far each of them has come. Pure.

One `Victims` per workload, kept by its `steering`, which says how many go and when the number may be written:

    gate closed ▸ nothing inside, said by the gate itself ▸ cost written ▸ cost seen in the watch ▸ certain

A replica without a sidecar has its gate in the gateways. A person's pin does not wait for what is inside such a one
(`unwaited`): gateways send nothing more, and after `PIN_S` it goes; what is inside has the pod's own grace period.

Invariants: who is certain is whom the controller takes; a replica that shall stay after all gets its gate and its cost
back, unless a write that takes it is on its way.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Final

from zerogate.kube.acts import Act, CloseGate, Member, Order, ReopenGate, SetCost
from zerogate.runtime.interface import ReplicaState, Scale

VICTIM_COST: Final = -1000
"""Lower than what people write by hand; pods without the annotation cost 0."""

PIN_S: Final = 5.0
"""Gateways hear an order within a round trip; then only what was inside before is."""


class _Victim(StrEnum):
    """How far a victim has come."""

    CLOSING = "closing"
    EMPTY = "empty"
    MARKED = "marked"


class Victims:
    """See the module's text. `acts`: where what is to be done is put."""

    def __init__(self, order: Order, acts: list[Act]) -> None:
        self._order = order
        self._acts = acts
        self.members: Mapping[str, Member] = {}
        """All pods that are there and are not being deleted, oldest first."""
        self._victims: dict[str, _Victim] = {}
        self._closed_s: dict[str, float] = {}
        """Since when each victim is to take nothing new."""
        self._marked: dict[str, None] = {}
        """Whose cost was asked to be written: the watch may not show it yet."""
        self._unmarked: dict[str, None] = {}
        """Whose cost was asked to be taken back: the watch still shows it."""
        self._leaving: dict[str, _Victim] = {}
        """Taken by a write, and not yet seen to be deleted; empty, unless somebody came in after all."""
        self._is_rolling = False

    @property
    def ids(self) -> tuple[str, ...]:
        """Who is to go, and whom no write has taken yet."""
        return tuple(self._victims)

    @property
    def draining(self) -> frozenset[str]:
        """Who takes nothing new on our word."""
        return frozenset((*self._victims, *self._leaving))

    def may_all_go(self, now_s: float, *, is_pinned: bool) -> bool:
        """Nothing is inside of any that no write has taken yet, or what is does not keep it."""
        return all(self._may_go(id_, now_s, is_pinned=is_pinned) for id_ in self._victims)

    def may_go(self, ids: Sequence[str], now_s: float, *, is_pinned: bool) -> bool:
        """The same of these, of whom some may have left by themselves."""
        return all(self._may_go(id_, now_s, is_pinned=is_pinned) for id_ in ids if id_ in self._victims)

    def unwaited_s(self) -> list[float]:
        """When victims go for a pin, whatever is inside."""
        return [self._closed_s[id_] + PIN_S for id_ in self._victims if self._is_unwaited(id_)]

    def _is_unwaited(self, id_: str) -> bool:
        return self._victims[id_] is _Victim.CLOSING and self.members[id_].is_bare

    def _may_go(self, id_: str, now_s: float, *, is_pinned: bool) -> bool:
        if self._victims[id_] is not _Victim.CLOSING:
            return True
        return is_pinned and self._is_unwaited(id_) and now_s >= self._closed_s[id_] + PIN_S

    def give_up(self) -> None:
        """Another one goes on with them."""
        self._victims.clear()
        self._closed_s.clear()
        self._unmarked.clear()
        self._leaving = dict.fromkeys(self._leaving, _Victim.CLOSING)

    def on_members(self, members: Sequence[Member], *, is_rolling: bool) -> None:
        """All pods that are there. `is_rolling`: of two templates."""
        self.members = {member.id: member for member in members}
        self._is_rolling = is_rolling
        for gone in [id_ for id_ in self._victims if id_ not in self.members]:
            del self._victims[gone]
            self._closed_s.pop(gone, None)
        for gone in [id_ for id_ in self._leaving if id_ not in self.members]:
            del self._leaving[gone]
        for gone in [id_ for id_ in self._marked if id_ not in self.members]:
            del self._marked[gone]
        for done in [id_ for id_ in self._unmarked if id_ not in self.members or not self._shows_cost(id_)]:
            del self._unmarked[done]

    def on_idle(self, id_: str) -> None:
        """Its gate says: closed, and nothing inside."""
        if self._victims.get(id_) is _Victim.CLOSING:
            self._victims[id_] = _Victim.EMPTY
        elif id_ in self._leaving:
            self._leaving[id_] = _Victim.EMPTY

    def on_busy(self, id_: str) -> None:
        """Something is inside after all, or that is not known any more: no write takes it until `on_idle`."""
        if id_ in self._victims:
            self._victims[id_] = _Victim.CLOSING
        elif id_ in self._leaving:
            self._leaving[id_] = _Victim.CLOSING

    def on_taken(self, ids: Sequence[str]) -> None:
        """A write has taken them."""
        for id_ in ids:
            self._leaving[id_] = self._victims.pop(id_, _Victim.CLOSING)
            self._closed_s.pop(id_, None)

    def take_back_spared(self, number: int, now_s: float) -> None:
        """One died by itself just then, and the controller is content with as many as there are: ours stay."""
        if self._leaving and len(self.members) <= number:
            for id_ in [id_ for id_ in self.members if id_ in self._leaving]:
                self._victims[id_] = self._leaving[id_]
                self._closed_s[id_] = now_s
                if self._leaving[id_] is _Victim.CLOSING:
                    self._close(id_, now_s)
            self._leaving.clear()

    def choose(self, number: int, wanted: Scale) -> tuple[str, ...]:
        """Whom the next writes take: those the controller would take in any case (so also those that have a victim's
        cost already, whoever wrote it), then those named, then the youngest of the ready. A pod that is missing is
        taken first by every controller, so it needs no victim."""
        here = [member for member in self.members.values() if member.id not in self._leaving]
        count = max(0, number - wanted.replicas - max(0, number - len(here)))
        if wanted.replicas == 0:
            return tuple(member.id for member in here)
        if self._order is Order.BY_ORDINAL:
            return tuple(member.id for member in sorted(here, key=lambda one: -one.ordinal)[:count])
        starting = [member.id for member in reversed(here) if member.state is ReplicaState.STARTING]
        named = [id_ for id_ in wanted.victims if id_ in self.members and id_ not in self._leaving]
        begun = list(self._victims)
        ready = [member.id for member in reversed(here) if member.state is ReplicaState.READY]
        forced = [id_ for id_ in starting if id_ in named]
        if self._order is Order.BY_COST:
            # left behind by an earlier leader, or written by a person
            forced += [id_ for id_ in sorted(ready, key=lambda one: self.members[one].cost) if self._shows_cost(id_)]
        return tuple(dict.fromkeys([*forced, *named, *begun, *ready]))[:count]

    def is_another_starting(self, chosen: Sequence[str], number: int) -> bool:
        """Would the controller take one that starts instead of ours?"""
        if self._order is not Order.BY_COST:
            return False
        here = [member for member in self.members.values() if member.id not in self._leaving]
        if self._is_rolling or len(here) < number:
            return True
        return any(member.state is ReplicaState.STARTING and member.id not in chosen for member in here)

    def begin(self, chosen: Sequence[str], now_s: float, *, but: Collection[str]) -> None:
        """These go, and no others. `but`: whom a write takes that is on its way."""
        for id_ in [id_ for id_ in self._victims if id_ not in chosen]:
            self._keep(id_, but)
        for id_ in chosen:
            if id_ not in self._victims:
                self._close(id_, now_s)

    def certain_of(self, chosen: Sequence[str], now_s: float, *, is_pinned: bool) -> tuple[str, ...]:
        """Whom a lower number takes in any case. Those of whom only the cost is missing get it."""
        certain = []
        for id_ in chosen:
            may_go = self._may_go(id_, now_s, is_pinned=is_pinned)
            if may_go and not self._has_cost(id_):
                self._mark(id_)
            if may_go and self._has_cost(id_):
                certain.append(id_)
            elif self._order is Order.BY_ORDINAL:
                break
        return tuple(certain)

    def keep_all(self, *, but: Collection[str]) -> None:
        """None goes. `but`: whom a write takes that is on its way."""
        for id_ in list(self._victims):
            self._keep(id_, but)

    def _needs_cost(self, id_: str) -> bool:
        return self._order is Order.BY_COST and self.members[id_].state is ReplicaState.READY

    def _has_cost(self, id_: str) -> bool:
        """Its cost is seen, or it needs none."""
        return not self._needs_cost(id_) or (self._shows_cost(id_) and id_ not in self._unmarked)

    def _shows_cost(self, id_: str) -> bool:
        return self.members[id_].cost <= VICTIM_COST

    def _mark(self, id_: str) -> None:
        if id_ in self._unmarked:
            return
        if self._victims[id_] is _Victim.EMPTY:
            self._victims[id_] = _Victim.MARKED
        elif self._victims[id_] is _Victim.MARKED or id_ in self._marked:
            return
        self._marked[id_] = None
        self._acts.append(SetCost(id_, VICTIM_COST))

    def _close(self, id_: str, now_s: float) -> None:
        self._victims[id_] = _Victim.CLOSING
        self._closed_s[id_] = now_s
        self._acts.append(CloseGate(id_))

    def _keep(self, id_: str, but: Collection[str]) -> None:
        if id_ in but:
            return
        del self._victims[id_]
        self._closed_s.pop(id_, None)
        self._acts.append(ReopenGate(id_))
        if id_ in self._marked or self._shows_cost(id_):
            self._marked.pop(id_, None)
            if self._shows_cost(id_):
                self._unmarked[id_] = None
            self._acts.append(SetCost(id_, 0))
