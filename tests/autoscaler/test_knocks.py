"""How many tokens are judged, and whose."""

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.knocks import MOST_ADDRESSES, Knocks


def knocks() -> Knocks:
    return Knocks(0.0, all_per_s=10.0, all_burst=20, one_per_s=1.0, one_burst=3)


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
    it = Knocks(0.0)
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
