"""How the free slots of one replica are dealt to those who send it requests. Pure.

`share` is the whole rule. Requests that are inside stay where they are, so only free slots are dealt, in this order:
what is kept for a holder whose requests are on their way stays its own; then
whoever waits gets more, the one with least altogether first; then whoever says so and is not believed; what is left
stands where it stood before, so that a holder that had many slots need not ask for them again; and what never stood
anywhere goes to all alike.

Invariants: all free slots are dealt where anybody takes them, and never more; nobody who waits goes without while
somebody who does not wait stands with an unused slot. Called by the sidecar's grants.
"""

from collections.abc import Sequence

import msgspec


class Claim(msgspec.Struct, frozen=True):
    """What one holder has and wants: requests inside, and others that want in.

    `kept`: slots that it was dealt for them and has not used yet. `standing`: those and all its other unused slots.
    `stands`: whether unused slots may stand granted to it while nobody wants them. `doubtful`: others of which it says
    that they want in.
    """

    in_flight: int
    waiting: int
    kept: int = 0
    standing: int = 0
    stands: bool = True
    doubtful: int = 0


def share(free: int, claims: Sequence[Claim]) -> list[int]:
    """Free slots for each claim. Of equals the earlier one is served first: the order is the caller's rotation."""
    dealing = _Dealing(free, claims)
    dealing.deal([min(claim.waiting, claim.kept) for claim in claims])
    dealing.deal([claim.waiting - slots for claim, slots in zip(claims, dealing.slots, strict=True)])
    dealing.deal([claim.doubtful for claim in claims])
    dealing.deal(
        [max(0, claim.standing - slots) * claim.stands for claim, slots in zip(claims, dealing.slots, strict=True)]
    )
    dealing.deal([dealing.left * claim.stands for claim in claims])
    return dealing.slots


class _Dealing:
    def __init__(self, free: int, claims: Sequence[Claim]) -> None:
        self.left = free
        self.slots = [0] * len(claims)
        self._levels = [claim.in_flight for claim in claims]

    def deal(self, room: Sequence[int]) -> None:
        more = pour(self.left, self._levels, room)
        self.left -= sum(more)
        self.slots = [have + some for have, some in zip(self.slots, more, strict=True)]
        self._levels = [level + some for level, some in zip(self._levels, more, strict=True)]


def pour(amount: int, levels: Sequence[int], room: Sequence[int]) -> list[int]:
    """Like water: raise the lowest levels first, each by its `room` at most. Returns by how much each was raised.

    The sum is `amount`, or all the room where that is less. Works by bisection over the common level, so that a
    thousand slots cost no more than ten.
    """
    if amount <= 0 or not levels:
        return [0] * len(levels)
    if sum(room) <= amount:
        return list(room)
    low, high = min(levels), max(level + most for level, most in zip(levels, room, strict=True))
    while low < high:
        middle = (low + high + 1) // 2
        if sum(_raised(levels, room, middle)) <= amount:
            low = middle
        else:
            high = middle - 1
    raised = _raised(levels, room, low)
    rest = amount - sum(raised)
    for at, level in enumerate(levels):
        if rest and level + raised[at] == low and raised[at] < room[at]:
            raised[at] += 1
            rest -= 1
    return raised


def _raised(levels: Sequence[int], room: Sequence[int], to: int) -> list[int]:
    return [min(most, max(0, to - level)) for level, most in zip(levels, room, strict=True)]
