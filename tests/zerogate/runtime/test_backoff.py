from zerogate.runtime.backoff import Streak, after_failure
from zerogate.runtime.interface import EndCause, Ended

START_FAILED = Ended(cause=EndCause.START_FAILED, detail="no")
CRASHED = Ended(cause=EndCause.CRASHED, detail="oh")
PORT_TAKEN = Ended(cause=EndCause.PORT_TAKEN, detail="hey")


def fail_in_a_row(count: int, ended: Ended = START_FAILED) -> list[float]:
    streak: Streak | None = None
    delays, now_s = [], 0.0
    for _ in range(count):
        streak = after_failure(streak, ended, ready_s=None, now_s=now_s)
        delays.append(streak.next_try_s - now_s)
        now_s = streak.next_try_s
    return delays


def test_failed_starts_double_the_delay_from_one_second_to_five_minutes() -> None:
    assert fail_in_a_row(11) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_the_first_crash_of_a_ready_replica_costs_nothing_and_the_next_ones_do() -> None:
    assert fail_in_a_row(4, CRASHED) == [0, 1, 2, 4]


def test_the_first_stolen_port_costs_nothing_either() -> None:
    assert fail_in_a_row(4, PORT_TAKEN) == [0, 1, 2, 4]


def test_failures_while_suspended_belong_to_the_same_incident() -> None:
    first = after_failure(None, START_FAILED, ready_s=None, now_s=10.0)
    second = after_failure(first, CRASHED, ready_s=None, now_s=10.5)
    assert (second.failures, second.next_try_s, second.last) == (1, 11.0, CRASHED)


def test_five_minutes_of_being_ready_since_the_last_failure_forgive_it() -> None:
    streak = after_failure(None, START_FAILED, ready_s=None, now_s=0.0)
    streak = after_failure(streak, START_FAILED, ready_s=None, now_s=2.0)
    assert after_failure(streak, START_FAILED, ready_s=10.0, now_s=309.9).failures == 3
    assert after_failure(streak, START_FAILED, ready_s=10.0, now_s=310.0).failures == 1
    assert after_failure(streak, START_FAILED, ready_s=0.0, now_s=301.9).failures == 3, "ready before it failed"


def test_a_huge_number_of_failures_does_not_overflow() -> None:
    streak = Streak(failures=10**6, suspensions=10**6, failed_s=0.0, next_try_s=0.0, last=START_FAILED)
    assert after_failure(streak, START_FAILED, ready_s=None, now_s=1.0).next_try_s == 301.0
