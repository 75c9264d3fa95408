"""How fast the number may follow demand: up at once, down by delay and rate, in a panic never down. Pure.

Shapes demand only; floors are exact and never pass through here. Going down, demand must have been lower for the
whole delay, and then the number falls to the most that was asked for in that time, at most by the rate; the next step
needs another delay. From one nothing here leads to zero: that is said elsewhere.
"""

from math import ceil

import msgspec

from autoscaler.decision import Memory
from autoscaler.demand import Need
from autoscaler.words import spell
from zerogate.policy import Policy


class Shaped(msgspec.Struct, frozen=True, kw_only=True):
    """Demand after delays and rates, and what the next decision must know."""

    replicas: int
    low_since_s: float | None = None
    low_peak: int = 0
    panic_at_s: float | None = None
    held_back: str | None = None
    """Why it is not lower, as a sentence."""
    revisit_at_s: float | None = None
    """When it may go lower."""
    next_change: str | None = None


def shape(policy: Policy, need: Need, memory: Memory, *, current: int, is_settled: bool, now_s: float) -> Shaped:
    """The number that demand gets at `now_s`. `current`: replicas starting or ready."""
    if need.stable is None:
        is_kept = need.now < memory.shaped
        return Shaped(
            replicas=max(memory.shaped, need.now),
            panic_at_s=memory.panic_at_s,
            held_back="traffic is not known, and unknown is not zero" if is_kept else None,
        )
    panic_at_s = _panic_at_s(policy, need, memory, current=current, now_s=now_s)
    wanted = max(need.stable, need.now)
    if panic_at_s is not None:
        wanted = max(wanted, need.panic)
    wanted = max(wanted, min(memory.shaped, 1))
    if wanted >= memory.shaped:
        return Shaped(replicas=wanted, panic_at_s=panic_at_s)
    if not is_settled:
        held_back = "nobody was heard for a while, so nothing is lowered until every proxy has reported again"
        return Shaped(replicas=memory.shaped, panic_at_s=panic_at_s, held_back=held_back)
    if panic_at_s is not None:
        end_s = panic_at_s + policy.stable_window_s
        return Shaped(
            replicas=memory.shaped,
            panic_at_s=panic_at_s,
            held_back=f"a burst came lately (panic window): nothing is lowered for {spell(end_s - now_s)}",
            revisit_at_s=end_s,
        )
    return _lower(policy, wanted, memory, now_s)


def _panic_at_s(policy: Policy, need: Need, memory: Memory, *, current: int, now_s: float) -> float | None:
    """When the panic began to be over: now while it lasts, None once a stable window passed without one.

    Replicas that are starting count as capacity: a burst that they will carry is not a second panic.
    """
    if need.panic >= policy.panic_threshold_ratio * max(1, current):
        return now_s
    if memory.panic_at_s is not None and now_s - memory.panic_at_s < policy.stable_window_s:
        return memory.panic_at_s
    return None


def _lower(policy: Policy, wanted: int, memory: Memory, now_s: float) -> Shaped:
    low_since_s = now_s if memory.low_since_s is None else memory.low_since_s
    low_peak = wanted if memory.low_since_s is None else max(memory.low_peak, wanted)
    delay_s = policy.scale_down_delay_s
    if delay_s <= 0.0:
        return Shaped(replicas=wanted)
    due_s = low_since_s + delay_s
    if now_s < due_s:
        step = max(low_peak, _one_step(memory.shaped, policy.scale_down_rate))
        return Shaped(
            replicas=memory.shaped,
            low_since_s=low_since_s,
            low_peak=low_peak,
            held_back=f"demand is {wanted} since {spell(now_s - low_since_s)}; scale-down-delay is {spell(delay_s)}",
            revisit_at_s=due_s,
            next_change=f"to {step} in {spell(due_s - now_s)} (scale-down-delay)",
        )
    replicas = max(low_peak, _one_step(memory.shaped, policy.scale_down_rate))
    if replicas <= wanted:
        return Shaped(replicas=wanted)
    further = max(wanted, _one_step(replicas, policy.scale_down_rate))
    return Shaped(
        replicas=replicas,
        low_since_s=now_s,
        low_peak=wanted,
        held_back=f"demand is {wanted}, but the number falls at most by the factor {policy.scale_down_rate:g} "
        f"per {spell(delay_s)}",
        revisit_at_s=now_s + delay_s,
        next_change=f"to {further} in {spell(delay_s)} (scale-down-rate)",
    )


def _one_step(replicas: int, rate: float) -> int:
    return max(0, min(replicas - 1, ceil(replicas / rate))) if rate > 1.0 else replicas - 1
