"""The hold of one service: where its requests wait, and how they get into its replicas.

Every request of a service goes through `place`: into a free slot of a ready replica, or into the queue, or back with a
refusal. A ticket is bound to a replica only when a slot is free (late binding), and whenever a slot becomes free the
next ticket gets it in the same call. When something waits, `wake` is called at once.

A replica in doubt (`activator.lookout`) takes nothing as long as another one is ready.

Invariants: no ticket waits while a replica may take it; what a request took (slot, bytes, counters) is given back in
`on_ended` and nowhere else. All methods run on the event loop and none of them waits.
"""

from collections.abc import Callable
from typing import Final, Protocol

from msgspec.structs import replace

from activator.balance import enter, release
from activator.reach import MAX_ATTEMPTS, Reach
from zerogate.clock import wall
from zerogate.errors import Refusal
from zerogate.http.exchange import CONNECTING, Exchange
from zerogate.http.requests import Requests
from zerogate.http.sides import Destination, Timers
from zerogate.http.tunnel import Tunnel
from zerogate.http.upstream import Choose, Upstream
from zerogate.policy import Policy

REST_S: Final = 0.1
"""After a failed connect a replica gets nothing for so long: its end is about to be told, or it is full."""


class HoldListener(Protocol):
    """Who is told about the service's requests."""

    def on_wake(self, service: str) -> None:
        """A request waits that nothing was waiting before, or for which nothing runs."""

    def on_activity(self, service: str) -> None:
        """The service's counters have changed since they were last read."""

    def on_idle(self, replica_id: str) -> None:
        """The last request has left a replica whose gate is closed."""

    def on_exchange_ended(self, service: str, exchange: Exchange) -> None:
        """For the access log."""


class Hold(Requests):
    """See the module's text."""

    def __init__(
        self,
        service: str,
        policy: Policy,
        listener: HoldListener,
        *,
        choose: Choose,
        call_later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(queue_limit=policy.queue_limit, queue_bytes=policy.queue_bytes)
        self.service = service
        self.replicas: dict[str, Upstream] = {}
        """All replicas with a gate, also those that drain."""
        self._ready: list[Upstream] = []
        self._reach = Reach()
        self._findings = self._reach.findings
        self._doubted: list[Upstream] = []
        self._takers: list[Upstream] = []
        """Those of the ready that are not in doubt; all of them where there is no such one."""
        self._quiet: dict[Exchange, None] = {}
        """Open WebSockets that do not count as in flight."""
        self._listener = listener
        self._on_exchange_ended = listener.on_exchange_ended
        self._choose = choose
        self._call_later = call_later
        self._clock = clock
        self._is_dirty = False
        self.created_at_s = wall()
        """When it became known here, by the wall clock."""
        self._blocked: tuple[Refusal, float] | None = None
        self.configure(policy)

    def configure(self, policy: Policy) -> None:
        """Apply a policy to what comes and to what already waits or runs."""
        self.policy = policy
        self.timers = Timers(
            connect_s=policy.connect_timeout_s,
            first_byte_s=policy.first_byte_timeout_s,
            idle_s=policy.idle_stream_timeout_s,
            total_s=policy.total_timeout_s,
            heartbeat_s=policy.hold_heartbeat_s,
            retries_stale=policy.retry == "stale",
            quiet_s=policy.idle_timeout_s if policy.idle_websocket == "quiet" else None,
        )
        self.quiet_paths = frozenset(path.encode() for path in (policy.ready_path, *policy.health_paths))
        """Paths that are answered without waking."""
        self._priority = policy.priority.encode() if policy.priority else None
        self.queue.limit = policy.queue_limit
        self.queue.limit_bytes = policy.queue_bytes
        for upstream in self.replicas.values():
            upstream.gate.configure(limit=policy.concurrency_limit, release_limit=self.release_limit)
        self._release(self._clock())

    @property
    def ready(self) -> int:
        """Replicas that take requests."""
        return len(self._ready)

    @property
    def has_trusted(self) -> bool:
        """Whether a replica that is not in doubt takes requests."""
        return any(upstream not in self._doubted for upstream in self._ready)

    @property
    def is_blocked(self) -> bool:
        """Whether requests are refused because the service cannot be started at the moment."""
        return self._blocked is not None and self._clock() < self._blocked[1]

    @property
    def release_limit(self) -> int:
        """Held requests let into one replica at a time."""
        return self.policy.concurrency_limit or max(1, int(self.policy.target_concurrency))

    # Replicas

    def add(self, upstream: Upstream, now_s: float) -> None:
        """A replica is ready: it takes what waits."""
        self.replicas[upstream.id] = upstream
        self._ready.append(upstream)
        self._choose_takers()
        self._blocked = None
        self._release(now_s)

    def close_gate(self, replica_id: str) -> bool:
        """Send nothing new to a replica. True where nothing is inside; otherwise `on_idle` is told later.

        Its quiet WebSockets are closed: nothing else would ever end them.
        """
        upstream = self.replicas.get(replica_id)
        if upstream is None:
            return True
        upstream.gate.close()
        if upstream in self._ready:
            self._ready.remove(upstream)
            self._choose_takers()
        for exchange in [quiet for quiet in self._quiet if quiet.upstream is upstream]:
            exchange.leave_tunnel(self._clock())
        return upstream.gate.in_flight == 0

    def reopen_gate(self, replica_id: str, now_s: float) -> None:
        """Send requests to a replica again."""
        upstream = self.replicas.get(replica_id)
        if upstream is not None and not upstream.gate.is_open:
            upstream.gate.reopen()
            self._ready.append(upstream)
            self._choose_takers()
            self._release(now_s)

    def release_more(self, now_s: float) -> None:
        """A gate takes more than before."""
        if self.queue.length:
            self._release(now_s)

    def doubt(self, upstream: Upstream) -> None:
        """The replica answers nothing: send it nothing new as long as another one is ready."""
        self._doubted.append(upstream)
        self._choose_takers()

    def trust(self, upstream: Upstream, now_s: float) -> None:
        """The replica answers again."""
        self._doubted.remove(upstream)
        self._choose_takers()
        self._release(now_s)

    def _choose_takers(self) -> None:
        trusted = [upstream for upstream in self._ready if upstream not in self._doubted]
        self._takers = trusted or self._ready

    def remove(self, replica_id: str) -> None:
        """A replica is gone. What still runs on it ends by its own connection."""
        self.close_gate(replica_id)
        upstream = self.replicas.pop(replica_id, None)
        if upstream is not None:
            self._reach.forget(upstream)
            upstream.pool.close()

    def fail(self, refusal: Refusal, until_s: float, now_s: float) -> None:
        """The service cannot start: refuse what waits, and until `until_s` what comes."""
        self._blocked = (refusal, until_s)
        self.refuse_waiting(refusal, now_s)

    def close(self, refusal: Refusal, now_s: float) -> None:
        """The service is no more: refuse what waits, and what comes back unsent; what runs ends by itself."""
        self.fail(refusal, float("inf"), now_s)
        for replica_id in tuple(self.replicas):
            self.remove(replica_id)

    def unblock(self) -> None:
        """The service may be started again."""
        self._blocked = None

    # Requests

    def place(self, exchange: Exchange, now_s: float) -> None:
        """Take a request that was routed to this service: dispatch it, hold it, or refuse it."""
        exchange.give_to(self)
        if not self._is_dirty:
            self._touch()
        if not self.queue.length:
            upstream = enter(self._takers, self._choose, now_s)
            if upstream is not None:
                self.meter.arrive_and_enter(now_s)
                if self._findings:
                    self._try(exchange, upstream, now_s)
                else:
                    exchange.dispatch(upstream, now_s)
                return
        self.meter.arrive(now_s)
        if not self._ready:
            exchange.is_cold = True
            self.counters.cold_starts += 1
        self._hold_or_refuse(exchange, now_s)

    def _hold_or_refuse(self, exchange: Exchange, now_s: float) -> None:
        if self._refuse_if_blocked(exchange, now_s):
            return
        deadline_s = now_s + self._most_hold_s(exchange)
        if not self.wait(exchange, now_s, deadline_s=deadline_s, priority=self._priority_of(exchange)):
            exchange.refuse(self._full(), now_s)
        elif self.queue.length == 1 or not self._ready:
            self._listener.on_wake(self.service)

    def _refuse_if_blocked(self, exchange: Exchange, now_s: float) -> bool:
        """Whether nothing is to be waited for: no replica takes requests, and none can be started now."""
        if self._ready or self._blocked is None:
            return False
        refusal, until_s = self._blocked
        if now_s >= until_s:
            self._blocked = None
            return False
        exchange.refuse(_retry_at(refusal, until_s - now_s), now_s)
        return True

    def _most_hold_s(self, exchange: Exchange) -> float:
        """In all, however often it has to wait; how long its body took to come before there was a route is not hold."""
        wait_s = exchange.head.wait_s
        return self.policy.hold_timeout_s if wait_s is None else min(self.policy.hold_timeout_s, wait_s)

    def _priority_of(self, exchange: Exchange) -> int:
        value = exchange.head.field(self._priority) if self._priority is not None else None
        try:
            return int(value) if value is not None else 0
        except ValueError:
            return 0

    def _full(self) -> Refusal:
        policy = self.policy
        detail = (
            f"The queue of {self.service} is full: {self.queue.length} requests of at most {policy.queue_limit} and "
            f"{self.queue.held_bytes} bytes of at most {policy.queue_bytes} wait for a replica. Try again later."
        )
        return Refusal(status=429, code="queue_full", detail=detail, retry_after_s=self.expected_wait_s())

    def expected_wait_s(self) -> float:
        """A guess for Retry-After: how long a start takes here, or a few seconds."""
        starts = [upstream.start_s for upstream in self.replicas.values() if upstream.start_s is not None]
        return max(1.0, max(starts, default=5.0))

    def _release(self, now_s: float) -> None:
        while self.queue.length:
            upstream = release(self._takers, now_s)
            if upstream is None:
                return
            self._try(self.next_in_turn(now_s), upstream, now_s)

    def _try(self, exchange: Exchange, upstream: Upstream, now_s: float) -> None:
        self._reach.try_with(upstream, exchange)
        exchange.dispatch(upstream, now_s)
        if exchange.phase != CONNECTING:
            self._reach.left(upstream, exchange)  # on a connection that was there already: that proves nothing

    # What exchanges tell

    def on_hold_timeout(self, exchange: Exchange, now_s: float) -> None:
        waited_s = exchange.held_so_far_s(now_s)
        state = "no replica was ready"
        if self._ready:
            state = "no replica could be reached" if self._findings else "every replica was full"
        detail = f"The request to {self.service} was held for {waited_s:.1f} s and {state} until then. Try again later."
        refusal = Refusal(status=503, code="hold_timeout", detail=detail, retry_after_s=self.expected_wait_s())
        exchange.refuse(refusal, now_s)

    def on_unsent(self, exchange: Exchange, cause: str, now_s: float) -> None:
        upstream = self.take_out(exchange, now_s)
        self.counters.retries += 1
        self._tell_idle(upstream)
        is_given_up = exchange.attempts >= MAX_ATTEMPTS
        if exchange.phase == CONNECTING:
            self._on_unreachable(exchange, upstream, cause, now_s)
            is_given_up = self._reach.hopeless(self._takers) is not None
        if is_given_up:
            exchange.refuse(self._unreachable(cause), now_s)
            self._release(now_s)
            return
        self._hold_again(exchange, now_s)

    def on_turned_away(self, exchange: Exchange, now_s: float) -> None:
        upstream = self.take_out(exchange, now_s)
        self.counters.retries += 1
        self._tell_idle(upstream)
        if not upstream.gate.turn_away():
            self._rest(upstream, now_s + REST_S)
        self._hold_again(exchange, now_s)

    def _hold_again(self, exchange: Exchange, now_s: float) -> None:
        if self._refuse_if_blocked(exchange, now_s):
            return
        deadline_s = now_s + self._most_hold_s(exchange) - exchange.hold_s
        self.wait_again(exchange, now_s, deadline_s=deadline_s, priority=self._priority_of(exchange))
        self._listener.on_wake(self.service)
        self._release(now_s)

    def _on_unreachable(self, exchange: Exchange, upstream: Destination[Exchange], cause: str, now_s: float) -> None:
        known = self.replicas.get(upstream.id)
        if known is not upstream:
            return  # it is gone
        known.pool.on_reached = lambda: self._on_reached(known)
        if self._reach.failed(upstream, exchange, cause, now_s):
            self._rest(upstream, now_s + REST_S)
        if self._reach.hopeless(self._takers):
            self.refuse_waiting(self._unreachable(cause), now_s)

    def _on_reached(self, upstream: Upstream) -> None:
        upstream.pool.on_reached = None
        self._reach.forget(upstream)
        self._release(self._clock())

    def _unreachable(self, cause: str) -> Refusal:
        detail = f"No replica of {self.service} could be reached: {cause}. Tried {MAX_ATTEMPTS} times."
        return Refusal(status=502, code="replica_unreachable", detail=detail, retry_after_s=1.0)

    def _rest(self, upstream: Destination[Exchange], until_s: float) -> None:
        upstream.rests_until_s = until_s
        self._call_later(REST_S, lambda: self._end_rest(upstream, until_s))

    def _end_rest(self, upstream: Destination[Exchange], until_s: float) -> None:
        # the timer says when: it may fire a little before the clock reads `until_s`, and it fires once
        if upstream.rests_until_s == until_s:
            upstream.rests_until_s = 0.0
        self._release(self._clock())

    def on_tunnel(self, exchange: Exchange, now_s: float) -> None:
        assert exchange.upstream is not None
        exchange.upstream.gate.lasting += 1
        self.counters.websockets += 1
        self._release(now_s)

    def on_quiet(self, exchange: Exchange, now_s: float) -> None:
        upstream, tunnel = exchange.upstream, exchange.tunnel
        assert upstream is not None
        assert tunnel is not None
        if not self._is_dirty:
            self._touch()
        self.meter.quieten(now_s, tunnel.entered_s, tunnel.data_s)
        self._quiet[exchange] = None
        if not upstream.gate.is_open:
            exchange.leave_tunnel(now_s)

    def on_roused(self, exchange: Exchange, now_s: float) -> None:
        assert exchange.tunnel is not None
        if not self._is_dirty:
            self._touch()
        del self._quiet[exchange]
        exchange.tunnel.entered_s = now_s
        self.meter.rouse(now_s)

    def on_ended(self, exchange: Exchange, now_s: float) -> None:
        if not self._is_dirty:
            self._touch()
        upstream = self.end(exchange, now_s)
        if upstream is not None:
            if self._findings:
                self._reach.left(upstream, exchange)
            if not upstream.gate.is_open:
                self._tell_idle(upstream)
            if self.queue.length:
                self._release(now_s)
        self._on_exchange_ended(self.service, exchange)

    def leave_tunnel(self, tunnel: Tunnel, exchange: Exchange, upstream: Destination[Exchange], now_s: float) -> None:
        upstream.gate.lasting -= 1
        self.counters.websockets -= 1
        if tunnel.is_quiet:
            del self._quiet[exchange]
        else:
            self.meter.leave(now_s, tunnel.entered_s)

    def _tell_idle(self, upstream: Destination[Exchange]) -> None:
        gate = upstream.gate
        if not gate.is_open and gate.in_flight == 0:
            self._listener.on_idle(upstream.id)

    def _touch(self) -> None:
        self._is_dirty = True
        self._listener.on_activity(self.service)

    def on_read(self) -> None:
        """The meter was read: tell the next change again."""
        self._is_dirty = self.meter.in_flight > 0 or self.meter.held > 0
        if self._is_dirty:
            self._listener.on_activity(self.service)


def _retry_at(refusal: Refusal, wait_s: float) -> Refusal:
    """The refusal with the time of the next try, where there will be one."""
    return refusal if wait_s == float("inf") else replace(refusal, retry_after_s=max(1.0, wait_s))
