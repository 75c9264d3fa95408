"""What every runtime must do: the tests of `zerogate.runtime.interface`, run by each implementation.

`RuntimeContract` is for all of them, `OwnerContract` for those that start and stop replicas themselves instead of
asking somebody's controllers. A test module derives from one of them and gives a `world` fixture. Services of the
world: `a` with at most two replicas, `b` with at most one.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from zerogate.runtime.interface import BackOff, EndCause, Replica, ReplicaState, Runtime, Scale

STARTING, READY, DRAINING, GONE = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING, ReplicaState.GONE

CEILINGS = {"a": 2, "b": 1}

LEGAL = {
    STARTING: {READY, DRAINING, GONE},
    READY: {DRAINING, GONE},
    DRAINING: {READY, GONE},
    GONE: set(),
}


class Recorder:
    """An observer that keeps everything, and checks the life of each replica as it is told."""

    def __init__(self, *, is_late: bool = False) -> None:
        """`is_late`: replicas may have begun before it listened."""
        self.legal_first = {STARTING, READY, DRAINING} if is_late else {STARTING, GONE}
        self.faults: list[str] = []
        self.history: list[Replica] = []
        self.back_offs: list[tuple[str, BackOff | None]] = []
        self.now: dict[str, Replica] = {}
        self.most_alive: dict[str, int] = {}
        self._changed = asyncio.Event()

    def on_replica(self, replica: Replica) -> None:
        before = self.now.get(replica.id)
        legal = LEGAL[before.state] if before else self.legal_first
        if before is not None and before.state is STARTING and replica.is_overdue is not before.is_overdue:
            legal = legal | {STARTING}
        if replica.state not in legal or (replica.ended is not None) != (replica.state is GONE):
            self.faults.append(f"{before} became {replica}")
        self.history.append(replica)
        self.now[replica.id] = replica
        alive = sum(r.service == replica.service and r.state is not GONE for r in self.now.values())
        self.most_alive[replica.service] = max(alive, self.most_alive.get(replica.service, 0))
        self._changed.set()

    def on_back_off(self, service: str, back_off: BackOff | None) -> None:
        self.back_offs.append((service, back_off))
        self._changed.set()

    def ids(self, service: str, *states: ReplicaState) -> list[str]:
        return [r.id for r in self.now.values() if r.service == service and r.state in states]

    def states(self, replica_id: str) -> list[ReplicaState]:
        return [r.state for r in self.history if r.id == replica_id]

    async def until(self, condition: Callable[[], object], *, within_s: float = 10.0) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Gates:
    """A Quiescer: somebody is inside the replicas in `busy`."""

    def __init__(self) -> None:
        self.busy: set[str] = set()
        self.closed: list[str] = []
        self.reopened: list[str] = []

    def close_gate(self, replica_id: str) -> bool:
        self.closed.append(replica_id)
        return replica_id not in self.busy

    def reopen_gate(self, replica_id: str) -> None:
        self.reopened.append(replica_id)


class World(ABC):
    """A runtime with an observer and gates, and the power over its replicas."""

    runtime: Runtime

    def __init__(self, *, is_late: bool = False) -> None:
        self.seen = Recorder(is_late=is_late)
        self.gates = Gates()
        self._generation = 0

    @abstractmethod
    async def make_ready(self, replica_id: str) -> None:
        """The replica answers from now on."""

    @abstractmethod
    async def crash(self, replica_id: str) -> None:
        """The replica ends by itself with exit code 3."""

    def check(self) -> None:
        """Nothing that was told broke the rules: call it at the end of each test."""
        assert self.seen.faults == []

    def scale(self, service: str, replicas: int, *, victims: tuple[str, ...] = ()) -> None:
        self._generation += 1
        self.runtime.scale(
            Scale(service=service, replicas=replicas, generation=self._generation, victims=victims, cause="test")
        )

    async def ready(self, service: str, count: int) -> list[str]:
        """Scale the service up to `count` replicas and make all of them ready; their ids, oldest first."""
        self.scale(service, count)
        await self.seen.until(lambda: len(self.seen.ids(service, STARTING, READY)) == count)
        ids = self.seen.ids(service, STARTING, READY)
        for replica_id in self.seen.ids(service, STARTING):
            await self.make_ready(replica_id)
        await self.seen.until(lambda: len(self.seen.ids(service, READY)) == count)
        return ids


class RuntimeContract:
    """The tests. `world` is a fixture of the derived class, subscribed and with its gates set."""

    async def test_a_replica_is_told_as_starting_and_then_ready(self, world: World) -> None:
        (one,) = await world.ready("a", 1)
        assert world.seen.states(one) == [STARTING, READY]
        told = world.seen.now[one]
        assert told.ready_s is not None
        assert told.ready_s >= told.started_s
        assert told.address.port > 0
        assert world.runtime.replicas() == [told]

    async def test_replicas_have_ids_and_addresses_of_their_own(self, world: World) -> None:
        await world.ready("a", 2)
        replicas = world.runtime.replicas()
        assert len({r.id for r in replicas}) == len({str(r.address) for r in replicas}) == 2

    async def test_no_more_replicas_live_than_the_ceiling_allows(self, world: World) -> None:
        world.scale("a", 7)
        await world.seen.until(lambda: len(world.seen.ids("a", STARTING)) == 2)
        one, two = world.seen.ids("a", STARTING)
        await world.make_ready(one)
        await world.make_ready(two)
        await world.seen.until(lambda: len(world.seen.ids("a", READY)) == 2)
        assert world.seen.most_alive["a"] == 2

    async def test_an_older_generation_is_ignored(self, world: World) -> None:
        (one,) = await world.ready("a", 1)
        world.runtime.scale(Scale(service="a", replicas=0, generation=0))
        assert world.seen.now[one].state is READY
        assert world.gates.closed == []

    async def test_a_service_that_is_not_there_is_ignored(self, world: World) -> None:
        world.scale("nobody", 1)
        assert world.runtime.replicas() == []

    async def test_an_idle_victim_is_stopped(self, world: World) -> None:
        (one,) = await world.ready("a", 1)
        world.scale("a", 0)
        await world.seen.until(lambda: world.seen.now[one].state is GONE)
        assert world.gates.closed == [one]
        assert world.seen.states(one) == [STARTING, READY, DRAINING, GONE]
        ended = world.seen.now[one].ended
        assert ended is not None
        assert ended.cause is EndCause.STOPPED
        assert world.runtime.replicas() == []
        assert world.seen.back_offs == []

    async def test_a_victim_with_somebody_inside_waits_for_the_last_to_leave(self, world: World) -> None:
        (one,) = await world.ready("a", 1)
        world.gates.busy = {one}
        world.scale("a", 0)
        await world.seen.until(lambda: world.seen.now[one].state is DRAINING)
        assert [r.id for r in world.runtime.replicas()] == [one]
        world.runtime.on_idle(one)
        await world.seen.until(lambda: world.seen.now[one].state is GONE)

    async def test_scaling_up_again_reopens_a_draining_replica(self, world: World) -> None:
        (one,) = await world.ready("a", 1)
        world.gates.busy = {one}
        world.scale("a", 0)
        await world.seen.until(lambda: world.seen.now[one].state is DRAINING)
        world.scale("a", 1)
        await world.seen.until(lambda: world.seen.now[one].state is READY)
        assert world.gates.reopened == [one]
        world.runtime.on_idle(one)  # late news of the drain that was called off
        assert world.seen.ids("a", STARTING, READY, DRAINING) == [one]
        assert world.seen.now[one].state is READY

    async def test_named_victims_go_first(self, world: World) -> None:
        old, young = await world.ready("a", 2)
        world.scale("a", 1, victims=(old,))
        await world.seen.until(lambda: world.seen.now[old].state is GONE)
        assert world.seen.now[young].state is READY

    async def test_a_starting_replica_can_be_stopped(self, world: World) -> None:
        world.scale("a", 1)
        await world.seen.until(lambda: world.seen.ids("a", STARTING))
        (one,) = world.seen.ids("a", STARTING)
        world.scale("a", 0)
        await world.seen.until(lambda: world.seen.now[one].state is GONE)
        assert world.seen.now[one].ready_s is None

    async def test_a_late_subscriber_is_told_what_there_is(self, world: World) -> None:
        await world.ready("a", 1)
        late = Recorder(is_late=True)
        world.runtime.subscribe(late)
        assert late.history == world.runtime.replicas()

    async def test_a_crash_is_told_with_its_exit_code_and_replaced_at_once(self, world: World) -> None:
        (one,) = await world.ready("a", 1)
        await world.crash(one)
        await world.seen.until(lambda: world.seen.ids("a", STARTING))
        ended = world.seen.now[one].ended
        assert ended is not None
        assert (ended.cause, ended.exit_code) == (EndCause.CRASHED, 3)
        assert world.seen.states(one).count(GONE) == 1


class OwnerContract(RuntimeContract):
    """The tests of a runtime whose replicas are its own doing."""

    async def test_a_replica_has_a_process(self, world: World) -> None:
        (one,) = await world.ready("a", 1)
        assert world.seen.now[one].pid is not None

    async def test_a_start_waits_for_the_end_of_the_one_whose_place_it_takes(self, world: World) -> None:
        (old,) = await world.ready("b", 1)
        world.scale("b", 0)
        world.scale("b", 1)
        await world.seen.until(lambda: world.seen.ids("b", STARTING))
        assert world.seen.now[old].state is GONE
        assert world.seen.most_alive["b"] == 1

    async def test_a_replica_that_was_told_to_stop_is_not_reopened(self, world: World) -> None:
        (old,) = await world.ready("a", 1)
        world.scale("a", 0)
        world.scale("a", 1)
        await world.seen.until(lambda: world.seen.ids("a", STARTING))
        assert world.gates.reopened == []
        await world.seen.until(lambda: world.seen.now[old].state is GONE)

    async def test_a_starting_replica_is_no_victim_while_a_ready_one_is_there(self, world: World) -> None:
        (ready,) = await world.ready("a", 1)
        world.scale("a", 2)
        await world.seen.until(lambda: world.seen.ids("a", STARTING))
        (starting,) = world.seen.ids("a", STARTING)
        world.scale("a", 1)
        await world.seen.until(lambda: world.seen.now[ready].state is GONE)
        assert world.seen.now[starting].state is STARTING

    async def test_a_failed_start_suspends_further_ones_until_somebody_clears_it(self, world: World) -> None:
        world.scale("a", 1)
        await world.seen.until(lambda: world.seen.ids("a", STARTING))
        (one,) = world.seen.ids("a", STARTING)
        await world.crash(one)
        await world.seen.until(lambda: world.seen.now[one].state is GONE)
        ended = world.seen.now[one].ended
        assert ended is not None
        assert ended.cause is EndCause.START_FAILED
        service, back_off = world.seen.back_offs[-1]
        assert service == "a"
        assert back_off is not None
        assert back_off.failures == 1
        assert back_off.last.cause is EndCause.START_FAILED
        world.scale("a", 1)
        assert world.runtime.replicas() == []
        world.runtime.clear_back_off("a")
        assert world.seen.back_offs[-1] == ("a", None)
        await world.seen.until(lambda: world.seen.ids("a", STARTING))

    async def test_closing_stops_everything_and_starts_nothing(self, world: World) -> None:
        first, second = await world.ready("a", 2)
        world.gates.busy = {first}
        await world.runtime.aclose(drain_deadline_s=0.05)
        assert world.runtime.replicas() == []
        assert [world.seen.now[id_].state for id_ in (first, second)] == [GONE, GONE]
        world.scale("a", 1)
        assert world.runtime.replicas() == []
