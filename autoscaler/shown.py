"""What the parts keep, as the admin API shows it. Pure."""

from collections.abc import Collection
from typing import Literal

from autoscaler.decision import Decision
from autoscaler.status import ServiceState
from zerogate.admin import api
from zerogate.runtime.interface import BackOff, Ended, Replica, ReplicaState

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
