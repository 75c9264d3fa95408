"""Frames and messages: what is said is what is read, whatever the pieces; and nothing is longer than it may be."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.meter import Meter
from zerogate.reporting.wire import (
    MOST_BYTES,
    MOST_BYTES_OF_ONE,
    MOST_READINGS,
    Ack,
    Beat,
    Bye,
    Frames,
    FromSource,
    Hello,
    Quiesce,
    Quiesced,
    Reading,
    Readings,
    Reopen,
    Token,
    ToSource,
    TurnedAway,
    Wake,
    Welcome,
    WireError,
    frame,
    read_from_source,
    read_to_source,
    reading_of,
    stat_of,
)
from zerogate.stats import Stat

FROM_SOURCES: list[FromSource] = [
    Hello("chat-1", "a1", "sidecar", "secret", "chat"),
    Hello("gateway-1", "a1", "gateway"),
    Readings((Reading("chat", 3, 1.5, arrivals=4, since_byte_s=0.25), Reading("other", 1, 1.5))),
    Readings(()),
    Wake(7, Reading("chat", 4, 2.5, held=1)),
    Beat(),
    Token("newer"),
    Bye(),
    Quiesced("a0", 7, 3, 2),
]
TO_SOURCES: list[ToSource] = [
    Welcome(True),
    Ack(7, False),
    TurnedAway("No."),
    TurnedAway("Full.", True),
    Quiesce("a0", 7, 30.0),
    Reopen("a0", 8),
]


@pytest.mark.parametrize("message", FROM_SOURCES, ids=repr)
def test_what_a_source_says_is_what_is_read(message: FromSource) -> None:
    assert read_from_source(frame(message)[4:]) == message


@pytest.mark.parametrize("message", TO_SOURCES, ids=repr)
def test_what_an_autoscaler_says_is_what_is_read(message: ToSource) -> None:
    assert read_to_source(frame(message)[4:]) == message


@pytest.mark.parametrize("for_s", [-1.0, 1e9, float("inf"), float("nan")])
def test_nobody_shuts_a_gate_for_longer_than_a_while(for_s: float) -> None:
    with pytest.raises(WireError):
        read_to_source(frame(Quiesce("a0", 1, for_s))[4:])


def test_a_reading_is_the_stat_without_what_the_stream_says_once() -> None:
    meter = Meter()
    meter.arrive(1.0)
    meter.hold(1.0)
    meter.unhold(2.0)
    meter.enter(2.0)
    meter.bytes_in, meter.bytes_out, meter.abandoned, meter.refused = 5, 6, 7, 8
    stat = meter.read(3.0, service="chat", source="chat-1", incarnation="a1")
    assert stat_of(reading_of(stat), "chat-1", "a1") == stat
    assert set(Stat.__struct_fields__) - set(Reading.__struct_fields__) == {"source", "incarnation"}


@given(st.lists(st.sampled_from(FROM_SOURCES), max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=200))
def test_frames_come_out_whole_whatever_the_pieces(messages: list[FromSource], sizes: list[int]) -> None:
    data, frames, found = b"".join(map(frame, messages)), Frames(MOST_BYTES), []
    for size in (*sizes, len(data)):
        found += frames.feed(data[:size])
        data = data[size:]
    assert [read_from_source(body) for body in found] == messages


@pytest.mark.parametrize("pieces", [[b"\x00\x00\x04\x01"], [b"\x00", b"\x00\x04\x01abc"], [b"\xff" * 3, b"\xffx"]])
def test_a_frame_that_is_too_long_is_refused_before_it_is_kept(pieces: list[bytes]) -> None:
    frames = Frames(1024)
    for piece in pieces[:-1]:
        assert frames.feed(piece) == []
    with pytest.raises(WireError, match="longer than 1024"):
        frames.feed(pieces[-1])


def test_more_readings_than_fit_into_a_slice_are_refused() -> None:
    reading = Reading("chat", 1, 1.0)
    read_from_source(frame(Readings((reading,) * MOST_READINGS))[4:])
    with pytest.raises(WireError):
        read_from_source(frame(Readings((reading,) * (MOST_READINGS + 1)))[4:])


def test_a_whole_message_fits_with_the_longest_names_and_numbers() -> None:
    most = 2**63 - 1
    numbers = (most, 1e300, most, most, most, most, 1e300, 1e300, 1e300, most, most, most, most, 1e300, 1e300)
    reading = Reading("s" * 317, *numbers)
    assert len(frame(Readings((reading,) * MOST_READINGS))) < MOST_BYTES


@given(st.binary(max_size=64))
def test_what_has_no_meaning_is_a_wire_error_and_nothing_else(body: bytes) -> None:
    for read, messages in ((read_from_source, FromSource), (read_to_source, ToSource)):
        try:
            message = read(body)
        except WireError:
            continue
        assert isinstance(message, messages)


@pytest.mark.parametrize(
    ("read", "known"),
    [(read_from_source, [0, "chat-1", "a1", "sidecar", "", "chat"]), (read_to_source, [12, "No.", True, 0.0])],
)
def test_what_is_nested_deeper_than_anybody_can_follow_is_a_wire_error_too(
    read: Callable[[bytes], object], known: list[object]
) -> None:
    body = bytearray(msgspec.msgpack.encode([*known, None]))
    body[-1:] = b"\x91" * (MOST_BYTES_OF_ONE - len(body))
    with pytest.raises(WireError):
        read(bytes(body))


def test_a_newer_source_may_say_more_than_is_known() -> None:
    longer = msgspec.msgpack.encode([3, {}, "a field that comes later"])
    assert read_from_source(longer) == Beat()
