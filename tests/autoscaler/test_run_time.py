"""Learned durations."""

import pytest

from autoscaler.run_time import BootTimes, RunTime


def test_nothing_completed_and_nothing_runs_is_not_known() -> None:
    assert RunTime().estimate_s(running=0, running_age_s=0.0) is None


def test_the_mean_of_what_completed() -> None:
    run_time = RunTime()
    run_time.learn(6.0, 3)
    assert run_time.estimate_s(running=0, running_age_s=0.0) == 2.0


def test_young_requests_do_not_make_the_run_time_shorter() -> None:
    run_time = RunTime()
    run_time.learn(300.0, 3)
    assert run_time.estimate_s(running=30, running_age_s=30.0) == 100.0


@pytest.mark.parametrize(
    ("age_s", "known_s"), [pytest.param(1.0, None, id="too young"), pytest.param(90.0, 90.0, id="long streams")]
)
def test_where_nothing_completes_the_age_of_what_runs_counts(age_s: float, known_s: float | None) -> None:
    assert RunTime().estimate_s(running=10, running_age_s=10 * age_s) == known_s


def test_one_endless_stream_beside_many_short_requests_changes_little() -> None:
    run_time = RunTime()
    run_time.learn(200.0, 100)
    assert run_time.estimate_s(running=1, running_age_s=300.0) == pytest.approx(5.0, abs=0.1)


def test_a_changed_model_is_learned_within_a_few_hundred_requests() -> None:
    run_time = RunTime()
    run_time.learn(10_000.0, 10_000)
    for _ in range(50):
        run_time.learn(100.0, 10)
    assert run_time.estimate_s(running=0, running_age_s=0.0) == pytest.approx(10.0, rel=0.02)


def test_boots_are_remembered_in_bounded_number_and_their_p95_told() -> None:
    boots = BootTimes()
    assert boots.p95_s() is None
    for boot_s in (100.0, *([2.0] * 31)):
        boots.learn(boot_s)
    assert boots.p95_s() == 2.0
    boots.learn(50.0)
    boots.learn(60.0)
    assert boots.p95_s() == 50.0
    assert len(boots.boots_s) == 32
