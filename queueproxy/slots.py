"""The slots of one replica: who is inside, who waits for a place, who is turned away.

The owner of the replica's gate and the only one that lets requests in. A request of a gateway that says its name
(`zerogate-holder`) enters by what that gateway was granted (`queueproxy.grants`) and is never queued: where there is no
place it goes back as not sent, because its gateway may know of another replica. Everybody else's waits in a short
queue.

Invariants: never more inside than the limit; nothing waits while a slot is free that is not kept for somebody else, or
while the gate is shut; what a request took is given back in `on_ended` or `on_unsent` and nowhere else. A request is
refused as *not sent* where the replica saw nothing of it, or may see it again and cannot because we leave. All methods
run on the event loop and none of them waits.

Nobody waits here for a replica that is not ready: another one may be, and who holds requests (the activator) knows.
For the same reason gateways are turned away while the gate is *quiesced*, because the replica may be stopped. Who comes
without a gateway knows of no other replica: those that wait are served, and those that come are let in.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from queueproxy import refusals
from queueproxy.grants import Grants, Holder
from queueproxy.setbacks import Setbacks
from queueproxy.ways import Ways
from zerogate.errors import Refusal
from zerogate.gate import Gate
from zerogate.http.exchange import Exchange
from zerogate.http.kept_body import REPLAY_BYTES
from zerogate.http.phases import CONNECTING
from zerogate.http.requests import Requests
from zerogate.http.sides import Destination, RequestTerms, behind
from zerogate.http.tunnel import Tunnel
from zerogate.http.upstream import Choose, ReplicaPool

LONGEST_RETRY_AFTER_S: Final = 60.0
GRACE_S: Final = 1.0
"""A gateway keeps the same timers and knows more about its request: it is to end it first, and to say so in its words.
Twenty ticks of a sweep, and a slow line. Without it the two would race, and a timer look like a replica that fails."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What the slots are held to. `limit` 0: none, and then at most `release_limit` held requests are let in by
    gateways at a time; `hold_s`: most time in the queue."""

    limit: int
    release_limit: int = 1
    queue_limit: int
    queue_bytes: int
    hold_s: float


def _unheard(*_: object) -> None:
    """Nobody asked to be told."""


class Slots(Requests):
    """See the module's text. `on_empty` is called when the last request has left after `close`."""

    def __init__(
        self, service: str, bounds: Bounds, terms: RequestTerms, pool: ReplicaPool, *, on_empty: Callable[[], None],
        choose: Choose, call_later: Callable[[float, Callable[[], None]], object], clock: Callable[[], float],
    ) -> None:  # fmt: skip
        super().__init__(queue_limit=bounds.queue_limit, queue_bytes=bounds.queue_bytes)
        self.service = service
        self.bounds = bounds
        self.terms = terms
        self._terms_behind = behind(terms, GRACE_S)
        self.gate = Gate(limit=bounds.limit, release_limit=bounds.limit or bounds.release_limit)
        self.gate.close()
        self.grants = Grants(self.gate)
        self.on_waiting = self._on_waiting
        self.on_change: Callable[[], None] = _unheard
        """Called when what is told to gateways has changed, or is to be looked at earlier than planned."""
        self.on_inside: Callable[[], None] = _unheard
        """Called while gateways are kept away, when something comes nevertheless or nothing is left."""
        self.on_unreachable: Callable[[str], None] = _unheard
        """Called where a connection to the model server could not be made."""
        self.note: Callable[[Exchange], None] | None = None
        """Called with each request that is over, where they are written down."""
        self.is_closed = False
        self.is_quiesced = False
        """The autoscaler keeps gateways away, for as long as it says so."""
        self._quiet: dict[Exchange, None] = {}
        """WebSockets that are open and silent."""
        self.own_arrivals = 0
        """Requests that came without a gateway: of the others their gateway reports the arrival."""
        self._ways = Ways(service, pool, self.grants)
        self._on_empty = on_empty
        self._setbacks = Setbacks(
            service, self.gate, self.counters, give_up=self._give_up, choose=choose, call_later=call_later, clock=clock
        )
        self._why_shut = refusals.not_ready(service, "it was not asked yet")

    @property
    def is_ready(self) -> bool:
        """Whether the replica takes requests and we give it some."""
        return self.gate.is_open

    @property
    def inside(self) -> int:
        """Requests that are inside or wait for a place."""
        return self.gate.in_flight + self.queue.length

    @property
    def is_empty(self) -> bool:
        """Whether nothing is inside and nothing waits."""
        return not self.gate.in_flight and not self.queue.length

    @property
    def why_shut(self) -> str:
        """Why nothing is let in, for people; empty while something is."""
        if not self.gate.is_open:
            return self._why_shut.detail
        return refusals.quiesced(self.service).detail if self.is_quiesced else ""

    @property
    def takes_gateways(self) -> bool:
        """Whether requests of gateways are taken."""
        return self.gate.is_open and not self.is_quiesced

    # Gateways

    def join(self, name: bytes, now_s: float) -> Holder:
        """A gateway of this name has come, or come again: its requests enter by what it is granted."""
        holder = self._ways.holder(name)
        self.grants.join(holder, now_s)
        self._settle(now_s)
        return holder

    def part(self, holder: Holder, now_s: float) -> None:
        """It has gone. What it has inside stays its own, should it come again, and leaves by itself."""
        self.grants.part(holder, now_s)
        self._ways.forget_gone()
        self._settle(now_s)

    def report(self, holder: Holder, waiting: int, in_flight: int, now_s: float) -> None:
        """So many requests of a gateway wait, and so many were sent of which it has not seen the end."""
        self.grants.report(holder, waiting, in_flight, now_s)
        self._settle(now_s)

    def check(self, now_s: float) -> None:
        """Deal anew what was kept for too long; to be called at `grants.due_s`."""
        self.grants.check(now_s)
        self._settle(now_s)

    def _on_waiting(self) -> None:
        self.grants.own.waiting = self.queue.length
        self.grants.is_stale = True
        if self.is_quiesced:
            self.on_inside()

    def _settle(self, now_s: float) -> None:
        grants = self.grants
        if grants.is_stale:
            grants.settle(now_s)
        if self.queue.length:
            while self.queue.length and grants.own.try_release():
                self.next_in_turn(now_s).dispatch(self._ways.own, now_s)
            if grants.is_stale:
                grants.settle(now_s)
        if grants.is_shared:
            self.on_change()

    # The gate

    def set_ready(self, is_ready: bool, why: str, now_s: float) -> None:
        """The replica began or ceased to answer its probe; `why` says what it answered, for those turned away."""
        if self.is_closed:
            return
        if is_ready:
            self.gate.reopen()
        else:
            self._shut(refusals.not_ready(self.service, why), now_s)
        self.on_change()

    def close(self, now_s: float) -> None:
        """Take nothing new any more; what is inside finishes."""
        self.is_closed = self._setbacks.is_leaving = True
        self._shut(refusals.draining(self.service), now_s)
        self.on_change()
        if self.is_empty:
            self._on_empty()

    def quiesce(self, is_quiesced: bool, now_s: float) -> None:
        """Keep gateways away from now on, or no longer. Silent WebSockets are closed: nothing else would end them."""
        self.is_quiesced = is_quiesced
        for exchange in tuple(self._quiet) if is_quiesced else ():
            exchange.leave_tunnel(now_s)
        self.on_change()

    def _shut(self, why: Refusal, now_s: float) -> None:
        self.gate.close()
        self._why_shut = why
        self.refuse_waiting(why, now_s)

    # Requests

    def place(self, exchange: Exchange, now_s: float) -> None:
        """Take a request: into a slot, into the queue, or back."""
        self.meter.arrive(now_s)
        self.grants.now_s = now_s
        name = exchange.head.holder
        exchange.give_to(self, None if name is None else self._terms_behind)
        if name is None:
            self.own_arrivals += 1
            way = self._ways.own
            if self.is_quiesced:
                self.on_inside()
        else:
            way = self._ways.of(name)
        memory = exchange.downstream.memory
        if memory.is_short and memory.look():
            exchange.refuse(refusals.NO_MEMORY, now_s)
        elif not self.gate.is_open:
            self._turn_away(exchange, way, self._why_shut, now_s)
        elif self.is_quiesced and name is not None:
            self._turn_away(exchange, way, refusals.quiesced(self.service), now_s)
        elif way.gate.try_enter():
            self.meter.enter(now_s)
            if name is not None and exchange.head.has_body:
                _say_it_is_in(exchange)
            exchange.dispatch(way, now_s)
            if self.grants.is_stale:
                self._settle(now_s)
        elif name is None:
            self._wait_or_refuse(exchange, now_s)
            self._settle(now_s)
        else:
            self._turn_away(exchange, way, refusals.no_slot(self.service), now_s)

    def _turn_away(self, exchange: Exchange, way: Destination[Exchange], why: Refusal, now_s: float) -> None:
        """Refuse it as not sent. A gateway then holds it, and is told again how many it may send."""
        exchange.refuse(why, now_s)
        if isinstance(way.gate, Holder):
            way.gate.is_refused = True
            self.on_change()

    def _wait_or_refuse(self, exchange: Exchange, now_s: float) -> None:
        if exchange.head.has_body and exchange.downstream.memory.is_full:
            exchange.refuse(refusals.NO_MEMORY, now_s)
            return
        hold_s, wait_s = self.bounds.hold_s, exchange.head.wait_s
        deadline_s = now_s + (hold_s if wait_s is None else min(hold_s, wait_s))
        if not self.wait(exchange, now_s, deadline_s=deadline_s):
            exchange.refuse(self._full(), now_s)

    def _full(self) -> Refusal:
        return refusals.queue_full(
            self.service, self.queue, in_flight=self.gate.in_flight, limit=self.bounds.limit,
            retry_after_s=self.expected_wait_s(),
        )  # fmt: skip

    def expected_wait_s(self) -> float:
        """A guess for Retry-After: when the queue of now would be gone, by the mean run time so far."""
        meter = self.meter
        run_s = meter.completed_run_s / meter.completions if meter.completions else 1.0
        wait_s = run_s * (self.queue.length + 1) / max(1, self.bounds.limit)
        return min(max(1.0, wait_s), LONGEST_RETRY_AFTER_S)

    # What exchanges tell

    def on_hold_timeout(self, exchange: Exchange, now_s: float) -> None:
        refusal = refusals.hold_timeout(
            self.service, waited_s=now_s - exchange.received_s, limit=self.bounds.limit,
            retry_after_s=self.expected_wait_s(),
        )  # fmt: skip
        exchange.refuse(refusal, now_s)

    def on_unsent(self, exchange: Exchange, cause: str, now_s: float) -> None:
        if exchange.phase == CONNECTING:
            self.on_unreachable(cause)
        why = self._setbacks.after(exchange, cause, self.meter.arrivals, now_s)
        if why is not None:
            self._give_up(exchange, why, now_s)

    def _give_up(self, exchange: Exchange, why: Refusal, now_s: float) -> None:
        way = self.take_out(exchange, now_s)
        if why.not_sent:
            self._turn_away(exchange, way, why, now_s)
        else:
            exchange.refuse(why, now_s)
        self._left(now_s)

    def on_turned_away(self, exchange: Exchange, now_s: float) -> None:
        """Never: there is no sidecar behind a sidecar."""

    def on_ended(self, exchange: Exchange, now_s: float) -> None:
        if self.end(exchange, now_s) is not None:
            self._left(now_s)
        if self.note is not None:
            self.note(exchange)

    def on_tunnel(self, exchange: Exchange, now_s: float) -> None:
        self.gate.lasting += 1
        self.counters.websockets += 1
        self._deal_paced()
        if self.grants.is_stale:
            self._settle(now_s)

    def on_quiet(self, exchange: Exchange, now_s: float) -> None:
        assert exchange.tunnel is not None
        self.meter.quieten(now_s, exchange.tunnel.entered_s, exchange.tunnel.data_s)
        self._quiet[exchange] = None
        if self.is_quiesced:
            exchange.leave_tunnel(now_s)

    def on_roused(self, exchange: Exchange, now_s: float) -> None:
        assert exchange.tunnel is not None
        self._quiet.pop(exchange, None)
        exchange.tunnel.entered_s = now_s
        self.meter.rouse(now_s)

    def leave_tunnel(
        self, tunnel: Tunnel, exchange: Exchange, upstream: Destination[Exchange], now_s: float
    ) -> None:  # fmt: skip
        self.gate.lasting -= 1
        self.counters.websockets -= 1
        self._quiet.pop(exchange, None)
        self._deal_paced()
        super().leave_tunnel(tunnel, exchange, upstream, now_s)

    def _deal_paced(self) -> None:
        """Without a limit an open WebSocket takes no place, so there are others to deal when one opens or closes."""
        if not self.gate.limit and self.grants.is_shared:
            self.grants.is_stale = True

    def _left(self, now_s: float) -> None:
        if self.grants.is_stale or self.queue.length:
            self._settle(now_s)
        if self.is_quiesced and self.is_empty:
            self.on_inside()
        if self.is_closed and self.is_empty:
            self._on_empty()


def _say_it_is_in(exchange: Exchange) -> None:
    """A long body need not be kept any more by the gateway that sends it."""
    head = exchange.head
    if head.content_length is None or head.content_length > REPLAY_BYTES:
        exchange.downstream.send_informational(100, b"Continue", b"")
