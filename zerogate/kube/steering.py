"""When which number is written to a workload's `/scale`, and what has to be true before. Pure: `now_s` is an argument.

One `Steering` per workload. Events come in (what is wanted, what the watch shows, what a gate says, how a write went);
after each of them `step` gives the acts that are due now, each of them once. The shell is `zerogate.kube.runtime`.

Up is one write to the number wanted, at once. Down is a promise kept replica by replica, because a controller picks its
own victims: a ReplicaSet takes unassigned, pending and unready pods first, and looks at
`controller.kubernetes.io/pod-deletion-cost` only then; a StatefulSet takes the highest ordinal. So

    gate closed ▸ nothing inside, said by the gate itself ▸ cost written ▸ cost seen in the watch ▸ number written

and never while a replica is starting that is not to go. Zero needs no choice and no cost, but leave: where clients come
by a Service, somebody has to answer for it before the first gate is closed.

Where an HPA scales the workload from one up (`is_floored`), what is wanted is written as its floor, and the number only
from and to zero, where an HPA is off: the floor first, so that its next sync finds it. What the HPA writes is its own
affair.

Invariants: every write names the number that it replaces; one write at a time; a number that somebody else wrote is
told and left alone for as long as `foreign.py` says; nothing is written by who does not lead; a replica that shall stay
after all gets its gate and its cost back.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from zerogate.kube.foreign import ForeignWrite, ForeignWrites
from zerogate.runtime.interface import ReplicaState, Scale

VICTIM_COST: Final = -1000
"""Lower than what people write by hand; pods without the annotation cost 0."""
UNSEEN_S: Final = 5.0
"""A pod that was asked for is in the watch within 0.1 s. One that is not after so long does not exist (a quota, a
webhook that refuses it), and zero need not wait for it."""


class Order(StrEnum):
    """Whom the workload's controller takes first when its number falls."""

    BY_COST = "cost"
    """ReplicaSet: the lowest deletion cost among those that are ready."""
    BY_ORDINAL = "ordinal"
    """StatefulSet: the highest number."""
    BY_NAME = "name"
    """CloneSet: whom the write itself names (`podsToDelete`)."""


class Member(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One pod that is there and not being deleted."""

    id: str
    state: ReplicaState
    """Starting or ready: what is draining here is the steering's own word."""
    cost: int = 0
    """Its deletion cost as the watch shows it."""
    ordinal: int = 0


class WriteScale(msgspec.Struct, frozen=True):
    """Replace `old` by `new`, on condition that it still is `old`; then say `on_written`, `on_conflict` or
    `on_failed`. `victims`: the pods that this takes away."""

    old: int
    new: int
    victims: tuple[str, ...] = ()


class CloseGate(msgspec.Struct, frozen=True):
    """Take nothing new into it; say `on_idle` when nothing is inside."""

    id: str


class ReopenGate(msgspec.Struct, frozen=True):
    """It stays after all."""

    id: str


class SetCost(msgspec.Struct, frozen=True):
    """Write its deletion cost."""

    id: str
    cost: int


class TellForeign(msgspec.Struct, frozen=True):
    """Somebody else wrote the number: say so where people look."""

    write: ForeignWrite
    is_hands_off: bool


class SetFloor(msgspec.Struct, frozen=True):
    """Write the `minReplicas` of the workload's HPA; then say `on_floor` or `on_floor_failed`."""

    replicas: int


Act = WriteScale | CloseGate | ReopenGate | SetCost | SetFloor | TellForeign


class _Victim(StrEnum):
    """How far a victim has come."""

    CLOSING = "closing"
    EMPTY = "empty"
    MARKED = "marked"


class Steering:
    """See the module's text. All state of one workload's number."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self.is_floored = False
        """An HPA writes the number from one up."""
        self._floor: int | None = None
        """Its `minReplicas`, as we wrote it last; None: not yet, or nobody knows."""
        self._floor_asked: int | None = None
        self.floor_trouble = ""
        """Why the floor is not what is wanted."""
        self._leads = False
        self._inherits_until_s = float("-inf")
        self.may_zero = True
        """Leave to close gates and write zero; whoever answers at zero gives it."""
        self._wanted: Scale | None = None
        self._number: int | None = None
        self._number_at_s = float("-inf")
        self._version = 0
        self._members: Mapping[str, Member] = {}
        self._victims: dict[str, _Victim] = {}
        self._marked: dict[str, None] = {}
        """Whose cost was asked to be written: the watch may not show it yet."""
        self._leaving: dict[str, _Victim] = {}
        """Taken by a write, and not yet seen to be deleted; empty, unless somebody came in after all."""
        self._is_rolling = False
        self._writing: WriteScale | None = None
        self._retry_at_s = float("-inf")
        self._acts: list[Act] = []
        self.foreign = ForeignWrites()

    @property
    def number(self) -> int | None:
        """The workload's number as far as it is known."""
        return self._number

    @property
    def heads_for_zero(self) -> bool:
        """Nothing shall run, or will, because a write that says so is on its way."""
        if self._writing is not None and self._writing.new == 0:
            return True
        return self._leads and self._wanted is not None and self._wanted.replicas == 0

    @property
    def draining(self) -> frozenset[str]:
        """Who takes nothing new on our word."""
        return frozenset((*self._victims, *self._leaving))

    def revisit_at_s(self, now_s: float) -> float | None:
        """When `step` may have more to do though nothing happened; None: only an event can change that."""
        if self._number is None or self._wanted is None:
            return None
        if self.is_floored and self._wanted.replicas and self._floor != self._wanted.replicas:
            return self._retry_at_s if self._retry_at_s > now_s else None
        if self._wanted.replicas == self._number:
            return None
        reasons_s = (self._retry_at_s, self.foreign.silent_until_s(), self._number_at_s + UNSEEN_S)
        times_s = [at_s for at_s in reasons_s if at_s > now_s]
        return min(times_s, default=None)

    # What happens

    def lead(self, leads: bool, *, inherits_until_s: float = float("-inf")) -> None:
        """We are the one writer from now on, or are not. What was closed stays closed: the next leader may go on.

        `inherits_until_s`: numbers that change until then may be the last leader's, of which the watch tells late.
        """
        self._leads = leads
        self._inherits_until_s = inherits_until_s
        self._floor = self._floor_asked = None
        if not leads:
            self._victims.clear()
            self._leaving = dict.fromkeys(self._leaving, _Victim.CLOSING)

    def want(self, scale: Scale) -> None:
        """What shall run; an older generation than the last one is ignored."""
        if self._wanted is None or scale.generation > self._wanted.generation:
            self._wanted = scale

    def on_number(self, number: int, version: int, now_s: float) -> None:
        """The watch shows the workload. `version`: its resource version as a number; older news are ignored."""
        if version <= self._version:
            return
        self._version = version
        if number == self._number or self._number is None:
            self._number = number
            return
        if self._writing is not None and number == self._writing.new:
            # our own, told by the watch before the answer to the write
            return
        self._note_foreign(number, now_s)

    def on_members(self, members: Sequence[Member], *, is_rolling: bool = False) -> None:
        """All pods of the workload that are there and are not being deleted, oldest first.

        `is_rolling`: two ReplicaSets share the number, and it is not ours to say which of them gets smaller.
        """
        self._members = {member.id: member for member in members}
        self._is_rolling = is_rolling
        for gone in [id_ for id_ in self._victims if id_ not in self._members]:
            del self._victims[gone]
        for gone in [id_ for id_ in self._leaving if id_ not in self._members]:
            del self._leaving[gone]
        for gone in [id_ for id_ in self._marked if id_ not in self._members]:
            del self._marked[gone]

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

    def on_written(self, version: int, now_s: float) -> None:
        """The API server took the write; the workload has this version since."""
        write = self._writing
        if write is None:
            raise ValueError("nothing is being written")
        self._writing = None
        self._retry_at_s = float("-inf")
        self._number = write.new
        self._number_at_s = now_s
        self._version = max(self._version, version)
        for id_ in write.victims:
            self._leaving[id_] = self._victims.pop(id_, _Victim.CLOSING)

    def on_conflict(self, found: int, version: int, now_s: float) -> None:
        """The number was not what we thought."""
        self._writing = None
        if version > self._version:
            self._version = version
            if found != self._number:
                self._note_foreign(found, now_s)

    def on_failed(self, retry_at_s: float) -> None:
        """The write did not come about, for a reason of the API server's or of the way there."""
        self._writing = None
        self._retry_at_s = retry_at_s

    def on_floor(self, replicas: int) -> None:
        """The HPA has this `minReplicas` now."""
        self._floor, self._floor_asked, self.floor_trouble = replicas, None, ""

    def on_floor_failed(self, retry_at_s: float, why: str) -> None:
        """It was not written."""
        self._floor_asked = None
        self.floor_trouble = why
        self._retry_at_s = retry_at_s

    def on_policy_changed(self) -> None:
        """Whoever changed it has decided that we write."""
        self._floor = None
        self.foreign.forgive()

    def _note_foreign(self, found: int, now_s: float) -> None:
        write = ForeignWrite(now_s, self._number if self._number is not None else found, found)
        self._number = found
        self._number_at_s = now_s
        if not self._leads or now_s < self._inherits_until_s:
            # the leader's own, as far as we can know: it is he who tells others from himself
            return
        if self.is_floored and write.before and found:
            return
        if not write.is_wake:
            self.foreign.note(write)
        self._acts.append(TellForeign(write, self.foreign.is_hands_off))

    # What follows

    def step(self, now_s: float) -> list[Act]:
        """What is due now. Each act is given once; what comes of it is told by the methods above."""
        if self._leads and self._wanted is not None and self._number is not None:
            self._take_back_spared(self._number)
            if self.is_floored and self._wanted.replicas:
                self._keep_all()
                self._raise_floor(self._number, self._wanted.replicas, now_s)
            elif self._wanted.replicas >= self._number:
                self._keep_all()
                self._up(self._number, self._wanted.replicas, now_s)
            elif self._may_go_down(self._number, self._wanted, now_s):
                self._down(self._number, self._wanted, now_s)
            else:
                self._keep_all()
        acts, self._acts = self._acts, []
        return acts

    def _take_back_spared(self, number: int) -> None:
        """One died by itself just then, and the controller is content with as many as there are: ours stay."""
        if self._leaving and len(self._members) <= number:
            for id_ in [id_ for id_ in self._members if id_ in self._leaving]:
                self._victims[id_] = self._leaving[id_]
                if self._leaving[id_] is _Victim.CLOSING:
                    self._close(id_)
            self._leaving.clear()

    def _raise_floor(self, number: int, wanted: int, now_s: float) -> None:
        if self._floor == wanted:
            if number == 0:
                self._up(number, wanted, now_s)
        elif self._floor_asked is None and now_s >= self._retry_at_s:
            self._floor_asked = wanted
            self._acts.append(SetFloor(wanted))

    def _may_go_down(self, number: int, wanted: Scale, now_s: float) -> bool:
        return (self.may_zero or wanted.replicas > 0) and self.foreign.may_write(number, now_s)

    def _up(self, number: int, wanted: int, now_s: float) -> None:
        if wanted > number and self._may_write(number, now_s):
            self._write(WriteScale(number, wanted))

    def _down(self, number: int, wanted: Scale, now_s: float) -> None:
        chosen = self._choose(number - wanted.replicas, wanted)
        for id_ in [id_ for id_ in self._victims if id_ not in chosen]:
            self._keep(id_)
        for id_ in chosen:
            if id_ not in self._victims:
                self._close(id_)
        if wanted.replicas == 0:
            self._to_zero(number, now_s)
        elif not self._is_another_starting(chosen, number):
            self._to_fewer(number, chosen, now_s)

    def _to_zero(self, number: int, now_s: float) -> None:
        if len(self._members) < number and now_s < self._number_at_s + UNSEEN_S:
            return
        if all(state is not _Victim.CLOSING for state in self._victims.values()) and self._may_write(number, now_s):
            self._write(WriteScale(number, 0, tuple(self._victims)))

    def _to_fewer(self, number: int, chosen: Sequence[str], now_s: float) -> None:
        ready = []
        for id_ in chosen:
            if self._victims[id_] is _Victim.EMPTY and not self._is_certain(id_):
                self._victims[id_] = _Victim.MARKED
                self._marked[id_] = None
                self._acts.append(SetCost(id_, VICTIM_COST))
            if self._is_certain(id_):
                ready.append(id_)
            elif self._order is Order.BY_ORDINAL:
                break
        if ready and self._may_write(number, now_s):
            self._write(WriteScale(number, number - len(ready), tuple(ready)))

    def _choose(self, count: int, wanted: Scale) -> tuple[str, ...]:
        """Whom the next writes take: those the controller would take in any case, then those named, then the youngest
        of the ready. A pod that is missing is taken first by every controller, so it needs no victim."""
        here = [member for member in self._members.values() if member.id not in self._leaving]
        count = max(0, count - max(0, (self._number or 0) - len(here)))
        if wanted.replicas == 0:
            return tuple(member.id for member in here)
        if self._order is Order.BY_ORDINAL:
            return tuple(member.id for member in sorted(here, key=lambda one: -one.ordinal)[:count])
        starting = [member.id for member in reversed(here) if member.state is ReplicaState.STARTING]
        named = [id_ for id_ in wanted.victims if id_ in self._members and id_ not in self._leaving]
        begun = list(self._victims)
        ready = [member.id for member in reversed(here) if member.state is ReplicaState.READY]
        forced = [id_ for id_ in starting if id_ in named]
        return tuple(dict.fromkeys([*forced, *named, *begun, *ready]))[:count]

    def _is_another_starting(self, chosen: Sequence[str], number: int) -> bool:
        """Would the controller take one that starts instead of ours?"""
        if self._order is not Order.BY_COST:
            return False
        here = [member for member in self._members.values() if member.id not in self._leaving]
        if self._is_rolling or len(here) < number:
            return True
        return any(member.state is ReplicaState.STARTING and member.id not in chosen for member in here)

    def _needs_cost(self, id_: str) -> bool:
        return self._order is Order.BY_COST and self._members[id_].state is ReplicaState.READY

    def _is_certain(self, id_: str) -> bool:
        if self._victims[id_] is _Victim.CLOSING:
            return False
        return not self._needs_cost(id_) or self._members[id_].cost <= VICTIM_COST

    def _close(self, id_: str) -> None:
        self._victims[id_] = _Victim.CLOSING
        self._acts.append(CloseGate(id_))

    def _keep_all(self) -> None:
        for id_ in list(self._victims):
            self._keep(id_)

    def _keep(self, id_: str) -> None:
        if self._writing is not None and id_ in self._writing.victims:
            return
        del self._victims[id_]
        self._acts.append(ReopenGate(id_))
        if id_ in self._marked or self._members[id_].cost <= VICTIM_COST:
            self._marked.pop(id_, None)
            self._acts.append(SetCost(id_, 0))

    def _may_write(self, number: int, now_s: float) -> bool:
        return self._writing is None and now_s >= self._retry_at_s and self.foreign.may_write(number, now_s)

    def _write(self, write: WriteScale) -> None:
        self._writing = write
        self._acts.append(write)
