"""How many replicas the traffic itself calls for, before any delay, floor or bound. Pure.

Held requests are work to do once, not concurrency that lasts: 600 of them, 2 s each, are 1200 s of work, and spread
over a boot of 120 s they need 10 places, not 600. Requests that run may be that very backlog being worked off, so
they are not added to it but compared. Nothing here counts replicas: one that is starting is neither missing nor asked
for twice, because the number wanted is a total.
"""

from math import ceil
from typing import Final

import msgspec

from autoscaler.decision import Replicas, Traffic
from autoscaler.words import count, quantity, spell
from zerogate.policy import Policy

_SLACK: Final = 0.01
"""Replicas: a mean of 8.08 at target 8 is one replica. Reports come up to some milliseconds later than they were read,
so one request that runs all the time measures as 1.00002 over a minute and 1.005 over two seconds, and a steady load
right at its target would be given another replica and lose it again, for ever. What runs now is counted exactly."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What traffic calls for, in replicas."""

    stable: int | None
    """By the stable window; None where that is not known."""
    panic: int
    """By the panic window; 0 where that is not known."""
    now: int
    """By what is inside and waiting at this instant: it may raise, never lower."""
    why: str


def need(policy: Policy, traffic: Traffic, replicas: Replicas) -> Need:
    """The replicas that traffic calls for, by each window."""
    if policy.metric == "rps" and policy.target_rps:
        return _by_rate(policy.target_rps, _drain_s(policy, replicas), traffic)
    return _by_concurrency(policy, traffic, replicas)


def _by_concurrency(policy: Policy, traffic: Traffic, replicas: Replicas) -> Need:
    target = policy.target_concurrency
    if policy.concurrency_limit:
        target = min(target, policy.concurrency_limit)
    drain_s = _drain_s(policy, replicas)
    backlog = _backlog(traffic, drain_s)
    stable = _window(
        traffic.mean_running_stable, traffic.arrival_rate_stable, traffic.run_time_s, backlog, policy.stable_window_s
    )
    panic = _window(
        traffic.mean_running_panic, traffic.arrival_rate_panic, traffic.run_time_s, backlog, policy.panic_window_s
    )
    return Need(
        stable=None if stable is None else _replicas(stable, target),
        panic=0 if panic is None else _replicas(panic, target),
        now=_replicas(_instant(traffic, backlog, drain_s), target),
        why=_explain(traffic, target, drain_s),
    )


def _by_rate(target_rps: float, drain_s: float, traffic: Traffic) -> Need:
    backlog_rps = traffic.held / drain_s
    stable, panic = traffic.arrival_rate_stable, traffic.arrival_rate_panic
    backlog = f" and {count(traffic.held, 'held request')} to be gone in {spell(drain_s)}" if traffic.held else ""
    return Need(
        stable=None if stable is None else _replicas(stable + backlog_rps, target_rps),
        panic=0 if panic is None else _replicas(panic + backlog_rps, target_rps),
        now=_replicas(backlog_rps, target_rps),
        why=f"{quantity(stable or 0.0)} requests/s arrive{backlog}, at {quantity(target_rps)}/s per replica",
    )


def _drain_s(policy: Policy, replicas: Replicas) -> float:
    """Seconds over which a backlog may be spread: no sooner than a replica could be there at all."""
    return max(policy.drain_backlog_within_s, replicas.boot_time_s or 0.0, replicas.starting_for_s or 0.0, 1.0)


def _backlog(traffic: Traffic, drain_s: float) -> float:
    """Places that the held requests need. Without a learned run time each needs one; with one, none needs more."""
    if traffic.run_time_s is None:
        return float(traffic.held)
    return traffic.held * traffic.run_time_s / max(drain_s, traffic.run_time_s)


def _window(
    mean_running: float | None, rate: float | None, run_time_s: float | None, backlog: float, window_s: float
) -> float | None:
    """Concurrency by one window. λ · W counts no more requests than arrived in it: a burst is not a rate for ever."""
    if mean_running is None or rate is None:
        return None
    return max(mean_running, rate * min(run_time_s or 0.0, window_s) + backlog)


def _instant(traffic: Traffic, backlog: float, drain_s: float) -> float:
    """Concurrency by what is there now. Those inside that outlast the draining keep their places meanwhile."""
    if not traffic.held:
        return float(traffic.in_flight)
    run_time_s = traffic.run_time_s
    staying = 1.0 if run_time_s is None else run_time_s / max(drain_s, run_time_s)
    return max(float(traffic.in_flight), backlog + traffic.in_flight * staying)


def _replicas(concurrency: float, target: float) -> int:
    return max(0, ceil(concurrency / target - _SLACK)) or int(concurrency > 0.0)


def _explain(traffic: Traffic, target: float, drain_s: float) -> str:
    parts = [f"{traffic.in_flight} running"]
    if traffic.mean_running_stable is not None:
        parts[0] += f" (mean {quantity(traffic.mean_running_stable)})"
    if traffic.arrival_rate_stable and traffic.run_time_s is not None:
        parts.append(f"{quantity(traffic.arrival_rate_stable)}/s arriving for {spell(traffic.run_time_s)} each")
    if traffic.held and traffic.run_time_s is None:
        parts.append(f"{traffic.held} held and none ever ran")
    elif traffic.held:
        parts.append(f"{traffic.held} held, to be worked off in {spell(drain_s)}")
    return f"{', '.join(parts)}; the target is {quantity(target)} per replica"
