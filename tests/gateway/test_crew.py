"""Who is forked, replaced and told to leave."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.crew import HEALTHY_S, LONGEST_PAUSE_S, Crew, Effect, Fork, Restarted, TellToLeave
from tests.fuzz import examples


def crew(places: int = 2, *, ready: bool = True) -> Crew:
    it = Crew(places, itertools.count(1).__next__)
    forked = it.due(0.0)
    assert forked == [Fork(place, place + 1) for place in range(places)]
    for number in range(1, places + 1) if ready else ():
        assert it.on_ready(number, 0.0) == []
    return it


def test_all_places_are_forked_at_the_beginning_and_nothing_is_planned_then() -> None:
    it = crew()
    assert (it.serving, it.present, it.next_s, it.due(5.0)) == (2, (1, 2), None, [])


def test_one_that_dies_is_replaced_in_its_place_at_once() -> None:
    it = crew()
    assert it.on_end(2, 100.0) == [Fork(1, 3)]
    assert (it.serving, it.replaced) == (1, 1)
    it.on_ready(3, 100.1)
    assert it.serving == 2


def test_one_that_dies_at_every_start_is_forked_after_growing_pauses() -> None:
    it = crew(1, ready=False)
    now_s, pauses = 0.0, []
    for number in range(1, 10):
        effects = it.on_end(number, now_s)
        if not effects:
            assert it.next_s is not None
            pauses.append(round(it.next_s - now_s, 3))
            assert it.due(it.next_s - 0.001) == []
            now_s = it.next_s
            effects = it.due(now_s)
        assert effects == [Fork(0, number + 1)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_who_served_for_long_has_not_failed() -> None:
    it = crew(1)
    now_s = 0.0
    for number in range(1, 5):
        now_s += HEALTHY_S + 1
        assert it.on_end(number, now_s) == [Fork(0, number + 1)]


def test_a_restart_goes_from_place_to_place_and_each_successor_is_ready_first() -> None:
    it = crew()
    assert it.restart(1.0) == [Fork(0, 3)]
    assert it.restart(1.0) == [], "one is under way"
    assert it.on_ready(3, 1.1) == [TellToLeave(1, is_last=False), Fork(1, 4)]
    assert it.on_ready(4, 1.2) == [TellToLeave(2, is_last=False), Restarted(is_complete=True)]
    assert it.on_end(1, 5.0) == it.on_end(2, 6.0) == []
    assert (it.present, it.serving, it.replaced) == ((3, 4), 2, 0)


def test_a_successor_that_does_not_come_up_ends_the_restart_and_the_old_ones_stay() -> None:
    it = crew()
    it.restart(1.0)
    assert it.on_end(3, 1.1) == [Restarted(is_complete=False)]
    assert (it.serving, it.next_s, it.replaced) == (2, None, 0)
    assert it.restart(2.0) == [Fork(0, 4)]


def test_a_successor_takes_the_place_of_one_that_dies_meanwhile() -> None:
    it = crew()
    it.restart(1.0)
    assert it.on_end(1, 1.1) == [Fork(1, 4)]
    assert it.on_ready(3, 1.2) == []
    assert it.on_ready(4, 1.3) == [TellToLeave(2, is_last=False), Restarted(is_complete=True)]
    assert it.serving == 2


def test_a_place_that_is_about_to_be_forked_needs_no_restart() -> None:
    it = crew(1, ready=False)
    it.on_end(1, 0.0)
    it.on_end(2, 0.0)
    assert it.restart(0.05) == [Restarted(is_complete=True)]
    assert it.due(0.1) == [Fork(0, 3)]


def test_one_that_leaves_by_itself_has_a_successor_before_it_has_ended() -> None:
    it = crew()
    assert it.on_leaving(1, 1.0) == [Fork(0, 3)]
    assert it.on_end(1, 9.0) == []
    assert it.replaced == 0


def test_when_all_leave_nobody_is_forked_any_more() -> None:
    it = crew()
    it.on_end(1, 100.0)
    it.restart(100.0)
    assert it.leave() == [TellToLeave(number, is_last=True) for number in it.present]
    assert it.leave() == []
    for number in it.present:
        assert it.on_leaving(number, 101.0) == it.on_end(number, 102.0) == it.due(200.0) == []
    assert (it.present, it.next_s) == ((), None)


def test_a_place_whose_fork_was_planned_is_not_given_to_anybody_when_all_leave() -> None:
    it = crew(1, ready=False)
    it.on_end(1, 0.0)
    it.on_end(2, 0.0)
    assert it.next_s == 0.1
    it.leave()
    assert it.due(1.0) == []


@given(
    st.lists(st.tuples(st.sampled_from(["ready", "end", "leaving", "restart", "wait"]), st.integers(0, 9)), max_size=60)
)
@settings(max_examples=examples(300), deadline=None)
def test_whatever_happens_every_place_comes_to_serve_and_none_has_three_processes(steps: list[tuple[str, int]]) -> None:
    it = Crew(2, itertools.count(1).__next__)
    place_of: dict[int, int] = {}
    leaving: set[int] = set()
    alive: dict[int, None] = {}
    now_s = 0.0

    def perform(effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Fork):
                assert effect.number not in place_of
                place_of[effect.number] = effect.place
                alive[effect.number] = None
            elif isinstance(effect, TellToLeave):
                assert effect.number in alive
                assert not effect.is_last
                leaving.add(effect.number)

    perform(it.due(now_s))
    for what, which in steps:
        now_s += 0.05
        number = [*alive][which % len(alive)] if alive else 0
        if what == "wait":
            now_s += LONGEST_PAUSE_S
        elif what == "restart":
            perform(it.restart(now_s))
        elif number and what == "ready":
            perform(it.on_ready(number, now_s))
        elif number and what == "leaving" and number not in leaving:
            leaving.add(number)
            perform(it.on_leaving(number, now_s))
        elif number and what == "end":
            del alive[number]
            perform(it.on_end(number, now_s))
        perform(it.due(now_s))
        for place in (0, 1):
            assert len([one for one in alive if place_of[one] == place and one not in leaving]) <= 2
        assert it.present == tuple(alive)
    for _ in range(10):
        now_s += LONGEST_PAUSE_S
        perform(it.due(now_s))
        for number in [*alive]:
            perform(it.on_ready(number, now_s))
    assert it.serving == 2
    assert {place_of[one] for one in alive if one not in leaving} == {0, 1}
