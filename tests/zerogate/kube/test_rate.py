"""Who may ask the API server now."""

from hypothesis import given
from hypothesis import strategies as st

from zerogate.kube.rate import Priority, Rates, Throttle

RATES = Rates(rate=10, burst=5, wake_rate=100, wake_burst=50)


def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    throttle = Throttle(RATES)
    tickets = [throttle.enter(Priority.READ) for _ in range(7)]
    assert throttle.due(0.0) == (tickets[:5], 0.1)
    assert throttle.due(0.1) == (tickets[5:6], 0.1)
    assert throttle.due(0.2) == (tickets[6:], None)


def test_wakes_do_not_wait_behind_a_crowd_of_others() -> None:
    throttle = Throttle(RATES)
    for _ in range(1000):
        throttle.enter(Priority.READ)
        throttle.enter(Priority.WRITE)
    throttle.due(0.0)
    wakes = [throttle.enter(Priority.WAKE) for _ in range(50)]
    assert throttle.due(0.0)[0] == wakes


def test_what_wakes_take_is_kept_from_the_others() -> None:
    throttle = Throttle(RATES)
    for _ in range(8):
        throttle.enter(Priority.WAKE)
    assert len(throttle.due(0.0)[0]) == 8
    read = throttle.enter(Priority.READ)
    assert throttle.due(0.0)[0] == []
    assert throttle.due(0.39)[0] == []
    assert throttle.due(0.41)[0] == [read]


def test_writes_go_before_reads_that_came_first() -> None:
    throttle = Throttle(RATES)
    for _ in range(5):
        throttle.enter(Priority.READ)
    throttle.due(0.0)
    read, write = throttle.enter(Priority.READ), throttle.enter(Priority.WRITE)
    assert throttle.due(0.1)[0] == [write]
    assert throttle.due(0.2)[0] == [read]


def test_who_gives_up_takes_nothing() -> None:
    throttle = Throttle(RATES)
    for _ in range(5):
        throttle.enter(Priority.READ)
    throttle.due(0.0)
    gone, next_one = throttle.enter(Priority.READ), throttle.enter(Priority.READ)
    throttle.leave(gone)
    throttle.leave(gone)
    assert throttle.due(0.1)[0] == [next_one]


@given(st.lists(st.tuples(st.sampled_from(Priority), st.floats(0, 1)), max_size=60))
def test_everybody_has_a_turn_once_and_the_sum_keeps_to_the_rates(entered: list[tuple[Priority, float]]) -> None:
    throttle = Throttle(RATES)
    now, let_go, tickets = 0.0, list[int](), list[int]()
    wait_s: float | None = None
    for priority, pause_s in entered:
        now += pause_s
        tickets.append(throttle.enter(priority))
        going, wait_s = throttle.due(now)
        let_go += going
        assert len(let_go) <= RATES.burst + RATES.wake_burst + now * (RATES.rate + RATES.wake_rate) + 1
    rounds = 0
    while wait_s is not None:
        rounds += 1
        assert rounds < 1000, "the throttle asks again and again, and nobody has a turn"
        now += wait_s
        going, wait_s = throttle.due(now)
        let_go += going
    assert sorted(let_go) == tickets


def test_a_crowd_of_reviews_and_everybody_else_do_not_wait_for_each_other() -> None:
    throttle = Throttle(Rates(rate=10, burst=5, review_rate=100, review_burst=20))
    reviews = [throttle.enter(Priority.REVIEW) for _ in range(1000)]
    write, wake = throttle.enter(Priority.WRITE), throttle.enter(Priority.WAKE)
    assert throttle.due(0.0) == ([wake, write, *reviews[:20]], 0.01)
    reads = [throttle.enter(Priority.READ) for _ in range(10)]
    assert throttle.due(0.01)[0] == [*reads[:3], reviews[20]]


def test_the_lease_does_not_wait_behind_thousands_of_wakes() -> None:
    throttle = Throttle(RATES)
    for _ in range(1000):
        throttle.enter(Priority.WAKE)
    throttle.due(0.0)
    lease = throttle.enter(Priority.LEASE)
    assert throttle.due(0.0)[0] == [lease]
