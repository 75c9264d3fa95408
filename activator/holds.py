"""All holds of one process, and what the runtime tells turned into what they need to know.

A replica that becomes ready gets a gate and a pool and is added to its service's hold; one that is gone is taken away;
when starts are suspended, what waits is refused with the cause. The runtime asks here before it stops a replica, since
the gates live here (`Quiescer`). The reporter reads the meters from here, changed ones only.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from activator.hold import Hold
from activator.lookout import Lookout
from zerogate.errors import Refusal
from zerogate.gate import Gate
from zerogate.http.exchange import Exchange
from zerogate.http.pools import make_pool
from zerogate.http.sweep import Sweep
from zerogate.http.upstream import Choose, EndpointWay, ReplicaPool, Upstream
from zerogate.policy import Policy
from zerogate.runtime.interface import BackOff, EndCause, Ended, Replica, ReplicaState
from zerogate.stats import Stat
from zerogate.tasks import Nursery

SHOWN_LINES: Final = 8
"""Last lines of a failed start that its clients see: a Python traceback's end; the rest is in the log."""
SHOWN_CHARACTERS: Final = 2000
MOST_THEFTS: Final = 3
"""Ports lost in a row, of more than ten thousand: then it is no accident."""


class HoldsListener(Protocol):
    """Who acts on what the holds tell."""

    def on_wake(self, service: str) -> None: ...
    def on_idle(self, replica_id: str) -> None: ...
    def on_exchange_ended(self, service: str, exchange: Exchange) -> None: ...


class Holds:
    """The holds by service; an observer and the quiescer of the runtime."""

    def __init__(
        self,
        listener: HoldsListener,
        *,
        sweep: Sweep,
        nursery: Nursery,
        choose: Choose,
        call_later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
    ) -> None:
        self._listener = listener
        self.on_exchange_ended = listener.on_exchange_ended
        """For the access log: told straight to the listener, since it is for every request."""
        self._sweep = sweep
        self._nursery = nursery
        self._choose = choose
        self._call_later = call_later
        self._clock = clock
        self._holds: dict[str, Hold] = {}
        self.by_service: Mapping[str, Hold] = self._holds
        """For reading, always up to date."""
        self._running: dict[str, Replica] = {}
        """Starting and ready replicas by id."""
        self._service_of: dict[str, str] = {}
        """By replica id, as long as the replica is not gone."""
        self._suspended: dict[str, BackOff] = {}
        """Services whose starts are suspended."""
        self._changed: dict[str, None] = {}
        self._lookout = Lookout(call_later=call_later, clock=clock)

    def __getitem__(self, service: str) -> Hold:
        return self._holds[service]

    def __iter__(self) -> Iterator[Hold]:
        return iter(self._holds.values())

    def get(self, service: str) -> Hold | None:
        """The hold of a service, or None where it is not known here."""
        return self._holds.get(service)

    def configure(self, policies: Mapping[str, Policy], endpoints: Mapping[str, EndpointWay]) -> None:
        """Apply a set of services as a whole. `endpoints` are those that run elsewhere: always ready, never scaled."""
        self._forget([name for name in self._holds if name not in policies])
        for service, policy in policies.items():
            self._set_endpoint(self._set_policy(service, policy), endpoints.get(service))

    def amend(self, policies: Mapping[str, Policy], gone: Iterable[str]) -> None:
        """Apply what is different; the others stay as they are."""
        self._forget([name for name in gone if name in self._holds])
        for service, policy in policies.items():
            self._set_policy(service, policy)

    def _forget(self, services: Iterable[str]) -> None:
        for service in services:
            refusal = Refusal(status=404, code="service_removed", detail=f"The service {service} was removed.")
            self._holds.pop(service).close(refusal, self._clock())
            self._suspended.pop(service, None)

    def _set_policy(self, service: str, policy: Policy) -> Hold:
        hold = self._holds.get(service)
        if hold is None:
            hold = self._holds[service] = self._hold(service, policy)
        elif hold.policy != policy:
            was = hold.policy.protocol
            hold.configure(policy)
            if policy.protocol != was:
                self._speak_otherwise(hold)
        return hold

    def _hold(self, service: str, policy: Policy) -> Hold:
        return Hold(service, policy, self, choose=self._choose, call_later=self._call_later, clock=self._clock)

    def _set_endpoint(self, hold: Hold, way: EndpointWay | None) -> None:
        wanted = _endpoint_id(hold.service, way) if way is not None else None
        for replica_id in [known for known in hold.replicas if "@" in known and known != wanted]:
            hold.remove(replica_id)
        if way is None or wanted is None:
            return
        if wanted not in hold.replicas:
            pool = make_pool(
                hold.policy.protocol, way.address, self._sweep, self._nursery, host=way.host, secured=way.secured
            )  # fmt: skip
            self._add(hold, wanted, pool, None)
        elif way.secured is not None:
            hold.replicas[wanted].pool.secure(way.secured)

    def _add(self, hold: Hold, replica_id: str, pool: ReplicaPool, start_s: float | None) -> None:
        gate = Gate(limit=hold.policy.concurrency_limit, release_limit=hold.release_limit)
        upstream = Upstream(service=hold.service, id=replica_id, gate=gate, pool=pool, start_s=start_s)
        hold.add(upstream, self._clock())

    def _speak_otherwise(self, hold: Hold) -> None:
        """The service's protocol has changed: from now on its replicas are spoken to in the new one."""
        for upstream in hold.replicas.values():
            old = upstream.pool
            upstream.pool = make_pool(
                hold.policy.protocol, old.address, self._sweep, self._nursery, host=old.host
            )  # fmt: skip
            upstream.pool.on_reached = old.on_reached
            old.close()

    # What the runtime tells (RuntimeObserver)

    def on_replica(self, replica: Replica) -> None:
        hold = self._holds.get(replica.service)
        before = self._running.get(replica.id)
        if replica.state is ReplicaState.GONE:
            self._service_of.pop(replica.id, None)
        else:
            self._service_of[replica.id] = replica.service
        if replica.state in (ReplicaState.STARTING, ReplicaState.READY):
            self._running[replica.id] = replica
        else:
            self._running.pop(replica.id, None)
        if hold is None:
            return
        if replica.state is ReplicaState.READY:
            if replica.id in hold.replicas:
                hold.reopen_gate(replica.id, self._clock())
            else:
                start_s = _start_s(before, replica)
                if start_s is not None:
                    hold.counters.start.observe(start_s)
                pool = make_pool(hold.policy.protocol, replica.address, self._sweep, self._nursery)
                self._add(hold, replica.id, pool, start_s)
        elif replica.state is not ReplicaState.STARTING:
            if replica.state is ReplicaState.GONE:
                hold.remove(replica.id)
            self._fail_if_hopeless(replica.service)

    def on_back_off(self, service: str, back_off: BackOff | None) -> None:
        hold = self._holds.get(service)
        if back_off is not None:
            self._suspended[service] = back_off
            self._fail_if_hopeless(service)
        else:
            self._suspended.pop(service, None)
            if hold is not None:
                hold.unblock()

    def _fail_if_hopeless(self, service: str) -> None:
        """Refuse what waits for a service that cannot start; one that crashed is started again for it instead."""
        hold, back_off = self._holds.get(service), self._suspended.get(service)
        if hold is None or back_off is None or self.runs(service):
            return
        cause = back_off.last.cause
        is_accident = cause is EndCause.CRASHED or (cause is EndCause.PORT_TAKEN and back_off.failures <= MOST_THEFTS)
        if not is_accident:
            hold.fail(_start_failed(service, back_off.last), back_off.next_try_s, self._clock())

    def runs(self, service: str) -> bool:
        """Whether a replica of the service starts or is ready."""
        return any(replica.service == service for replica in self._running.values())

    # What the runtime asks (Quiescer)

    def close_gate(self, replica_id: str) -> bool:
        hold = self._hold_of(replica_id)
        return hold is None or hold.close_gate(replica_id)

    def reopen_gate(self, replica_id: str) -> None:
        hold = self._hold_of(replica_id)
        if hold is not None:
            hold.reopen_gate(replica_id, self._clock())

    def _hold_of(self, replica_id: str) -> Hold | None:
        return self._holds.get(self._service_of.get(replica_id, ""))

    def activity(self, service: str) -> tuple[int, int, float | None]:
        """(held, in flight, when the last byte of any request was seen) of a service right now."""
        hold = self._holds.get(service)
        return (hold.meter.held, hold.meter.in_flight, hold.meter.last_byte_s) if hold is not None else (0, 0, None)

    def refuse_all(self, refusal: Refusal) -> None:
        """Refuse whatever waits, and from now on whatever would have to."""
        now_s = self._clock()
        for hold in self._holds.values():
            hold.fail(refusal, float("inf"), now_s)

    def close(self) -> None:
        """Look after the replicas no more; requests go on."""
        self._lookout.close()

    def notices(self, service: str) -> tuple[str, ...]:
        """What is wrong with the service's replicas as seen from here, as sentences."""
        hold = self._holds.get(service)
        return (*self._lookout.notices(hold), *hold.notices()) if hold is not None else ()

    def busy(self, replica_id: str) -> int:
        """Requests inside a replica right now."""
        hold = self._hold_of(replica_id)
        upstream = hold.replicas.get(replica_id) if hold is not None else None
        return upstream.gate.in_flight if upstream is not None else 0

    # What the holds tell (HoldListener)

    def on_activity(self, service: str) -> None:
        self._changed[service] = None
        hold = self._holds.get(service)
        if hold is not None:
            self._lookout.watch(hold)

    def on_wake(self, service: str) -> None:
        self._listener.on_wake(service)

    def on_idle(self, replica_id: str) -> None:
        self._listener.on_idle(replica_id)

    # What is reported

    def take_changed(self) -> list[str]:
        """Services whose counters changed, or whose integrals run, since the last call."""
        changed, self._changed = self._changed, {}
        return list(changed)

    def read(self, service: str, now_s: float, *, source: str, incarnation: str) -> Stat:
        """A report of one service. Raises KeyError for an unknown one."""
        hold = self._holds[service]
        hold.on_read()
        return hold.meter.read(now_s, service=service, source=source, incarnation=incarnation)


def _endpoint_id(service: str, way: EndpointWay) -> str:
    return f"{service}@{'https://' if way.secured is not None else ''}{way.address}"


def _start_s(before: Replica | None, replica: Replica) -> float | None:
    """How long it took to start; None for one that was found running: its age is not its start."""
    if before is None or before.state is not ReplicaState.STARTING or replica.ready_s is None:
        return None
    return replica.ready_s - replica.started_s


def _start_failed(service: str, ended: Ended) -> Refusal:
    lines = "\n".join(ended.last_lines[-SHOWN_LINES:])[-SHOWN_CHARACTERS:]
    printed = f" It printed:\n{lines}" if lines else ""
    return Refusal(
        status=503, code="start_failed", detail=f"The model server of {service} did not start: {ended.detail}{printed}"
    )
