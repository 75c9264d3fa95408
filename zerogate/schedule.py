"""Calendars: floors and ceilings by the wall clock. Pure: `wall_s` (UTC seconds since 1970) is an argument.

Level-triggered: `floor_at` says what holds at an instant, whatever was known before, so a change that fell into a
time when nobody ran applies on return. Where windows overlap, the largest floor and the smallest ceiling hold. A
window's capacity shall be *ready* when it opens, so floors come `lead_s` early (the service's measured p95 cold
start); ceilings do not. The decision calls this; `transitions` is behind `zerogate plan`. Texts are parsed by
`zerogate.schedule_text`, local time is turned into instants by `zerogate.openings`.
"""

from collections.abc import Sequence
from datetime import datetime
from math import ceil
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from zerogate.openings import When, last_opening, next_opening
from zerogate.quantities import format_duration

_MOST_BOUNDARIES: Final = 1000
"""Boundaries that one list of transitions looks at: windows that never change anything must not search for ever."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a schedule: while it is open in its zone, at least `floor` replicas and at most `ceiling`."""

    text: str
    """As the user wrote it, for explanations."""
    when: When
    zone: str
    """IANA name that exists."""
    floor: int
    ceiling: int | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a schedule asks for at one instant."""

    floor: int = 0
    ceiling: int | None = None
    floor_text: str | None = None
    """The window that gives the floor; None where no window is open."""
    ceiling_text: str | None = None
    next_change_wall_s: float | None = None
    """The answer stays as it is until then (a window opens or closes there); None: it stays for good."""


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a schedule's standing."""

    wall_s: float
    local: str
    """The instant in the zone of the window that brings it: `Mon 2026-03-09 08:00:00 CST`."""
    floor: int
    ceiling: int | None
    why: str
    """Which windows open and close there."""


def floor_at(windows: Sequence[Window], wall_s: float, *, lead_s: float = 0.0) -> Standing:
    """What the windows ask for at `wall_s`, and until when that stands. The lead is rounded up to whole seconds."""
    lead_s = _whole(lead_s)
    floors = [window for window in windows if _is_open(window, wall_s, lead_s)]
    ceilings = [window for window in windows if window.ceiling is not None and _is_open(window, wall_s, 0.0)]
    top = max(floors, key=lambda window: window.floor, default=None)
    lid = min(ceilings, key=lambda window: window.ceiling or 0, default=None)
    return Standing(
        floor=top.floor if top else 0,
        ceiling=lid.ceiling if lid else None,
        floor_text=top.text if top else None,
        ceiling_text=lid.text if lid else None,
        next_change_wall_s=min(_boundaries(windows, wall_s, lead_s), default=None),
    )


def transitions(windows: Sequence[Window], wall_s: float, count: int, *, lead_s: float = 0.0) -> tuple[Transition, ...]:
    """The next `count` changes of floor or ceiling after `wall_s`, fewer where the calendar has no more in reach."""
    found: list[Transition] = []
    lead_s = _whole(lead_s)
    before, before_s = floor_at(windows, wall_s, lead_s=lead_s), wall_s
    for _ in range(_MOST_BOUNDARIES):
        at_s = before.next_change_wall_s
        if at_s is None or len(found) >= count:
            break
        after = floor_at(windows, at_s, lead_s=lead_s)
        if (after.floor, after.ceiling) != (before.floor, before.ceiling):
            found.append(_transition(windows, at_s, before_s, after, lead_s))
        before, before_s = after, at_s
    return tuple(found)


def _whole(lead_s: float) -> float:
    """Whole seconds, as openings are: `start - lead + lead` must be `start` again."""
    return float(ceil(lead_s))


def _is_open(window: Window, wall_s: float, lead_s: float) -> bool:
    opening = last_opening(window.when, ZoneInfo(window.zone), wall_s + lead_s)
    return opening is not None and wall_s < opening.end_wall_s


def _boundaries(windows: Sequence[Window], wall_s: float, lead_s: float) -> list[float]:
    """The next instant at which each window may open or close: for floors with the lead, for ceilings without."""
    found: list[float] = []
    for window in windows:
        zone = ZoneInfo(window.zone)
        for lead in (lead_s, 0.0) if lead_s and window.ceiling is not None else (lead_s,):
            last = last_opening(window.when, zone, wall_s + lead)
            following = next_opening(window.when, zone, wall_s + lead)
            if last is not None and last.end_wall_s > wall_s:
                found.append(last.end_wall_s)
            if following is not None:
                found.append(following.start_wall_s - lead)
    return found


def _transition(windows: Sequence[Window], at_s: float, before_s: float, after: Standing, lead_s: float) -> Transition:
    reasons: list[tuple[Window, str]] = []
    for window in windows:
        for lead in (lead_s, 0.0) if lead_s and window.ceiling is not None else (lead_s,):
            was, is_now = _is_open(window, before_s, lead), _is_open(window, at_s, lead)
            early = f" {format_duration(lead)} early" if lead else ""
            if was != is_now:
                reasons.append((window, f"{window.text} {f'opens{early}' if is_now else 'closes'}"))
    zone = reasons[0][0].zone if reasons else "UTC"
    local = datetime.fromtimestamp(at_s, ZoneInfo(zone))
    return Transition(
        wall_s=at_s,
        local=local.strftime("%a %Y-%m-%d %H:%M:%S %Z"),
        floor=after.floor,
        ceiling=after.ceiling,
        why="; ".join(dict.fromkeys(text for _, text in reasons)),
    )
