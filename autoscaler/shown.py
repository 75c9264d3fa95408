"""What the parts keep, as the admin API shows it. Pure."""

from collections.abc import Collection, Sequence
from typing import Literal

from autoscaler.decision import Decision
from autoscaler.journal import Entry
from autoscaler.status import ServiceState
from zerogate.admin import api
from zerogate.runtime.interface import BackOff, Ended, Replica, ReplicaState
from zerogate.schedule import floor_at, transitions

Word = Literal["zero", "starting", "ready", "draining", "suspended", "elsewhere", "doubted"]


def state_word(state: ServiceState | None, doubted: Collection[str]) -> Word:
    """The one word for all replicas: the best that any of them has. None: the service runs elsewhere.

    `doubted`: by id, those that are ready and have stopped answering.
    """
    if state is None:
        return "doubted" if doubted else "elsewhere"
    there = {replica.state for replica in state.replicas}
    if ReplicaState.READY in there:
        ready = {replica.id for replica in state.replicas if replica.state is ReplicaState.READY}
        return "doubted" if ready <= set(doubted) else "ready"
    if ReplicaState.STARTING in there:
        return "starting"
    if state.back_off is not None:
        return "suspended"
    return "draining" if ReplicaState.DRAINING in there else "zero"


def replica_status(replica: Replica, now_s: float, *, in_flight: int, is_doubted: bool) -> api.ReplicaStatus:
    """One replica that is not gone."""
    match replica.state:
        case ReplicaState.READY:
            word: Literal["starting", "ready", "draining", "doubted"] = "doubted" if is_doubted else "ready"
        case ReplicaState.STARTING:
            word = "starting"
        case _:
            word = "draining"
    return api.ReplicaStatus(
        id=replica.id,
        state=word,
        address=str(replica.address),
        age_s=now_s - replica.started_s,
        start_s=replica.ready_s - replica.started_s if replica.ready_s is not None else None,
        in_flight=in_flight,
        pid=replica.pid,
    )


def pin_status(state: ServiceState | None) -> api.PinStatus | None:
    """A person's word, if there is one."""
    if state is None or state.pin is None:
        return None
    return api.PinStatus(replicas=state.pin.replicas, until_at=state.pin.until_wall_s)


def back_off_status(back_off: BackOff, now_s: float) -> api.BackOffStatus:
    """Suspended starts."""
    wait_s = max(0.0, back_off.next_try_s - now_s)
    return api.BackOffStatus(failures=back_off.failures, next_try_s=wait_s, last=ending(back_off.last))


def ending(ended: Ended) -> api.Ending:
    """How a replica ended."""
    return api.Ending(
        cause=ended.cause.value,
        detail=ended.detail,
        exit_code=ended.exit_code,
        last_lines=ended.last_lines,
    )


def decision_view(decision: Decision, now_s: float, *, repeats: int = 0) -> api.DecisionView:
    """A decision."""
    return api.DecisionView(
        at=decision.wall_s,
        current=decision.current,
        desired=decision.desired,
        winner=decision.winner.value,
        why=decision.why,
        candidates=tuple(api.Candidate(one.ask.value, one.replicas, one.why) for one in decision.candidates),
        held_back=decision.held_back,
        next_change=decision.next_change,
        revisit_s=max(0.0, decision.revisit_at_s - now_s) if decision.revisit_at_s is not None else None,
        repeats=repeats,
    )


def explanation(state: ServiceState, entries: Sequence[Entry], now_s: float) -> api.Explanation:
    """The decision that holds, and those before it, newest first. `entries`: of the journal, oldest first."""
    earlier = [decision_view(entry.decision, now_s, repeats=entry.repeats) for entry in reversed(entries)]
    current = decision_view(state.decision, now_s) if state.decision is not None else None
    # the newest change is what holds now, unless it was decided again since: then it is the story behind it
    is_repeated = bool(entries) and entries[-1].repeats > 0
    return api.Explanation(
        service=state.service, decision=current, earlier=tuple(earlier if is_repeated else earlier[1:])
    )


def plan_of(state: ServiceState, wall_s: float, count: int) -> api.Plan:
    """What the calendar asks for now, and its next `count` changes at most."""
    windows, lead_s = state.policy.schedule, state.boot_time_s or 0.0
    if not windows:
        return api.Plan(service=state.service, has_schedule=False)
    standing = floor_at(windows, wall_s, lead_s=lead_s)
    return api.Plan(
        service=state.service,
        floor=standing.floor,
        ceiling=standing.ceiling,
        transitions=tuple(
            api.Transition(at=one.wall_s, local=one.local, floor=one.floor, ceiling=one.ceiling, why=one.why)
            for one in transitions(windows, wall_s, count, lead_s=lead_s)
        ),
    )
