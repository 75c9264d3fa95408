"""The rules that every runtime that owns its replicas follows. Pure: sync, `now_s` is an argument.

Keeps what was asked for (the last Scale of each service), what there is (its replicas and their states), who must be
told (observers) and who is asked first (the Quiescer), and calls the injected `Hands` for what takes a process: to
start one, to stop one. `zerogate.local` and the fake are two pairs of hands, so the contract of
`zerogate.runtime.interface` is kept in one place.

Invariants: state changes before anybody is told, so observers may call back in; every replica that was told of ends
with exactly one GONE; nothing is stopped with its gate open or somebody inside, unless `stop_all` said so.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from msgspec.structs import replace

from zerogate.errors import ZerogateError
from zerogate.runtime.backoff import Streak, after_failure
from zerogate.runtime.fleet import Member, Plan, plan
from zerogate.runtime.interface import BackOff, Ended, Quiescer, Replica, ReplicaState, RuntimeObserver, Scale


class LifeError(ZerogateError):
    """An illegal step in the life of a replica: a bug in the caller, never a user's mistake."""


class Hands(Protocol):
    """What carries out the rules. None of these may raise."""

    def request_start(self, service: str) -> None:
        """A start is due: call `Conductor.take_start` as soon as one can be carried out. May be called repeatedly."""

    def stop(self, replica_id: str) -> None:
        """Nothing is inside: end the replica's process, then call `Conductor.gone`."""

    def revisit(self, service: str, at_s: float) -> None:
        """Call `Conductor.revisit` for the service at that time."""

    def observer_failed(self, failure: Exception) -> None:
        """An observer raised; the others were told all the same."""


class _Life:
    """One replica that is not gone."""

    __slots__ = ("is_stale", "is_stopping", "replica")

    def __init__(self, replica: Replica, *, is_stopping: bool, is_stale: bool) -> None:
        self.replica = replica
        self.is_stopping = is_stopping
        self.is_stale = is_stale

    def as_member(self) -> Member:
        return Member(
            id=self.replica.id,
            state=self.replica.state,
            was_ready=self.replica.ready_s is not None,
            is_stopping=self.is_stopping,
            is_stale=self.is_stale,
        )


class _Fleet:
    """One service: what is wanted, and its replicas in the order of their start."""

    __slots__ = (
        "ceiling", "generation", "is_removed", "launching", "lives", "streak", "victims", "wanted", "was_told_back_off",
    )  # fmt: skip

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.is_removed = False
        """It is no longer in the file; forgotten when its last replica is gone."""
        self.wanted = 0
        self.generation = -1
        self.victims: tuple[str, ...] = ()
        self.launching = 0
        self.lives: dict[str, _Life] = {}
        self.streak: Streak | None = None
        self.was_told_back_off = False

    def plan(self) -> Plan:
        return plan(
            [life.as_member() for life in self.lives.values()],
            wanted=self.wanted,
            ceiling=self.ceiling,
            launching=self.launching,
            victims=self.victims,
        )

    def first_ready_s(self) -> float | None:
        return min((x.replica.ready_s for x in self.lives.values() if x.replica.ready_s is not None), default=None)


class Conductor:
    """All services of one runtime. A Scale for a service that is not among them is ignored."""

    def __init__(self, hands: Hands, ceilings: Mapping[str, int]) -> None:
        self._hands = hands
        self._fleets = {service: _Fleet(ceiling) for service, ceiling in ceilings.items()}
        self._service_of: dict[str, str] = {}
        self._observers: list[RuntimeObserver] = []
        self._quiescer: Quiescer | None = None
        self._is_closing = False

    # what the runtime's users say

    def subscribe(self, observer: RuntimeObserver) -> None:
        """Tell `observer` what there is, and every change from now on."""
        self._observers.append(observer)
        for replica in self.replicas():
            observer.on_replica(replica)
        for service, fleet in self._fleets.items():
            if fleet.was_told_back_off and fleet.streak is not None:
                observer.on_back_off(service, fleet.streak.as_back_off())

    def set_quiescer(self, quiescer: Quiescer) -> None:
        """Say who owns the gates."""
        self._quiescer = quiescer

    def configure(self, ceilings: Mapping[str, int], changed: Collection[str], now_s: float) -> None:
        """Replace the set of services. `changed` ones: their replicas are replaced, their failures forgotten.

        A service that is no longer in `ceilings` is drained, stopped and forgotten.
        """
        for service in [*self._fleets, *(s for s in ceilings if s not in self._fleets)]:
            fleet = self._fleets.setdefault(service, _Fleet(0))
            fleet.ceiling = ceilings.get(service, 0)
            fleet.is_removed = service not in ceilings
            if fleet.is_removed:
                fleet.wanted = 0
            if fleet.is_removed or service in changed:
                for life in fleet.lives.values():
                    life.is_stale = True
                self._forgive(service, fleet)
            self._settle(service, now_s)

    def scale(self, effect: Scale, now_s: float) -> None:
        """Take over the effect unless it is older than the last one."""
        fleet = self._fleets.get(effect.service)
        if fleet is None or effect.generation < fleet.generation or self._is_closing:
            return
        fleet.generation = effect.generation
        fleet.wanted = effect.replicas
        fleet.victims = effect.victims
        self._settle(effect.service, now_s)

    def on_idle(self, replica_id: str) -> None:
        """The last request has left a draining replica: stop it."""
        life = self._life(replica_id)
        if life is not None and life.replica.state is ReplicaState.DRAINING:
            self._stop(life)

    def clear_back_off(self, service: str, now_s: float) -> None:
        """Forget the failures, and start what is wanted."""
        if fleet := self._fleets.get(service):
            self._forgive(service, fleet)
            self._settle(service, now_s)

    def replicas(self) -> list[Replica]:
        """All that are not gone."""
        return [life.replica for fleet in self._fleets.values() for life in fleet.lives.values()]

    def back_off(self, service: str) -> BackOff | None:
        """The suspension that was last told and not yet lifted."""
        fleet = self._fleets.get(service)
        if fleet is None or fleet.streak is None or not fleet.was_told_back_off:
            return None
        return fleet.streak.as_back_off()

    def close(self, now_s: float) -> None:
        """Want nothing from now on: drain everything, start nothing."""
        self._is_closing = True
        for service, fleet in list(self._fleets.items()):
            fleet.wanted = 0
            self._settle(service, now_s)

    def stop_all(self) -> None:
        """The drain's deadline has passed: stop what still has somebody inside."""
        for fleet in list(self._fleets.values()):
            for life in list(fleet.lives.values()):
                if life.replica.state is ReplicaState.DRAINING:
                    self._stop(life)

    # what the hands say

    def take_start(self, service: str, now_s: float) -> bool:
        """Claim one start: True where one is due; then `launched` or `launch_failed` must follow."""
        fleet = self._fleets.get(service)
        if fleet is None or not self._is_start_due(fleet, now_s):
            return False
        fleet.launching += 1
        return True

    def launched(self, replica: Replica, now_s: float, *, is_stale: bool = False) -> None:
        """A claimed start became a process. `is_stale`: its definition changed while it was launched."""
        fleet = self._fleets[replica.service]
        fleet.launching -= 1
        self._add(fleet, _Life(replica, is_stopping=False, is_stale=is_stale), now_s)

    def launch_failed(self, replica: Replica, now_s: float) -> None:
        """A claimed start came to nothing: `replica` is gone from the beginning."""
        fleet = self._fleets[replica.service]
        fleet.launching -= 1
        if replica.ended is not None:
            self._count_failure(replica.service, fleet, replica.ended, now_s)
        self._tell(lambda observer: observer.on_replica(replica))
        self._settle(replica.service, now_s)

    def adopt(self, replica: Replica, now_s: float) -> None:
        """A replica of an earlier process goes on, ready; or, in state draining, is about to be ended by the hands."""
        fleet = self._fleets.get(replica.service)
        if fleet is None:
            fleet = self._fleets[replica.service] = _Fleet(0)
            fleet.is_removed = True
        is_ending = replica.state is ReplicaState.DRAINING
        if not is_ending and fleet.generation < 0:
            # Nobody has asked for anything yet: keep what runs until somebody does.
            fleet.wanted = min(fleet.ceiling, fleet.wanted + 1)
        self._add(fleet, _Life(replica, is_stopping=is_ending, is_stale=is_ending), now_s)

    def became_ready(self, replica_id: str, now_s: float) -> None:
        """A starting replica answers. Ignored where it drains already. Raises LifeError where there is none."""
        life = self._known(replica_id)
        if life.replica.state is ReplicaState.DRAINING:
            return
        if life.replica.state is ReplicaState.READY:
            raise LifeError(f"{replica_id} became ready twice")
        self._change(life, replace(life.replica, state=ReplicaState.READY, ready_s=now_s))

    def failing(self, replica_id: str, ended: Ended, now_s: float) -> None:
        """A replica is known to be lost: takes nothing new and counts as a failure; `gone` follows when it is off."""
        life = self._known(replica_id)
        if life.is_stopping:
            return
        life.is_stopping = True
        self._count_failure(life.replica.service, self._fleets[life.replica.service], ended, now_s)
        if life.replica.state is not ReplicaState.DRAINING:
            self._close_gate(life)

    def gone(self, replica_id: str, ended: Ended, now_s: float) -> None:
        """Nothing is left of a replica. Raises LifeError where there is none."""
        life = self._known(replica_id)
        service = self._service_of.pop(replica_id)
        del self._fleets[service].lives[replica_id]
        self._change(life, replace(life.replica, state=ReplicaState.GONE, ended=ended))
        self._settle(service, now_s)

    def revisit(self, service: str, now_s: float) -> None:
        """The time of the next try may have come."""
        fleet = self._fleets.get(service)
        if fleet is None or fleet.streak is None or fleet.streak.is_suspended(now_s):
            return
        self._lift(service, fleet)
        self._settle(service, now_s)

    # rules

    def _settle(self, service: str, now_s: float) -> None:
        """Carry out the plan step by step, planned anew after each, because whoever is told may call back in."""
        while fleet := self._fleets.get(service):
            todo = fleet.plan()
            if todo.reopen:
                self._reopen(fleet.lives[todo.reopen[0]])
            elif todo.drain:
                self._drain(fleet.lives[todo.drain[0]])
            else:
                break
        if fleet is not None and self._is_start_due(fleet, now_s):
            self._hands.request_start(service)
        if fleet is not None and fleet.is_removed and not (fleet.lives or fleet.launching):
            self._fleets.pop(service, None)

    def _is_start_due(self, fleet: _Fleet, now_s: float) -> bool:
        if self._is_closing or (fleet.streak is not None and fleet.streak.is_suspended(now_s)):
            return False
        return fleet.plan().starts > 0

    def _add(self, fleet: _Fleet, life: _Life, now_s: float) -> None:
        fleet.lives[life.replica.id] = life
        self._service_of[life.replica.id] = life.replica.service
        self._tell(lambda observer: observer.on_replica(life.replica))
        self._settle(life.replica.service, now_s)

    def _drain(self, life: _Life) -> None:
        if self._close_gate(life):
            self._stop(life)

    def _close_gate(self, life: _Life) -> bool:
        life.replica = replace(life.replica, state=ReplicaState.DRAINING)
        is_idle = self._quiescer.close_gate(life.replica.id) if self._quiescer is not None else True
        self._change(life, life.replica)
        return is_idle

    def _reopen(self, life: _Life) -> None:
        life.replica = replace(life.replica, state=ReplicaState.READY)
        if self._quiescer is not None:
            self._quiescer.reopen_gate(life.replica.id)
        self._change(life, life.replica)

    def _stop(self, life: _Life) -> None:
        if not life.is_stopping and life.replica.state is ReplicaState.DRAINING:
            life.is_stopping = True
            self._hands.stop(life.replica.id)

    def _count_failure(self, service: str, fleet: _Fleet, ended: Ended, now_s: float) -> None:
        fleet.streak = streak = after_failure(fleet.streak, ended, ready_s=fleet.first_ready_s(), now_s=now_s)
        if not streak.is_suspended(now_s):
            return
        fleet.was_told_back_off = True
        self._hands.revisit(service, streak.next_try_s)
        self._tell(lambda observer: observer.on_back_off(service, streak.as_back_off()))

    def _forgive(self, service: str, fleet: _Fleet) -> None:
        fleet.streak = None
        self._lift(service, fleet)

    def _lift(self, service: str, fleet: _Fleet) -> None:
        if fleet.was_told_back_off:
            fleet.was_told_back_off = False
            self._tell(lambda observer: observer.on_back_off(service, None))

    def _change(self, life: _Life, replica: Replica) -> None:
        life.replica = replica
        self._tell(lambda observer: observer.on_replica(replica))

    def _tell(self, message: Callable[[RuntimeObserver], None]) -> None:
        for observer in list(self._observers):
            try:
                message(observer)
            except Exception as failure:  # noqa: BLE001 (one observer's bug must neither stop the others nor the runtime)
                self._hands.observer_failed(failure)

    def _life(self, replica_id: str) -> _Life | None:
        service = self._service_of.get(replica_id)
        return None if service is None else self._fleets[service].lives[replica_id]

    def _known(self, replica_id: str) -> _Life:
        life = self._life(replica_id)
        if life is None:
            raise LifeError(f"there is no replica {replica_id}")
        return life
