"""Who may enter a replica."""

import pytest

from zerogate.gate import MOST_INSIDE, Gate, GateError


def entered(gate: Gate, *, held: bool, tries: int) -> int:
    return sum(gate.try_release() if held else gate.try_enter() for _ in range(tries))


@pytest.mark.parametrize(
    ("limit", "release_limit", "warm", "held"),
    [
        pytest.param(0, 8, 100, 8, id="without-a-limit-only-held-requests-are-capped"),
        pytest.param(10, 8, 10, 8, id="held-requests-at-most-at-the-target"),
        pytest.param(3, 8, 3, 3, id="never-above-the-limit"),
        pytest.param(1, 1, 1, 1, id="single-concurrency"),
    ],
)
def test_the_limit_caps_all_and_the_release_limit_those_that_were_held(
    limit: int, release_limit: int, warm: int, held: int
) -> None:
    assert entered(Gate(limit=limit, release_limit=release_limit), held=False, tries=100) == warm
    assert entered(Gate(limit=limit, release_limit=release_limit), held=True, tries=100) == held


def test_without_a_limit_no_more_enter_than_there_are_ways_to_one_address() -> None:
    gate = Gate(limit=0, release_limit=MOST_INSIDE + 1)
    assert entered(gate, held=False, tries=MOST_INSIDE + 1) == MOST_INSIDE
    assert not gate.try_release()
    gate.leave()
    assert gate.try_enter()


def test_a_place_is_free_again_after_somebody_left() -> None:
    gate = Gate(limit=1, release_limit=1)
    assert gate.try_enter()
    assert not gate.try_enter()
    gate.leave()
    assert gate.try_release()


def test_leaving_without_having_entered_is_a_bug_that_is_told() -> None:
    with pytest.raises(GateError):
        Gate(limit=0, release_limit=8).leave()


def test_a_closed_gate_lets_nobody_in_and_everybody_out() -> None:
    gate = Gate(limit=0, release_limit=8)
    gate.try_enter()
    assert not gate.close_if_idle()
    gate.close()
    assert (gate.try_enter(), gate.try_release()) == (False, False)
    gate.leave()
    assert gate.close_if_idle()
    gate.reopen()
    assert gate.try_enter()


def test_open_websockets_do_not_slow_the_release_of_a_crowd_and_the_limit_counts_them() -> None:
    gate = Gate(limit=0, release_limit=2)
    for _ in range(5):
        assert gate.try_release()
        gate.lasting += 1
    assert entered(gate, held=True, tries=100) == 2
    limited = Gate(limit=3, release_limit=2)
    for _ in range(3):
        assert limited.try_release()
        limited.lasting += 1
    assert entered(limited, held=True, tries=100) == 0
