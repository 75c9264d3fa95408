"""The slots of one replica: who is inside, who waits for a place, who is turned away.

The owner of the replica's gate and the only one that lets requests in: those that come with the traffic, through
`place`. Later also those for which a gateway was granted a slot beforehand; grants are given and taken back here.

Invariants: never more inside than the limit; nothing waits while a slot is free or the gate is shut, so that whoever
comes and finds a slot overtakes nobody; what a request took is given back in `on_ended` or `on_unsent` and nowhere
else. A request is refused as *not sent* exactly where the replica saw nothing of it. All methods run on the event loop
and none of them waits.

Nobody waits here for a replica that is not ready: another one may be, and who holds requests (the activator) knows.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from zerogate.admission import AdmissionQueue, Ticket
from zerogate.counters import ServiceCounters
from zerogate.errors import Refusal
from zerogate.gate import Gate
from zerogate.http.account import count, held_bytes, kept_bytes
from zerogate.http.exchange import CONNECTING, Exchange
from zerogate.http.sides import Timers
from zerogate.http.upstream import Pool, Upstream
from zerogate.meter import Meter

MAX_ATTEMPTS: Final = 3
"""A pooled connection may be closed under a request (the server was idle too long); twice in a row is a fault."""
LONGEST_RETRY_AFTER_S: Final = 60.0


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What the slots are held to. `limit` 0: none; `hold_s`: most time in the queue."""

    limit: int
    queue_limit: int
    queue_bytes: int
    hold_s: float


class Slots:
    """See the module's text. `on_empty` is called when the last request has left after `close`."""

    def __init__(
        self, service: str, bounds: Bounds, timers: Timers, pool: Pool, *, on_empty: Callable[[], None]
    ) -> None:
        self.service = service
        self.bounds = bounds
        self.timers = timers
        self.gate = Gate(limit=bounds.limit, release_limit=max(1, bounds.limit))
        self.gate.close()
        self.meter = Meter()
        self.counters = ServiceCounters()
        self.queue: AdmissionQueue[Exchange] = AdmissionQueue(limit=bounds.queue_limit, limit_bytes=bounds.queue_bytes)
        self.is_closed = False
        self._upstream = Upstream(service=service, id=str(pool.address), gate=self.gate, pool=pool)
        self._on_empty = on_empty
        self._why_shut = self._not_ready("it was not asked yet")

    @property
    def is_ready(self) -> bool:
        """Whether the replica takes requests and we give it some."""
        return self.gate.is_open

    @property
    def is_empty(self) -> bool:
        """Whether nothing is inside and nothing waits."""
        return not self.gate.in_flight and not self.queue.length

    # The gate

    def set_ready(self, is_ready: bool, why: str, now_s: float) -> None:
        """The replica began or ceased to answer its probe; `why` says what it answered, for those turned away."""
        if self.is_closed:
            return
        if is_ready:
            self.gate.reopen()
        else:
            self._shut(self._not_ready(why), now_s)

    def close(self, now_s: float) -> None:
        """Take nothing new any more; what is inside finishes."""
        self.is_closed = True
        detail = f"This replica of {self.service} is leaving. Another one may take the request."
        self._shut(_unsent(503, "draining", detail), now_s)
        if self.is_empty:
            self._on_empty()

    def _not_ready(self, why: str) -> Refusal:
        return _unsent(503, "replica_not_ready", f"The model server of {self.service} is not ready: {why}.")

    def _shut(self, why: Refusal, now_s: float) -> None:
        self.gate.close()
        self._why_shut = why
        while (ticket := self.queue.pop()) is not None:
            self.meter.unhold(now_s)
            ticket.waiter.refuse(why, now_s)

    # Requests

    def place(self, exchange: Exchange, now_s: float) -> None:
        """Take a request: into a slot, into the queue, or back."""
        self.meter.arrive(now_s)
        exchange.give_to(self)
        if not self.gate.is_open:
            exchange.refuse(self._why_shut, now_s)
        elif self.gate.try_enter():
            self.meter.enter(now_s)
            exchange.dispatch(self._upstream, now_s)
        else:
            self._wait(exchange, now_s)

    def _wait(self, exchange: Exchange, now_s: float) -> None:
        ticket = self.queue.offer(exchange, size_bytes=held_bytes(exchange))
        if ticket is None:
            exchange.refuse(self._full(), now_s)
            return
        hold_s = self.bounds.hold_s
        if exchange.head.wait_s is not None:
            hold_s = min(hold_s, exchange.head.wait_s)
        self.meter.hold(now_s)
        exchange.hold(ticket, deadline_s=now_s + hold_s, now_s=now_s, keep_bytes=kept_bytes(exchange))

    def _full(self) -> Refusal:
        queue = self.queue
        detail = (
            f"This replica of {self.service} is full: {self.gate.in_flight} of at most {self.bounds.limit} requests "
            f"are inside, {queue.length} of at most {queue.limit} wait and hold {queue.held_bytes} of at most "
            f"{queue.limit_bytes} bytes. Try again later."
        )
        return _unsent(429, "queue_full", detail, self.expected_wait_s())

    def expected_wait_s(self) -> float:
        """A guess for Retry-After: when the queue of now would be gone, by the mean run time so far."""
        meter = self.meter
        run_s = meter.completed_run_s / meter.completions if meter.completions else 1.0
        wait_s = run_s * (self.queue.length + 1) / max(1, self.bounds.limit)
        return min(max(1.0, wait_s), LONGEST_RETRY_AFTER_S)

    def _release(self, now_s: float) -> None:
        while self.queue.length and self.gate.try_release():
            ticket = self.queue.pop()
            assert ticket is not None
            self.meter.unhold(now_s)
            self.meter.enter(now_s)
            ticket.waiter.dispatch(self._upstream, now_s)

    # What exchanges tell

    def on_hold_timeout(self, exchange: Exchange, now_s: float) -> None:
        detail = (
            f"The request waited {now_s - exchange.received_s:.1f} s for a place in this replica of {self.service}, "
            f"which takes {self.bounds.limit} at once. Try again later."
        )
        exchange.refuse(_unsent(503, "hold_timeout", detail, self.expected_wait_s()), now_s)

    def on_unsent(self, exchange: Exchange, cause: str, now_s: float) -> None:
        is_new = exchange.phase == CONNECTING
        if not is_new and self.gate.is_open and exchange.attempts < MAX_ATTEMPTS:
            # a connection from the pool was closed under it; the slot is its own still
            self.counters.retries += 1
            exchange.dispatch(self._upstream, now_s)
            return
        self.gate.leave()
        self.meter.withdraw(now_s)
        exchange.upstream = None
        detail = f"The model server of {self.service} could not be reached: {cause}."
        if is_new and exchange.attempts == 1:
            exchange.refuse(_unsent(503, "replica_unreachable", detail), now_s)
        else:
            exchange.refuse(Refusal(status=502, code="replica_lost", detail=detail), now_s)
        self._left(now_s)

    def on_ended(self, exchange: Exchange, now_s: float) -> None:
        count(exchange, self.meter, self.counters)
        ticket: Ticket[Exchange] | None = exchange.ticket
        exchange.ticket = None  # each holds the other, and memory should not wait for the collector
        if ticket is not None and ticket.is_waiting:
            self.queue.leave(ticket)
            self.meter.unhold(now_s)
        if exchange.upstream is not None:
            self.gate.leave()
            self._count_out(exchange, now_s)
            self._left(now_s)

    def on_tunnel(self, exchange: Exchange, now_s: float) -> None:
        self.gate.lasting += 1
        self.counters.websockets += 1

    def on_quiet(self, exchange: Exchange, now_s: float) -> None:
        assert exchange.tunnel is not None
        self.meter.quieten(now_s, exchange.tunnel.entered_s, exchange.tunnel.data_s)

    def on_roused(self, exchange: Exchange, now_s: float) -> None:
        assert exchange.tunnel is not None
        exchange.tunnel.entered_s = now_s
        self.meter.rouse(now_s)

    def _count_out(self, exchange: Exchange, now_s: float) -> None:
        tunnel = exchange.tunnel
        if tunnel is None:
            self.meter.leave(now_s, entered_s=exchange.dispatched_s)
            return
        self.gate.lasting -= 1
        self.counters.websockets -= 1
        if not tunnel.is_quiet:
            self.meter.leave(now_s, entered_s=tunnel.entered_s)

    def _left(self, now_s: float) -> None:
        if self.queue.length:
            self._release(now_s)
        elif self.is_closed and not self.gate.in_flight:
            self._on_empty()


def _unsent(status: int, code: str, detail: str, retry_after_s: float | None = None) -> Refusal:
    return Refusal(status=status, code=code, detail=detail, retry_after_s=retry_after_s, not_sent=True)
