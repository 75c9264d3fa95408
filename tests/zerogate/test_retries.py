"""The budget for requests that are sent again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.retries import BURST_S, FLOOR_PER_S, RATIO, RetryBudget

KEPT = int(FLOOR_PER_S * BURST_S)


def taken(budget: RetryBudget, requests: int, now_s: float) -> int:
    """How many may be sent again at once."""
    count = 0
    while budget.take(requests, now_s):
        count += 1
        assert count < 1_000_000
    return count


@pytest.mark.parametrize(("per_s", "again_per_s"), [(0, 3), (1, 3), (15, 3), (20, 4), (100, 20), (1000, 200)], ids=str)
def test_a_fifth_of_the_requests_may_be_sent_again_and_three_a_second_in_any_case(per_s: int, again_per_s: int) -> None:
    budget = RetryBudget(0.0)
    taken(budget, 0, 0.0)
    assert sum(taken(budget, per_s * second, second) for second in range(1, 61)) == pytest.approx(again_per_s * 60)


def test_what_was_not_used_is_kept_for_ten_seconds_and_no_longer() -> None:
    budget = RetryBudget(0.0)
    assert taken(budget, 0, 0.0) == KEPT
    assert taken(budget, 0, 4.0) == 12
    assert taken(budget, 0, 10_000.0) == KEPT
    assert taken(budget, 100 * 10_000, 20_000.0) == 20 * 10


def test_share_and_floor_do_not_add_up_however_often_is_asked() -> None:
    budget = RetryBudget(0.0)
    taken(budget, 0, 0.0)
    count = sum(taken(budget, step // 10, step / 100) for step in range(1, 6001))  # 10 requests/s for a minute
    assert count <= FLOOR_PER_S * 60


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 500), st.integers(0, 300)), max_size=30))
def test_it_is_never_exceeded(steps: list[tuple[float, int, int]]) -> None:
    budget = RetryBudget(50.0)
    now_s, requests, granted = 50.0, 0, 0
    for passed_s, came, wanted in steps:
        now_s += passed_s
        requests += came
        granted += sum(budget.take(requests, now_s) for _ in range(wanted))
        assert granted <= KEPT + RATIO * requests + FLOOR_PER_S * (now_s - 50.0) + 1e-6
