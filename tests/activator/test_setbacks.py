"""What follows from failed attempts, as requests and their holds see it."""

from collections.abc import Callable
from typing import Any

import pytest

from activator.health import FAILURES, MOST_OUT_S
from activator.reach import MAX_ATTEMPTS
from activator.setbacks import REST_S
from tests.activator.world import World
from tests.zerogate.http.dialogue import Sides, request
from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.phases import HELD
from zerogate.retries import BURST_S, FLOOR_PER_S, PAUSE_S


def served_by(world: World, count: int) -> set[str]:
    """Which replicas take the next requests, all of which stay inside."""
    upstreams = [world.arrive().upstream for _ in range(count)]
    return {upstream.id for upstream in upstreams if upstream is not None}


def come_back(world: World) -> None:
    """The time of whoever is out is over."""
    world.now_s += MOST_OUT_S
    later, world.much_later = world.much_later, []
    for call in later:
        call()


@pytest.mark.parametrize("status", [502, 503, 504])
def test_five_failing_answers_in_a_row_send_what_follows_elsewhere(status: int) -> None:
    world = World()
    a = world.replica("a")
    world.replica("b")
    for _ in range(FAILURES):
        exchange = Exchange(Sides(), request(), world.now_s)
        a.gate.try_enter()
        world.hold.meter.arrive_and_enter(world.now_s)
        exchange.give_to(world.hold)
        exchange.dispatch(a, world.now_s)
        world.answer(exchange, status)
    assert served_by(world, 6) == {"b"}
    assert world.hold.counters.ejections_by_why == {"connect": 0, "lost": 0, "status": 1}
    (notice,) = world.hold.notices()
    assert notice.startswith(f"a failed 5 requests in a row (it answered {status}). New requests go to other replicas")
    come_back(world)
    assert "a" in served_by(world, 100), "little by little"


def test_an_answer_of_its_own_in_between_is_no_row() -> None:
    world = World()
    world.replica("a")
    world.replica("b")
    statuses = ([503] * (FAILURES - 1) + [500]) * 3
    for status in statuses:
        world.answer(world.arrive(), status)  # all to the first of the two
    assert world.hold.notices() == ()
    assert not any(world.hold.counters.ejections_by_why.values())
    assert world.hold.counters.status_classes[5] == len(statuses)


def test_posts_that_break_off_before_their_answer_count_and_those_after_it_do_not() -> None:
    world = World()
    a = world.replica("a")
    for begun in (True, False):
        for _ in range(FAILURES):
            exchange = Exchange(Sides(), request("POST"), world.now_s)
            world.hold.place(exchange, world.now_s)
            assert exchange.upstream is a
            if begun:
                exchange.on_informational(103, b"Early Hints", b"")
                world.answer(exchange, 200)
            else:
                exchange.on_upstream_lost("connection reset", world.now_s)
        assert bool(world.hold.notices()) is not begun
    assert not world.hold.counters.ejections_by_why["lost"], "the only one is never left out"


def test_a_replica_that_takes_no_connection_is_left_out_where_another_one_does() -> None:
    world = World(concurrency_limit=100)
    dead = world.replica("a", connects=False)
    for _ in range(FAILURES):
        exchange = world.arrive()
        assert exchange.upstream is dead
        if len(world.hold.replicas) == 1:
            world.replica("b").gate.in_flight = 50
        exchange.on_connect_failed("connection refused", world.now_s)
        world.now_s += 2 * REST_S
        world.later.pop(0)()
    assert (world.hold.counters.ejections_by_why["connect"], world.hold.counters.retries) == (1, FAILURES)
    assert served_by(world, 6) == {"b"}


def test_a_held_request_is_released_when_the_one_that_was_out_comes_back() -> None:
    world = World(concurrency_limit=1)
    a = world.replica("a")
    world.replica("b")
    world.fail_often(a)
    world.arrive()
    waiting = world.arrive()
    assert waiting.phase == HELD
    come_back(world)
    assert waiting.upstream is a


def test_a_held_request_is_released_at_once_when_the_other_replica_leaves() -> None:
    world = World(concurrency_limit=1)
    a = world.replica("a")
    world.replica("b")
    world.fail_often(a)
    world.arrive()
    waiting = world.arrive()
    world.hold.close_gate("b")
    assert waiting.upstream is a


def test_what_broke_off_is_sent_again_to_another_replica_where_there_is_one() -> None:
    world = World()
    a, b = world.replica("a"), world.replica("b")
    for _ in range(FAILURES):
        exchange = world.arrive()
        assert exchange.upstream is a
        exchange.on_upstream_lost("connection reset", world.now_s)
        world.end_pauses()
        assert exchange.upstream is b
        world.answer(exchange)
    assert served_by(world, 3) == {"b"}
    world.hold.close_gate("a")
    alone = world.arrive()
    alone.on_upstream_lost("connection reset", world.now_s)
    world.end_pauses()
    assert alone.upstream is b


def test_what_broke_off_every_time_is_told_as_lost_and_not_as_unreachable() -> None:
    world = World()
    world.replica()
    exchange = world.arrive()
    while exchange.result is None:
        exchange.on_upstream_lost("connection reset", world.now_s)
        world.end_pauses()
    assert (exchange.attempts, exchange.status, exchange.code) == (MAX_ATTEMPTS, 502, "replica_lost")


def test_what_broke_off_rests_for_a_while_by_chance_and_is_held_meanwhile() -> None:
    world = World(concurrency_limit=1)
    world.replica("a")
    pauses: list[float] = []
    setbacks: Any = world.hold._setbacks

    def call_later(delay_s: float, call: Callable[[], None]) -> None:
        pauses.append(delay_s)
        world.call_later(delay_s, call)

    setbacks._call_later = call_later
    exchange = lose_one(world)
    assert (exchange.phase, world.hold.meter.held, world.hold.queue.length) == (HELD, 1, 0)
    other = world.arrive()
    assert other.upstream is not None, "its slot is free for others meanwhile"
    world.answer(other)
    world.end_pauses()
    assert (exchange.attempts, world.hold.meter.held, world.hold.meter.in_flight) == (2, 0, 1)
    setbacks._choose = lambda count: count - 1
    exchange.on_upstream_lost("connection reset", world.now_s)
    assert pauses == [0.0, 2 * PAUSE_S], "at most twice as long as the first"
    world.end_pauses()
    world.answer(exchange)
    assert exchange.result is Result.SERVED
    assert world.hold.counters.retries_by_why["lost"] == 2


def test_a_rest_ends_with_its_client_or_its_service() -> None:
    world = World()
    world.replica("a")
    gone, refused = lose_one(world), lose_one(world)
    gone.on_downstream_gone(world.now_s)
    world.hold.close(Refusal(status=404, code="service_removed", detail="It was removed."), world.now_s)
    assert (gone.result, refused.code) == (Result.ABANDONED, "service_removed")
    world.end_pauses()
    assert (world.hold.meter.held, world.hold.queue.length, world.hold.meter.in_flight) == (0, 0, 0)


def lose_one(world: World) -> Exchange:
    """A GET whose connection breaks before the answer."""
    exchange = world.arrive()
    exchange.on_upstream_lost("connection reset", world.now_s)
    return exchange


def send_again(world: World) -> Exchange:
    """The same, and its rest is over."""
    exchange = lose_one(world)
    world.end_pauses()
    return exchange


def test_over_the_budget_a_request_is_told_instead_of_sent_again() -> None:
    world = World(target_concurrency=100)
    world.replica("a")
    most = int(FLOOR_PER_S * BURST_S)
    exchanges = [send_again(world) for _ in range(most + 3)]
    assert [one.attempts for one in exchanges] == [2] * most + [1] * 3
    assert {(one.status, one.code) for one in exchanges[most:]} == {(503, "retry_budget_spent")}
    assert world.hold.counters.retries_by_why == {"connect": 0, "lost": most, "turned_away": 0}
    assert world.hold.meter.in_flight == most


def test_a_crowd_that_meets_one_closed_port_costs_the_budget_one_retry() -> None:
    world = World(target_concurrency=200)
    dead = world.replica("a", connects=False)
    crowd = [world.arrive() for _ in range(100)]
    for one in crowd:
        one.on_connect_failed("connection refused", world.now_s)
    dead.connects = True
    assert all(one.result is None for one in crowd)
    most = int(FLOOR_PER_S * BURST_S)
    assert world.hold._setbacks._budget._tokens == most - 1


def test_what_a_sidecar_turns_away_costs_the_budget_nothing_and_is_no_failure() -> None:
    world = World()
    world.replica("a")
    for _ in range(3 * int(FLOOR_PER_S * BURST_S)):
        exchange = world.arrive()
        exchange.on_turned_away(world.now_s)
        world.now_s += 2 * REST_S
        world.later.pop(0)()
        assert exchange.attempts == 2
        world.answer(exchange)
    assert world.hold.counters.retries_by_why == {"connect": 0, "lost": 0, "turned_away": 90}
    assert not world.hold._ailing


def test_the_pause_after_a_failed_connect_is_half_to_one_and_a_half_of_its_length_by_chance() -> None:
    rests = []
    for part in (0, 1, 2):
        world = World()
        world.hold._setbacks._choose = [lambda count: 0, lambda count: count // 2, lambda count: count - 1][part]
        replica = world.replica("a", connects=False)
        world.arrive().on_connect_failed("connection refused", world.now_s)
        rests.append(replica.rests_until_s - world.now_s)
    assert rests == pytest.approx([0.5 * REST_S, REST_S, 1.5 * REST_S])


def test_an_ordinary_request_leaves_no_trace() -> None:
    world = World()
    world.replica("a")
    exchange = world.arrive()
    world.answer(exchange)
    hold: Any = world.hold
    assert (hold._ailing, hold._findings, hold.notices()) == ({}, {}, ())
