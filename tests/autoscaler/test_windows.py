"""Windows: exact sums over any window, bounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.windows import Windows


def test_nothing_was_added_is_zero() -> None:
    assert Windows(60.0).sums(60.0, 1e6) == (0.0, 0.0)


def test_a_short_request_counts_with_its_own_length() -> None:
    windows = Windows(60.0)
    for second in range(0, 60, 10):
        windows.add(second, second + 1.0, running_s=0.02, arrivals=1)
    running_s, arrivals = windows.sums(60.0, 60.0)
    assert running_s == pytest.approx(0.12)
    assert arrivals == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("window_s", "running_s"),
    [pytest.param(10.0, 20.0, id="whole buckets"), pytest.param(2.5, 5.0, id="half a bucket")],
)
def test_a_window_takes_its_share_of_the_oldest_bucket(window_s: float, running_s: float) -> None:
    windows = Windows(60.0)
    windows.add(0.0, 30.0, running_s=60.0, arrivals=0)
    assert windows.sums(window_s, 30.0)[0] == pytest.approx(running_s)


def test_what_is_older_than_the_window_is_gone() -> None:
    windows = Windows(60.0)
    windows.add(0.0, 1.0, running_s=5.0, arrivals=5)
    assert windows.sums(60.0, 61.1) == (0.0, 0.0)
    windows.add(1000.0, 1001.0, running_s=1.0, arrivals=1)
    assert windows.sums(60.0, 1001.0) == (1.0, 1.0)


def test_a_report_over_a_long_silence_leaves_only_its_part_in_the_window() -> None:
    windows = Windows(60.0)
    windows.add(0.0, 6000.0, running_s=12000.0, arrivals=600)
    running_s, arrivals = windows.sums(60.0, 6000.0)
    assert running_s == pytest.approx(120.0)
    assert arrivals == pytest.approx(6.0)


@pytest.mark.parametrize("span_s", [1.0, 60.0, 600.0, 86400.0])
def test_memory_is_bounded_whatever_the_span(span_s: float) -> None:
    windows = Windows(span_s)
    assert windows._size <= 602


def test_another_span_keeps_the_past() -> None:
    windows = Windows(60.0)
    windows.add(0.0, 40.0, running_s=80.0, arrivals=40)
    for span_s in (30.0, 300.0, 3600.0):
        assert windows.resized(span_s).sums(20.0, 40.0)[0] == pytest.approx(40.0, rel=0.2)


PIECES = st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 3.0), st.floats(0.0, 50.0)), max_size=80)


@given(PIECES, st.floats(0.0, 1e6))
def test_what_was_added_within_the_span_is_all_there(pieces: list[tuple[float, float, float]], start_s: float) -> None:
    windows, now_s, total = Windows(400.0), start_s, 0.0
    for wait_s, length_s, amount in pieces:
        now_s += wait_s
        windows.add(max(start_s, now_s - length_s), now_s, running_s=amount, arrivals=1)
        total += amount
    running_s, arrivals = windows.sums(400.0, now_s)
    if now_s - start_s < 399.0:
        assert running_s == pytest.approx(total, rel=1e-6, abs=1e-6)
        assert arrivals == pytest.approx(len(pieces))
    assert running_s <= total * (1 + 1e-9) + 1e-9
