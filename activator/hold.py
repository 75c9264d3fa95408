"""The hold of one service: where its requests wait, and how they get into its replicas.

Every request of a service goes through `place`: into a free slot of a ready replica, or into the queue, or back with a
refusal. A ticket is bound to a replica only when a slot is free (late binding), and whenever a slot becomes free the
next ticket gets it in the same call. When something waits, `wake` is called at once.

What is told of the replicas (ready, closed, in doubt, gone, not to be started) is `activator.supply`, which ones may
take something `activator.takers`, what follows from failed attempts `activator.setbacks`.

Invariants: no ticket waits while a taker is free; what a request took (slot, bytes, counters) is given back in
`on_ended` and nowhere else. All methods run on the event loop and none of them waits.
"""

from collections.abc import Callable

from activator import refusals
from activator.affinity import enough, key_of
from activator.balance import enter
from activator.health import LEAST_FAILING
from activator.prompt_reader import PromptReader
from activator.setbacks import Next, Setbacks
from activator.supply import HoldListener, Supply
from activator.terms import most_hold_s, priority_of, terms_of
from zerogate.clock import wall
from zerogate.http.exchange import Exchange
from zerogate.http.phases import CONNECTING
from zerogate.http.requests import MEMORY_FULL
from zerogate.http.sides import Destination
from zerogate.http.tunnel import Tunnel
from zerogate.http.upstream import Choose, Upstream
from zerogate.policy import Policy


class Hold(Supply):
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
        super().__init__(service, policy, listener, choose=choose, clock=clock)
        self._reach = self._takers.reach
        self._findings = self._reach.findings
        self._ailing = self._takers.ailing
        self._setbacks = Setbacks(
            service, self._takers, self.counters,
            release=self._release, choose=choose, call_later=call_later, clock=clock,
        )  # fmt: skip
        self._on_exchange_ended = listener.on_exchange_ended
        self._choose = choose
        self._is_dirty = False
        self.created_at_s = wall()
        """When it became known here, by the wall clock."""
        self.obstacle = ""
        """What keeps replicas from being ready, in the words of whoever starts them; told to who has waited in vain."""
        self.refused_wake = ""
        """Why whoever decides cannot have one started, in its words; told in the same way."""
        self.configure(policy)

    def configure(self, policy: Policy) -> None:
        """Apply a policy to what comes and to what already waits or runs."""
        self.policy = policy
        self.terms = terms_of(policy)
        self._affinity = policy.affinity
        self._is_picky = policy.affinity is not None or policy.body_limit_bytes is not None
        """Whether a request is looked at before a replica is sought for it."""
        self.quiet_paths = frozenset(path.encode() for path in (policy.ready_path, *policy.health_paths))
        """Paths that are answered without waking."""
        self.queue.limit = policy.queue_limit
        self.queue.limit_bytes = policy.queue_bytes
        for upstream in self.replicas.values():
            upstream.gate.configure(limit=policy.concurrency_limit, release_limit=self.release_limit)
        self._release(self._clock())

    @property
    def release_limit(self) -> int:
        """Held requests let into one replica at a time."""
        return self.policy.concurrency_limit or max(1, int(self.policy.target_concurrency))

    # Requests

    def place(self, exchange: Exchange, now_s: float) -> None:
        """Take a request that was routed to this service: dispatch it, hold it, or refuse it."""
        exchange.give_to(self)
        if not self._is_dirty:
            self._touch()
        if exchange.downstream.memory.is_short and exchange.downstream.memory.look():
            self.meter.arrive(now_s)
            exchange.refuse(MEMORY_FULL, now_s)
            return
        if self._is_picky:
            self._look_and_place(exchange, now_s)
            return
        if not self.queue.length:
            takers = self._takers
            upstream = takers.enter(None, now_s) if takers.ramps else enter(takers.list, self._choose, now_s)
            if upstream is not None:
                self.meter.arrive_and_enter(now_s)
                if self._findings or self.has_measured:
                    self._try(exchange, upstream, now_s)
                else:
                    exchange.dispatch(upstream, now_s)
                return
        self.meter.arrive(now_s)
        self._hold_or_refuse(exchange, now_s)

    def _look_and_place(self, exchange: Exchange, now_s: float) -> None:
        """The same where the policy has a limit for bodies, or an affinity. Of a body that says where its request had
        better go, the begin has to come first, as long as there is a choice."""
        self.meter.arrive(now_s)
        if exchange.is_over_limit:
            exchange.end_over_limit(now_s)
            return
        size_bytes = enough(self._affinity) if self._affinity is not None and exchange.head.has_body else 0
        has_come = exchange.is_request_done or exchange.buffered_bytes >= size_bytes
        has_choice = len(self._takers.list) > 1 and not self.queue.length
        if has_come or not has_choice or exchange.downstream.memory.is_full:
            self._place_by_key(exchange, now_s)
        else:
            exchange.read_body(PromptReader(exchange, size_bytes, self._place_by_key), now_s)

    def _place_by_key(self, exchange: Exchange, now_s: float) -> None:
        upstream = None if self.queue.length else self._takers.enter(self._key_of(exchange), now_s)
        if upstream is not None:
            self.meter.enter(now_s)
            self._try(exchange, upstream, now_s)
        else:
            self._hold_or_refuse(exchange, now_s)

    def _key_of(self, exchange: Exchange) -> int | None:
        return key_of(exchange, self._affinity) if self._affinity is not None else None

    def _hold_or_refuse(self, exchange: Exchange, now_s: float) -> None:
        if not self._takers.ready:
            exchange.is_cold = True
            self.counters.cold_starts += 1
        if self._refuse_if_blocked(exchange, now_s):
            return
        if exchange.head.has_body and exchange.downstream.memory.is_full:
            exchange.refuse(MEMORY_FULL, now_s)
            return
        deadline_s = now_s + most_hold_s(self.policy, exchange)
        if not self.wait(exchange, now_s, deadline_s=deadline_s, priority=priority_of(self.policy, exchange)):
            exchange.refuse(refusals.queue_full(self.service, self.queue, self.expected_wait_s()), now_s)
        elif self.queue.length == 1 or not self._takers.ready:
            self._listener.on_wake(self.service)

    def _refuse_if_blocked(self, exchange: Exchange, now_s: float) -> bool:
        """Whether nothing is to be waited for: no replica takes requests, and none can be started now."""
        if self._takers.ready or self._blocked is None:
            return False
        refusal, until_s = self._blocked
        if now_s >= until_s:
            self._blocked = None
            return False
        exchange.refuse(refusals.until(refusal, until_s - now_s), now_s)
        return True

    def _release(self, now_s: float) -> None:
        while self.queue.length:
            some = self._takers.may_release(now_s)
            if not some:
                return
            next_one = next(iter(self.queue)).waiter
            if len(some) > 1 and next_one.avoids is not None:
                some = [one for one in some if one is not next_one.avoids]
            key = self._key_of(next_one) if len(some) > 1 else None
            upstream = self._takers.release(some, key, now_s)
            self._try(self.next_in_turn(now_s), upstream, now_s)

    def _try(self, exchange: Exchange, upstream: Upstream, now_s: float) -> None:
        if self.has_measured and (meter := upstream.gate.meter) is not None:
            meter.enter(now_s)
        self._reach.try_with(upstream, exchange)
        exchange.dispatch(upstream, now_s)
        if exchange.phase != CONNECTING:
            self._reach.left(upstream, exchange)  # on a connection that was there already: that proves nothing

    # What exchanges tell

    def on_hold_timeout(self, exchange: Exchange, now_s: float) -> None:
        waited_s = exchange.held_so_far_s(now_s)
        state = "no replica was ready"
        if self._takers.ready:
            state = "no replica could be reached" if self._findings else "every replica was full"
        elif why := self.obstacle or self.refused_wake:
            state = f"no replica was ready ({why})"
        exchange.refuse(refusals.hold_timeout(self.service, waited_s, state, self.expected_wait_s()), now_s)

    def on_unsent(self, exchange: Exchange, cause: str, now_s: float) -> None:
        upstream = self.take_out(exchange, now_s)
        self._tell_idle(upstream)
        found = self._setbacks.after(exchange, upstream, cause, self.meter.arrivals, now_s)
        if found is Next.AGAIN:
            self._hold_again(exchange, now_s)
            return
        if found is Next.AFTER_PAUSE:
            self._rest(exchange, now_s)
            return
        if found is Next.OVER_BUDGET:
            exchange.refuse(refusals.over_budget(self.service, cause), now_s)
        elif found is Next.HOPELESS:
            exchange.refuse(refusals.lost(self.service, cause), now_s)
        else:
            self.refuse_waiting(refusals.unreachable(self.service, cause), now_s)
            exchange.refuse(refusals.unreachable(self.service, cause), now_s)
        self._release(now_s)

    def on_turned_away(self, exchange: Exchange, now_s: float) -> None:
        upstream = self.take_out(exchange, now_s)
        self._tell_idle(upstream)
        self._setbacks.turn_away(upstream, now_s)
        self._hold_again(exchange, now_s)

    def _hold_again(self, exchange: Exchange, now_s: float) -> None:
        if self._refuse_if_blocked(exchange, now_s):
            return
        deadline_s = self._hold_until_s(exchange, now_s)
        self.wait_again(exchange, now_s, deadline_s=deadline_s, priority=priority_of(self.policy, exchange))
        self._listener.on_wake(self.service)
        self._release(now_s)

    def _rest(self, exchange: Exchange, now_s: float) -> None:
        if not self._refuse_if_blocked(exchange, now_s):
            self.rest(exchange, now_s, deadline_s=self._hold_until_s(exchange, now_s))
            self._setbacks.pause(exchange, self._end_rest)
        self._release(now_s)

    def _end_rest(self, exchange: Exchange) -> None:
        if self.line_up(exchange, priority=priority_of(self.policy, exchange)):
            self._listener.on_wake(self.service)
            self._release(self._clock())

    def _hold_until_s(self, exchange: Exchange, now_s: float) -> float:
        return now_s + most_hold_s(self.policy, exchange) - exchange.hold_s

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
        if self.has_measured and (meter := upstream.gate.meter) is not None:
            meter.quieten(now_s, tunnel.entered_s, tunnel.data_s)
        self._quiet[exchange] = None
        if not upstream.gate.is_open:
            exchange.leave_tunnel(now_s)

    def on_roused(self, exchange: Exchange, now_s: float) -> None:
        upstream = exchange.upstream
        assert upstream is not None
        assert exchange.tunnel is not None
        if not self._is_dirty:
            self._touch()
        del self._quiet[exchange]
        exchange.tunnel.entered_s = now_s
        self.meter.rouse(now_s)
        if self.has_measured and (meter := upstream.gate.meter) is not None:
            meter.rouse(now_s)

    def on_ended(self, exchange: Exchange, now_s: float) -> None:
        if not self._is_dirty:
            self._touch()
        upstream = self.end(exchange, now_s)
        if upstream is not None:
            if self._findings:
                self._reach.left(upstream, exchange)
            if exchange.status >= LEAST_FAILING or self._ailing:
                self._setbacks.judge(upstream, exchange, now_s)
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
            self.leave(upstream, now_s, tunnel.entered_s)

    def _touch(self) -> None:
        self._is_dirty = True
        self._listener.on_activity(self.service)

    def on_read(self) -> None:
        """The meter was read: tell the next change again."""
        self._is_dirty = self.meter.in_flight > 0 or self.meter.held > 0
        if self._is_dirty:
            self._listener.on_activity(self.service)
