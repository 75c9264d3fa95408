"""One decision about one service: how many replicas, why, and what would change it. Pure.

The order is fixed: demand, its rates, floors and ceilings, (GPU memory: what fits, what must not shrink; it enters
between the ceilings and the merge), and the merge, which alone may say zero. Zero is written at once from any number,
but only on fresh reports, with nothing held or running, no replica starting, and after the idle timeout since the
last byte or the last readiness: loading is activity. That much quiet also ends a panic.

Invariants: the same arguments give the same decision; floors only raise; the number exceeds the ceiling for a pin
alone; what is unknown lowers nothing that a ceiling allows; `revisit_at_s` lies in the future. Called by
`autoscaler.loop` and by replays.
"""

from typing import Final

import msgspec

from autoscaler.decision import Ask, Candidate, Decision, Memory, Observation, Replicas
from autoscaler.demand import Need, need
from autoscaler.floors import CALENDAR_CHECK_S, Bounds, bounds
from autoscaler.shape import Shaped, shape
from autoscaler.words import count, spell
from zerogate.policy import Policy

_UNKNOWN_CHECK_S: Final = 5.0
"""A heartbeat's length: sooner nothing can have been heard that would change an unknown."""
_UNMETERED_CHECK_S: Final = 30.0
"""Mostly a pod that comes or goes changes it, and is told; a sidecar that begins to report is not."""
_FADING_CHECKS: Final = 10
"""Where nothing reports any more, the mean fades over the stable window: so many looks at it are enough."""
_WATCH_S: Final = 15.0
"""A service in use is reported every second; where nothing came for so long, its sources have fallen silent."""
_SOONEST_S: Final = 0.001
"""The event loop's resolution: nothing is revisited sooner."""


class _Change(msgspec.Struct, frozen=True):
    """Something that will be different at `at_s`; without a text it is only a reason to look again."""

    at_s: float
    text: str | None = None


class _Zero(msgspec.Struct, frozen=True, kw_only=True):
    """Whether traffic lets the service end at zero, and why or why not."""

    is_allowed: bool
    why: str
    change: _Change | None = None


class _Voice(msgspec.Struct, frozen=True, kw_only=True):
    """A number that may be the one, with what kept it from being lower and what comes next."""

    candidate: Candidate
    held_back: str | None = None
    changes: tuple[_Change, ...] = ()


def begin(now_s: float, *, current: int) -> Memory:
    """The memory of a service met with `current` replicas: they are what was granted until something says less."""
    return Memory(since_s=now_s, granted=current, shaped=current)


def decide(policy: Policy, observation: Observation, memory: Memory, now_s: float) -> tuple[Decision, Memory]:
    """The replicas that the service should have at `now_s`, and what to remember for the next decision."""
    replicas = observation.replicas
    current = replicas.starting + replicas.ready
    wanted = need(policy, observation.traffic, replicas)
    is_settled = observation.traffic.is_settled
    shaped = shape(policy, wanted, memory, current=current, is_settled=is_settled, now_s=now_s)
    limits = bounds(policy, observation)
    zero = _zero(policy, observation, memory, now_s)
    fading_s = now_s + policy.stable_window_s / _FADING_CHECKS
    demand = _demand(shaped, wanted, zero, observation, memory, fading_s=fading_s, watch_s=now_s + _WATCH_S)
    merged = _merge(demand, limits, memory, is_known=is_settled and wanted.stable is not None, now_s=now_s)
    suspended, tries = _suspended(observation, merged.candidate.replicas - current, now_s)
    revisit_at_s, next_change = _next((*merged.changes, *tries), limits, now_s)
    decision = Decision(
        service=observation.service,
        wall_s=observation.wall_s,
        current=current,
        desired=merged.candidate.replicas,
        winner=merged.candidate.ask,
        why=merged.candidate.why,
        candidates=(demand.candidate, *limits.floors, limits.ceiling, *((limits.pin,) if limits.pin else ())),
        held_back=suspended or merged.held_back,
        revisit_at_s=revisit_at_s,
        next_change=next_change,
    )
    return decision, Memory(
        since_s=memory.since_s,
        granted=decision.desired,
        shaped=min(shaped.replicas if demand.candidate.replicas else 0, limits.ceiling.replicas),
        low_since_s=shaped.low_since_s,
        low_peak=shaped.low_peak,
        panic_at_s=shaped.panic_at_s if demand.candidate.replicas else None,
    )


def _zero(policy: Policy, observation: Observation, memory: Memory, now_s: float) -> _Zero:
    """Whether nothing stands against zero. The idle clock starts at the last byte, the last readiness or the first
    look at the service, whichever is latest.
    """
    traffic, replicas = observation.traffic, observation.replicas
    if traffic.held or traffic.in_flight:
        return _Zero(is_allowed=False, why="requests are held or running")
    if replicas.starting > replicas.overdue:
        return _Zero(is_allowed=False, why="a replica is starting; the idle clock begins when it is ready")
    again = _Change(now_s + _UNKNOWN_CHECK_S)
    if observation.is_behind:
        why = "the cluster has not shown yet all that runs of it, and unknown is not zero"
        return _Zero(is_allowed=False, why=why, change=again)
    if traffic.mean_running_stable is None or not traffic.is_settled:
        return _Zero(is_allowed=False, why="no proxy was heard for long enough, and unknown is not zero", change=again)
    if not traffic.is_fresh:
        return _Zero(is_allowed=False, why="a proxy fell silent, and unknown is not zero", change=again)
    if observation.unmetered:
        later = _Change(now_s + _UNMETERED_CHECK_S)
        return _Zero(is_allowed=False, why=f"requests may come uncounted: {observation.unmetered}", change=later)
    quiet_since_s = max(memory.since_s, replicas.last_ready_at_s or memory.since_s)
    if traffic.since_byte_s is not None:
        quiet_since_s = max(quiet_since_s, now_s - traffic.since_byte_s)
    quiet_s, timeout_s = now_s - quiet_since_s, policy.idle_timeout_s
    why = f"quiet for {spell(quiet_s)}; idle-timeout is {spell(timeout_s)}"
    if quiet_s >= timeout_s:
        return _Zero(is_allowed=True, why=why)
    text = f"to 0 in {spell(timeout_s - quiet_s)} (idle-timeout)"
    return _Zero(is_allowed=False, why=why, change=_Change(quiet_since_s + timeout_s, text))


def _demand(
    shaped: Shaped,
    wanted: Need,
    zero: _Zero,
    observation: Observation,
    memory: Memory,
    *,
    fading_s: float,
    watch_s: float,
) -> _Voice:
    """What traffic asks for in the end. What is over never wakes a service: from zero only a request does."""
    traffic, replicas_now = observation.traffic, observation.replicas
    is_active = bool(traffic.held or traffic.in_flight)
    # the idle timeout keeps what runs; where all of it has died, or never came up, there is nothing to keep. What is
    # only not ready may come back: a whole node's pods are called so when nobody has heard of it for 40 s
    none_starts = replicas_now.starting <= replicas_now.overdue
    is_known = traffic.is_fresh and traffic.is_settled and not observation.is_behind
    is_gone = none_starts and not replicas_now.ready and not replicas_now.draining and is_known
    if not is_active and (memory.granted == 0 or is_gone):
        return _Voice(candidate=Candidate(Ask.IDLE, 0, _why_nothing(replicas_now)))
    if zero.is_allowed:
        return _Voice(candidate=Candidate(Ask.IDLE, 0, zero.why))
    changes: tuple[_Change, ...] = () if zero.change is None else (zero.change,)
    if shaped.revisit_at_s is not None:
        changes = (_Change(shaped.revisit_at_s, shaped.next_change), *changes)
    elif shaped.replicas > 1 and not is_active:
        changes = (_Change(fading_s), *changes)
    if is_active:
        changes = (_Change(watch_s), *changes)
    replicas = max(shaped.replicas, 1)
    if is_active and shaped.held_back is None:
        return _Voice(candidate=Candidate(Ask.DEMAND, replicas, wanted.why), held_back=None, changes=changes)
    why = shaped.held_back or zero.why
    return _Voice(candidate=Candidate(Ask.HOLDING, replicas, why), held_back=why, changes=changes)


def _why_nothing(replicas: Replicas) -> str:
    if replicas.overdue:
        return f"nothing is held, and {count(replicas.overdue, 'replica')} did not get ready within start-timeout"
    return "nothing is running and nothing is held"


def _merge(demand: _Voice, limits: Bounds, memory: Memory, *, is_known: bool, now_s: float) -> _Voice:
    """clamp(max(demand, floors), ceiling), a pin instead of all, and nothing lower on what is not known."""
    if limits.pin is not None:
        return _Voice(candidate=limits.pin)
    merged, floor, ceiling = demand, limits.floor, limits.ceiling
    if floor is not None and floor.replicas > demand.candidate.replicas:
        merged = _Voice(candidate=floor, changes=tuple(_Change(change.at_s) for change in demand.changes))
    if merged.candidate.replicas < memory.granted and not is_known:
        why = "it stays as it is: what traffic there is, is not known, and unknown is not zero"
        kept = Candidate(Ask.HOLDING, memory.granted, why)
        merged = _Voice(candidate=kept, held_back=why, changes=(_Change(now_s + _UNKNOWN_CHECK_S),))
    if merged.candidate.replicas > ceiling.replicas:
        asked = merged.candidate
        held_back = f"{ceiling.why}, and {asked.replicas} were asked for ({asked.ask.value}: {asked.why})"
        return _Voice(candidate=ceiling, held_back=held_back, changes=merged.changes)
    return merged


def _suspended(observation: Observation, missing: int, now_s: float) -> tuple[str | None, tuple[_Change, ...]]:
    """What a back-off keeps from being started: the number wanted stays, only its effect waits."""
    next_try_at_s = observation.replicas.next_try_at_s
    if missing <= 0 or next_try_at_s is None or next_try_at_s <= now_s:
        return None, ()
    wait = spell(next_try_at_s - now_s)
    text = f"starts failed repeatedly and are suspended; the next try is in {wait}"
    return text, (_Change(next_try_at_s, f"another start in {wait}"),)


def _next(changes: tuple[_Change, ...], limits: Bounds, now_s: float) -> tuple[float | None, str | None]:
    """(when to decide again, what comes next): the soonest of each."""
    soonest_s: float | None = None
    if limits.next_change_in_s is not None:
        changes = (*changes, _Change(now_s + limits.next_change_in_s, limits.next_change))
        soonest_s = now_s + CALENDAR_CHECK_S
    for change in changes:
        soonest_s = change.at_s if soonest_s is None else min(soonest_s, change.at_s)
    told = [change for change in changes if change.text is not None]
    text = min(told, key=lambda change: change.at_s).text if told else None
    return None if soonest_s is None else max(soonest_s, now_s + _SOONEST_S), text
