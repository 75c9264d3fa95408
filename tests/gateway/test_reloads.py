"""Who is told of a changed file, and when."""

from gateway.reloads import APPLY_S, Applied, Reloads


def test_whoever_asked_hears_when_the_last_worker_has_the_file() -> None:
    it = Reloads()
    it.begin(2, [1, 2], (9, 1), 10.0)
    it.on_applied(1, 2)
    assert it.due(10.1) == []
    assert it.next_s == 10.0 + APPLY_S
    it.on_applied(2, 2)
    assert it.due(10.2) == [Applied((9, 1), 0)]
    assert it.due(99.0) == []
    assert it.next_s is None


def test_a_worker_that_ended_is_not_waited_for_and_a_newer_file_holds_for_an_older_one() -> None:
    it = Reloads()
    it.begin(2, [1, 2], (9, 1), 10.0)
    it.begin(3, [1, 2], (9, 2), 10.0)
    it.on_end(1)
    it.on_applied(2, 3)
    assert it.due(10.1) == [Applied((9, 1), 0), Applied((9, 2), 0)]


def test_an_older_file_is_no_newer_one() -> None:
    it = Reloads()
    it.begin(3, [1], (9, 1), 10.0)
    it.on_applied(1, 2)
    assert it.due(10.1) == []


def test_a_worker_that_takes_too_long_is_told_as_missing_and_a_signal_asks_nothing() -> None:
    it = Reloads()
    it.begin(2, [1, 2], (9, 1), 10.0)
    it.begin(3, [1], None, 10.0)
    it.on_applied(2, 3)
    assert it.due(10.0 + APPLY_S) == [Applied((9, 1), 1)]
    assert it.next_s is None
