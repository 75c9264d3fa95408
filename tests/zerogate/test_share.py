"""How free slots are dealt: who waits, who has least, what stands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.share import Claim, pour, share


@pytest.mark.parametrize(
    ("amount", "levels", "room", "raised"),
    [
        (0, [0, 0], [5, 5], [0, 0]),
        (3, [], [], []),
        (9, [0, 0], [2, 3], [2, 3]),
        (4, [0, 3], [9, 9], [4, 0]),
        (5, [0, 3], [9, 9], [4, 1]),
        (1, [2, 2, 2], [1, 1, 1], [1, 0, 0]),
        (2, [0, 0, 0], [0, 1, 1], [0, 1, 1]),
        (7, [0, 0, 9], [2, 9, 9], [2, 5, 0]),
        (1_000_000, [0, 0], [700_000, 700_000], [500_000, 500_000]),
    ],
    ids=["nothing", "nobody", "all the room", "lowest first", "then level", "of equals the first", "no room is skipped",
         "a full one lets the next rise", "many"],
)  # fmt: skip
def test_pouring_raises_the_lowest_first(amount: int, levels: list[int], room: list[int], raised: list[int]) -> None:
    assert pour(amount, levels, room) == raised


def claim(
    in_flight: int = 0, waiting: int = 0, standing: int = 0, *, kept: int = 0, stands: bool = True, doubtful: int = 0
) -> Claim:  # fmt: skip
    return Claim(in_flight, waiting, kept, standing, stands, doubtful)


@pytest.mark.parametrize(
    ("free", "claims", "dealt"),
    [
        (4, [], []),
        (9, [claim(), claim(), claim()], [3, 3, 3]),
        (3, [claim(6), claim(), claim()], [0, 2, 1]),
        (9, [claim(waiting=20), claim(standing=3), claim(standing=3)], [9, 0, 0]),
        (9, [claim(waiting=6, standing=3), claim(standing=3), claim(standing=3)], [6, 2, 1]),
        (9, [claim(standing=9), claim(), claim()], [9, 0, 0]),
        (2, [claim(6, waiting=9), claim(waiting=1)], [1, 1]),
        (1, [claim(2, waiting=9), claim(2, waiting=9)], [1, 0]),
        (2, [claim(3, waiting=2, standing=2, kept=2), claim(0, waiting=5)], [2, 0]),
        (2, [claim(3, waiting=2, standing=2), claim(0, waiting=5)], [0, 2]),
        (2, [claim(0, waiting=0, standing=2), claim(0, waiting=5)], [0, 2]),
        (4, [claim(waiting=1, stands=False), claim()], [1, 3]),
        (4, [claim(stands=False, standing=4), claim()], [0, 4]),
        (3, [claim(standing=9), claim(standing=2)], [2, 1]),
        (3, [claim(2, waiting=2), claim(standing=3), claim(doubtful=9)], [2, 0, 1]),
    ],
    ids=["nobody", "idle: alike", "idle: the busy one has enough", "one waits for all", "what is left stands",
         "what stood stays", "who has less gets more", "of equals the first", "what is on its way stays",
         "what stood and was left is dealt anew",
         "unused and not waiting: taken back", "what comes by itself gets what it waits for",
         "and keeps nothing", "fewer slots than stood: the largest is cut",
         "who is not believed comes after those that wait and before those that do not"],
)  # fmt: skip
def test_free_slots_are_dealt(free: int, claims: list[Claim], dealt: list[int]) -> None:
    assert share(free, claims) == dealt


claims_of_any_kind = st.lists(
    st.builds(Claim, st.integers(0, 20), st.integers(0, 20), st.integers(0, 9), st.integers(0, 20), st.booleans()),
    max_size=8,
)


@given(free=st.integers(0, 40), claims=claims_of_any_kind)
def test_all_free_slots_are_dealt_to_those_who_take_them_and_never_more(free: int, claims: list[Claim]) -> None:
    dealt = share(free, claims)
    assert all(slots >= 0 for slots in dealt)
    takes = free if any(one.stands for one in claims) else min(free, sum(one.waiting for one in claims))
    assert sum(dealt) == takes


@given(free=st.integers(0, 40), claims=claims_of_any_kind)
def test_nobody_waits_beside_an_unused_slot_of_somebody_who_does_not(free: int, claims: list[Claim]) -> None:
    dealt = share(free, claims)
    if any(slots < one.waiting for slots, one in zip(dealt, claims, strict=True)):
        assert all(slots <= one.waiting for slots, one in zip(dealt, claims, strict=True))


@given(free=st.integers(1, 40), claims=claims_of_any_kind)
def test_who_has_least_of_those_that_wait_is_not_passed_over(free: int, claims: list[Claim]) -> None:
    fresh = [Claim(one.in_flight, one.waiting, 0, one.standing, one.stands) for one in claims]
    dealt = share(free, fresh)
    short = [one.in_flight + slots for one, slots in zip(fresh, dealt, strict=True) if slots < one.waiting]
    for one, slots in zip(fresh, dealt, strict=True):
        if slots and short:
            assert one.in_flight + slots <= min(short) + 1


@given(free=st.integers(0, 40), claims=claims_of_any_kind)
def test_dealing_again_with_nothing_changed_changes_nothing(free: int, claims: list[Claim]) -> None:
    dealt = share(free, claims)
    again = [
        Claim(one.in_flight, one.waiting, min(slots, one.waiting), slots, one.stands)
        for one, slots in zip(claims, dealt, strict=True)
    ]
    assert share(free, again) == dealt
