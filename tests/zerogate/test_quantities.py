import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.errors import DefinitionError
from zerogate.quantities import (
    DURATION_PATTERN,
    PERCENT_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_percent,
    format_size,
    parse_duration,
    parse_percent,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15s", 15), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("1.5h", 5400), ("1d2h3m4s", 93784), ("0s", 0)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-5s", "30m1h", "1h 30m", " 1s", "1s\n", "٣s", "1x", "1e3s", "5m5m", "9999999999s", "inf"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(DefinitionError, match="is not a duration") as caught:
        parse_duration(text)
    assert "1h30m" in caught.value.hint


def test_a_bare_number_is_told_that_its_unit_is_missing() -> None:
    with pytest.raises(DefinitionError, match=r'"15" has no unit\. Write 15s, 15m or 15h'):
        parse_duration("15")


def test_milliseconds_are_only_for_callers_that_ask() -> None:
    assert parse_duration("250ms", with_ms=True) == 0.25
    assert parse_duration("1s20ms", with_ms=True) == 1.02
    with pytest.raises(DefinitionError, match="finer than a second"):
        parse_duration("250ms")


@given(st.integers(0, 10**8))
def test_whole_seconds_are_printed_so_that_they_can_be_read_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.0004, "1ms"), (0.25, "250ms"), (1.24, "1.2s"), (59.97, "1m"), (61.4, "1m1s"), (-90, "-1m30s")],
)
def test_durations_are_rounded_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256Mi", 268435456),
        ("1G", 10**9),
        ("1.5Ki", 1536),
        ("2Ti", 2 << 40),
        ("1k", 1000),
        ("1K", 1000),
        ("3M", 3000000),
    ],
)
def test_a_size_is_read_in_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "256MB", "256MiB", "1ki", "-1Mi", "1 Mi", "Mi"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError, match="is not a size"):
        parse_size(text)


def test_a_size_without_a_unit_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r'"256" has no unit\. Write 256Ki'):
        parse_size("256")


@pytest.mark.parametrize(("size", "text"), [(0, "0"), (1023, "1023"), (1 << 20, "1Mi"), (1536, "1.5Ki")])
def test_sizes_are_printed_in_the_largest_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 100_000))
def test_percentages_survive_printing(percent: int) -> None:
    assert parse_percent(f"{percent}%") == percent / 100
    assert format_percent(percent / 100) == f"{percent}%"


@pytest.mark.parametrize("text", ["2", "200 %", "%", "-1%", "2.0"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError, match="is not a percentage"):
        parse_percent(text)


@given(st.text(alphabet="0123456789.dhmsKMGTik%", max_size=12))
def test_patterns_accept_exactly_what_is_parsed(text: str) -> None:
    for pattern, parse in (
        (DURATION_PATTERN, parse_duration),
        (SIZE_PATTERN, parse_size),
        (PERCENT_PATTERN, parse_percent),
    ):
        try:
            parse(text)
        except DefinitionError:
            is_parsed = False
        else:
            is_parsed = True
        assert is_parsed == bool(re.search(pattern, text))
