"""What comes next when a collection is followed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.kube.errors import (
    Asked,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    Silent,
    TooManyRequests,
    Unreachable,
)
from zerogate.kube.following import Failure, Following, ListPage, Pace, Wait, Watch, failure_of

PACE = Pace(length_s=240, silence_s=90, initial_silence_s=10, relist_spread_s=1, first_pause_s=0.5, longest_pause_s=30)


def following(*, by_watch: bool = True) -> Following:
    return Following(PACE, by_watch=by_watch)


def synced(version: str = "5") -> Following:
    followed = following()
    followed.next_step(0)
    followed.on_initial_end(version)
    return followed


def pause(followed: Following, chance: float = 1.0) -> float:
    step = followed.next_step(chance)
    assert isinstance(step, Wait)
    return step.seconds


def test_it_begins_by_watch_list_and_goes_on_in_the_same_stream() -> None:
    followed = following()
    assert followed.next_step(0) == Watch("", True, 240, 10)
    followed.on_event("9")
    assert followed.on_initial_end("7") == 90
    followed.on_event("8")
    assert followed.next_step(0) == Watch("8", False, 240, 90)


def test_a_server_without_watch_list_is_never_asked_for_it_again() -> None:
    followed = following()
    followed.next_step(0)
    followed.on_failed(Failure.NOT_SERVED)
    assert followed.next_step(0) == ListPage("")
    followed.on_page("5", "")
    followed.on_failed(Failure.GONE)
    pause(followed)
    assert followed.next_step(0) == ListPage("")


def test_a_watch_list_that_never_ends_is_tried_by_pages_next() -> None:
    followed = following()
    followed.next_step(0)
    followed.on_failed(Failure.TROUBLE)
    pause(followed)
    assert followed.next_step(0) == ListPage("")
    followed.on_failed(Failure.TROUBLE)
    pause(followed)
    assert followed.next_step(0) == Watch("", True, 240, 10)


def test_pages_are_read_to_the_end_and_then_watched_from_their_version() -> None:
    followed = following(by_watch=False)
    assert followed.next_step(0) == ListPage("")
    assert not followed.on_page("5", "next")
    assert followed.next_step(0) == ListPage("next")
    assert followed.on_page("5", "")
    assert followed.next_step(0) == Watch("5", False, 240, 90)


def test_a_page_that_fails_is_asked_for_again_and_a_token_that_is_gone_begins_anew() -> None:
    followed = following(by_watch=False)
    followed.on_page("5", "next")
    followed.on_failed(Failure.TROUBLE)
    pause(followed)
    assert followed.next_step(0) == ListPage("next")
    followed.on_failed(Failure.GONE)
    pause(followed)
    assert followed.next_step(0) == ListPage("")


def test_a_watch_that_the_server_ends_is_resumed_at_once() -> None:
    followed = synced()
    followed.on_closed(lasted_s=240)
    assert pause(followed) <= 0.25
    assert followed.next_step(0) == Watch("5", False, 240, 90)


def test_a_watch_that_ends_as_soon_as_it_begins_is_asked_for_ever_less() -> None:
    followed = synced()
    pauses = []
    for _ in range(10):
        followed.on_closed(lasted_s=0.01)
        pauses.append(pause(followed))
        followed.next_step(0)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.5, 30)


def test_a_version_that_is_gone_is_listed_anew_within_a_second() -> None:
    followed = synced()
    followed.on_failed(Failure.GONE)
    assert followed.is_collecting
    assert pause(followed) == 1.0
    assert followed.next_step(0) == ListPage("")


def test_a_server_that_was_away_for_long_and_forgot_the_version_is_listed_within_a_second() -> None:
    followed = synced()
    for _ in range(6):
        followed.next_step(0)
        followed.on_failed(Failure.TROUBLE)
        pause(followed)
    followed.next_step(0)
    followed.on_failed(Failure.GONE)
    assert pause(followed) == 1.0


def test_a_server_that_says_gone_again_and_again_is_asked_ever_less() -> None:
    followed = synced()
    pauses = []
    for _ in range(8):
        followed.on_failed(Failure.GONE)
        pauses.append(pause(followed))
        followed.next_step(0)
        followed.on_page("5", "")
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30


def test_trouble_keeps_the_version_and_one_event_forgets_it() -> None:
    followed = synced()
    for _ in range(5):
        followed.on_failed(Failure.TROUBLE)
        last = pause(followed)
        assert followed.next_step(0) == Watch("5", False, 240, 90)
    assert last == 8.0
    followed.on_event("6")
    followed.on_failed(Failure.TROUBLE)
    assert pause(followed) == 0.5


def test_a_second_silent_watch_makes_the_version_doubtful() -> None:
    followed = synced()
    followed.on_failed(Failure.SILENT)
    pause(followed)
    assert followed.next_step(0) == Watch("5", False, 240, 90)
    followed.on_failed(Failure.SILENT)
    pause(followed)
    assert followed.next_step(0) == ListPage("")


def test_a_bookmark_between_two_silences_clears_the_doubt() -> None:
    followed = synced()
    for version in ("6", "7", "8"):
        followed.on_failed(Failure.SILENT)
        pause(followed)
        followed.on_event(version)
    assert followed.next_step(0) == Watch("8", False, 240, 90)


def test_the_time_that_a_server_names_is_kept() -> None:
    followed = synced()
    followed.on_failed(Failure.TROUBLE, retry_after_s=7)
    assert 7 <= pause(followed, 0.0) <= 8


def test_a_server_that_names_a_time_again_and_again_is_asked_within_twice_that_time() -> None:
    followed = synced()
    for _ in range(6):
        followed.on_failed(Failure.TROUBLE, retry_after_s=1)
        assert pause(followed) <= 2
        followed.next_step(0)


def test_a_list_anew_that_fails_is_tried_by_watch_list_next() -> None:
    followed = synced()
    followed.on_failed(Failure.GONE)
    pause(followed)
    assert followed.next_step(0) == ListPage("")
    followed.on_failed(Failure.TROUBLE)
    pause(followed)
    assert followed.next_step(0) == Watch("", True, 240, 10)


def test_a_list_anew_whose_token_is_gone_is_tried_by_watch_list_which_has_none() -> None:
    followed = synced()
    followed.on_failed(Failure.GONE)
    pause(followed)
    followed.on_page("7", "next")
    followed.on_failed(Failure.GONE)
    pause(followed)
    assert followed.next_step(0) == Watch("", True, 240, 10)


def test_a_refusal_by_a_server_that_has_just_started_costs_half_a_second_and_one_that_stays_half_a_minute() -> None:
    followed = synced()
    pauses = []
    for _ in range(8):
        followed.on_failed(failure_of(Forbidden(Asked(verb="watch"))))
        pauses.append(pause(followed))
        assert followed.next_step(0) == Watch("5", False, 240, 90)
    assert (pauses[0], pauses[-1]) == (0.5, 30)


@given(st.floats(0, 1, exclude_max=True))
def test_chance_never_takes_more_than_half_of_a_pause_away(chance: float) -> None:
    followed = synced()
    followed.on_failed(Failure.TROUBLE)
    assert 0.25 <= pause(followed, chance) <= 0.5


@given(st.lists(st.sampled_from([*Failure, "page", "last page", "event", "end", "closed"])))
def test_whatever_happens_it_never_watches_from_nowhere_and_never_stops(happened: list[Failure | str]) -> None:
    followed = following()
    for what in happened:
        step = followed.next_step(0.5)
        while isinstance(step, Wait):
            assert 0 < step.seconds <= 45
            step = followed.next_step(0.5)
        if isinstance(step, Watch):
            assert step.initial != bool(step.version)
        if isinstance(what, Failure):
            followed.on_failed(what)
        elif isinstance(step, ListPage) and what in ("page", "last page"):
            followed.on_page("5", "" if what == "last page" else "next")
        elif isinstance(step, Watch) and what == "event":
            followed.on_event("6")
        elif isinstance(step, Watch) and what == "end" and step.initial:
            followed.on_initial_end("7")
        elif isinstance(step, Watch):
            followed.on_closed(5.0)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (Gone, Failure.GONE),
        (Invalid, Failure.NOT_SERVED),
        (Forbidden, Failure.TROUBLE),
        (NotFound, Failure.TROUBLE),
        (Unreachable, Failure.TROUBLE),
        (Silent, Failure.SILENT),
        (TooManyRequests, Failure.TROUBLE),
        (KubeError, Failure.TROUBLE),
    ],
)
def test_every_error_has_a_meaning_for_a_watch(error: type[KubeError], failure: Failure) -> None:
    assert failure_of(error(Asked(verb="watch"))) is failure
