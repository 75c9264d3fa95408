from collections.abc import AsyncIterator

import pytest

from tests.zerogate.runtime.contract import CEILINGS, GONE, OwnerContract, World
from zerogate.runtime.fake import FakeRuntime
from zerogate.runtime.interface import EndCause, Ended, ReplicaState, Scale


class FakeWorld(World):
    def __init__(self, runtime: FakeRuntime) -> None:
        super().__init__()
        self.runtime: FakeRuntime = runtime

    async def make_ready(self, replica_id: str) -> None:
        self.runtime.become_ready(replica_id)

    async def crash(self, replica_id: str) -> None:
        was_ready = self.seen.now[replica_id].ready_s is not None
        cause = EndCause.CRASHED if was_ready else EndCause.START_FAILED
        self.runtime.fail(replica_id, Ended(cause=cause, detail="it was told to", exit_code=3))


class TestFakeRuntime(OwnerContract):
    @pytest.fixture(params=[True, False], ids=["stops at once", "stops when told"])
    async def world(self, request: pytest.FixtureRequest) -> AsyncIterator[FakeWorld]:
        runtime = FakeRuntime(CEILINGS, stops_at_once=request.param)
        world = FakeWorld(runtime)
        runtime.subscribe(world.seen)
        runtime.set_quiescer(world.gates)
        if not request.param:
            until = world.seen.until

            async def finish_and_wait(*args: object, **kwargs: object) -> None:
                for replica_id in list(runtime.stopping):
                    runtime.finish_stop(replica_id)
                await until(*args, **kwargs)  # type: ignore[arg-type]

            world.seen.until = finish_and_wait  # type: ignore[method-assign]
        yield world
        await runtime.aclose(drain_deadline_s=0)
        world.check()


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def fail_once(runtime: FakeRuntime) -> None:
    (replica,) = runtime.replicas()
    runtime.fail(replica.id, Ended(cause=EndCause.START_FAILED, detail="no"))


def test_after_the_back_off_what_is_still_wanted_is_started() -> None:
    clock = Clock()
    runtime = FakeRuntime({"a": 1}, now=clock)
    runtime.scale(Scale(service="a", replicas=1, generation=1))
    fail_once(runtime)
    clock.now_s = 100.9
    runtime.try_again()
    assert runtime.replicas() == []
    clock.now_s = 101.0
    runtime.try_again()
    assert [r.state for r in runtime.replicas()] == [ReplicaState.STARTING]
    fail_once(runtime)
    assert runtime.revisits == {"a": 103.0}, "the second failure in a row doubles the delay"


def test_after_the_back_off_nothing_starts_that_nobody_wants_any_more() -> None:
    clock = Clock()
    runtime = FakeRuntime({"a": 1}, now=clock)
    runtime.scale(Scale(service="a", replicas=1, generation=1))
    fail_once(runtime)
    runtime.scale(Scale(service="a", replicas=0, generation=2))
    clock.now_s = 200.0
    runtime.try_again()
    assert runtime.replicas() == []


def test_changed_services_are_replaced_and_removed_ones_stopped() -> None:
    runtime = FakeRuntime({"a": 1, "b": 1, "c": 1})
    for service in "abc":
        runtime.scale(Scale(service=service, replicas=1, generation=1))
    runtime.configure({"a": 1, "b": 1}, changed=["b"])
    assert [r.id for r in runtime.replicas()] == ["a-1", "b-4"]


def test_an_observer_may_scale_while_it_is_told() -> None:
    runtime = FakeRuntime({"a": 2})
    told: list[tuple[str, ReplicaState]] = []

    class Restless:
        def on_replica(self, replica: object) -> None:
            told.append((replica.id, replica.state))  # type: ignore[attr-defined]
            if len(told) == 1:
                runtime.scale(Scale(service="a", replicas=0, generation=2))

        def on_back_off(self, service: str, back_off: object) -> None:
            pass

    runtime.subscribe(Restless())
    runtime.scale(Scale(service="a", replicas=2, generation=1))
    assert runtime.replicas() == []
    assert told[0] == ("a-1", ReplicaState.STARTING)
    assert told[-1] == ("a-1", GONE)
    assert len(told) == 3, "the second replica was never started"
