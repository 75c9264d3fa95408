"""When which number is written to a workload's `/scale`, and what has to be true before. Pure: `now_s` is an argument.

One `Steering` per workload. Events come in (what is wanted, what the watch shows, what a gate says, how a write went);
after each of them `step` gives the acts that are due now, each of them once. The shell is `zerogate.kube.runtime`; who
leaves, and how far each of them is, is kept by `victims.py`.

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
told and left alone for as long as `foreign.py` says; nothing is written by who does not lead.
"""

from collections.abc import Sequence
from typing import Final

from zerogate.kube.acts import Act, Member, Order, SetFloor, TellForeign, WriteScale
from zerogate.kube.foreign import ForeignWrite, ForeignWrites
from zerogate.kube.victims import Victims
from zerogate.runtime.interface import Scale

UNSEEN_S: Final = 5.0
"""A pod that was asked for is in the watch within 0.1 s. One that is not after so long does not exist (a quota, a
webhook that refuses it), and zero need not wait for it."""

_PIN: Final = "pin"
"""The cause of a number that a person has pinned."""


class Steering:
    """See the module's text. All state of one workload's number."""

    def __init__(self, order: Order) -> None:
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
        self._written = self._shown = 0
        """The version of our last write, and the newest that the watch has shown."""
        self._shown_s = float("-inf")
        """When it had shown our last write."""
        self._writing: WriteScale | None = None
        self._retry_at_s = float("-inf")
        self.write_trouble = ""
        """Why the number that is wanted could not be written."""
        self._acts: list[Act] = []
        self._victims = Victims(order, self._acts)
        self.foreign = ForeignWrites()

    @property
    def number(self) -> int | None:
        """The workload's number as far as it is known."""
        return self._number

    def is_behind(self, now_s: float) -> bool:
        """Pods may be there that are not known: the watch has not shown our last write, or only just. One that seems
        alive and tells nothing would have a replica that starts, or works, look as if nobody had asked for it."""
        if self._shown < self._written:
            return True
        return len(self._victims.members) < (self._number or 0) and now_s < self._shown_s + UNSEEN_S

    @property
    def heads_for_zero(self) -> bool:
        """Nothing shall run, or will, because a write that says so is on its way."""
        if self._writing is not None and self._writing.new == 0:
            return True
        return self._leads and self._wanted is not None and self._wanted.replicas == 0

    @property
    def draining(self) -> frozenset[str]:
        """Who takes nothing new on our word."""
        return self._victims.draining

    def revisit_at_s(self, now_s: float) -> float | None:
        """When `step` may have more to do though nothing happened; None: only an event can change that."""
        if self._number is None or self._wanted is None:
            return None
        if self.is_floored and self._wanted.replicas and self._floor != self._wanted.replicas:
            return self._retry_at_s if self._retry_at_s > now_s else None
        if self._wanted.replicas == self._number:
            return None
        pinned_s = self._victims.unwaited_s() if self._is_pinned else ()
        reasons_s = (self._retry_at_s, self.foreign.silent_until_s(), self._number_at_s + UNSEEN_S, *pinned_s)
        times_s = [at_s for at_s in reasons_s if at_s > now_s]
        return min(times_s, default=None)

    # What happens

    def lead(self, leads: bool, *, inherits_until_s: float = float("-inf")) -> None:
        """We are the one writer from now on, or are not. What was closed stays closed: the next leader may go on.

        `inherits_until_s`: numbers that change until then may be the last leader's, of which the watch tells late.
        """
        self._leads = leads
        self.write_trouble = ""
        self._inherits_until_s = inherits_until_s
        self._floor = self._floor_asked = None
        if not leads:
            self._victims.give_up()

    def want(self, scale: Scale) -> None:
        """What shall run; an older generation than the last one is ignored."""
        if self._wanted is None or scale.generation > self._wanted.generation:
            self._wanted = scale

    def on_number(self, number: int, version: int, now_s: float) -> None:
        """The watch shows the workload. `version`: its resource version as a number; older news are ignored."""
        if version > self._shown:
            self._note_shown(version, self._written, now_s)
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
        self._victims.on_members(members, is_rolling=is_rolling)

    def on_idle(self, id_: str) -> None:
        """Its gate says: closed, and nothing inside."""
        self._victims.on_idle(id_)

    def on_busy(self, id_: str) -> None:
        """Something is inside after all, or that is not known any more: no write takes it until `on_idle`."""
        self._victims.on_busy(id_)

    def on_written(self, version: int, now_s: float) -> None:
        """The API server took the write; the workload has this version since."""
        write = self._writing
        if write is None:
            raise ValueError("nothing is being written")
        self._writing = None
        self._retry_at_s = float("-inf")
        self.write_trouble = ""
        self._number = write.new
        self._number_at_s = now_s
        self._version = max(self._version, version)
        self._note_shown(self._shown, version, now_s)
        self._victims.on_taken(write.victims)

    def _note_shown(self, shown: int, written: int, now_s: float) -> None:
        if written > self._written or self._shown < self._written <= shown:
            self._shown_s = now_s
        self._shown, self._written = shown, written

    def on_conflict(self, found: int, version: int, now_s: float) -> None:
        """The number was not what we thought."""
        self._writing = None
        self.write_trouble = ""
        if version > self._version:
            self._version = version
            if found != self._number:
                self._note_foreign(found, now_s)

    def stands_by(self, write: WriteScale, now_s: float) -> bool:
        """Whether a write that was made a while ago is still to be sent: a lower number only while nobody wants more,
        and nobody has come into whom it takes."""
        if write.new > write.old:
            return self._leads
        if not self._leads or self._wanted is None or self._wanted.replicas > write.new:
            return False
        if write.new == 0 and not self.may_zero:
            return False
        return self._victims.may_go(write.victims, now_s, is_pinned=self._is_pinned)

    def stands_by_floor(self, replicas: int) -> bool:
        """The same of a floor: only while it is still the one that is wanted."""
        return self._leads and self.is_floored and self._wanted is not None and self._wanted.replicas == replicas

    def on_failed(self, retry_at_s: float, why: str = "") -> None:
        """The write did not come about, for a reason of the API server's or of the way there; without one it was not
        wanted any more."""
        self._writing = None
        self._retry_at_s = retry_at_s
        self.write_trouble = why

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
            if self._wanted.replicas == self._number:
                self.write_trouble = ""
            self._victims.take_back_spared(self._number, now_s)
            if self.is_floored and self._wanted.replicas:
                self._victims.keep_all(but=self._taken)
                self._raise_floor(self._number, self._wanted.replicas, now_s)
            elif self._wanted.replicas >= self._number:
                self._victims.keep_all(but=self._taken)
                self._up(self._number, self._wanted.replicas, now_s)
            elif self._may_go_down(self._number, self._wanted, now_s):
                self._down(self._number, self._wanted, now_s)
            else:
                self._victims.keep_all(but=self._taken)
        acts = self._acts.copy()
        self._acts.clear()
        return acts

    @property
    def _is_pinned(self) -> bool:
        """A person has said the number."""
        return self._wanted is not None and self._wanted.cause == _PIN

    @property
    def _taken(self) -> tuple[str, ...]:
        """Whom the write takes that is on its way."""
        return self._writing.victims if self._writing is not None else ()

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
        chosen = self._victims.choose(number, wanted)
        self._victims.begin(chosen, now_s, but=self._taken)
        if wanted.replicas == 0:
            self._to_zero(number, now_s)
        elif not self._victims.is_another_starting(chosen, number):
            self._to_fewer(number, chosen, now_s)

    def _to_zero(self, number: int, now_s: float) -> None:
        if len(self._victims.members) < number and now_s < self._number_at_s + UNSEEN_S:
            return
        if self._victims.may_all_go(now_s, is_pinned=self._is_pinned) and self._may_write(number, now_s):
            self._write(WriteScale(number, 0, self._victims.ids))

    def _to_fewer(self, number: int, chosen: Sequence[str], now_s: float) -> None:
        certain = self._victims.certain_of(chosen, now_s, is_pinned=self._is_pinned)
        if certain and self._may_write(number, now_s):
            self._write(WriteScale(number, number - len(certain), certain))

    def _may_write(self, number: int, now_s: float) -> bool:
        return self._writing is None and now_s >= self._retry_at_s and self.foreign.may_write(number, now_s)

    def _write(self, write: WriteScale) -> None:
        self._writing = write
        self._acts.append(write)
