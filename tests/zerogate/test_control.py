"""What goes over a control connection: written, read back, and refused where it has no meaning."""

import pytest

from zerogate.control import (
    MAX_LINE_BYTES,
    MOST,
    ControlError,
    Demand,
    Lines,
    Terms,
    is_name,
    line,
    read_demand,
    read_terms,
)

TERMS = Terms(ready=True, detail="", allowance=3, limit=4, most=4)


def test_both_messages_are_read_as_they_were_written() -> None:
    assert read_terms(line(TERMS)[:-1]) == TERMS
    assert read_demand(line(Demand(7, 2))[:-1]) == Demand(7, 2)


def test_fields_of_a_later_version_are_left_alone() -> None:
    assert read_demand(b'{"waiting":2,"in_flight":1,"patience":"little"}') == Demand(2, 1)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[1]",
        b'{"waiting":-1,"in_flight":0}',
        b'{"waiting":1.5,"in_flight":0}',
        b'{"waiting":1000001,"in_flight":0}',
        b'{"waiting":0,"in_flight":"1"}',
        b'{"waiting":0,"in_flight":0,"later":' + b"[" * 4000,
    ],
)
def test_a_demand_without_meaning_is_refused(text: bytes) -> None:
    with pytest.raises(ControlError):
        read_demand(text)


@pytest.mark.parametrize("allowance", [-1, MOST + 1])
def test_terms_beyond_their_bounds_are_refused(allowance: int) -> None:
    text = b'{"ready":true,"detail":"","allowance":%d,"limit":4,"most":4}' % allowance
    with pytest.raises(ControlError):
        read_terms(text)


def test_terms_that_are_no_text_are_refused() -> None:
    with pytest.raises(ControlError):
        read_terms(b'{"ready":true,"detail":"\xff","allowance":1,"limit":4,"most":4}')


def test_however_long_the_reason_is_the_line_stays_within_its_bound() -> None:
    terms = Terms(ready=False, detail="\x00€\n" * 5000, allowance=0, limit=0, most=1)
    assert len(line(terms)) <= MAX_LINE_BYTES


def test_lines_come_whole_out_of_pieces() -> None:
    lines = Lines()
    assert [lines.feed(piece) for piece in (b"a", b"b\nc", b"\n\nd")] == [[], [b"ab"], [b"c", b""]]


@pytest.mark.parametrize("pieces", [[b"x" * (MAX_LINE_BYTES + 1)], [b"x" * MAX_LINE_BYTES, b"x"]])
def test_a_line_without_end_is_refused(pieces: list[bytes]) -> None:
    lines = Lines()
    for piece in pieces[:-1]:
        lines.feed(piece)
    with pytest.raises(ControlError):
        lines.feed(pieces[-1])


@pytest.mark.parametrize(
    ("name", "fits"),
    [(b"gateway-1.x", True), (b"", False), (b"a b", False), (b"x" * 65, False), (b"a\n", False)],
)
def test_a_name_is_short_and_plain(name: bytes, fits: bool) -> None:
    assert is_name(name) is fits
