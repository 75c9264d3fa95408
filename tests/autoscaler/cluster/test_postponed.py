"""What failed waits longer each time, and keeps nothing else waiting."""

from autoscaler.cluster.postponed import FIRST_S, MOST_S, Postponed


def test_each_failure_in_a_row_doubles_the_pause_up_to_the_longest() -> None:
    it, now_s, pauses = Postponed(), 0.0, []
    for _ in range(9):
        it.on_failed("a", now_s)
        until_s = it.until_s("a")
        assert until_s is not None
        pauses.append(until_s - now_s)
        now_s = until_s
    assert pauses == [FIRST_S, 20.0, 40.0, 80.0, 160.0, 320.0, MOST_S, MOST_S, MOST_S]


def test_others_may_be_tried_meanwhile() -> None:
    it = Postponed()
    it.on_failed("a", 0.0)
    assert it.until_s("b") is None
    assert not it.is_due(FIRST_S - 1.0)
    assert it.is_due(FIRST_S)


def test_what_is_about_several_things_waits_for_the_last_of_them() -> None:
    it = Postponed()
    it.on_failed("a", 0.0)
    it.on_failed("b", 5.0)
    assert it.until_s("a", "b", "c") == 5.0 + FIRST_S
    assert it.is_due(FIRST_S), "the first of them"


def test_what_succeeded_or_needs_no_write_begins_anew() -> None:
    it = Postponed()
    for thing in ("a", "b", "c"):
        it.on_failed(thing, 0.0)
    it.on_done("a")
    it.keep({"c"})
    assert [it.until_s(thing) for thing in "abc"] == [None, None, FIRST_S]
    assert len(it) == 1
