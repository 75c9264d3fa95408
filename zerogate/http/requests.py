"""The requests of one service in one place: those that wait and those that are inside, counted once. Pure.

What the activator's hold and the sidecar's slots have in common: a bounded queue, the meter, the counters, and that
whatever was taken for a request is given back when it ends. Which replica takes it, and what a refused one is told, is
decided by the two.

Invariant: a request is counted as held exactly while its ticket waits or it rests, as in flight exactly while it has a
slot.
"""

from collections.abc import Callable
from typing import Final

from zerogate.admission import AdmissionQueue, Ticket
from zerogate.counters import ServiceCounters
from zerogate.errors import Refusal
from zerogate.http.account import count, held_bytes, kept_bytes
from zerogate.http.exchange import Exchange
from zerogate.http.sides import Destination
from zerogate.http.tunnel import Tunnel
from zerogate.meter import Meter

MEMORY_FULL: Final = Refusal(
    status=503,
    code="memory_full",
    detail="The bodies of requests that wait or are searched, what replicas have not taken of others, and what clients "
    "have not taken of their answers, have reached the most that is kept (`body-memory`). Try again in a moment.",
    retry_after_s=1.0,
)


def _unheard() -> None:
    """Nobody asked to be told."""


class Requests:
    """See the module's text. `on_waiting` is called whenever a request begins or ceases to wait."""

    def __init__(self, *, queue_limit: int, queue_bytes: int) -> None:
        self.meter = Meter()
        self.has_measured = False
        """Whether gates of replicas here may have meters of their own, for what nobody behind them counts."""
        self.counters = ServiceCounters()
        self.queue: AdmissionQueue[Exchange] = AdmissionQueue(limit=queue_limit, limit_bytes=queue_bytes)
        self.on_waiting: Callable[[], None] = _unheard
        self._resting: dict[Exchange, None] = {}
        """Held, and not in the queue yet."""

    def wait(self, exchange: Exchange, now_s: float, *, deadline_s: float, priority: int = 0) -> bool:
        """Hold it at the end of its line; False where the queue is full."""
        ticket = self.queue.offer(exchange, size_bytes=held_bytes(exchange), priority=priority)
        if ticket is None:
            return False
        self._hold(exchange, ticket, deadline_s, now_s)
        return True

    def wait_again(self, exchange: Exchange, now_s: float, *, deadline_s: float, priority: int = 0) -> None:
        """Hold it at the head of its line: it had its turn and was not sent. No bound applies."""
        ticket = self.queue.put_back(exchange, size_bytes=held_bytes(exchange), priority=priority)
        self._hold(exchange, ticket, deadline_s, now_s)

    def rest(self, exchange: Exchange, now_s: float, *, deadline_s: float) -> None:
        """Hold it out of line: nothing is sent for it until `line_up`."""
        self.meter.hold(now_s)
        self._resting[exchange] = None
        exchange.hold(exchange.ticket, deadline_s=deadline_s, now_s=now_s, keep_bytes=kept_bytes(exchange))

    def line_up(self, exchange: Exchange, *, priority: int = 0) -> bool:
        """Its rest is over: it goes to the head of its line. False where it has ended meanwhile."""
        if exchange not in self._resting:
            return False
        del self._resting[exchange]
        exchange.ticket = self.queue.put_back(exchange, size_bytes=held_bytes(exchange), priority=priority)
        self.on_waiting()
        return True

    def _hold(self, exchange: Exchange, ticket: Ticket[Exchange], deadline_s: float, now_s: float) -> None:
        self.meter.hold(now_s)
        exchange.hold(ticket, deadline_s=deadline_s, now_s=now_s, keep_bytes=kept_bytes(exchange))
        self.on_waiting()

    def next_in_turn(self, now_s: float) -> Exchange:
        """The request whose turn it is, to be sent to the replica in which a slot was taken for it."""
        ticket = self.queue.pop()
        assert ticket is not None
        self.meter.unhold(now_s)
        self.meter.enter(now_s)
        self.on_waiting()
        return ticket.waiter

    def refuse_waiting(self, refusal: Refusal, now_s: float) -> None:
        """Refuse all that waits."""
        while (ticket := self.queue.pop()) is not None:
            self.meter.unhold(now_s)
            self.on_waiting()
            ticket.waiter.refuse(refusal, now_s)
        for exchange in tuple(self._resting):
            exchange.refuse(refusal, now_s)

    def take_out(self, exchange: Exchange, now_s: float) -> Destination[Exchange]:
        """It was not sent after all: its slot is free. Returns the replica that it was for."""
        upstream = exchange.upstream
        assert upstream is not None
        upstream.gate.leave()
        self.meter.withdraw(now_s)
        if self.has_measured and (meter := upstream.gate.meter) is not None:
            meter.withdraw(now_s)
        exchange.upstream = None
        exchange.avoids = upstream
        return upstream

    def end(self, exchange: Exchange, now_s: float) -> Destination[Exchange] | None:
        """Count a request that is over and give back what it took; returns the replica that it has left, if any."""
        count(exchange, self.meter, self.counters)
        ticket: Ticket[Exchange] | None = exchange.ticket
        if ticket is not None:
            exchange.ticket = None  # each holds the other, and memory should not wait for the collector
            if ticket.is_waiting:
                self.queue.leave(ticket)
                self.meter.unhold(now_s)
                self.on_waiting()
        if self._resting and exchange in self._resting:
            del self._resting[exchange]
            self.meter.unhold(now_s)
        upstream = exchange.upstream
        if upstream is not None:
            if exchange.tunnel is None:
                self.leave(upstream, now_s, exchange.dispatched_s)
            else:
                self.leave_tunnel(exchange.tunnel, exchange, upstream, now_s)
            upstream.gate.leave()
        return upstream

    def leave_tunnel(
        self, tunnel: Tunnel, exchange: Exchange, upstream: Destination[Exchange], now_s: float
    ) -> None:  # fmt: skip
        """Count the end of one that had become a tunnel; while that was quiet it did not run."""
        if not tunnel.is_quiet:
            self.leave(upstream, now_s, tunnel.entered_s)

    def leave(self, upstream: Destination[Exchange], now_s: float, entered_s: float) -> None:
        """Count one that ran in this replica as ended."""
        self.meter.leave(now_s, entered_s)
        if self.has_measured and (meter := upstream.gate.meter) is not None:
            meter.leave(now_s, entered_s)
