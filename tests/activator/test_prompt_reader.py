"""Affinity in a hold: by header, and by a prompt that has to come first."""

from typing import Any

import pytest

from activator.affinity import LEAD_BYTES
from tests.activator.world import World
from tests.zerogate.http.dialogue import Sides, request
from zerogate.affinity import Affinity
from zerogate.counters import Result
from zerogate.http.exchange import Exchange
from zerogate.http.memory import BufferMemory
from zerogate.http.phases import HELD, ROUTING, SENT

PROMPT = Affinity("prompt", size_bytes=64)
FULL_BYTES = LEAD_BYTES + 64


def world_of(count: int = 3, **policy: Any) -> World:
    world = World(**{"affinity": PROMPT, **policy})
    for number in range(count):
        world.replica(f"r{number}")
    return world


def post(world: World, size: int | None = None, **fields: str) -> tuple[Exchange, Sides]:
    sides = Sides()
    head = request("POST", body=size, chunked=size is None, **fields)
    exchange = Exchange(sides, head, world.now_s)
    world.hold.place(exchange, world.now_s)
    return exchange, sides


def talk(world: World, text: bytes) -> str:
    """A whole conversation so far, sent in one piece; the replica that it went to."""
    exchange, _ = post(world, len(text))
    exchange.on_request_data(text, world.now_s)
    exchange.on_request_end([], world.now_s)
    assert exchange.upstream is not None
    name = exchange.upstream.id
    world.answer(exchange)
    return name


def test_the_same_header_goes_to_the_same_replica_and_others_elsewhere() -> None:
    world = world_of(affinity=Affinity("header", "x-session"))
    found: dict[str, set[str]] = {}
    for session in [f"s{number}" for number in range(30)] * 3:
        exchange = world.arrive(**{"x-session": session})
        assert exchange.upstream is not None
        found.setdefault(session, set()).add(exchange.upstream.id)
        world.answer(exchange)
    assert all(len(replicas) == 1 for replicas in found.values())
    assert set.union(*found.values()) == {"r0", "r1", "r2"}


def test_affinity_never_waits_behind_a_full_replica() -> None:
    world = world_of(affinity=Affinity("header", "x-session"), concurrency_limit=2)
    exchanges = [world.arrive(**{"x-session": "s"}) for _ in range(7)]
    assert [one.phase == HELD for one in exchanges] == [False] * 6 + [True]


def test_a_held_request_goes_to_the_one_that_is_ready_and_to_its_own_where_there_are_several() -> None:
    world = world_of(affinity=Affinity("header", "x-session"))
    favourites: dict[str, Any] = {}
    for session in "abcdef":
        exchange = world.arrive(**{"x-session": session})
        favourites[session] = exchange.upstream
        world.answer(exchange)
    assert len(set(favourites.values())) == 3
    for session, favourite in favourites.items():
        for name in world.hold.replicas:
            world.hold.close_gate(name)
        held_one = world.arrive(**{"x-session": session})
        for replica in world.hold.replicas.values():
            replica.gate.reopen()  # all at once, which no caller can do
            world.hold._takers.reopen(replica)
        world.hold.release_more(world.now_s)
        assert held_one.upstream is favourite
        world.answer(held_one)
    for name in world.hold.replicas:
        world.hold.close_gate(name)
    held = [world.arrive(**{"x-session": session}) for session in favourites]
    world.hold.reopen_gate("r1", world.now_s)
    assert {one.upstream.id for one in held if one.upstream is not None} == {"r1"}


def test_the_same_prompt_goes_to_the_same_replica_whatever_stands_before_it() -> None:
    world = world_of()
    head = b'{"model":"m","temperature":0.%d,"messages":[{"role":"system","content":"%b"}]}'
    names = {talk(world, head % (number, b"x" * 100)) for number in range(9)}
    assert len(names) == 1
    others = {talk(world, head % (1, b"%d" % number * 50)) for number in range(20)}
    assert others == {"r0", "r1", "r2"}


def test_a_long_body_is_placed_when_its_begin_has_come_and_nothing_of_it_is_lost() -> None:
    world = world_of()
    exchange, sides = post(world, 1 << 20)
    exchange.on_request_data(b"a" * (FULL_BYTES - 1), world.now_s)
    assert exchange.phase == ROUTING
    exchange.on_request_data(b"b", world.now_s)
    assert exchange.upstream is not None
    exchange.on_request_data(b"c", world.now_s)
    connection: Any = exchange.connection
    sent = "".join(said.removeprefix("replica: data ") for said in connection.said if "data" in said)
    assert sent == "a" * (FULL_BYTES - 1) + "bc"
    assert (world.hold.meter.arrivals, world.hold.meter.in_flight, sides.memory.used_bytes) == (1, 1, 0)


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it_once() -> None:
    world = world_of()
    exchange, sides = post(world, 10, Expect="100-continue")
    assert sides.said.count("client: 100") == 1
    exchange.on_request_data(b"0123456789", world.now_s)
    exchange.on_request_end([], world.now_s)
    assert exchange.upstream is not None
    assert sides.said.count("client: 100") == 1


@pytest.mark.parametrize("count", [0, 1], ids=["nobody ready", "one replica"])
def test_where_there_is_no_choice_nothing_is_read_first(count: int) -> None:
    world = world_of(count)
    exchange, _ = post(world, 1000)
    assert exchange.phase != ROUTING


def test_a_client_that_leaves_while_its_prompt_comes_is_counted_once_and_leaves_nothing() -> None:
    world = world_of()
    exchange, sides = post(world, 1000)
    exchange.on_request_data(b"abc", world.now_s)
    exchange.on_downstream_gone(world.now_s)
    meter = world.hold.meter
    assert (meter.arrivals, meter.abandoned, meter.in_flight, meter.held) == (1, 1, 0, 0)
    assert (sides.memory.used_bytes, exchange.result) == (0, Result.ABANDONED)


def test_a_prompt_whose_replicas_went_meanwhile_is_held() -> None:
    world = world_of()
    exchange, _ = post(world, 3)
    for name in tuple(world.hold.replicas):
        world.hold.remove(name)
    exchange.on_request_data(b"abc", world.now_s)
    exchange.on_request_end([], world.now_s)
    assert (exchange.phase, world.wakes, world.hold.meter.held) == (HELD, 1, 1)


def test_with_no_memory_left_a_prompt_is_not_waited_for() -> None:
    world = world_of()
    sides = Sides()
    sides.memory = BufferMemory(limit_bytes=0)
    exchange = Exchange(sides, request("POST", body=1000), world.now_s)
    world.hold.place(exchange, world.now_s)
    assert exchange.upstream is not None


def test_a_body_over_its_limit_is_refused_by_its_announced_length_and_nothing_is_asked_for() -> None:
    world = world_of(affinity=None, body_limit_bytes=1000)
    exchange, sides = post(world, 1001, Expect="100-continue")
    assert sides.said == ["client: refused 413 body_over_limit"]
    assert (exchange.upstream, world.hold.meter.arrivals, world.hold.meter.refused) == (None, 1, 1)
    at_the_limit, _ = post(world, 1000)
    assert at_the_limit.upstream is not None


@pytest.mark.parametrize("count", [0, 3], ids=["held", "sent"])
def test_a_body_of_unknown_length_is_refused_when_it_is_over_the_limit(count: int) -> None:
    world = world_of(count, affinity=None, body_limit_bytes=1000)
    exchange, sides = post(world)
    exchange.on_request_data(b"x" * 1000, world.now_s)
    assert exchange.result is None
    exchange.on_request_data(b"x", world.now_s)
    assert (exchange.status, exchange.code) == (413, "body_over_limit")
    assert (world.hold.meter.in_flight, world.hold.meter.held, sides.memory.used_bytes) == (0, 0, 0)
    assert not world.hold.notices()


def test_a_prompt_that_comes_in_pieces_is_not_waited_for_where_the_memory_is_full_by_now() -> None:
    world = world_of()
    exchange, sides = post(world)
    sides.memory = BufferMemory(800)
    exchange.on_request_data(b"x", world.now_s)
    assert exchange.phase == ROUTING
    sides.memory.used_bytes = 800
    exchange.on_request_data(b"y", world.now_s)
    assert exchange.phase == SENT
