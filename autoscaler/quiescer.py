"""Closes the gates of replicas, which are in their sidecars or, of those without, in gateways: the `Quiescer` of a
cluster's runtime.

Between the runtime, which asks before it stops a replica, and the streams of reports, over which sidecars and gateways
hear it and answer. What follows from that is decided in `autoscaler.gates` and, where there is no sidecar, in
`autoscaler.rounds`; here are the timer, the sending, and which source belongs to which replica (the runtime knows). It
also knows how busy each replica is, from the sidecars' last reports.

All methods are called on the event loop. `start` first, `close` last; `lead` with each change.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from autoscaler.gates import Gates, News
from autoscaler.rounds import Rounds
from zerogate.clock import now
from zerogate.reporting.wire import Order, Quiesced
from zerogate.runtime.interface import Quiescer, Replica, ReplicaState, RuntimeObserver

_UNKNOWN: Final = 1
"""Requests inside a ready replica that cannot be asked: others are stopped first."""


class Steered(Protocol):
    """The runtime: `zerogate.kube.runtime`."""

    def subscribe(self, observer: RuntimeObserver) -> None: ...
    def set_quiescer(self, quiescer: Quiescer) -> None: ...
    def on_idle(self, replica_id: str) -> None: ...
    def on_busy(self, replica_id: str) -> None: ...
    def source_of(self, replica_id: str) -> str | None: ...


class Mouth(Protocol):
    """Who speaks with sources: `autoscaler.receiver`."""

    def tell(self, source: str, order: Order) -> bool: ...


class Timer(Protocol):
    def cancel(self) -> None: ...


class SidecarQuiescer:
    """See the module's text. It is the receiver's `Listener` too. `is_bare(source)`: this pod has no sidecar."""

    def __init__(
        self,
        runtime: Steered,
        *,
        call_later: Callable[[float, Callable[[], None]], Timer],
        clock: Callable[[], float] = now,
        is_bare: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._runtime = runtime
        self._is_bare = is_bare
        self._call_later = call_later
        self._clock = clock
        self._mouth: Mouth | None = None
        self._timer: Timer | None = None
        self._gates = Gates(os.urandom(8).hex())
        self._rounds = Rounds(os.urandom(8).hex())
        self._replica_of: dict[str, str] = {}
        """The present replica of each source."""
        self._services: dict[str, str] = {}
        """By source."""
        self._sources: dict[str, str] = {}
        """By replica."""
        self._between: dict[str, str] = {}
        """Sources whose replica has ended, and which: their pod may have another life, or may have gone."""
        self._were_ready: dict[str, None] = {}
        """Replicas that were ready at any time."""
        self._streams: dict[str, str] = {}
        """Incarnations of the sources that can be spoken with."""
        self._inside: dict[str, Mapping[str, int]] = {}
        """What gateways' workers and activators have inside replicas without a sidecar, where they have any."""
        self._in_flight: dict[str, int] = {}
        """By source, where its last report had any."""

    def start(self, mouth: Mouth) -> None:
        """Be the runtime's quiescer from now on. `mouth`: the receiver that was given this object to tell."""
        self._mouth = mouth
        self._runtime.subscribe(self)
        self._runtime.set_quiescer(self)

    def close(self) -> None:
        """Order nothing more: gates that are shut open when their leases run out."""
        self._forget_all()
        self._plan()

    def lead(self, leads: bool) -> None:
        """This process leads from now on, or another one does. To be told together with the runtime's `lead`."""
        if not leads:
            self._forget_all()
            self._plan()

    def _forget_all(self) -> None:
        self._gates.forget_all()
        self._rounds.forget_all()

    # What the runtime asks

    def close_gate(self, replica_id: str) -> bool:
        """Keep gateways away from it. The runtime's `on_idle` follows, at once where the replica never was ready, and
        `on_busy` whenever that is not true any more."""
        source = self._runtime.source_of(replica_id)
        if source is None:
            return True
        if self._is_bare(source):
            self._rounds.close(source, self._clock())
        else:
            self._gates.close(source, self._clock(), was_ready=replica_id in self._were_ready)
        self._send()
        # what is idle is told in a turn of its own: the runtime is in the middle of a step
        self._plan()
        return False

    def reopen_gate(self, replica_id: str) -> None:
        """It stays after all."""
        source = self._runtime.source_of(replica_id) or self._sources.get(replica_id)
        if source is not None:
            self._reopen(source)

    def _reopen(self, source: str) -> None:
        self._gates.reopen(source, self._clock())
        self._rounds.reopen(source, self._clock())
        self._send()
        self._plan()

    def on_replica(self, replica: Replica) -> None:
        """A replica is new or changed. One pod has several, one after the other: its gate stays as it is."""
        source = self._runtime.source_of(replica.id)
        if replica.state is ReplicaState.GONE:
            self._were_ready.pop(replica.id, None)
            before = self._sources.pop(replica.id, None)
            if before is not None and self._replica_of.get(before) == replica.id:
                self._between[before] = replica.id
            self._forget_gone()
            return
        if source is None:
            return
        self._between.pop(source, None)
        self._sources[replica.id] = source
        self._services[source] = replica.service
        self._replica_of[source] = replica.id
        if replica.ready_s is not None and replica.id not in self._were_ready:
            self._were_ready[replica.id] = None
            self._gates.on_ready(source)
            self._plan()

    def on_back_off(self, service: str, back_off: object) -> None:
        """Nothing to do with gates."""

    def _forget_gone(self) -> None:
        for source, replica_id in list(self._between.items()):
            if self._runtime.source_of(replica_id) is None:
                self._forget(source)

    def _forget(self, source: str) -> None:
        """The pod is gone, or not ours any more."""
        self._between.pop(source, None)
        del self._replica_of[source], self._services[source]
        if source not in self._streams:
            self._in_flight.pop(source, None)
        self._reopen(source)

    # What sources say

    def set_holders(self, pods: Iterable[str]) -> None:
        """The pods of gateways and activators that run, NAMESPACE/POD."""
        self._rounds.set_pods(pods, self._clock())
        self._forget_ended()
        self._plan()

    def _forget_ended(self) -> None:
        for holder in [holder for holder in self._inside if not self._rounds.counts(holder)]:
            del self._inside[holder]

    def on_holder(self, source: str, incarnation: str, workers: int = 1) -> None:
        """A gateway's worker, of so many, or an activator, has a stream."""
        self._rounds.on_stream(source, incarnation, self._clock(), workers=workers)
        self._step()
        self._forget_ended()

    def on_holder_lost(self, source: str) -> None:
        """Its stream is gone."""
        self._rounds.on_lost(source, self._clock())
        self._step()
        self._forget_ended()

    def on_holder_left(self, source: str) -> None:
        """It has said goodbye."""
        self._inside.pop(source, None)
        self._rounds.on_left(source, self._clock())
        self._step()

    def on_source(self, source: str, incarnation: str) -> None:
        """A sidecar has a stream: its first one, or another one."""
        if self._streams.get(source) != incarnation:
            self._in_flight.pop(source, None)
        self._streams[source] = incarnation
        self._gates.on_stream(source, incarnation, self._clock())
        self._step()

    def on_source_lost(self, source: str) -> None:
        """Its stream is gone."""
        self._streams.pop(source, None)
        if source not in self._replica_of:
            self._in_flight.pop(source, None)
        self._gates.on_lost(source, self._clock())
        self._forget_gone()
        self._step()

    def on_in_flight(self, source: str, count: int) -> None:
        """It has so many inside, by a report."""
        if count:
            self._in_flight[source] = count
        else:
            self._in_flight.pop(source, None)

    def on_inside(self, source: str, inside: Mapping[str, int]) -> None:
        """A holder has so many inside replicas without a sidecar."""
        if inside:
            self._inside[source] = inside
        else:
            self._inside.pop(source, None)

    def on_quiesced(self, source: str, incarnation: str, word: Quiesced) -> None:
        """It says what is behind a gate that was shut from here."""
        if word.replica:
            self._rounds.hear(source, incarnation, word, self._clock())
        else:
            self._gates.hear(source, incarnation, word, self._clock())
        self._step()

    # What people and the autoscaler ask

    def busy(self, replica_id: str) -> int:
        """Requests inside, by its sidecar's last report, or where it has none by what gateways say; of a ready one
        whose sidecar cannot be asked at least one."""
        source = self._sources.get(replica_id)
        if source is None:
            return 0
        if self._is_bare(source):
            return sum(inside.get(source, 0) for inside in self._inside.values())
        count = self._in_flight.get(source, 0)
        if source in self._streams or replica_id not in self._were_ready:
            return count
        return max(_UNKNOWN, count)

    def waits(self, service: str) -> tuple[str, ...]:
        """What keeps replicas of the service from being stopped, a sentence for each."""
        self._forget_gone()
        now_s = self._clock()
        both = (*self._gates.sources(), *self._rounds.replicas())
        sources = [source for source in both if self._services.get(source) == service]
        whys = [self._gates.why_not_idle(source, now_s) for source in sources]
        whys += [self._rounds.why_not_idle(source, now_s) for source in sources]
        return tuple(why for why in whys if why)

    @property
    def shut(self) -> int:
        """Gates that shall be shut."""
        return self._gates.shut + self._rounds.shut

    @property
    def waiting(self) -> int:
        """Those of them that are not known to be idle."""
        return self._gates.waiting + self._rounds.waiting

    # Acts

    def _send(self) -> None:
        assert self._mouth is not None
        for tell in (*self._gates.take_orders(), *self._rounds.take_orders()):
            # one that cannot be written now is said again in a second
            self._mouth.tell(tell.source, tell.order)

    def _step(self) -> None:
        news = [*self._gates.step(self._clock()), *self._rounds.step(self._clock())]
        self._send()
        for one in news:
            self._tell(one)
        self._plan()

    def _tell(self, news: News) -> None:
        replica_id = self._replica_of.get(news.source)
        if replica_id is None:
            return
        if news.is_idle:
            self._runtime.on_idle(replica_id)
        else:
            self._runtime.on_busy(replica_id)

    def _plan(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        dues_s = [due_s for due_s in (self._gates.due_s, self._rounds.due_s) if due_s is not None]
        if dues_s:
            self._timer = self._call_later(max(0.0, min(dues_s) - self._clock()), self._step)
