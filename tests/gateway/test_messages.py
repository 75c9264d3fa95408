"""Messages between the gateway's processes, in whatever pieces they come."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.messages import (
    MOST_BYTES,
    Applied,
    Apply,
    Ask,
    Figures,
    Frames,
    Leave,
    MessageError,
    Ready,
    Report,
    ToParent,
    frame,
    read_from_parent,
    read_to_parent,
)

SAID: list[ToParent] = [
    Ready(),
    Applied(3),
    Report(1, 2, {"chat": Figures({"served": 2**40, "hold": 0.5}, {"held": 0})}),
    Ask(7, "/metrics"),
]


@given(st.lists(st.integers(0, 200), max_size=20))
def test_messages_are_whole_whatever_pieces_they_come_in(cuts: list[int]) -> None:
    data = b"".join(map(frame, SAID))
    frames = Frames()
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [one for begin, end in itertools.pairwise(ends) for one in frames.feed(data[begin:end])]
    assert [read_to_parent(one) for one in found] == SAID


def test_whole_numbers_stay_whole() -> None:
    [data] = Frames().feed(frame(SAID[2]))
    report = read_to_parent(data)
    assert isinstance(report, Report)
    assert [type(value) for value in report.figures["chat"].counters.values()] == [int, float]


def test_the_parent_is_understood() -> None:
    for message in (Apply(2, b"{}"), Leave(is_last=True)):
        [data] = Frames().feed(frame(message))
        assert read_from_parent(data) == message


def test_nonsense_and_what_would_grow_without_end_is_refused() -> None:
    with pytest.raises(MessageError, match="has no meaning"):
        read_to_parent(b"\xc1")
    with pytest.raises(MessageError, match="is longer than"):
        Frames().feed((MOST_BYTES + 1).to_bytes(4, "big"))
