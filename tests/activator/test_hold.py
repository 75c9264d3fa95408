"""The hold of one service: who waits, who is released into which replica, and what is given back."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from activator.health import MOST_OUT_S
from activator.reach import MAX_ATTEMPTS
from activator.setbacks import REST_S
from tests.activator.world import World
from tests.fuzz import examples
from tests.zerogate.http.dialogue import Connection, Sides, request, response
from zerogate.affinity import Affinity
from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.http.account import HEAD_OVERHEAD_BYTES
from zerogate.http.exchange import Exchange
from zerogate.http.memory import BufferMemory
from zerogate.http.phases import CONNECTING, HELD, SENT
from zerogate.policy import Policy


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


def test_with_no_memory_left_a_body_that_would_have_to_wait_is_refused_and_a_get_waits() -> None:
    world = World(target_concurrency=1)

    def post() -> Exchange:
        sides = Sides()
        sides.memory = BufferMemory(limit_bytes=0)
        exchange = Exchange(sides, request("POST", body=10), world.now_s)
        world.hold.place(exchange, world.now_s)
        return exchange

    refused = post()
    assert (refused.status, refused.code, world.wakes) == (503, "memory_full", 0)
    waiting = world.arrive()
    assert (waiting.phase, world.hold.meter.held, world.hold.meter.arrivals) == (HELD, 1, 2)
    world.replica()
    assert post().phase == SENT, "nothing of it has to be kept"


def test_a_websocket_runs_only_while_it_is_not_quiet() -> None:
    world = World(idle_websocket="quiet", idle_timeout_s=3.0)
    world.replica()
    exchange = world.arrive()
    exchange.head.websocket_key = b"dGhlIHNhbXBsZSBub25jZQ=="
    tunnel = exchange.on_switched(response(101), 100.0)
    world.hold.on_quiet(exchange, 103.0)
    world.hold.on_roused(exchange, 110.0)
    tunnel.on_client_lost(112.0)
    meter = world.hold.meter
    assert (meter.completed_run_s, meter.completions, meter.in_flight) == (5.0, 2, 0)


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


@pytest.mark.parametrize(
    ("obstacle", "refused_wake", "said"),
    [
        ("", "", "no replica was ready"),
        ("no node has a GPU", "", "no replica was ready (no node has a GPU)"),
        ("", "it may not write", "no replica was ready (it may not write)"),
        ("no node has a GPU", "it may not write", "no replica was ready (no node has a GPU)"),
    ],
    ids=["nothing is known", "what the cluster says", "what the autoscaler says", "both: the cluster"],
)
def test_who_has_waited_in_vain_is_told_why_as_far_as_that_is_known(
    monkeypatch: pytest.MonkeyPatch, obstacle: str, refused_wake: str, said: str
) -> None:
    states: list[str] = []

    def noted(service: str, waited_s: float, state: str, wait_s: float) -> Refusal:
        states.append(state)
        return Refusal(status=503, code="hold_timeout", detail=state)

    monkeypatch.setattr("activator.refusals.hold_timeout", noted)
    world = World(hold_timeout_s=60.0)
    exchange = world.arrive()
    world.hold.obstacle, world.hold.refused_wake = obstacle, refused_wake
    world.now_s += 60.0
    exchange.due(world.now_s)
    assert (exchange.code, states) == ("hold_timeout", [said])


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


HoldMachine.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
TestHoldMachine = HoldMachine.TestCase
