"""Frames followed by their headers: boundaries, Close codes, violations, however the bytes are split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.zerogate.http.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, closing, frame
from zerogate.http.websocket import NO_STATUS, FrameFollower, close_frame

KEY = b"\x11\x22\x33\x44"


def test_a_frame_has_a_boundary_before_it_and_behind_it_and_none_within() -> None:
    data = frame(TEXT, b"hello")
    follower = FrameFollower(masked=False)
    at_boundary = [follower.is_at_boundary]
    for byte in data:
        assert follower.feed(bytes((byte,))) == 1
        at_boundary.append(follower.is_at_boundary)
    assert at_boundary == [True, *[False] * (len(data) - 1), True]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
@pytest.mark.parametrize("mask", [b"", KEY], ids=["from-replica", "from-client"])
def test_lengths_of_all_three_forms_are_read(size: int, mask: bytes) -> None:
    follower = FrameFollower(masked=bool(mask))
    data = frame(BINARY, bytes(size), mask=mask) + b"\x81"
    assert follower.feed(data[:-1]) == len(data) - 1
    assert follower.is_at_boundary
    follower.feed(data[-1:])
    assert not follower.is_at_boundary


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(closing(1000), 1000, id="normal"),
        pytest.param(closing(4321, b"because"), 4321, id="with-a-reason"),
        pytest.param(frame(CLOSE, b""), NO_STATUS, id="without-a-code"),
        pytest.param(frame(CLOSE, b"\x03"), NO_STATUS, id="half-a-code"),
    ],
)
def test_the_code_of_a_close_is_read(data: bytes, code: int) -> None:
    follower = FrameFollower(masked=False)
    follower.feed(data)
    assert follower.close_code == code


def test_the_code_of_a_masked_close_is_read_through_its_mask() -> None:
    follower = FrameFollower(masked=True)
    follower.feed(closing(3456, b"x", mask=KEY))
    assert follower.close_code == 3456


def test_what_comes_behind_a_close_is_not_passed() -> None:
    follower = FrameFollower(masked=False)
    assert follower.feed(closing(1000) + frame(TEXT, b"late")) == 4
    assert follower.feed(b"more") == 0
    assert follower.is_over


VIOLATIONS = [
    pytest.param(True, frame(TEXT, b"x"), "without a mask", id="client-without-mask"),
    pytest.param(False, frame(TEXT, b"x", mask=KEY), "with a mask", id="replica-with-mask"),
    pytest.param(False, frame(PING, b"x", fin=False), "in fragments", id="ping-in-fragments"),
    pytest.param(False, frame(PING, bytes(126)), "more than 125", id="long-ping"),
    pytest.param(False, frame(CONTINUATION, b"x"), "continuation of no", id="lone-continuation"),
    pytest.param(
        False, frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), "inside another", id="message-inside-a-message"
    ),
    pytest.param(False, b"\x82\x7f" + b"\xff" * 8, "63 bits", id="length-of-64-bits"),
]


@pytest.mark.parametrize(("masked", "data", "what"), VIOLATIONS)
def test_what_is_no_frame_is_said_and_not_passed(masked: bool, data: bytes, what: str) -> None:
    follower = FrameFollower(masked=masked)
    good = frame(BINARY, b"good", mask=KEY if masked else b"")
    passed = follower.feed(good + data)
    assert what in follower.violation
    assert len(good) <= passed < len(good) + len(data)
    assert follower.is_over


def test_reserved_bits_and_opcodes_pass_because_extensions_give_them_a_meaning() -> None:
    follower = FrameFollower(masked=False)
    data = frame(TEXT, b"deflated", reserved=4) + frame(0x3, b"?") + frame(0xB, b"?")
    assert follower.feed(data) == len(data)
    assert not follower.violation


def test_a_ping_between_the_fragments_of_a_message_passes() -> None:
    follower = FrameFollower(masked=False)
    data = frame(TEXT, b"a", fin=False) + frame(PING, b"?") + frame(CONTINUATION, b"b") + frame(BINARY, b"c")
    assert follower.feed(data) == len(data)
    assert not follower.violation


def test_pings_are_no_data_and_data_in_pieces_is() -> None:
    follower = FrameFollower(masked=False)
    data = frame(BINARY, b"abc")
    seen = []
    for piece in (frame(PING, b"abc") + frame(0xA, b"abc"), data[:3], data[3:]):
        follower.has_data = False
        follower.feed(piece)
        seen.append(follower.has_data)
    assert seen == [False, True, True]


def test_with_a_word_it_goes_to_the_next_boundary_and_no_further() -> None:
    follower = FrameFollower(masked=False)
    data = frame(BINARY, bytes(300)) + frame(TEXT, b"next")
    follower.feed(data[:100])
    assert follower.feed(data[100:], to_boundary=True) == 304 - 100
    assert follower.is_at_boundary


FRAMES = st.lists(
    st.tuples(
        st.sampled_from([TEXT, BINARY, PING, 0xA]),
        st.integers(0, 300),
        st.lists(st.integers(0, 200), max_size=3),
    ),
    max_size=6,
)


@given(FRAMES, st.booleans(), st.one_of(st.none(), st.integers(1000, 4999)), st.data())
def test_any_split_gives_the_same_boundaries(
    frames: list[tuple[int, int, list[int]]], masked: bool, code: int | None, draw: st.DataObject
) -> None:
    mask = KEY if masked else b""
    pieces = []
    for opcode, size, fragments in frames:
        if opcode in (TEXT, BINARY):
            pieces.append(frame(opcode, bytes(size), mask=mask, fin=not fragments))
            for number, length in enumerate(fragments):
                pieces.append(frame(CONTINUATION, bytes(length), mask=mask, fin=number + 1 == len(fragments)))
        else:
            pieces.append(frame(opcode, bytes(min(size, 125)), mask=mask))
    if code is not None:
        pieces.append(closing(code, mask=mask))
    data = b"".join(pieces)
    expected = {0}
    for piece in pieces:
        expected.add(max(expected) + len(piece))
    follower = FrameFollower(masked=masked)
    at = 0
    while at < len(data):
        step = draw.draw(st.integers(1, min(400, len(data) - at)))
        assert follower.feed(data[at : at + step]) == step
        at += step
        assert follower.is_at_boundary == (at in expected)
    assert follower.close_code == code
    assert not follower.violation


@given(st.binary(max_size=200), st.booleans(), st.data())
def test_any_split_of_any_bytes_ends_in_the_same_state(data: bytes, masked: bool, draw: st.DataObject) -> None:
    whole, split = FrameFollower(masked=masked), FrameFollower(masked=masked)
    whole.feed(data)
    at = 0
    while at < len(data):
        step = draw.draw(st.integers(1, len(data) - at))
        assert split.feed(data[at : at + step]) <= step
        at += step
    assert (split.violation, split.close_code) == (whole.violation, whole.close_code)
    if not whole.is_over:
        assert split.is_at_boundary == whole.is_at_boundary


@given(st.integers(1000, 4999), st.sampled_from([b"", KEY]))
def test_a_close_of_our_own_reads_as_what_it_says(code: int, mask: bytes) -> None:
    follower = FrameFollower(masked=bool(mask))
    data = close_frame(code, mask=mask)
    assert follower.feed(data) == len(data)
    assert follower.close_code == code
