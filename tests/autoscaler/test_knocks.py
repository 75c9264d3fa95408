"""How many tokens are judged, and whose."""

import heapq
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.knocks import LATEST_S, MOST_ADDRESSES, SOONEST_S, Appointments, Knocks


def knocks() -> Knocks:
    return Knocks(all_per_s=10.0, all_burst=20, one_per_s=1.0, one_burst=3)


def test_a_burst_is_judged_at_once_and_what_follows_at_the_rate_of_one_address() -> None:
    it = knocks()
    assert [it.wait_s("a", 0.0, most_s=2.0) for _ in range(6)] == [0.0, 0.0, 0.0, 1.0, 2.0, None]
    assert it.wait_s("a", 1.0, most_s=2.0) == 2.0, "who was turned away has used up nothing"


def test_one_address_leaves_the_others_theirs() -> None:
    it = knocks()
    for _ in range(1000):
        it.wait_s("a", 0.0, most_s=2.0)
    assert it.wait_s("b", 0.0, most_s=2.0) == 0.0


def test_many_addresses_together_are_judged_at_the_rate_of_all() -> None:
    it = knocks()
    waits = [it.wait_s(f"a{number}", 0.0, most_s=2.0) for number in range(50)]
    assert waits[:20] == [0.0] * 20
    assert waits[20] == 0.1
    assert sum(wait is not None for wait in waits) == 40


def test_no_more_addresses_are_remembered_than_said() -> None:
    it = Knocks()
    for number in range(MOST_ADDRESSES + 100):
        it.wait_s(str(number), number * 1.0, most_s=5.0)
    assert len(it._by_address) == MOST_ADDRESSES
    assert "0" not in it._by_address


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 3.0)), max_size=200))
def test_in_no_span_more_is_judged_than_the_burst_and_the_rate_allow(steps: list[tuple[str, float]]) -> None:
    it, now_s = knocks(), 0.0
    judged: list[tuple[str, float]] = []
    for address, passes_s in steps:
        now_s += passes_s
        wait_s = it.wait_s(address, now_s, most_s=2.0)
        if wait_s is not None:
            assert 0.0 <= wait_s <= 2.0
            judged.append((address, now_s + wait_s))
    for addresses, burst, rate in (("a", 3, 1.0), ("b", 3, 1.0), ("c", 3, 1.0), ("abc", 20, 10.0)):
        times = sorted(at_s for address, at_s in judged if address in addresses)
        for begin, first_s in enumerate(times):
            for end in range(begin, len(times)):
                assert end - begin + 1 <= burst + (times[end] - first_s) * rate + 1e-6


def test_those_who_are_put_off_come_again_one_after_the_other_and_leave_room_for_others() -> None:
    it = Appointments(10.0)
    told = [it.next_s(0.0) for _ in range(50)]
    gaps = [later - sooner for sooner, later in pairwise(told)]
    assert told[0] == SOONEST_S
    assert all(abs(gap_s - 0.125) < 1e-9 for gap_s in gaps), "8 of the 10 that there is time for in a second"
    assert it.next_s(100.0) == SOONEST_S


def test_where_there_are_too_many_they_share_the_time_that_there_is() -> None:
    it = Appointments(1.0)
    told = [it.next_s(0.0) for _ in range(1000)]
    assert SOONEST_S <= min(told) <= max(told) <= LATEST_S
    in_each = [sum(begin <= one < begin + 10 for one in told) for begin in (0, 10, 20)]
    assert all(300 <= count <= 370 for count in in_each)


def test_ten_thousand_that_are_put_off_are_all_let_in_at_the_rate_that_there_is() -> None:
    it, now_s = Knocks(all_per_s=1000.0, all_burst=1), 0.0
    due = [(0.0, str(number)) for number in range(10_000)]
    tries = 0
    while due:
        now_s, address = heapq.heappop(due)
        tries += 1
        if it.wait_s(address, now_s, most_s=0.1) is None:
            heapq.heappush(due, (now_s + it.come_again_s(address, now_s), address))
    assert now_s <= 13.0
    assert tries <= 20_500, "nearly all are let in when they come the second time"


def test_who_comes_too_often_himself_takes_nobodys_turn() -> None:
    it = knocks()
    told = [it.come_again_s("a", 0.0) for _ in range(3) if it.wait_s("a", 0.0, most_s=0.0) is None]
    assert told == []
    assert [it.wait_s("a", 0.0, most_s=0.0), it.come_again_s("a", 0.0)] == [None, 1.0]
    assert it.come_again_s("b", 0.0) == SOONEST_S
