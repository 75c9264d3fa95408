"""The arithmetic of reports: integrals and counters of one service."""

from hypothesis import given
from hypothesis import strategies as st

from zerogate.meter import Meter
from zerogate.stats import Stat


def read(meter: Meter, now_s: float) -> Stat:
    return meter.read(now_s, service="chat", source="s", incarnation="i")


def test_a_request_counts_for_as_long_as_it_runs_however_rarely_somebody_looks() -> None:
    meter = Meter()
    meter.arrive(10.0)
    meter.enter(10.0)
    meter.leave(10.02, entered_s=10.0)
    stat = read(meter, 500.0)
    assert abs(stat.running_s - 0.02) < 1e-9
    assert (stat.arrivals, stat.completions, stat.in_flight) == (1, 1, 0)
    assert stat.since_byte_s is not None
    assert abs(stat.since_byte_s - 489.98) < 1e-9


def test_held_and_running_are_counted_apart() -> None:
    meter = Meter()
    meter.arrive(0.0)
    meter.hold(0.0)
    meter.unhold(2.0)
    meter.enter(2.0)
    stat = read(meter, 5.0)
    assert (stat.held_s, stat.running_s, stat.held, stat.in_flight) == (2.0, 3.0, 0, 1)


def test_what_was_not_sent_after_all_is_no_completion() -> None:
    meter = Meter()
    meter.enter(0.0)
    meter.withdraw(1.0)
    stat = read(meter, 3.0)
    assert (stat.completions, stat.completed_run_s, stat.in_flight, stat.running_s) == (0, 0.0, 0, 1.0)


def test_a_websocket_that_fell_quiet_is_out_since_its_last_data_frame_and_comes_back_with_the_next() -> None:
    meter = Meter()
    meter.arrive_and_enter(0.0)
    meter.quieten(100.0, entered_s=0.0, last_byte_s=40.0)
    quiet = read(meter, 150.0)
    assert (quiet.in_flight, quiet.running_s, quiet.completed_run_s, quiet.since_byte_s) == (0, 100.0, 100.0, 110.0)
    meter.rouse(200.0)
    meter.leave(210.0, entered_s=200.0)
    stat = read(meter, 210.0)
    assert (stat.in_flight, stat.running_s, stat.completed_run_s, stat.since_byte_s) == (0, 110.0, 110.0, 0.0)


def test_a_websocket_that_falls_quiet_does_not_hide_a_later_byte_of_another_request() -> None:
    meter = Meter()
    meter.arrive_and_enter(0.0)
    meter.arrive(60.0)
    meter.quieten(100.0, entered_s=0.0, last_byte_s=40.0)
    assert read(meter, 100.0).since_byte_s == 40.0


def test_reports_are_numbered() -> None:
    meter = Meter()
    assert [read(meter, 0.0).sequence, read(meter, 0.0).sequence] == [1, 2]


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), max_size=20), st.floats(0, 5))
def test_the_integral_is_the_sum_of_the_lengths(spans: list[tuple[float, float]], look_s: float) -> None:
    meter = Meter()
    events = sorted([(start, 0, start) for start, _ in spans] + [(start + length, 1, start) for start, length in spans])
    for at_s, is_end, start_s in events:
        if is_end:
            meter.leave(at_s, entered_s=start_s)
        else:
            meter.enter(at_s)
    end_s = max((at_s for at_s, _, _ in events), default=0.0) + look_s
    total = sum(length for _, length in spans)
    stat = read(meter, end_s)
    assert abs(stat.running_s - total) < 1e-6
    assert abs(stat.completed_run_s - total) < 1e-6
