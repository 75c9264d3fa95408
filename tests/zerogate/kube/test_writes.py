"""What is written to the API server for a workload, and what is not written any more."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.zerogate.kube.test_fleet import a_fleet
from zerogate.clock import now
from zerogate.kube.acts import SetCost, WriteScale
from zerogate.kube.errors import Asked, NotDue, Unreachable
from zerogate.kube.fleet import Fleet
from zerogate.kube.foreign import ForeignWrite
from zerogate.kube.target import Target
from zerogate.kube.victims import VICTIM_COST
from zerogate.kube.writes import Writes
from zerogate.runtime.interface import Scale
from zerogate.tasks import Nursery


class Hand:
    """An API server whose turn comes when a test says so."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.costs: list[tuple[str, int]] = []
        self.tries = 0
        self.is_down = False
        self.turn = asyncio.Event()

    async def write_scale(self, target: Target, write: WriteScale, is_due: Callable[[], bool]) -> int:
        await self.turn.wait()
        if not is_due():
            raise NotDue(Asked(verb="patch"))
        self.numbers.append(write.new)
        return 7

    async def write_cost(self, target: Target, pod: str, cost: int) -> None:
        self.tries += 1
        await asyncio.sleep(0)
        if self.is_down:
            raise Unreachable(Asked(verb="patch"), "gone")
        self.costs.append((pod, cost))

    async def write_floor(self, target: Target, replicas: int, is_due: Callable[[], bool]) -> int:
        return replicas

    def tell_foreign(self, target: Target, write: ForeignWrite, *, is_hands_off: bool) -> None: ...


class World:
    def __init__(self) -> None:
        self.hand = Hand()
        self.nursery = Nursery()
        self.done: list[Fleet] = []
        self.writes = Writes(self.hand, self.nursery, clock=now, again=self.done.append)
        self.fleet, _, _ = a_fleet()

    def write(self) -> None:
        """Go from none to three."""
        steering = self.fleet.steering
        steering.lead(True)
        steering.on_number(0, 1, 0.0)
        steering.want(Scale(service="ml/chat", replicas=3, generation=1))
        (act,) = steering.step(1.0)
        assert isinstance(act, WriteScale)
        self.writes.start(self.fleet, act)

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not holds():
                await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    it = World()
    yield it
    it.hand.turn.set()
    it.hand.is_down = False
    await it.nursery.aclose()


@pytest.mark.parametrize("is_closed", [False, True], ids=["while it runs", "after its end"])
async def test_a_number_that_waits_for_its_turn_is_sent_unless_the_runtime_has_ended(
    world: World, is_closed: bool
) -> None:
    world.write()
    if is_closed:
        world.writes.close()
    world.hand.turn.set()
    await world.until(lambda: world.done)
    assert world.hand.numbers == ([] if is_closed else [3])


async def test_a_cost_is_written_each_time_that_it_is_another(world: World) -> None:
    for cost in (VICTIM_COST, 0, VICTIM_COST):
        before = len(world.hand.costs)
        world.writes.start(world.fleet, SetCost("a", cost))
        await world.until(lambda before=before: len(world.hand.costs) > before)  # type: ignore[misc]
        await asyncio.sleep(0)
    assert world.hand.costs == [("a", VICTIM_COST), ("a", 0), ("a", VICTIM_COST)]


async def test_of_several_costs_that_wait_the_last_one_counts(world: World) -> None:
    for cost in (VICTIM_COST, 0):
        world.writes.start(world.fleet, SetCost("a", cost))
    await world.until(lambda: world.hand.costs)
    assert world.hand.costs == [("a", 0)]


async def test_a_cost_that_could_not_be_written_is_not_tried_again_after_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerogate.kube.writes.AGAIN_S", 0.0)
    world.hand.is_down = True
    world.writes.start(world.fleet, SetCost("a", VICTIM_COST))
    await world.until(lambda: world.hand.tries > 2)
    world.writes.close()
    tries = world.hand.tries
    for _ in range(10):
        await asyncio.sleep(0)
    assert world.hand.tries == tries
