from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import examples
from zerogate.openings import Cron, Weekly
from zerogate.schedule import Standing, Window, floor_at, transitions
from zerogate.schedule_text import parse_window

MINUTE = 60


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def spans(text: str, start: str, count: int) -> list[tuple[str, int]]:
    window = parse_window(text)
    zone = ZoneInfo(window.zone)
    return [
        (datetime.fromtimestamp(change.wall_s, zone).isoformat(), change.floor)
        for change in transitions([window], at(start), count)
    ]


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        pytest.param(
            "daily 02:30-06:00 America/New_York = 1",
            "2026-03-07T00:00:00-05:00",
            [
                ("2026-03-07T02:30:00-05:00", 1),
                ("2026-03-07T06:00:00-05:00", 0),
                ("2026-03-08T03:00:00-04:00", 1),
                ("2026-03-08T06:00:00-04:00", 0),
            ],
            id="V1",
        ),
        pytest.param(
            "daily 22:00-02:30 America/New_York = 1",
            "2026-03-07T12:00:00-05:00",
            [("2026-03-07T22:00:00-05:00", 1), ("2026-03-08T03:00:00-04:00", 0), ("2026-03-08T22:00:00-04:00", 1)],
            id="V2",
        ),
        pytest.param(
            "daily 02:15-02:45 Europe/Berlin = 1",
            "2026-03-28T12:00:00+01:00",
            [("2026-03-29T03:00:00+02:00", 1), ("2026-03-29T03:30:00+02:00", 0), ("2026-03-30T02:15:00+02:00", 1)],
            id="V3",
        ),
        pytest.param(
            "daily 02:30-03:00 Europe/Berlin = 1",
            "2026-03-28T12:00:00+01:00",
            [("2026-03-29T03:00:00+02:00", 1), ("2026-03-29T03:30:00+02:00", 0)],
            id="V3-ends-with-the-gap",
        ),
        pytest.param(
            "daily 01:30-06:00 America/New_York = 1",
            "2026-10-31T12:00:00-04:00",
            [("2026-11-01T01:30:00-04:00", 1), ("2026-11-01T06:00:00-05:00", 0), ("2026-11-02T01:30:00-05:00", 1)],
            id="V4",
        ),
        pytest.param(
            "daily 22:00-01:30 America/New_York = 1",
            "2026-10-31T12:00:00-04:00",
            [("2026-10-31T22:00:00-04:00", 1), ("2026-11-01T01:30:00-04:00", 0), ("2026-11-01T22:00:00-05:00", 1)],
            id="V5",
        ),
        pytest.param(
            "Mon-Fri 08:00-18:00 UTC = 1",
            "2026-06-05T00:00:00+00:00",
            [
                ("2026-06-05T08:00:00+00:00", 1),
                ("2026-06-05T18:00:00+00:00", 0),
                ("2026-06-08T08:00:00+00:00", 1),
                ("2026-06-08T18:00:00+00:00", 0),
            ],
            id="V6",
        ),
        pytest.param(
            "cron(0 0 31 * *) for 24h UTC = 1",
            "2026-04-01T00:00:00+00:00",
            [
                ("2026-05-31T00:00:00+00:00", 1),
                ("2026-06-01T00:00:00+00:00", 0),
                ("2026-07-31T00:00:00+00:00", 1),
            ],
            id="V7-with-a-length",
        ),
        pytest.param(
            "cron(0 0 29 2 *) for 1d UTC = 1",
            "2026-01-01T00:00:00+00:00",
            [("2028-02-29T00:00:00+00:00", 1), ("2028-03-01T00:00:00+00:00", 0), ("2032-02-29T00:00:00+00:00", 1)],
            id="V8-with-a-length",
        ),
        pytest.param(
            "cron(0 22 * * *) for 8h America/New_York = 1",
            "2026-03-07T12:00:00-05:00",
            [("2026-03-07T22:00:00-05:00", 1), ("2026-03-08T07:00:00-04:00", 0)],
            id="cron-keeps-its-real-length-in-spring",
        ),
    ],
)
def test_windows_open_and_close_when_the_rules_say(text: str, start: str, expected: list[tuple[str, int]]) -> None:
    assert spans(text, start, len(expected)) == expected


def test_the_largest_floor_and_the_smallest_ceiling_hold() -> None:
    windows = [
        parse_window("daily 08:00-18:00 UTC = 2..9"),
        parse_window("daily 10:00-12:00 UTC = 5"),
        parse_window("daily 11:00-20:00 UTC = 0..3"),
    ]
    standing = floor_at(windows, at("2026-06-01T11:30:00+00:00"))
    assert (standing.floor, standing.ceiling) == (5, 3)
    assert standing.floor_text == "daily 10:00-12:00 UTC = 5"
    assert standing.ceiling_text == "daily 11:00-20:00 UTC = 0..3"
    assert standing.next_change_wall_s == at("2026-06-01T12:00:00+00:00")


def test_without_windows_nothing_is_asked_for_and_nothing_will_change() -> None:
    assert floor_at([], 0.0) == Standing()
    assert transitions([], 0.0, 20) == ()


def test_a_floor_that_passed_while_nobody_ran_holds_on_return() -> None:
    assert floor_at([parse_window("daily 08:00-18:00 UTC = 2")], at("2026-06-01T17:59:59+00:00")).floor == 2


def test_floors_come_early_by_the_lead_and_ceilings_do_not() -> None:
    windows = [parse_window("daily 08:00-18:00 UTC = 2..4")]
    start = at("2026-06-01T08:00:00+00:00")
    before = floor_at(windows, start - 91, lead_s=89.2)
    early = floor_at(windows, start - 90, lead_s=89.2)
    assert (before.floor, before.ceiling, before.next_change_wall_s) == (0, None, start - 90)
    assert (early.floor, early.ceiling, early.next_change_wall_s) == (2, None, start)
    assert floor_at(windows, start, lead_s=89.2).ceiling == 4
    assert floor_at(windows, start + 36000, lead_s=89.2).floor == 0


def test_transitions_tell_local_time_and_what_opens_or_closes() -> None:
    change, end = transitions(
        [parse_window("daily 08:00-18:00 Asia/Shanghai = 2")], at("2026-06-01T00:00:00+08:00"), 2, lead_s=30
    )
    assert change.local == "Mon 2026-06-01 07:59:30 CST"
    assert change.why == "daily 08:00-18:00 Asia/Shanghai = 2 opens 30s early"
    assert end.why == "daily 08:00-18:00 Asia/Shanghai = 2 closes"


@pytest.mark.parametrize("text", ["daily 00:00-24:00 UTC = 1", "cron(* * * * *) for 5m UTC = 1"])
def test_a_window_that_is_always_open_has_no_transitions_and_an_end_to_the_search(text: str) -> None:
    assert transitions([parse_window(text)], at("2026-06-01T00:00:30+00:00"), 20) == ()


def test_overlapping_openings_of_one_cron_window_are_one() -> None:
    assert spans("cron(0,30 8 * * *) for 45m UTC = 1", "2026-06-01T00:00:00+00:00", 2) == [
        ("2026-06-01T08:00:00+00:00", 1),
        ("2026-06-01T09:15:00+00:00", 0),
    ]


# The same windows, evaluated from the definition: minute after minute, "open from the first minute whose local clock
# shows the start or later, to the first that shows the end or later, and never for less than nothing".

ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia")
CLOCK_CHANGES = {
    "UTC": ("2026-06-01",),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),
    "Asia/Kathmandu": ("2026-06-01",),
    "Pacific/Apia": ("2011-12-31",),
}
DAYS_SEEN = 3


class NaiveClock:
    """Minutes around a date with what the local clock shows at each."""

    def __init__(self, zone: str, day: date) -> None:
        midnight = datetime.combine(day, time(), UTC).timestamp()
        self.minutes = [midnight + MINUTE * step for step in range(-1440 * DAYS_SEEN, 1440 * DAYS_SEEN)]
        self.shown = [datetime.fromtimestamp(wall_s, ZoneInfo(zone)).replace(tzinfo=None) for wall_s in self.minutes]
        self.day = day

    def first_showing(self, local: datetime) -> float | None:
        return next((wall_s for wall_s, shown in zip(self.minutes, self.shown, strict=True) if shown >= local), None)

    def openings(self, window: Window) -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        for distance in range(-DAYS_SEEN + 1, DAYS_SEEN - 1):
            midnight = datetime.combine(self.day + timedelta(days=distance), time())
            for start, end in self._local_spans(window, midnight):
                start_s = self.first_showing(start)
                end_s = self.first_showing(end) if isinstance(end, datetime) else None
                if start_s is None:
                    continue
                length_s = end if isinstance(end, float) else (end - start).total_seconds()
                is_real = isinstance(end, float) or end_s is None or end_s <= start_s
                found.append((start_s, start_s + length_s if is_real or end_s is None else end_s))
        return found

    @staticmethod
    def _local_spans(window: Window, midnight: datetime) -> list[tuple[datetime, datetime | float]]:
        when = window.when
        if isinstance(when, Weekly):
            if midnight.weekday() not in when.days:
                return []
            start, end = (midnight + timedelta(minutes=minute) for minute in (when.start_minute, when.end_minute))
            return [(start, end)]
        minute, hour, *_ = when.expression.split()
        hours = range(24) if hour == "*" else [int(hour)]
        minutes = range(0, 60, 15) if minute == "*/15" else [int(minute)]
        return [(midnight + timedelta(hours=h, minutes=m), when.length_s) for h in hours for m in minutes]


def weekly(zone: str) -> st.SearchStrategy[Window]:
    @st.composite
    def build(draw: st.DrawFn) -> Window:
        days = tuple(sorted(draw(st.sets(st.integers(0, 6), min_size=1))))
        start = draw(st.integers(0, 95)) * 15
        length = draw(st.integers(1, 96)) * 15
        floor = draw(st.integers(0, 3))
        ceiling = draw(st.none() | st.integers(floor, 4))
        return Window(text="w", when=Weekly(days, start, start + length), zone=zone, floor=floor, ceiling=ceiling)

    return build()


def cron(zone: str) -> st.SearchStrategy[Window]:
    minutes = st.sampled_from(["0", "15", "30", "*/15"])
    hours = st.sampled_from(["*", "0", "1", "2", "3", "23"])
    return st.builds(
        lambda minute, hour, length, floor: Window(
            text="c", when=Cron(f"{minute} {hour} * * *", length * 300.0), zone=zone, floor=floor
        ),
        minutes,
        hours,
        st.integers(1, 60),
        st.integers(0, 3),
    )


@st.composite
def calendars(draw: st.DrawFn) -> tuple[NaiveClock, list[Window]]:
    zone = draw(st.sampled_from(ZONES))
    day = date.fromisoformat(draw(st.sampled_from(CLOCK_CHANGES[zone])))
    windows = draw(st.lists(weekly(zone) | cron(zone), min_size=1, max_size=3))
    return NaiveClock(zone, day), windows


def naive_floor(openings: Sequence[list[tuple[float, float]]], windows: Sequence[Window], wall_s: float) -> int:
    open_now = [
        window.floor
        for window, spans in zip(windows, openings, strict=True)
        if any(start <= wall_s < end for start, end in spans)
    ]
    return max(open_now, default=0)


@settings(max_examples=examples(60), deadline=None)
@given(calendars())
def test_the_floor_is_what_counting_minute_by_minute_gives(calendar: tuple[NaiveClock, list[Window]]) -> None:
    clock, windows = calendar
    openings = [clock.openings(window) for window in windows]
    midnight = datetime.combine(clock.day, time(), UTC).timestamp()
    for step in range(-60, 84):
        wall_s = midnight + step * 10 * MINUTE
        assert floor_at(windows, wall_s).floor == naive_floor(openings, windows, wall_s), (step, windows)


@settings(max_examples=examples(60), deadline=None)
@given(calendars(), st.sampled_from([0.0, 30.0, 90.5, 4000.0]))
def test_transitions_agree_with_the_standing_on_both_sides(
    calendar: tuple[NaiveClock, list[Window]], lead_s: float
) -> None:
    clock, windows = calendar
    now_s = datetime.combine(clock.day, time(), UTC).timestamp() - 86400 + 17.3
    standing, last_s = floor_at(windows, now_s, lead_s=lead_s), now_s
    for change in transitions(windows, now_s, 8, lead_s=lead_s):
        assert change.wall_s > last_s
        just_before = floor_at(windows, change.wall_s - 0.001, lead_s=lead_s)
        after = floor_at(windows, change.wall_s, lead_s=lead_s)
        assert (just_before.floor, just_before.ceiling) == (standing.floor, standing.ceiling)
        assert (after.floor, after.ceiling) == (change.floor, change.ceiling)
        assert (after.floor, after.ceiling) != (standing.floor, standing.ceiling)
        assert change.why
        standing, last_s = after, change.wall_s


@settings(max_examples=examples(60), deadline=None)
@given(calendars(), st.floats(0, 1), st.sampled_from([0.0, 45.0]))
def test_nothing_changes_before_the_next_change(
    calendar: tuple[NaiveClock, list[Window]], part: float, lead_s: float
) -> None:
    clock, windows = calendar
    now_s = datetime.combine(clock.day, time(), UTC).timestamp()
    standing = floor_at(windows, now_s, lead_s=lead_s)
    assert standing.next_change_wall_s is not None
    assert standing.next_change_wall_s > now_s
    between_s = now_s + (standing.next_change_wall_s - now_s) * part * 0.999
    between = floor_at(windows, between_s, lead_s=lead_s)
    assert (between.floor, between.ceiling) == (standing.floor, standing.ceiling)
