"""What a hold makes of what it is told of its replicas."""

from tests.activator.world import World
from tests.zerogate.http.dialogue import Sides, request
from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange


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


def test_a_refusal_without_a_next_try_keeps_its_own_retry_after() -> None:
    told: list[float | None] = []

    class Client(Sides):
        def send_refusal(self, refusal: Refusal, *, extra: bytes) -> None:
            told.append(refusal.retry_after_s)

    world = World()
    world.hold.fail(Refusal(status=503, code="shutting_down", detail="…", retry_after_s=5.0), float("inf"), 100.0)
    world.hold.place(Exchange(Client(), request(), world.now_s), world.now_s)
    assert told == [5.0]


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
