"""The shell of the deciding side: hears reports, wakes and replicas, decides, and tells the runtime what shall run.

Everything that judges is pure and lives beside this file; here it is only called with the time. The composition root
builds one `Autoscaler`, hands it policies, reports and heartbeats, and reads it for status and explain. Between
decision and effect there is room for one voice across services (whose model gives way when GPUs are short); on a box
without a ledger of GPU memory everything wanted is granted, so nobody sits there yet.

Invariants: the number goes to the runtime only when it changes, each time with a higher generation; zero is decided
and sent in one callback, on what the holder says in that callback; an idle service has no timer; no callback here
takes longer than a slice of the agenda.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import msgspec

from autoscaler.agenda import Agenda
from autoscaler.decide import begin, decide
from autoscaler.decision import Ask, Decision, Observation, Pin, Traffic
from autoscaler.journal import Entry, Turn, encode
from autoscaler.run_time import RunTime
from autoscaler.service import Service
from autoscaler.sources import Sources
from autoscaler.status import Saved, ServiceState
from autoscaler.words import count
from zerogate import clock as clocks
from zerogate.errors import ZerogateError
from zerogate.policy import Policy
from zerogate.runtime.interface import BackOff, Replica, Runtime, Scale
from zerogate.stats import Stat

_REPORTS_TOGETHER_S = 0.5
"""Reports come once a second per source; several of them make one decision."""
_CROWD_GATHERS_S = 0.004
"""A crowd comes within milliseconds: waiting until nobody has come for so long makes one write to N of 0→1 and 1→N.
Where there can be only one replica there is nothing to wait for."""
_CROWD_AT_MOST_S = 0.02
"""Then who is there counts. So long sources tell of a crowd that still comes (`zerogate.reporting.wakes`): a
hundred requests by way of four workers on two busy cores took up to 15 ms, and what starts for them takes seconds."""
_WAKES_TOGETHER_S = 0.1
"""Wakes behind the first one gather, so that who comes later gets its replicas in one further write."""
_APPEAR_S = 5.0
"""Replicas that somebody else asked for are there within 0.1 s; what is not after so long will not come."""
_START_CHECK_S = 1.0
"""How soon a scale-in that found only starting replicas looks again."""


class UnknownServiceError(ZerogateError):
    """A service was named that is not configured."""


class Autoscaler:
    """Decides for all services of one runtime. All methods are called on the event loop.

    `busy(replica_id)`: requests inside that replica now. `activity(service)`: (held, in flight, time of the last
    byte) now, where all of the service's requests are in this process, else None; it replaces what reports said, so a
    request that is just handed over counts once, and one that came and went since the last report counts at all.
    `unmetered(service)`: why requests may reach it that nobody counts; empty: all are counted. `is_behind(service)`:
    the platform has not shown yet all that runs of it.
    `announce` is told of each decision that changes something. `record` gets each decision with all
    that it was made from, one JSON line each, for replays.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        loop: asyncio.AbstractEventLoop,
        busy: Callable[[str], int],
        activity: Callable[[str], tuple[int, int, float | None] | None],
        clock: Callable[[], float] = clocks.now,
        wall: Callable[[], float] = clocks.wall,
        record: Callable[[bytes], None] | None = None,
        announce: Callable[[Decision], None] | None = None,
        unmetered: Callable[[str], str] = lambda _: "",
        is_behind: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._runtime = runtime
        self._busy = busy
        self._activity = activity
        self._clock = clock
        self._wall = wall
        self._record = record
        self._announce = announce
        self._unmetered = unmetered
        self._is_behind = is_behind
        self._services: dict[str, Service] = {}
        self._saved: Mapping[str, Saved] = {}
        self._sources = Sources()
        self._agenda = Agenda(self._decide, loop=loop, clock=clock)
        self._generation = 0

    def start(self) -> None:
        """Hear about replicas from now on."""
        self._runtime.subscribe(self)

    def close(self) -> None:
        """Decide no more; what runs, stays."""
        self._agenda.close()

    def configure(self, policies: Mapping[str, Policy], standing: Mapping[str, int] | None = None) -> None:
        """Take over a whole new set of policies. Services that stay keep windows, memory, pins and journal.

        A service that is gone is scaled to zero. A changed policy allows suspended starts another try. `standing`: how
        many replicas somebody else has asked the platform for, of services that are new: they are met as if we had.
        """
        for name in [name for name in self._services if name not in policies]:
            self._remove(name)
        added = [name for name in policies if name not in self._services]
        for name, policy in policies.items():
            service = self._services.get(name)
            if service is None:
                self._add(name, policy, (standing or {}).get(name, 0))
            elif service.policy is not policy and service.policy != policy:
                service.policy = policy
                self._sources.watch(name, max(policy.stable_window_s, policy.panic_window_s))
                self._try_again(name, service)
                self._agenda.soon(name)
        if added:
            for replica in self._runtime.replicas():
                if replica.service in added:
                    self.on_replica(replica)

    def adopt(self, service: str, replicas: int) -> None:
        """Somebody else has asked the platform for so many. More than we did are kept as if they were ours: they load,
        and their idle time begins now. Fewer change nothing: what is wanted is still wanted."""
        state = self._services.get(service)
        if state is None:
            return
        if replicas <= (state.asked or 0) or (state.memory is not None and replicas <= state.memory.granted):
            return
        if state.memory is not None:
            state.memory = begin(self._clock(), current=replicas)
        self._ask(service, state, replicas, victims=(), cause="adopted")
        self._agenda.plan_by(service, self._clock() + _APPEAR_S)

    def is_lost(self, source: str) -> bool:
        """A source that should report has not for so long that what it last said counts no longer."""
        return self._sources.is_lost(source, self._clock())

    def export_state(self) -> dict[str, Saved]:
        """What should survive a restart, per service."""
        return {
            name: saved
            for name, service in self._services.items()
            if (saved := service.save(self._sources.run_time(name)))
        }

    def saved(self, service: str) -> Saved:
        """What of it should survive a restart. Raises UnknownServiceError."""
        return self._get(service).save(self._sources.run_time(service)) or Saved()

    def import_state(self, saved: Mapping[str, Saved]) -> None:
        """Start from what was exported once; call it before `configure`."""
        self._saved = saved

    def report(self, stat: Stat) -> None:
        """A proxy's report."""
        if self._sources.report(stat, self._clock()):
            now_s, decided_s = self._clock(), self._services[stat.service].decided_s
            self._agenda.plan_by(stat.service, max(decided_s + _REPORTS_TOGETHER_S, now_s + _CROWD_GATHERS_S))

    def heartbeat(self, source: str, incarnation: str, *, service: str | None = None) -> None:
        """A source lives: expected of each every 5 s, in this process too. `service`: the only one it can see."""
        self._sources.heartbeat(source, incarnation, self._clock(), service=service)

    def farewell(self, source: str, incarnation: str) -> None:
        """A source has reported all that it ever will, and goes: it is not unknown from now on, but absent."""
        self._sources.farewell(source, incarnation)

    def expect(self, added: Mapping[str, str | None], gone: Iterable[str] = ()) -> None:
        """What has changed in the platform's list of sources: name → the one service it sees, None for all."""
        self._sources.expect(added, gone, self._clock())

    def wake(self, service: str) -> None:
        """A request is held. From zero this decides before anything else, once the crowd it may belong to is there."""
        state = self._services.get(service)
        if state is None:
            return
        if not state.asked and state.policy.max_replicas == 1:
            self._agenda.soon(service, first=True)
        elif not state.asked:
            now_s = self._clock()
            state.gather_by_s = state.gather_by_s or now_s + _CROWD_AT_MOST_S
            self._agenda.put_off(service, min(state.gather_by_s, now_s + _CROWD_GATHERS_S))
        else:
            self._agenda.plan_by(service, state.decided_s + _WAKES_TOGETHER_S)

    def on_replica(self, replica: Replica) -> None:
        """The runtime: a replica is new or changed."""
        service = self._services.get(replica.service)
        if service is None:
            return
        service.on_replica(replica)
        self._agenda.soon(replica.service)

    def on_back_off(self, service: str, back_off: BackOff | None) -> None:
        """The runtime: starts are suspended, or allowed again."""
        state = self._services.get(service)
        if state is not None:
            state.back_off = back_off
            self._agenda.soon(service)

    def pin(self, service: str, replicas: int, *, until_wall_s: float | None = None) -> None:
        """Exactly so many replicas until then. Raises UnknownServiceError, and ZerogateError for less than none."""
        if replicas < 0:
            raise ZerogateError(f"{service} cannot be pinned to {replicas} replicas. Pin it to 0 to pause it, or more.")
        state = self._get(service)
        state.pin = Pin(replicas=replicas, until_wall_s=until_wall_s)
        self._try_again(service, state)
        self._agenda.soon(service, first=True)

    def unpin(self, service: str) -> None:
        """Back to what traffic and policy say. Raises UnknownServiceError."""
        self._get(service).pin = None
        self._agenda.soon(service, first=True)

    def pin_of(self, service: str) -> Pin | None:
        """What a person has said last, and is not over. Raises UnknownServiceError."""
        return self._get(service).pin

    def services(self) -> tuple[str, ...]:
        """Names, in the order in which they were configured."""
        return tuple(self._services)

    def view(self, service: str) -> ServiceState:
        """The service as it stands. Raises UnknownServiceError."""
        state = self._get(service)
        traffic = self._traffic(service, state, self._clock())
        return ServiceState(
            service=service,
            policy=state.policy,
            asked=state.asked or 0,
            replicas=state.book.all() if state.book else (),
            traffic=traffic,
            decision=state.decision,
            run_time_s=traffic.run_time_s,
            boot_time_s=state.book.boots.p95_s() if state.book else None,
            back_off=state.back_off,
            pin=state.pin,
        )

    def decisions(self, service: str) -> tuple[Entry, ...]:
        """The last changes, oldest first. Raises UnknownServiceError."""
        return self._get(service).journal.entries()

    def _decide(self, name: str) -> None:
        service = self._services[name]
        now_s = service.decided_s = self._clock()
        service.gather_by_s = 0.0
        observation = self._observe(name, service, now_s)
        if service.memory is None:
            current = observation.replicas.starting + observation.replicas.ready
            service.memory = begin(now_s, current=max(current, service.asked or 0))
        decision, memory = decide(service.policy, observation, service.memory, now_s)
        if self._record is not None:
            turn = Turn(
                policy=service.policy, observation=observation, memory=service.memory, now_s=now_s, decision=decision
            )
            self._record(encode(turn))
        granted, victims = self._grant(service, decision)
        if granted != decision.desired:
            decision = _wait_for_starts(decision, granted - decision.desired, now_s)
            memory = msgspec.structs.replace(memory, granted=granted)
        service.memory, service.decision = memory, decision
        if service.journal.add(decision) and self._announce is not None:
            self._announce(decision)
        self._agenda.plan(name, decision.revisit_at_s)
        self._effect(name, service, decision, granted, victims)

    def _observe(self, name: str, service: Service, now_s: float) -> Observation:
        if service.book is not None:
            service.book.note_busy(self._busy, now_s)
        wall_s = self._wall()
        service.drop_pin(wall_s)
        return Observation(
            service=name,
            wall_s=wall_s,
            traffic=self._traffic(name, service, now_s),
            replicas=service.replicas(now_s),
            pin=service.pin,
            unmetered=self._unmetered(name),
            is_behind=self._is_behind(name),
        )

    def _traffic(self, name: str, service: Service, now_s: float) -> Traffic:
        """The reports, with what the holder knows at this very moment in the place of what they said a second ago."""
        policy = service.policy
        traffic = self._sources.traffic(name, now_s, stable_s=policy.stable_window_s, panic_s=policy.panic_window_s)
        activity = self._activity(name)
        if activity is None:
            return traffic
        held, in_flight, last_byte_s = activity
        since_byte_s = traffic.since_byte_s if last_byte_s is None else max(0.0, now_s - last_byte_s)
        if (held, in_flight, since_byte_s) == (traffic.held, traffic.in_flight, traffic.since_byte_s):
            return traffic
        return msgspec.structs.replace(traffic, held=held, in_flight=in_flight, since_byte_s=since_byte_s)

    def _grant(self, service: Service, decision: Decision) -> tuple[int, tuple[str, ...]]:
        """(the number that can be had now without stopping one that starts, who goes)."""
        if decision.current <= decision.desired or service.book is None:
            return decision.desired, ()
        is_forced = decision.desired == 0 or decision.winner in (Ask.PIN, Ask.MAXIMUM)
        victims = service.book.victims(decision.desired, self._busy, is_forced=is_forced)
        return decision.current - len(victims), victims

    def _effect(self, name: str, service: Service, decision: Decision, granted: int, victims: tuple[str, ...]) -> None:
        if granted == service.asked or (service.asked is None and granted == decision.current == 0):
            return
        self._ask(name, service, granted, victims=victims, cause=decision.winner.value)

    def _ask(self, name: str, service: Service, replicas: int, *, victims: tuple[str, ...], cause: str) -> None:
        service.asked = replicas
        self._generation += 1
        self._runtime.scale(
            Scale(service=name, replicas=replicas, generation=self._generation, victims=victims, cause=cause)
        )

    def _get(self, service: str) -> Service:
        state = self._services.get(service)
        if state is None:
            known = ", ".join(self._services) or "none"
            raise UnknownServiceError(f"There is no service {service!r}. Known services: {known}.")
        return state

    def _add(self, name: str, policy: Policy, standing: int) -> None:
        saved = self._saved.get(name, Saved())
        self._services[name] = Service(policy, saved, standing)
        self._sources.watch(name, max(policy.stable_window_s, policy.panic_window_s))
        if saved.completions > 0:
            self._sources.restore(name, RunTime(saved.completed_s, saved.completions))
        if standing:
            self._agenda.plan(name, self._clock() + _APPEAR_S)
        else:
            self._agenda.soon(name)

    def _remove(self, name: str) -> None:
        service = self._services.pop(name)
        self._agenda.drop(name)
        self._sources.unwatch(name)
        if service.asked or (service.book is not None and service.book.all()):
            self._generation += 1
            self._runtime.scale(Scale(service=name, replicas=0, generation=self._generation, cause="removed"))

    def _try_again(self, name: str, service: Service) -> None:
        if service.back_off is not None:
            self._runtime.clear_back_off(name)


def _wait_for_starts(decision: Decision, missing: int, now_s: float) -> Decision:
    """The same decision, saying that starting replicas keep it from its number for now."""
    soon_s = now_s + _START_CHECK_S
    return msgspec.structs.replace(
        decision,
        held_back=f"{count(missing, 'more replica')} would go, but none that is starting is stopped",
        revisit_at_s=soon_s if decision.revisit_at_s is None else min(decision.revisit_at_s, soon_s),
    )
