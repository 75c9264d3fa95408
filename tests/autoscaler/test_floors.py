"""Floors and ceilings, the calendar's among them."""

from typing import Any

import msgspec
import pytest

from autoscaler import floors
from autoscaler.decide import begin, decide
from autoscaler.decision import Ask, Decision, Observation, Replicas, Traffic
from zerogate.policy import Policy

NOW_S, WALL_S = 500.0, 1_700_000_000.0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A calendar's answer."""

    floor: int = 0
    ceiling: int | None = None
    floor_text: str | None = "Mon-Fri 08:00-18:00 UTC = 2"
    ceiling_text: str | None = "Sat-Sun = 0..1"
    next_change_wall_s: float | None = None


def under(
    monkeypatch: pytest.MonkeyPatch,
    standing: Standing,
    *,
    current: int = 0,
    traffic: Traffic | None = None,
    **more: Any,
) -> Decision:
    monkeypatch.setattr(floors, "_standing", lambda windows, wall_s, lead_s: standing)
    quiet = Traffic(mean_running_stable=0.0, mean_running_panic=0.0, arrival_rate_stable=0.0, arrival_rate_panic=0.0)
    observation = Observation(
        service="chat", wall_s=WALL_S, traffic=traffic or quiet, replicas=Replicas(ready=current, boot_time_s=40.0)
    )
    return decide(Policy(max_replicas=100, **more), observation, begin(0.0, current=current), NOW_S)[0]


@pytest.mark.parametrize(("floor", "current"), [(24, 22), (89, 88), (21, 0)], ids=["V10", "V11", "V12"])
def test_a_calendar_floor_is_exact(monkeypatch: pytest.MonkeyPatch, floor: int, current: int) -> None:
    decision = under(monkeypatch, Standing(floor=floor), current=current)
    assert (decision.desired, decision.winner) == (floor, Ask.SCHEDULE)
    assert "Mon-Fri 08:00-18:00" in decision.why


def test_of_minimum_and_calendar_the_larger_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert under(monkeypatch, Standing(floor=2), min_replicas=3).winner is Ask.MINIMUM
    assert under(monkeypatch, Standing(floor=4), min_replicas=3).winner is Ask.SCHEDULE


def test_a_calendar_ceiling_bounds_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Traffic(
        in_flight=80, mean_running_stable=80.0, mean_running_panic=80.0, arrival_rate_stable=0.0, arrival_rate_panic=0.0
    )
    decision = under(monkeypatch, Standing(ceiling=1), current=3, traffic=busy)
    assert (decision.desired, decision.winner) == (1, Ask.MAXIMUM)
    assert "Sat-Sun" in decision.why


@pytest.mark.parametrize(
    ("in_s", "revisit_s", "text"),
    [
        pytest.param(30.0, 30.0, "the calendar changes in 30s", id="soon"),
        pytest.param(7200.0, 60.0, "the calendar changes in 2h", id="later: the wall clock may be set meanwhile"),
    ],
)
def test_the_next_change_is_told_and_looked_at(
    monkeypatch: pytest.MonkeyPatch, in_s: float, revisit_s: float, text: str
) -> None:
    decision = under(monkeypatch, Standing(floor=2, next_change_wall_s=WALL_S + in_s), current=2)
    assert decision.revisit_at_s == NOW_S + revisit_s
    assert decision.next_change == text


def test_the_calendar_is_asked_with_the_learned_boot_time_as_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(floors, "_standing", lambda windows, wall_s, lead_s: asked.append((wall_s, lead_s)))
    observation = Observation(
        service="chat", wall_s=WALL_S, traffic=Traffic(), replicas=Replicas(boot_time_s=40.0, starting_for_s=900.0)
    )
    floors.bounds(Policy(), observation)
    assert asked == [(WALL_S, 40.0)]
