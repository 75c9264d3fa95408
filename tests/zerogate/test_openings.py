from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from zerogate.openings import Cron, Opening, Weekly, instant_of, last_opening, next_opening, opens_ever

NEW_YORK = ZoneInfo("America/New_York")
EVERY_DAY = tuple(range(7))


def at(text: str, zone: ZoneInfo, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("zone", "local", "instant"),
    [
        ("America/New_York", "2026-03-08 02:30", "2026-03-08T03:00:00-04:00"),
        ("America/New_York", "2026-03-08 02:00", "2026-03-08T03:00:00-04:00"),
        ("America/New_York", "2026-03-08 01:59", "2026-03-08T01:59:00-05:00"),
        ("America/New_York", "2026-03-08 03:00", "2026-03-08T03:00:00-04:00"),
        ("America/New_York", "2026-11-01 01:30", "2026-11-01T01:30:00-04:00"),
        ("America/New_York", "2026-11-01 02:00", "2026-11-01T02:00:00-05:00"),
        ("Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-04T02:30:00+11:00"),
        ("Pacific/Apia", "2011-12-30 12:00", "2011-12-31T00:00:00+14:00"),
        ("Asia/Kathmandu", "2026-01-01 00:00", "2026-01-01T00:00:00+05:45"),
    ],
)
def test_local_time_becomes_an_instant(zone: str, local: str, instant: str) -> None:
    assert instant_of(datetime.fromisoformat(local), ZoneInfo(zone)) == datetime.fromisoformat(instant).timestamp()


def test_an_opening_that_begins_now_is_the_last_one_and_not_the_next() -> None:
    weekly = Weekly((0,), 480, 540)
    monday = at("2026-06-01 08:00", NEW_YORK)
    assert last_opening(weekly, NEW_YORK, monday) == Opening(monday, monday + 3600)
    assert next_opening(weekly, NEW_YORK, monday) == Opening(monday + 7 * 86400, monday + 7 * 86400 + 3600)


def test_a_cron_opening_seen_in_the_first_pass_of_a_fold_is_remembered_in_the_second() -> None:
    cron = Cron("30 1 * * *", 7200)
    first = at("2026-11-01 01:30", NEW_YORK, fold=0)
    second_pass = at("2026-11-01 01:15", NEW_YORK, fold=1)
    assert last_opening(cron, NEW_YORK, second_pass) == Opening(first, first + 7200)
    following = next_opening(cron, NEW_YORK, second_pass)
    assert following is not None
    assert following.start_wall_s == at("2026-11-02 01:30", NEW_YORK)


def test_a_skipped_day_keeps_the_length_of_its_window() -> None:
    apia = ZoneInfo("Pacific/Apia")
    skipped = last_opening(Weekly((4,), 480, 1080), apia, at("2011-12-31 05:00", apia))
    start = at("2011-12-31 00:00", apia)
    assert skipped == Opening(start, start + 36000)


def test_an_expression_for_leap_days_finds_the_next_one_across_a_century() -> None:
    utc = ZoneInfo("UTC")
    opening = next_opening(Cron("0 0 29 2 *", 86400), utc, at("2097-01-01 00:00", utc))
    assert opening is not None
    assert opening.start_wall_s == at("2104-02-29 00:00", utc)


@pytest.mark.parametrize(("expression", "opens"), [("0 0 29 2 *", True), ("0 0 29 2 */7", True), ("* * * * *", True)])
def test_rare_dates_are_dates(expression: str, opens: bool) -> None:
    assert opens_ever(Cron(expression, 60)) is opens


def test_windows_open_on_every_day_that_is_named() -> None:
    weekly = Weekly(EVERY_DAY, 0, 1440)
    now = at("2026-06-03 12:00", NEW_YORK)
    assert last_opening(weekly, NEW_YORK, now) == Opening(now - 43200, now + 43200)
