"""When a window of a calendar opens and closes, in UTC seconds. Pure: the instant is an argument.

Calendars are written in local time, and twice a year local time is not a line. The rules, in one place (`instant_of`):
a local time that a spring gap skips means the first valid instant after the gap; one that an autumn fold gives twice
means the first. Where nothing of a window would be left (both ends in one gap), it keeps its real length from the
gap's end. Both rules keep the order of local times, so the openings of one window are sorted by start *and* by end:
the latest one that began decides whether the window is open. `zerogate.schedule` relies on that.

A further form of window (dates, cron until cron) is a further Struct here with its two searches.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim

_LOOK_DAYS: Final = 10
"""A weekly window opens in any eight days; two more for a day that a zone skipped when it crossed the date line."""
_NEVER_IS_AFTER: Final = datetime(1990, 1, 1, tzinfo=UTC)
"""From here 50 years are searched for any date of a cron expression: all patterns of leap days occur in them."""


class Opening(msgspec.Struct, frozen=True):
    """One time that a window is open: from `start_wall_s` up to, not including, `end_wall_s` (UTC seconds)."""

    start_wall_s: float
    end_wall_s: float


class Weekly(msgspec.Struct, frozen=True, tag="weekly"):
    """On these days of the week from `start_minute` to `end_minute` of local time; past 1440 it ends the next day."""

    days: tuple[int, ...]
    """Monday is 0; sorted, at least one."""
    start_minute: int
    end_minute: int


class Cron(msgspec.Struct, frozen=True, tag="cron"):
    """From each time that the five-field expression names, for a real length."""

    expression: str
    length_s: float


When = Weekly | Cron


def last_opening(when: When, zone: ZoneInfo, wall_s: float) -> Opening | None:
    """The latest opening that began at or before `wall_s`; None where there was none within reach."""
    backwards = _weekly(when, zone, wall_s, step=-1) if isinstance(when, Weekly) else _cron_before(when, zone, wall_s)
    return next((opening for opening in backwards if opening.start_wall_s <= wall_s), None)


def next_opening(when: When, zone: ZoneInfo, wall_s: float) -> Opening | None:
    """The first opening that begins after `wall_s`; None where none comes within 50 years."""
    forwards = _weekly(when, zone, wall_s, step=1) if isinstance(when, Weekly) else _cron_after(when, zone, wall_s)
    return next((opening for opening in forwards if opening.start_wall_s > wall_s), None)


def opens_ever(cron: Cron) -> bool:
    """Whether the expression names any date at all: the 30th of February does not."""
    return next(CronSim(cron.expression, _NEVER_IS_AFTER), None) is not None


def instant_of(local: datetime, zone: ZoneInfo) -> float:
    """UTC seconds of a naive local time, by the rules above."""
    before, after = (_offset_s(local.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    naive_s = local.replace(tzinfo=UTC).timestamp()
    if before >= after:
        return naive_s - before
    return float(_gap_end(zone, int(naive_s - after), int(naive_s - before) + 1, before))


@lru_cache(maxsize=1024)
def _gap_end(zone: ZoneInfo, low: int, high: int, offset_before: float) -> int:
    """The first second in (low, high] at which the zone has left `offset_before`: the clocks are put forward there."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high) if _offset_s(datetime.fromtimestamp(middle, zone)) == offset_before else (low, middle)
        )
    return high


def _offset_s(aware: datetime) -> float:
    offset = aware.utcoffset()
    assert offset is not None  # a ZoneInfo always knows
    return offset.total_seconds()


def _local(wall_s: float, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(wall_s, zone)


def _weekly(weekly: Weekly, zone: ZoneInfo, wall_s: float, *, step: int) -> Iterator[Opening]:
    """Openings around an instant: forwards from two days before, or backwards from two days after."""
    first = _local(wall_s, zone).date() - timedelta(days=2 * step)
    for distance in range(_LOOK_DAYS + 2):
        day = first + timedelta(days=distance * step)
        if day.weekday() in weekly.days:
            yield _weekly_on(weekly, zone, day)


def _weekly_on(weekly: Weekly, zone: ZoneInfo, day: date) -> Opening:
    midnight = datetime.combine(day, time())
    start = instant_of(midnight + timedelta(minutes=weekly.start_minute), zone)
    end = instant_of(midnight + timedelta(minutes=weekly.end_minute), zone)
    if end <= start:
        end = start + (weekly.end_minute - weekly.start_minute) * 60
    return Opening(start, end)


def _cron_before(cron: Cron, zone: ZoneInfo, wall_s: float) -> Iterator[Opening]:
    """Backwards from the latest local time that `wall_s` can have seen: in a fold's second pass that lies ahead."""
    local = _local(wall_s, zone)
    lost_s = _offset_s(local.replace(fold=0)) - _offset_s(local.replace(fold=1))
    seen = local.replace(tzinfo=None, microsecond=0, fold=0) + timedelta(seconds=max(lost_s, 0) + 1)
    return _openings(cron, zone, CronSim(cron.expression, seen, reverse=True))


def _cron_after(cron: Cron, zone: ZoneInfo, wall_s: float) -> Iterator[Opening]:
    seen = _local(wall_s, zone).replace(tzinfo=None, microsecond=0, fold=0)
    return _openings(cron, zone, CronSim(cron.expression, seen))


def _openings(cron: Cron, zone: ZoneInfo, starts: Iterator[datetime]) -> Iterator[Opening]:
    for local in starts:
        start = instant_of(local, zone)
        yield Opening(start, start + cron.length_s)
