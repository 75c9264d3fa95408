import pytest

from zerogate.errors import DefinitionError, DefinitionErrors, nearest, shown


def test_an_error_says_where_what_and_what_to_do() -> None:
    error = DefinitionError("7x is not a duration", hint="Write 15s.").at(source="z.yaml", line=3, key="idle-timeout")
    assert str(error) == "z.yaml:3: idle-timeout: 7x is not a duration. Write 15s."


def test_a_place_that_is_known_stays() -> None:
    error = DefinitionError("is wrong", source="a", line=1, key="k").at(source="b", line=2, key="l")
    assert str(error) == "a:1: k: is wrong."


def test_many_errors_are_one_paragraph_each() -> None:
    errors = DefinitionErrors([DefinitionError("is wrong", key="a"), DefinitionError("is missing", key="b")])
    assert str(errors) == "a: is wrong.\nb: is missing."


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", '"a"'), (True, "true"), (1.5, "1.5"), (["a"], '["a"]'), ("ü\x1b\u202e", '"ü\\u001b\\u202e"'), ({1}, "{1}")],
)
def test_a_value_is_shown_as_it_was_written_without_what_a_terminal_would_obey(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_long_value_is_cut() -> None:
    assert shown("x" * 100) == '"' + "x" * 59 + "…"
    assert len(shown("x" * 100, longest=200)) == 102


@pytest.mark.parametrize(
    ("word", "near"),
    [("idle-timout", "idle-timeout"), ("IDLE-TIMEOUT", "idle-timeout"), ("zzz", None), ("x" * 10**6, None), ("", None),
     ("max", "max-replicas"), ("replicas", "max-replicas"), ("timeout", "idle-timeout")],
)  # fmt: skip
def test_the_nearest_word_is_found_where_there_is_one(word: str, near: str | None) -> None:
    assert nearest(word, ["pax", "max-replicas", "idle-timeout", "hold-timeout"]) == near
