"""The grammar of calendars: one line of text to one `Window`. Pure.

    Mon-Fri 08:00-18:00 Asia/Shanghai = 2         days and hours of the week, until the wall clock's end
    Fri,Sat 22:00-02:00 Europe/Berlin = 1..3      across midnight; a floor and a ceiling
    daily 00:00-24:00 UTC = 1
    cron(0 22 * * *) for 4h Europe/Berlin = 1     a start and a real length

What stands left of the last `=` says when, what stands right of it says how many. Forms that are known but not
available yet are told apart from mistakes, so that nobody looks for a typing error. A calendar is refused whole where
it could be read in two ways. Policies are parsed with it; annotations and files share it.
"""

import re
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSimError

from zerogate.errors import DefinitionError, nearest, shown
from zerogate.openings import Cron, Weekly, When, opens_ever
from zerogate.quantities import format_duration, parse_duration
from zerogate.schedule import Window

FORMS: Final = (
    "Write for example 'Mon-Fri 08:00-18:00 Europe/Berlin = 2' or 'cron(0 22 * * *) for 4h UTC = 1'; "
    "0..3 is a floor and a ceiling."
)
MOST_REPLICAS: Final = 10_000
"""No service has more replicas: Kubernetes itself is tested to 5,000 nodes, and a slip of a zero should be seen."""
LONGEST_TEXT: Final = 300

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_WEEKLY: Final = re.compile(rf"(daily|{_DAY}(?:-{_DAY})?(?:,{_DAY}(?:-{_DAY})?)*) +(\S+)-(\S+)(?: +(\S+))?")
_WEEKLY_LIKE: Final = re.compile(rf"(?i)(?:daily|weekdays|weekends|{_DAY}[a-z]*)\b")
_TIME: Final = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])")
_CRON: Final = re.compile(r"cron\(([^()]*)\) +for +(\S+)(?: +(\S+))?")
_COUNT: Final = re.compile(r"([0-9]{1,9})(?:\.\.([0-9]{1,9}))?")
_LATER: Final = (
    (re.compile(r"cron\([^()]*\) +until\b"), "cron until cron"),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "a window by date"),
    (re.compile(r"(?:.*[ ,])?except\b"), "except"),
    (re.compile(r".*\b(?:ramp|lead)\b"), "ramp and lead"),
)
_DASH: Final = re.compile("[\u2010-\u2015\u2212]")
"""What word processors and web pages make of a hyphen; in many fonts nobody sees the difference."""
_NOT_ZONES: Final = ("localtime", "posixrules", "Factory", "posix/", "right/")
_SHORTEST_S: Final = 60.0
_LONGEST_S: Final = 31 * 86400.0


def parse_window(text: str) -> Window:
    """The window that `text` describes. Raises DefinitionError, which says what is allowed."""
    if len(text) > LONGEST_TEXT:
        raise DefinitionError(f"{shown(text)} is longer than {LONGEST_TEXT} characters", hint=FORMS)
    if dash := _DASH.search(text):
        raise DefinitionError(f"{shown(text)} has the dash {dash[0]} where a hyphen belongs", hint="Write - instead.")
    when_text, equals, count_text = text.rpartition("=")
    if not equals:
        raise DefinitionError(f"{shown(text)} does not say how many replicas: no '='", hint=FORMS)
    when_text = when_text.strip()
    _refuse_later(text, when_text, count_text.strip())
    floor, ceiling = _parse_count(text, count_text.strip())
    when, zone = _parse_when(text, when_text)
    return Window(text=text.strip(), when=when, zone=zone, floor=floor, ceiling=ceiling)


def _refuse_later(text: str, when_text: str, count_text: str) -> None:
    later = next((name for pattern, name in _LATER if pattern.match(when_text)), None)
    if count_text == "freeze":
        later = "freeze"
    if later or (not _COUNT.fullmatch(count_text) and re.search(r"\b(?:except|ramp|lead)\b", count_text)):
        raise DefinitionError(
            f"{shown(text)} uses {later or 'except, ramp or lead'}, which is not available in this version",
            hint=f"There are weekly windows, and cron with a length. {FORMS}",
        )


def _parse_count(text: str, count_text: str) -> tuple[int, int | None]:
    match = _COUNT.fullmatch(count_text)
    if not match:
        raise DefinitionError(f"{shown(text)}: {shown(count_text)} is not a number of replicas", hint=FORMS)
    floor, ceiling = int(match[1]), int(match[2]) if match[2] else None
    if max(floor, ceiling or 0) > MOST_REPLICAS:
        raise DefinitionError(f"{shown(text)} asks for more than {MOST_REPLICAS} replicas")
    if ceiling is not None and floor > ceiling:
        raise DefinitionError(f"{shown(text)}: the floor {floor} is above the ceiling {ceiling}")
    return floor, ceiling


def _parse_when(text: str, when_text: str) -> tuple[When, str]:
    if match := _CRON.fullmatch(when_text):
        return _parse_cron(text, match[1], match[2]), _parse_zone(text, match[3])
    if match := _WEEKLY.fullmatch(when_text):
        return _parse_weekly(text, match[1], match[2], match[3]), _parse_zone(text, match[4])
    if _WEEKLY_LIKE.match(when_text):
        hint = f"Days are {', '.join(_DAYS)} or daily; several as Mon-Fri or Mon,Wed; then 08:00-18:00 and the zone."
        raise DefinitionError(f"{shown(text)} is not a weekly window", hint=hint)
    raise DefinitionError(f"{shown(text)} is not a window", hint=FORMS)


def _parse_weekly(text: str, days: str, start: str, end: str) -> Weekly:
    start_minute, end_minute = _parse_time(text, start), _parse_time(text, end)
    if start_minute == 1440:
        raise DefinitionError(f"{shown(text)} begins at 24:00", hint="Write 00:00 of the next day.")
    if start_minute == end_minute:
        raise DefinitionError(
            f"{shown(text)} begins and ends at {start}: that is nothing or a whole day", hint="A day is 00:00-24:00."
        )
    return Weekly(_parse_days(text, days), start_minute, end_minute + (1440 if end_minute < start_minute else 0))


def _parse_days(text: str, days: str) -> tuple[int, ...]:
    if days == "daily":
        return tuple(range(7))
    found: list[int] = []
    for part in days.split(","):
        first, _, last = part.partition("-")
        start, length = _DAYS.index(first), (_DAYS.index(last or first) - _DAYS.index(first)) % 7
        found.extend((start + step) % 7 for step in range(length + 1))
    if len(found) != len(dict.fromkeys(found)):
        raise DefinitionError(f"{shown(text)} names a day twice")
    return tuple(sorted(found))


def _parse_time(text: str, time: str) -> int:
    match = _TIME.fullmatch(time)
    minute = int(match[1]) * 60 + int(match[2]) if match else 1441
    if minute > 1440:
        raise DefinitionError(f"{shown(text)}: {shown(time)} is not a time", hint="Write 08:00, 18:30 or 24:00.")
    return minute


def _parse_cron(text: str, expression: str, length: str) -> Cron:
    fields = " ".join(expression.split())
    try:
        length_s = parse_duration(length)
    except DefinitionError as error:
        raise DefinitionError(f"{shown(text)}: {error.problem}", hint=error.hint) from error
    if not _SHORTEST_S <= length_s <= _LONGEST_S or length_s % 1:
        allowed = f"whole seconds from {format_duration(_SHORTEST_S)} to {format_duration(_LONGEST_S)}"
        raise DefinitionError(f"{shown(text)}: its length {length} is out of range", hint=f"Allowed are {allowed}.")
    if fields.count(" ") != 4:
        hint = "Minute, hour, day of the month, month, day of the week, such as 0 22 * * 1-5."
        raise DefinitionError(f"{shown(text)}: cron({fields}) does not have five fields", hint=hint)
    cron = Cron(fields, length_s)
    try:
        opens = opens_ever(cron)
    except (CronSimError, ValueError, TypeError, AssertionError) as error:
        raise DefinitionError(f"{shown(text)}: cron({fields}) is not valid: {error or 'bad field'}") from error
    if not opens:
        raise DefinitionError(f"{shown(text)}: cron({fields}) names no date that ever comes")
    return cron


def _parse_zone(text: str, zone: str | None) -> str:
    if not zone:
        raise DefinitionError(
            f"{shown(text)} names no time zone", hint="End it with one, such as Europe/Berlin or UTC."
        )
    try:
        if zone.startswith(_NOT_ZONES):
            raise ValueError(zone)
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError) as error:
        # CST is three zones: what is spelled like it among the names is none of them
        near = nearest(zone, sorted(available_timezones())) if "/" in zone or not zone.isupper() else None
        hint = f"Did you mean {near}?" if near else "Write an IANA name, such as Europe/Berlin, Asia/Shanghai or UTC."
        raise DefinitionError(f"{shown(text)}: {shown(zone)} is not a known time zone", hint=hint) from error
    return zone
