"""Who may have which slots of the replica. Pure: `now_s` is an argument.

One `Holder` for each gateway that keeps a control connection, and one for all that comes without. A holder is a gate:
its requests enter and leave through it, so it always knows how many of them are inside. `settle` deals the free slots
anew (`zerogate.share`) when somebody begins or ceases to wait, comes or goes, or leaves a slot that others wait for.
Called by the slots; what came of it is told to the gateways by `queueproxy.control`.

Invariants: the sum of the allowances is never above the limit after `settle`; the replica's own gate has the last
word, so no allowance lets too many in; a slot that is kept for a waiting holder is kept for `KEPT_S` at most unless the
holder speaks again. Of those that let one lapse last time, one of eight slots is kept for one after the other, and for
who did so twice running none for a while, which doubles each time: whoever says that requests wait and sends none costs
others next to nothing. Nobody waits for ever: a free slot goes to who has least, and of equals to who entered longest
ago, unless all of them have entered a moment ago: then to who has just left one, whose next request is on its way
already.
"""

from typing import Final

from zerogate.gate import Gate
from zerogate.share import Claim, share

KEPT_S: Final = 0.05
"""How long a granted slot is kept for a holder that waits and does not come: some fifty round trips inside a cluster,
and longer than any loop of ours is held up. A stopped process loses it after that."""
TURN_S: Final = 0.05
"""For so long a slot goes back to who used it last before another one with as many has its turn. Requests that are
longer change hands each time; of shorter ones, dealt at each end, every fourth met a slot that was somebody else's."""
FORGIVEN: Final = 1
"""Slots in a row that may lapse: a loop that is held up, or a process that is stopped, loses one."""
PROBATION_SHARE: Final = 8
"""One slot of so many, and one in any case, may be kept for those that let their last one lapse."""
PENANCE_S: Final = 1.0
"""Twenty times what the lapse cost."""
LONGEST_PENANCE_S: Final = 64.0
"""250 liars then cost a fifth of one slot, and an honest gateway that was stopped again and again waits no longer while
others want all slots; where one is free it enters at once, and all is forgiven."""
NEVER: Final = float("inf")


class Holder(Gate):
    """The gate of one sender. `allowance`: its requests that may be inside; `kept`: unused slots kept for it."""

    __slots__ = (
        "_gate", "_grants", "allowance", "coming", "is_contended", "is_put_off", "is_refused", "is_silent", "kept",
        "kept_since_s", "lapses", "penance_until_s", "served_at_s", "stands", "turn", "vain_s", "waiting",
    )  # fmt: skip

    def __init__(self, gate: Gate, grants: "Grants", *, stands: bool) -> None:
        self._gate = gate
        self._grants = grants
        super().__init__(limit=0, release_limit=0)
        self.allowance = 0
        self.waiting = 0
        self.coming = 0
        """Its requests that are on their way here."""
        self.is_contended = False
        """Somebody else waits."""
        self.kept = 0
        self.kept_since_s = 0.0
        self.is_silent = False
        """It was kept a slot and did not come: it does not count as waiting until it speaks."""
        self.vain_s = 0.0
        """How long slots were kept for it that it gave back unused, since it entered or lapsed last."""
        self.lapses = 0
        """Slots that were kept for it in vain since it entered last."""
        self.penance_until_s = -NEVER
        """Until then none is kept for it."""
        self.is_put_off = False
        """Others that let their last slot lapse are tried first."""
        self.stands = stands
        """Whether it keeps unused slots while nobody waits."""
        self.turn = 0
        """Grows with each entry of any holder: the smaller, the longer ago it entered."""
        self.served_at_s = -NEVER
        """When it entered last."""
        self.is_refused = False
        """A request of it was turned away: it is to be told its allowance again, even if that has not changed."""

    def try_enter(self) -> bool:
        # written out, and not `gate.try_enter()`: this and `leave` are half a microsecond of each request
        gate = self._gate
        grants = self._grants
        if gate.limit:
            free = gate.limit - gate.in_flight
            if free <= 0 or (free <= grants.kept and not self.kept):
                return False
        if not gate.is_open:
            return False
        gate.in_flight += 1
        self.in_flight += 1
        if grants.is_shared:
            self._entered(grants)
        return True

    def try_release(self) -> bool:
        grants = self._grants
        if (grants.is_shared and self.in_flight >= self.allowance) or not self._gate.try_release():
            return False
        self.in_flight += 1
        if grants.is_shared:
            self._entered(grants)
        return True

    def _entered(self, grants: "Grants") -> None:
        grants.turns = self.turn = grants.turns + 1
        self.served_at_s = grants.now_s
        if self.coming:
            self.coming -= 1
        if self.kept:
            self.kept -= 1
            grants.kept -= 1
            self.kept_since_s = grants.now_s
        self.vain_s = 0.0
        if self.lapses:
            self.lapses = 0
            self.penance_until_s = -NEVER
            self.is_put_off = False
        if self.in_flight > self.allowance:
            grants.is_stale = True

    def leave(self) -> None:
        self._gate.leave()
        self.in_flight -= 1
        grants = self._grants
        if grants.is_shared:
            grants.leaver = self
            if grants.wanted or not self.stands:
                grants.is_stale = True

    @property
    def claims(self) -> int:
        """Requests that want a slot by its own word: those that wait and those that come."""
        return 0 if self.is_silent else self.waiting + self.coming

    @property
    def wants(self) -> int:
        """As many of them as slots are kept for."""
        if not self.lapses:
            return self.claims
        return 0 if self.is_put_off else min(self.claims, 1)

    def remember(self, lapses: int, penance_until_s: float, now_s: float) -> None:
        """It came from where somebody lapsed so often, a while ago: to come again does not clear it of that."""
        if now_s < penance_until_s + LONGEST_PENANCE_S and lapses > self.lapses:
            self.lapses = lapses
            self.penance_until_s = penance_until_s

    def lapse(self, now_s: float) -> None:
        """A slot was kept for it in vain."""
        self.is_silent = True
        self.vain_s = 0.0
        self.lapses += 1
        if self.lapses > FORGIVEN:
            penance_s = PENANCE_S * 2.0 ** min(self.lapses - FORGIVEN - 1, 16)
            self.penance_until_s = now_s + min(penance_s, LONGEST_PENANCE_S)


class Grants:
    """See the module's text. `is_stale`: `settle` has something to do."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.own = Holder(gate, self, stands=False)
        """What comes without a control connection, and waits in the sidecar's own queue."""
        self.holders = [self.own]
        self.kept = 0
        """Slots kept for holders that wait: the sum of theirs."""
        self.wanted = 0
        """Requests that wait: the sum of what the holders want."""
        self.turns = 0
        self.leaver: Holder | None = None
        """Whose request left last."""
        self.now_s = 0.0
        """To be set before a request enters."""
        self.is_shared = False
        """Whether there is any holder but our own."""
        self.is_stale = True
        self.due_s = NEVER
        """When a kept slot is to be dealt to somebody else."""
        self.settle(0.0)

    def join(self, holder: Holder, now_s: float) -> None:
        """A gateway has come, with what it may have inside already."""
        holder.stands = True
        holder.is_silent = False
        self.holders.append(holder)
        self.settle(now_s)

    def part(self, holder: Holder, now_s: float) -> None:
        """A gateway has gone; what it has inside leaves by itself."""
        self.holders.remove(holder)
        if holder.kept:
            holder.lapse(now_s)
        holder.stands = False
        holder.waiting = holder.coming = holder.kept = 0
        self.settle(now_s)

    def report(self, holder: Holder, waiting: int, in_flight: int, now_s: float) -> None:
        """So many requests of a holder wait, and so many were sent of which it has not seen the end."""
        coming = max(0, in_flight - holder.in_flight)
        if waiting != holder.waiting or coming != holder.coming or holder.is_silent:
            holder.waiting = waiting
            holder.coming = coming
            was_silent, holder.is_silent = holder.is_silent, False
            if holder.lapses > FORGIVEN or (holder.lapses and not was_silent):
                # 250 that change their word all the time would take a core
                self.due_s = min(self.due_s, max(holder.penance_until_s, now_s + KEPT_S))
            else:
                self.settle(now_s)

    def check(self, now_s: float) -> None:
        """Take back what was kept too long."""
        if now_s < self.due_s:
            return
        for holder in self.holders:
            if holder.kept and now_s >= holder.kept_since_s + KEPT_S:
                holder.lapse(now_s)
        self.settle(now_s)

    def settle(self, now_s: float) -> None:
        """Deal the free slots anew."""
        self.is_stale = False
        self.now_s = now_s
        holders = self.holders
        self.is_shared = len(holders) > 1
        if not self.is_shared:
            self.wanted, self.kept, self.due_s = 0, 0, NEVER
            return
        gate = self.gate
        # as in `Gate.may_release`: WebSockets stay for hours, and the pacing of a crowd does not count them
        inside = gate.in_flight if gate.limit else gate.in_flight - gate.lasting
        free = max(0, gate.release_limit - inside)
        self._put_off(now_s)
        ordered = self._in_turn(now_s)
        claims = [
            Claim(
                one.in_flight,
                one.wants,
                one.kept,
                min(free, max(0, one.allowance - one.in_flight)),
                one.stands,
                one.claims - one.wants,
            )
            for one in ordered
        ]
        for holder, grant in zip(ordered, share(free, claims), strict=True):
            self._grant(holder, grant, now_s)
        self.wanted = sum(holder.wants for holder in holders)
        for holder in holders:
            holder.is_contended = self.wanted > holder.wants
        self.kept = sum(holder.kept for holder in holders)
        self.due_s = self._next_look(now_s)

    def _next_look(self, now_s: float) -> float:
        """When a slot that is kept is dealt anew, or somebody's penance is over."""
        holders = self.holders
        pardoned = (one.penance_until_s for one in holders if one.penance_until_s > now_s and one.claims)
        due_s = min(pardoned, default=NEVER)
        if any(holder.wants > holder.kept for holder in holders):
            due_s = min(due_s, min((one.kept_since_s + KEPT_S for one in holders if one.kept), default=NEVER))
        return due_s

    def _put_off(self, now_s: float) -> None:
        """Of those that let their last slot lapse, choose whom one is kept for: who did so least often comes first."""
        lapsed = [one for one in self.holders if one.lapses]
        if not lapsed:
            return
        places = max(1, self.gate.release_limit // PROBATION_SHARE)
        for one in sorted(lapsed, key=lambda one: (not one.kept, one.lapses, one.penance_until_s)):
            wants = one.claims > 0 and now_s >= one.penance_until_s
            one.is_put_off = not wants or places <= 0
            places -= wants

    def _in_turn(self, now_s: float) -> list[Holder]:
        """Of those with as many slots, who comes first."""

        def place(one: Holder) -> tuple[bool, bool, int]:
            is_recent = one.served_at_s > now_s - TURN_S
            return is_recent, is_recent and one is not self.leaver, one.turn

        return sorted(self.holders, key=place)

    def _grant(self, holder: Holder, grant: int, now_s: float) -> None:
        kept = min(grant, holder.wants) if holder is not self.own else 0
        if kept and not holder.kept:
            holder.kept_since_s = now_s - holder.vain_s
        elif holder.kept and not kept and not holder.is_silent:
            holder.vain_s = now_s - holder.kept_since_s  # to say "nothing waits" now and then must not keep slots free
        holder.kept = kept
        holder.allowance = holder.in_flight + grant
