"""A status is written when its gist changes, and rarely."""

import msgspec

from autoscaler.cluster.status_book import EACH_S, Status, StatusBook, is_news


def test_only_what_a_person_would_call_a_change_is_news() -> None:
    status = Status(state="ready", desired=1, why="3 in flight", at="now")
    noted = msgspec.json.encode(Status(state="ready", desired=1, why="2 in flight", at="before")).decode()
    assert not is_news(status, noted)
    assert is_news(msgspec.structs.replace(status, desired=2), noted)
    assert is_news(msgspec.structs.replace(status, state="zero"), noted)
    assert is_news(msgspec.structs.replace(status, notices=("it has no sidecar",)), noted)
    assert is_news(status, None)
    assert is_news(status, "somebody wrote this by hand")


def test_each_is_looked_at_once_for_however_many_marks_and_those_that_wait_longest_first() -> None:
    book = StatusBook()
    for service in ("a", "b", "a", "c"):
        book.mark(service)
    assert book.take_due(0.0, 2) == ["a", "b"]
    assert book.take_due(0.0, 2) == ["c"]
    assert book.take_due(0.0, 2) == []


def test_what_was_written_is_not_looked_at_for_a_minute_and_then_it_is() -> None:
    book = StatusBook()
    book.on_written("a", 0.0)
    book.mark("a")
    book.mark("b")
    assert book.take_due(EACH_S - 1, 2) == ["b"]
    assert book.take_due(EACH_S, 2) == ["a"]


def test_who_is_gone_is_forgotten() -> None:
    book = StatusBook()
    book.on_written("a", 0.0)
    book.mark("a")
    book.forget("a")
    assert book.take_due(EACH_S, 2) == []
