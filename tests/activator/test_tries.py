"""When a sidecar is tried again: soon and often while it is new, with growing pauses once it was reached."""

import pytest

from activator.tries import (
    ANSWER_S,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    NEW_CONNECT_S,
    NEW_LEAST_S,
    NEW_MOST_S,
    NEW_PER_S,
    NEW_S,
    NEW_SHARE,
    UNKNOWN_PAUSE_S,
    Newcomers,
    Tries,
)

BORN_S = 1000.0


@pytest.mark.parametrize("started_s", [0.0, 0.05, 0.2, 0.7, 1.9], ids=lambda started_s: f"{started_s} s")
def test_a_new_sidecar_is_found_late_by_no_more_than_a_small_part_of_its_start(started_s: float) -> None:
    tries, now_s, longest = Tries(BORN_S, Newcomers()), BORN_S, 1.5  # as far as chance draws a pause out
    while now_s < BORN_S + started_s:
        now_s += longest * tries.pause_s(now_s)
    late_s = now_s - (BORN_S + started_s)
    assert late_s <= longest * max(NEW_LEAST_S, NEW_SHARE * started_s)


def test_tries_of_a_new_one_are_few_all_the_same() -> None:
    tries, now_s, count = Tries(BORN_S, Newcomers()), BORN_S, 0
    while now_s < BORN_S + NEW_S:
        now_s += tries.pause_s(now_s)
        count += 1
    assert count <= 70 + NEW_S / NEW_MOST_S


@pytest.mark.parametrize("many", [10, 1_000, 10_000])
def test_however_many_are_new_at_once_all_of_them_together_are_not_tried_too_often(many: int) -> None:
    newcomers = Newcomers()
    all_tries = [Tries(BORN_S, newcomers) for _ in range(many)]
    per_s = sum(1.0 / tries.pause_s(BORN_S + 5.0) for tries in all_tries)
    assert per_s == pytest.approx(min(many / NEW_MOST_S, NEW_PER_S))


def test_whoever_was_reached_is_old_or_gone_leaves_the_turns_to_the_others() -> None:
    newcomers = Newcomers()
    last, reached, other, gone, old = (Tries(BORN_S, newcomers) for _ in range(5))
    newcomers.count += 1_000
    assert last.pause_s(BORN_S) == 1_005 / NEW_PER_S
    reached.on_reached()
    other.on_no_control()
    gone.close()
    gone.close()
    old.pause_s(BORN_S + NEW_S)
    assert last.pause_s(BORN_S) == 1_001 / NEW_PER_S


def test_one_that_is_never_reached_is_tried_ever_more_rarely() -> None:
    tries, now_s = Tries(BORN_S, Newcomers()), BORN_S + NEW_S
    assert [tries.pause_s(now_s) for _ in range(7)] == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, LONGEST_PAUSE_S]


def test_a_lost_packet_of_a_new_one_is_not_waited_for() -> None:
    tries = Tries(BORN_S, Newcomers())
    assert tries.connect_s(BORN_S) == NEW_CONNECT_S
    assert tries.connect_s(BORN_S + NEW_S) == ANSWER_S
    tries.on_reached()
    assert tries.connect_s(BORN_S) == ANSWER_S


def test_one_that_was_reached_is_missed_at_once_and_then_less_and_less() -> None:
    tries = Tries(BORN_S, Newcomers())
    tries.on_reached()
    tries.on_lost(lasted_s=0.1)
    assert [tries.pause_s(BORN_S + 1) for _ in range(3)] == [0.0, FIRST_PAUSE_S, 2 * FIRST_PAUSE_S]
    tries.on_lost(lasted_s=0.1)
    assert tries.pause_s(BORN_S + 2) == 4 * FIRST_PAUSE_S, "it has come and gone: no reason to hurry"
    tries.on_lost(lasted_s=10.0)
    assert tries.pause_s(BORN_S + 12) == 0.0


def test_whatever_else_answers_there_is_seldom_asked() -> None:
    tries = Tries(BORN_S, Newcomers())
    tries.on_no_control()
    assert tries.pause_s(BORN_S + 1) == UNKNOWN_PAUSE_S
    assert tries.pause_s(BORN_S + 31) == LONGEST_PAUSE_S
