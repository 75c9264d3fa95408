"""The hold of one service: who waits, who is released into which replica, and what is given back."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from activator.health import FAILURES, MOST_OUT_S, OUT_S
from activator.hold import Hold
from activator.reach import MAX_ATTEMPTS
from activator.setbacks import REST_S
from tests.zerogate.http.dialogue import Connection, Sides, request, response
from zerogate.affinity import Affinity
from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.gate import Gate
from zerogate.http.account import HEAD_OVERHEAD_BYTES
from zerogate.http.exchange import Exchange
from zerogate.http.phases import CONNECTING, HELD, SENT
from zerogate.policy import Policy


class World:
    """A hold with replicas that connect at once (or fail to), and a clock that stands still until it is told."""

    def __init__(self, **policy: Any) -> None:
        self.now_s = 100.0
        self.wakes = 0
        self.idle: list[str] = []
        self.ended: list[Exchange] = []
        self.later: list[Callable[[], None]] = []
        self.much_later: list[Callable[[], None]] = []
        self.hold = Hold(
            "chat", Policy(**policy), self, choose=lambda count: 0, call_later=self.call_later, clock=lambda: self.now_s
        )

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        (self.later if delay_s < OUT_S else self.much_later).append(call)

    def on_wake(self, service: str) -> None:
        self.wakes += 1

    def on_activity(self, service: str) -> None: ...

    def on_idle(self, replica_id: str) -> None:
        self.idle.append(replica_id)

    def on_exchange_ended(self, service: str, exchange: Exchange) -> None:
        self.ended.append(exchange)

    def replica(self, name: str = "a", *, connects: bool = True) -> Any:
        replica = Replica(name, self, connects=connects)
        self.hold.add(replica, self.now_s)  # type: ignore[arg-type]
        return replica

    def arrive(self, **fields: str) -> Exchange:
        exchange = Exchange(Sides(), request(**fields), self.now_s)  # type: ignore[arg-type]
        self.hold.place(exchange, self.now_s)
        return exchange

    def answer(self, exchange: Exchange, status: int = 204) -> None:
        exchange.on_response_head(response(status), self.now_s)
        exchange.on_response_end([], self.now_s)

    def end_pauses(self) -> None:
        """All short pauses are over."""
        later, self.later = self.later, []
        for call in later:
            call()

    def fail_often(self, replica: Any) -> None:
        """As many requests of the replica fail as it takes to be left out."""
        for _ in range(FAILURES):
            self.hold._setbacks.fail(replica, "status", "it answered 503", self.now_s)


class Replica:
    """Looks like an upstream and its pool."""

    def __init__(self, name: str, world: World, *, connects: bool) -> None:
        self.id = name
        self.service = "chat"
        self.start_s: float | None = 2.0
        self.rests_until_s = 0.0
        self.connects = connects
        self.gate = Gate(limit=world.hold.policy.concurrency_limit, release_limit=world.hold.release_limit)
        self.pool = self
        self.closed = False
        self.may_turn_away = False
        self.on_reached: Callable[[], None] | None = None

    def take(self, exchange: Exchange, now_s: float) -> Any:
        return Connection([]) if self.connects else None

    def close(self) -> None:
        self.closed = True


def test_a_request_at_zero_is_held_and_wakes_at_once() -> None:
    world = World()
    world.arrive()
    assert (world.hold.queue.length, world.wakes, world.hold.counters.cold_starts) == (1, 1, 1)


def test_a_replica_that_becomes_ready_takes_what_waits_up_to_the_target_and_the_next_when_one_leaves() -> None:
    world = World(target_concurrency=2)
    exchanges = [world.arrive() for _ in range(5)]
    replica = world.replica()
    assert (replica.gate.in_flight, world.hold.queue.length) == (2, 3)
    world.answer(exchanges[0])
    assert (replica.gate.in_flight, world.hold.queue.length) == (2, 2)


def test_without_a_limit_a_warm_request_goes_through_beyond_the_target_unless_somebody_waits() -> None:
    world = World(target_concurrency=1)
    replica = world.replica()
    for _ in range(3):
        world.arrive()
    assert replica.gate.in_flight == 3
    world.hold.close_gate("a")
    world.arrive()
    world.hold.reopen_gate("a", world.now_s)
    world.arrive()
    assert world.hold.queue.length == 2


def test_each_ticket_goes_to_the_least_busy_replica() -> None:
    world = World(concurrency_limit=4)
    for _ in range(6):
        world.arrive()
    first = world.replica("a")
    assert first.gate.in_flight == 4
    second = world.replica("b")
    assert second.gate.in_flight == 2


@pytest.mark.parametrize(
    "policy", [{"queue_limit": 2}, {"queue_bytes": 2 * HEAD_OVERHEAD_BYTES + 100}], ids=["requests", "bytes"]
)
def test_the_request_over_the_bound_is_refused_with_a_time_to_try_again(policy: dict[str, int]) -> None:
    world = World(**policy)
    world.arrive(), world.arrive()
    third = world.arrive()
    assert (third.result, third.status, third.code) == (Result.REFUSED, 429, "queue_full")
    assert world.hold.meter.held == 2


def test_the_priority_header_orders_the_queue_and_nonsense_in_it_counts_as_none() -> None:
    world = World(priority="x-rank", concurrency_limit=1)
    order = [world.arrive(), world.arrive(x_rank="5"), world.arrive(x_rank="many"), world.arrive(x_rank="-1")]
    waiting = [ticket.waiter for ticket in world.hold.queue]
    assert waiting == [order[1], order[0], order[2], order[3]]


def test_prefer_wait_shortens_the_hold_and_never_lengthens_it() -> None:
    world = World(hold_timeout_s=60.0)
    assert world.arrive(prefer="wait=5").deadline_s == 105.0
    assert world.arrive(prefer="respond-async, wait=500").deadline_s == 160.0
    assert world.arrive().deadline_s == 160.0


def test_prefer_wait_holds_too_for_a_request_that_comes_back_unsent() -> None:
    world = World(hold_timeout_s=60.0)
    world.replica(connects=False)
    exchange = world.arrive(prefer="wait=5")
    world.now_s = 102.0
    exchange.on_connect_failed("connection refused", world.now_s)
    assert exchange.deadline_s == 107.0


def test_the_hold_begins_when_the_route_is_known_and_is_counted_in_all() -> None:
    world = World(hold_timeout_s=60.0)
    exchange = Exchange(Sides(), request(), world.now_s)
    world.now_s = 200.0  # so long its body took to come, in which the model is named
    world.hold.place(exchange, world.now_s)
    assert exchange.deadline_s == 260.0
    world.now_s = 210.0
    world.replica(connects=False)
    world.now_s = 212.0
    exchange.on_connect_failed("connection refused", world.now_s)
    assert exchange.deadline_s == 262.0, "50 s are left of the 60"
    world.now_s = 262.0
    exchange.due(world.now_s)
    sides: Any = exchange.downstream
    assert sides.said[-1] == "client: refused 503 hold_timeout Server-Timing: hold;dur=60000.0"


def test_what_comes_back_unsent_is_told_at_once_where_no_start_is_allowed() -> None:
    world = World()
    world.replica(connects=False)
    exchange = world.arrive()
    world.hold.remove("a")
    world.hold.fail(Refusal(status=503, code="start_failed", detail="It did not start."), 110.0, 100.0)
    exchange.on_connect_failed("connection refused", world.now_s)
    assert (exchange.status, exchange.code, world.hold.queue.length) == (503, "start_failed", 0)


def test_what_comes_back_unsent_to_a_removed_service_is_told_so_and_wakes_nothing() -> None:
    world = World()
    world.replica(connects=False)
    exchange = world.arrive()
    world.hold.close(Refusal(status=404, code="service_removed", detail="It was removed."), 100.0)
    exchange.on_connect_failed("connection refused", world.now_s)
    assert (exchange.status, exchange.code) == (404, "service_removed")
    assert (world.hold.meter.in_flight, world.hold.meter.held, world.wakes) == (0, 0, 0)


def test_a_refusal_without_a_next_try_keeps_its_own_retry_after() -> None:
    told: list[float | None] = []

    class Client(Sides):
        def send_refusal(self, refusal: Refusal, *, extra: bytes) -> None:
            told.append(refusal.retry_after_s)

    world = World()
    world.hold.fail(Refusal(status=503, code="shutting_down", detail="…", retry_after_s=5.0), float("inf"), 100.0)
    world.hold.place(Exchange(Client(), request(), world.now_s), world.now_s)
    assert told == [5.0]


def test_a_hold_that_ends_without_a_replica_is_told_and_gives_its_place_back() -> None:
    world = World(hold_timeout_s=60.0)
    exchange = world.arrive()
    world.now_s = 160.0
    exchange.due(160.0)
    assert (exchange.status, exchange.code) == (503, "hold_timeout")
    assert (world.hold.queue.length, world.hold.meter.held, world.hold.meter.refused) == (0, 0, 1)


def test_a_client_that_leaves_frees_place_bytes_and_demand() -> None:
    world = World()
    exchange = world.arrive()
    exchange.on_downstream_gone(101.0)
    meter = world.hold.meter
    assert (world.hold.queue.length, world.hold.queue.held_bytes, meter.held, meter.abandoned) == (0, 0, 0, 1)


def test_a_failed_start_refuses_all_that_waits_and_what_comes_until_the_next_try() -> None:
    world = World()
    waiting = world.arrive()
    refusal = Refusal(status=503, code="start_failed", detail="It did not start.")
    world.hold.fail(refusal, until_s=110.0, now_s=100.0)
    assert (waiting.status, waiting.code) == (503, "start_failed")
    world.now_s = 105.0
    assert world.arrive().code == "start_failed"
    world.now_s = 110.0
    assert world.arrive().result is None
    assert world.hold.queue.length == 1


def test_what_could_not_be_sent_waits_at_the_head_of_the_queue_while_its_replica_rests() -> None:
    world = World()
    replica = world.replica(connects=False)
    first = world.arrive()
    first.on_connect_failed("connection refused", world.now_s)
    second = world.arrive()
    assert [ticket.waiter for ticket in world.hold.queue] == [first, second]
    assert (replica.gate.in_flight, world.hold.meter.in_flight, world.hold.meter.completions) == (0, 0, 0)
    replica.connects = True
    world.now_s += REST_S
    world.later[0]()
    assert world.hold.queue.length == 0


def test_a_replica_that_cannot_be_reached_is_given_up_after_some_tries() -> None:
    world = World()
    world.replica(connects=False)
    exchange = world.arrive()
    for _ in range(MAX_ATTEMPTS):
        exchange.on_connect_failed("connection refused", world.now_s)
        world.now_s += REST_S
        world.later.pop(0)() if world.later else None
    assert (exchange.status, exchange.code) == (502, "replica_unreachable")
    assert world.hold.meter.in_flight == 0


def test_the_end_of_a_rest_is_not_missed_when_its_timer_fires_a_little_early() -> None:
    world = World()
    replica = world.replica(connects=False)
    world.arrive().on_connect_failed("connection refused", world.now_s)
    replica.connects = True
    world.now_s += REST_S - 0.0005
    world.later.pop(0)()
    assert world.hold.queue.length == 0


class Crowd(World):
    """Requests that came together for a replica that cannot be reached."""

    def __init__(self, count: int, **policy: Any) -> None:
        super().__init__(**policy)
        self.only = self.replica(connects=False)
        self.crowd = [self.arrive() for _ in range(count)]

    @property
    def trying(self) -> list[Exchange]:
        return [one for one in self.crowd if one.phase == CONNECTING]

    def fail(self) -> None:
        """All connects that are under way fail, and the replica has rested."""
        for one in self.trying:
            one.on_connect_failed("connection refused", self.now_s)
        self.now_s += REST_S
        later, self.later = self.later, []
        for call in later:
            call()


def test_a_crowd_at_a_replica_that_cannot_be_reached_sends_one_ahead_and_is_told_together() -> None:
    world = Crowd(50)
    assert len(world.trying) == 50
    for _ in range(MAX_ATTEMPTS - 1):
        world.fail()
        assert len(world.trying) == 1
    world.fail()
    assert {(one.status, one.code) for one in world.crowd} == {(502, "replica_unreachable")}
    assert (world.hold.meter.in_flight, world.hold.meter.held, world.only.gate.in_flight) == (0, 0, 0)


def test_who_comes_to_a_replica_known_to_be_down_waits_for_one_try_and_no_more() -> None:
    world = Crowd(1)
    for _ in range(MAX_ATTEMPTS):
        world.fail()
    world.crowd = [world.arrive() for _ in range(3)]
    assert len(world.trying) == 1
    world.fail()
    assert [one.attempts for one in world.crowd] == [1, 0, 0]
    assert {one.code for one in world.crowd} == {"replica_unreachable"}


def test_the_first_connection_lets_everybody_in() -> None:
    world = Crowd(20, target_concurrency=20)
    world.fail()
    (prober,) = world.trying
    world.only.connects = True
    prober.on_connection(Connection([]), world.now_s)
    world.only.on_reached()
    assert (world.only.gate.in_flight, world.hold.queue.length) == (20, 0)
    world.only.connects = False
    world.crowd = [world.arrive(), world.arrive()]
    assert len(world.trying) == 2, "nothing is held against it any more"


def test_a_client_that_leaves_while_it_tries_for_all_is_followed_by_the_next() -> None:
    world = Crowd(3)
    world.fail()
    (prober,) = world.trying
    prober.on_downstream_gone(world.now_s)
    assert len(world.trying) == 1
    assert world.trying != [prober]


def test_one_replica_that_is_down_costs_nobody_who_waits_for_another_its_place() -> None:
    world = Crowd(1, concurrency_limit=1)
    (first,) = world.crowd
    other = world.replica("b")
    world.fail()
    assert first.upstream is other
    world.crowd = [world.arrive(), world.arrive()]
    for _ in range(2 * MAX_ATTEMPTS):
        world.fail()
    assert world.crowd[1].phase == HELD


def test_a_replica_that_is_gone_leaves_no_finding_behind() -> None:
    world = Crowd(2)
    world.fail()
    world.hold.remove("a")
    world.replica("a", connects=False)
    assert len(world.trying) == 2


def test_a_replica_that_drains_gets_nothing_new_and_tells_when_it_is_empty() -> None:
    world = World()
    world.replica()
    exchange = world.arrive()
    assert not world.hold.close_gate("a")
    world.arrive()
    assert world.hold.queue.length == 1
    world.answer(exchange)
    assert world.idle == ["a"]


def test_a_replica_that_is_gone_is_forgotten_and_its_connections_closed() -> None:
    world = World()
    replica = world.replica()
    world.hold.remove("a")
    assert replica.closed
    world.arrive()
    assert world.hold.queue.length == 1


def test_a_changed_policy_applies_to_what_waits() -> None:
    world = World(concurrency_limit=1)
    world.replica()
    for _ in range(3):
        world.arrive()
    world.hold.configure(Policy(concurrency_limit=2))
    assert (world.hold.queue.length, world.hold.meter.in_flight) == (1, 2)


class HoldMachine(RuleBasedStateMachine):
    """Any order of arrivals, ends, failures, replicas that come and go: nothing leaks, nobody waits beside a taker that
    is free, and at most half of the ready replicas are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(concurrency_limit=2, queue_limit=4, affinity=Affinity("header", "x-session"))
        self.exchanges: list[Exchange] = []
        self.replicas: dict[str, Any] = {}
        self.number = 0

    def running(self) -> list[Exchange]:
        return [one for one in self.exchanges if one.result is None and one.upstream is not None]

    @rule(session=st.sampled_from(["", "a", "b"]))
    def arrive(self, session: str) -> None:
        self.exchanges.append(self.world.arrive(**{"x-session": session} if session else {}))

    @rule(connects=st.booleans())
    def add_replica(self, connects: bool) -> None:
        self.number += 1
        self.replicas[f"r{self.number}"] = self.world.replica(f"r{self.number}", connects=connects)

    @precondition(lambda self: self.replicas)
    @rule(data=st.data(), connects=st.booleans())
    def change_its_mind(self, data: Any, connects: bool) -> None:
        self.replicas[data.draw(st.sampled_from(sorted(self.replicas)))].connects = connects

    @precondition(lambda self: any(one.phase == CONNECTING for one in self.exchanges))
    @rule(data=st.data())
    def connect_or_fail(self, data: Any) -> None:
        connecting = [one for one in self.exchanges if one.phase == CONNECTING]
        exchange = data.draw(st.sampled_from(connecting))
        upstream: Any = exchange.upstream
        if upstream.connects:
            if upstream.on_reached is not None:
                upstream.on_reached()
            exchange.on_connection(Connection([]), self.world.now_s)
        else:
            exchange.on_connect_failed("connection refused", self.world.now_s)

    @rule(far=st.booleans())
    def pass_time(self, far: bool) -> None:
        world = self.world
        later, world.later = world.later, []
        if far:
            later, world.much_later = [*later, *world.much_later], []
        world.now_s += MOST_OUT_S if far else 2 * REST_S
        for call in later:
            call()

    def sent(self) -> list[Exchange]:
        return [one for one in self.running() if one.phase == SENT]

    @precondition(lambda self: self.sent())
    @rule(data=st.data(), status=st.sampled_from([204, 503]))
    def answer(self, data: Any, status: int) -> None:
        self.world.answer(data.draw(st.sampled_from(self.sent())), status)

    @precondition(lambda self: self.sent())
    @rule(data=st.data())
    def lose(self, data: Any) -> None:
        data.draw(st.sampled_from(self.sent())).on_upstream_lost("reset", self.world.now_s)

    @precondition(lambda self: self.replicas)
    @rule(data=st.data())
    def fail_one(self, data: Any) -> None:
        self.world.fail_often(self.replicas[data.draw(st.sampled_from(sorted(self.replicas)))])

    @precondition(lambda self: any(one.result is None for one in self.exchanges))
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        open_ones = [one for one in self.exchanges if one.result is None]
        data.draw(st.sampled_from(open_ones)).on_downstream_gone(self.world.now_s)

    @precondition(lambda self: self.replicas)
    @rule(data=st.data(), reopen=st.booleans())
    def drain(self, data: Any, reopen: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.replicas)))
        self.world.hold.close_gate(name)
        if reopen:
            self.world.hold.reopen_gate(name, self.world.now_s)

    @precondition(lambda self: self.replicas)
    @rule(data=st.data())
    def remove(self, data: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.replicas)))
        del self.replicas[name]
        self.world.hold.remove(name)

    @invariant()
    def every_request_is_in_one_place(self) -> None:
        hold = self.world.hold
        running = self.running()
        held = [one for one in self.exchanges if one.result is None and one.upstream is None]
        assert hold.meter.in_flight == len(running)
        resting = len(hold._resting)
        assert hold.meter.held == hold.queue.length + resting == len(held)
        assert not resting or self.world.later, "a timer will end the rest"
        assert len(self.world.ended) + len(running) + len(held) == len(self.exchanges)

    @invariant()
    def no_replica_exceeds_its_limit_and_no_taker_is_free_while_somebody_waits(self) -> None:
        hold = self.world.hold
        for replica in self.replicas.values():
            inside = sum(one.upstream is replica for one in self.running())
            assert replica.gate.in_flight == inside <= 2
            rests = self.world.now_s < replica.rests_until_s
            is_taker = replica in hold._takers.list and not rests
            assert not (hold.queue.length and replica.gate.is_open and inside < 2 and is_taker)

    @invariant()
    def at_most_half_are_left_out_and_a_timer_will_bring_them_back(self) -> None:
        takers = self.world.hold._takers
        assert 2 * len(takers.out) <= len(takers.ready) == sum(one.gate.is_open for one in self.replicas.values())
        assert bool(takers.list) == bool(takers.ready)
        assert len(self.world.much_later) >= len(takers.out)


HoldMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHoldMachine = HoldMachine.TestCase
