"""The least and the most that somebody asks for, whatever the demand: minimum, calendar, activation, maximum, pin.

Pure. Floors are exact and immediate in both directions; the largest wins, and so does the smallest ceiling. A pin is
both at once: a person has the last word, above the maximum too, and it expires by the wall clock.
"""

from typing import Final

import msgspec

from autoscaler.decision import Ask, Candidate, Observation
from autoscaler.words import count, spell
from zerogate.policy import Policy
from zerogate.schedule import Standing, Window, floor_at

CALENDAR_CHECK_S: Final = 60.0
"""Wall time may be set, and a suspended machine's monotonic clock stands still: never sleep longer on it than this."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds the demand at one instant."""

    floors: tuple[Candidate, ...]
    """Those above zero, in the order in which they win a tie."""
    ceiling: Candidate
    """The smallest."""
    pin: Candidate | None = None
    next_change_in_s: float | None = None
    """Until a calendar or a pin changes it."""
    next_change: str | None = None

    @property
    def floor(self) -> Candidate | None:
        """The largest floor; None where nothing is asked for."""
        return max(self.floors, key=lambda floor: floor.replicas, default=None)


def bounds(policy: Policy, observation: Observation) -> Bounds:
    """Floors and ceilings that hold at the observation."""
    floors: list[Candidate] = []
    ceiling = Candidate(Ask.MAXIMUM, policy.max_replicas, f"max-replicas is {policy.max_replicas}")
    if policy.min_replicas > 0:
        floors.append(Candidate(Ask.MINIMUM, policy.min_replicas, f"min-replicas is {policy.min_replicas}"))
    changes: list[tuple[float, str]] = []
    standing = _standing(policy.schedule, observation.wall_s, observation.replicas.boot_time_s or 0.0)
    if standing is not None:
        if standing.floor > 0:
            why = f"the calendar asks for {standing.floor}: {standing.floor_text}"
            floors.append(Candidate(Ask.SCHEDULE, standing.floor, why))
        if standing.ceiling is not None and standing.ceiling < ceiling.replicas:
            why = f"the calendar allows {standing.ceiling}: {standing.ceiling_text}"
            ceiling = Candidate(Ask.MAXIMUM, standing.ceiling, why)
        if standing.next_change_wall_s is not None:
            changes.append((standing.next_change_wall_s - observation.wall_s, "the calendar changes"))
    activation = _activation(observation)
    if activation is not None:
        floors.append(activation)
    pin = _pin(observation)
    if pin is not None and observation.pin is not None and observation.pin.until_wall_s is not None:
        changes.append((observation.pin.until_wall_s - observation.wall_s, "the pin ends"))
    soonest = min(changes, default=None)
    return Bounds(
        floors=tuple(floors),
        ceiling=ceiling,
        pin=pin,
        next_change_in_s=None if soonest is None else max(soonest[0], 0.0),
        next_change=None if soonest is None else f"{soonest[1]} in {spell(soonest[0])}",
    )


def _standing(windows: tuple[Window, ...], wall_s: float, lead_s: float) -> Standing | None:
    """The one place that asks the calendar; None where the service has none."""
    return floor_at(windows, wall_s, lead_s=lead_s) if windows else None


def _activation(observation: Observation) -> Candidate | None:
    traffic = observation.traffic
    if traffic.held:
        return Candidate(Ask.ACTIVATION, 1, f"{count(traffic.held, 'held request')} must be served")
    if traffic.in_flight:
        return Candidate(Ask.ACTIVATION, 1, f"{count(traffic.in_flight, 'request')} running")
    return None


def _pin(observation: Observation) -> Candidate | None:
    pin = observation.pin
    if pin is None or (pin.until_wall_s is not None and pin.until_wall_s <= observation.wall_s):
        return None
    until = "" if pin.until_wall_s is None else f" for another {spell(pin.until_wall_s - observation.wall_s)}"
    return Candidate(Ask.PIN, pin.replicas, f"somebody pinned it to {pin.replicas}{until}")
