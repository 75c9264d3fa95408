"""Which replicas to reopen, drain and start so that a service has as many as it should. Pure.

Invariants: no plan lets more replicas live than the ceiling, counting those that drain and those being launched; a
draining replica that was not told to stop is reopened before another is started; a starting replica is never
drained while a ready one could be, unless it was named. Called by `zerogate.runtime.conductor` after every event.
"""

from collections.abc import Sequence

import msgspec

from zerogate.runtime.interface import ReplicaState


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """What planning knows of one replica that is not gone."""

    id: str
    state: ReplicaState
    was_ready: bool = False
    is_stopping: bool = False
    """It was told to stop, or is dying by itself: it never takes requests again."""
    is_stale: bool = False
    """Its definition is no longer the service's."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now; carried out in this order. What the ceiling forbids now is planned again when one is gone."""

    reopen: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    starts: int = 0


def plan(
    members: Sequence[Member], *, wanted: int, ceiling: int, launching: int = 0, victims: Sequence[str] = ()
) -> Plan:
    """The plan for one service.

    `members`: all that are not gone, oldest first. `launching`: starts under way that are no members yet.
    `victims`: ids to drain first when there are too many.
    """
    active = [m for m in members if m.state is not ReplicaState.DRAINING]
    stale = tuple(m.id for m in active if m.is_stale)
    current = [m for m in active if not m.is_stale]
    missing = min(wanted, ceiling) - len(current) - launching
    if missing < 0:
        return Plan(drain=stale + _surplus(current, -missing, victims))
    reopen = tuple(m.id for m in members if _can_reopen(m))[:missing]
    room = ceiling - len(members) - launching
    return Plan(reopen=reopen, drain=stale, starts=max(0, min(missing - len(reopen), room)))


def _can_reopen(member: Member) -> bool:
    return member.state is ReplicaState.DRAINING and member.was_ready and not member.is_stopping and not member.is_stale


def _surplus(current: Sequence[Member], count: int, victims: Sequence[str]) -> tuple[str, ...]:
    """Named ones in their order; then ready ones, youngest first (the old ones have the warm caches); then starting."""
    ids = {m.id for m in current}
    named = [id_ for id_ in dict.fromkeys(victims) if id_ in ids]
    others = [m for m in reversed(current) if m.id not in named]
    ready = [m.id for m in others if m.state is ReplicaState.READY]
    starting = [m.id for m in others if m.state is ReplicaState.STARTING]
    return tuple((named + ready + starting)[:count])
