"""Which wakes are said when, and when their owner has to act by itself."""

import pytest

from zerogate.reporting.wakes import LEADER_SILENCE_S, PATIENCE_S, Wakes


def said(wakes: Wakes, now_s: float) -> list[tuple[int, str]]:
    return wakes.take_due(now_s)[0]


def test_a_wake_is_said_at_once() -> None:
    wakes = Wakes()
    wakes.ask("chat", 10.0)
    assert wakes.take_due(10.0) == ([(1, "chat")], None)
    assert said(wakes, 10.0) == []


def test_a_crowd_is_said_every_two_milliseconds_and_later_ones_every_hundred() -> None:
    wakes = Wakes()
    times = []
    for millisecond in range(500):
        now_s = 1024.0 + millisecond / 1024  # without rounding
        wakes.ask("chat", now_s)
        times += [millisecond] * len(said(wakes, now_s))
    assert 6 <= sum(time < 20 for time in times) <= 10
    assert sum(time > 20 for time in times) in (4, 5)


def test_what_is_said_later_is_not_forgotten() -> None:
    wakes = Wakes()
    wakes.ask("chat", 10.0)
    said(wakes, 10.0)
    wakes.ask("chat", 10.001)
    due, next_s = wakes.take_due(10.001)
    assert due == []
    assert next_s == pytest.approx(10.002)
    assert said(wakes, 10.0021) == [(1, "chat")]


def test_without_the_leader_the_owner_is_told_every_three_seconds_while_requests_wait() -> None:
    wakes = Wakes()
    wakes.ask("chat", 10.0)
    late = [tick for tick in range(100) if wakes.take_late(10.0 + tick / 10)]
    assert late == [30, 60, 90]
    assert wakes.unanswered() == [(1, "chat")]
    wakes.settle("chat")
    assert wakes.take_late(30.0) == []
    assert wakes.unanswered() == []


def test_an_acknowledgement_by_the_leader_is_enough_and_any_other_number_is_not() -> None:
    wakes = Wakes()
    wakes.ask("chat", 10.0)
    wakes.ask("other", 10.0)
    wakes.hear_leader(1, 10.5)
    wakes.hear_leader(0, 12.0)
    assert wakes.unanswered() == [(2, "other")]
    assert wakes.take_late(10.0 + PATIENCE_S) == ["other"]


def test_another_wake_of_the_same_service_has_to_be_heard_anew() -> None:
    wakes = Wakes()
    wakes.ask("chat", 10.0)
    wakes.hear_leader(1, 10.1)
    wakes.ask("chat", 20.0)
    assert wakes.unanswered() == [(2, "chat")]
    wakes.hear_leader(1, 20.1)
    assert wakes.take_late(23.0) == ["chat"]


def test_what_the_leader_cannot_bring_up_is_its_owners_to_wake_and_asked_for_until_it_can() -> None:
    """That a write is refused is known after the first acknowledgement; the wake is said again, and heard anew."""
    wakes = Wakes()
    wakes.ask("chat", 10.0)
    assert wakes.hear_leader(1, 10.1) is None
    assert wakes.take_repeated(10.1 + PATIENCE_S - 0.2) == []
    assert wakes.take_repeated(10.1 + PATIENCE_S) == [(1, "chat")]
    assert wakes.hear_leader(1, 13.2, "it may not write") == "chat"
    assert wakes.take_late(13.3) == ["chat"]
    assert wakes.take_repeated(13.4) == [(1, "chat")]
    assert wakes.hear_leader(1, 13.5, "it may not write") is None, "the same reason is no news"
    assert wakes.hear_leader(1, 13.6) == "chat"
    assert wakes.take_late(13.6 + PATIENCE_S) == []


@pytest.mark.parametrize("refused", ["it may not write", ""])
def test_a_wake_that_is_over_says_whether_it_was_refused(refused: str) -> None:
    wakes = Wakes()
    wakes.ask("chat", 10.0)
    wakes.hear_leader(1, 10.1, refused)
    assert wakes.settle("chat") is bool(refused)
    assert wakes.settle("chat") is False


def test_a_leader_that_dies_right_after_its_acknowledgement_leaves_nobody_waiting() -> None:
    wakes = Wakes()
    wakes.ask("chat", 10.0)
    wakes.hear_leader(1, 10.1)
    assert wakes.take_late(10.1 + LEADER_SILENCE_S - 0.1) == []
    assert wakes.take_late(10.1 + LEADER_SILENCE_S) == ["chat"]
    assert wakes.unanswered() == [(2, "chat")]


def test_the_age_of_the_leaders_word_is_infinite_before_its_first() -> None:
    wakes = Wakes()
    assert wakes.leader_age_s(5.0) == float("inf")
    wakes.hear_leader(0, 5.0)
    assert wakes.leader_age_s(7.5) == 2.5
