"""Replicas that cannot be reached, and the crowd that waits for them."""

from typing import Any

from activator.reach import MAX_ATTEMPTS
from activator.setbacks import REST_S
from tests.activator.world import World
from tests.zerogate.http.dialogue import Connection
from zerogate.http.exchange import Exchange
from zerogate.http.phases import CONNECTING, HELD


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
