"""Gates in sidecars, asked for by a runtime: which source is whose, what is told when, and who is how busy."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from autoscaler.quiescer import SidecarQuiescer
from autoscaler.rounds import ENDED_S
from tests.autoscaler.sidecars import Fleet
from tests.zerogate.kube.cluster import Cluster
from zerogate.clock import now
from zerogate.kube.acts import Order as Victims
from zerogate.kube.acts import WriteScale
from zerogate.kube.objects import DEPLOYMENTS
from zerogate.kube.runtime import KubernetesRuntime
from zerogate.kube.target import Target
from zerogate.reporting.wire import Order, Quiesce, Quiesced, Reopen
from zerogate.runtime.interface import ReplicaState, Scale
from zerogate.tasks import Nursery


class Mouth:
    """Sidecars that answer by themselves: so many are inside of each."""

    def __init__(self, quiescer: SidecarQuiescer) -> None:
        self.quiescer = quiescer
        self.inside: dict[str, int] = {}
        self.orders: list[tuple[str, Order]] = []
        self._last: dict[str, Order] = {}
        self._sequence = 0

    def tell(self, source: str, order: Order) -> bool:
        self.orders.append((source, order))
        self._last[source] = order
        if source not in self.inside:
            return False
        asyncio.get_running_loop().call_soon(self.say, source)
        return True

    def come(self, source: str, inside: int = 0, incarnation: str = "i") -> None:
        """Its sidecar has a stream."""
        self.inside[source] = inside
        self.quiescer.on_source(source, incarnation)

    def go(self, source: str) -> None:
        del self.inside[source]
        self.quiescer.on_source_lost(source)

    def change(self, source: str, inside: int) -> None:
        self.inside[source] = inside
        self.say(source)

    def say(self, source: str) -> None:
        order = self._last[source]
        self._sequence += 1
        word = Quiesced(order.asker, order.number, self._sequence, self.inside[source], order.replica)
        self.quiescer.on_quiesced(source, "i", word)

    def kinds(self, source: str) -> list[type[Order]]:
        return [type(order) for whose, order in self.orders if whose == source]


async def turns() -> None:
    """Whatever is under way has happened."""
    for _ in range(50):
        await asyncio.sleep(0)


class World:
    """A runtime over a cluster of the tests, whose pods of `chat` have sidecars."""

    def __init__(self) -> None:
        call_later = asyncio.get_running_loop().call_later
        self.nursery = Nursery()
        self.cluster = Cluster()
        self.runtime = KubernetesRuntime(self.cluster, self.nursery, call_later=call_later, clock=now)
        self.quiescer = SidecarQuiescer(self.runtime, call_later=call_later)
        self.mouth = Mouth(self.quiescer)
        self.quiescer.start(self.mouth)
        self.runtime.lead(True)
        target = Target(
            service="ml/chat", kind="Deployment", resource=DEPLOYMENTS, key=("ml", "chat"), uid="u",
            order=Victims.BY_COST, ceiling=3,
        )  # fmt: skip
        self.cluster.attach(self.runtime, [target])
        self._generation = 0

    async def scale(self, replicas: int, *victims: str) -> None:
        self._generation += 1
        self.runtime.scale(
            Scale(service="ml/chat", replicas=replicas, generation=self._generation, victims=victims)
        )  # fmt: skip
        await turns()

    async def ready(self, count: int) -> list[str]:
        """So many replicas, with sidecars."""
        await self.scale(count)
        names = list(self.cluster.pods["ml/chat"])
        for name in names:
            self.cluster.become_ready("ml/chat", name)
            self.mouth.come(f"ml/{name}")
        await turns()
        return names

    async def until(self, seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not seen():
                await asyncio.sleep(0.01)

    @property
    def number(self) -> int:
        return self.cluster.numbers["ml/chat"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    it = World()
    yield it
    it.quiescer.close()
    await it.runtime.aclose(drain_deadline_s=0)
    await it.nursery.aclose()


async def test_a_replica_is_taken_once_its_own_sidecar_says_that_nothing_is_inside(world: World) -> None:
    one, other = await world.ready(2)
    world.mouth.inside[f"ml/{one}"] = 2
    await world.scale(1, one)
    assert (world.number, world.mouth.kinds(f"ml/{one}"), world.mouth.kinds(f"ml/{other}")) == (2, [Quiesce], [])
    assert world.quiescer.waits("ml/chat") == (f"ml/{one} has 2 inside, which may finish; then it is stopped.",)
    assert world.quiescer.waits("ml/other") == ()
    world.mouth.change(f"ml/{one}", 0)
    await world.until(lambda: world.number == 1)
    assert world.cluster.writes[-1] == WriteScale(2, 1, (one,))


async def test_one_that_is_busy_after_all_is_not_taken(world: World) -> None:
    one, _ = await world.ready(2)
    world.mouth.inside[f"ml/{one}"] = 1
    await world.scale(1, one)
    write_cost = world.cluster.write_cost

    async def and_then_somebody_comes(target: Target, pod: str, cost: int) -> None:
        world.mouth.change(f"ml/{one}", 1)
        await write_cost(target, pod, cost)

    world.cluster.write_cost = and_then_somebody_comes  # type: ignore[method-assign]
    world.mouth.change(f"ml/{one}", 0)
    await turns()
    assert world.number == 2
    world.mouth.change(f"ml/{one}", 0)
    await world.until(lambda: world.number == 1)


async def test_one_that_stays_after_all_is_opened(world: World) -> None:
    one, _ = await world.ready(2)
    world.mouth.inside[f"ml/{one}"] = 1
    await world.scale(1, one)
    await world.scale(2)
    assert world.mouth.kinds(f"ml/{one}") == [Quiesce, Reopen]
    assert world.quiescer.shut == 0


async def test_a_ready_one_that_cannot_be_asked_is_not_taken_and_said(world: World) -> None:
    one, _ = await world.ready(2)
    world.mouth.go(f"ml/{one}")
    await world.scale(1, one)
    assert world.number == 2
    assert f"The sidecar of ml/{one} has not been heard" in world.quiescer.waits("ml/chat")[0]
    world.mouth.come(f"ml/{one}")
    await world.until(lambda: world.number == 1)


async def test_one_that_never_was_ready_and_has_no_sidecar_that_speaks_is_taken_at_once(world: World) -> None:
    await world.scale(1)
    # the watch has shown it for as long as zero waits for pods that are not seen
    assert (world.number, world.quiescer.waits("ml/chat")) == (1, ())
    await world.scale(0)
    await world.until(lambda: world.number == 0)
    assert (world.mouth.inside, world.quiescer.waits("ml/chat")) == ({}, ()), "nobody was heard, nor waited for"


async def test_a_pod_whose_container_was_restarted_meanwhile_is_taken_as_what_it_is_now(world: World) -> None:
    one, _ = await world.ready(2)
    world.mouth.inside[f"ml/{one}"] = 1
    await world.scale(1, one)
    world.cluster.crash("ml/chat", one, 3)
    await turns()
    world.mouth.change(f"ml/{one}", 0)
    await world.until(lambda: world.number == 1)
    assert one not in world.cluster.pods["ml/chat"]


async def test_who_does_not_lead_any_more_renews_nothing_and_begins_anew_when_it_leads_again(world: World) -> None:
    one, _ = await world.ready(2)
    world.mouth.inside[f"ml/{one}"] = 1
    await world.scale(1, one)
    world.runtime.lead(False)
    world.quiescer.lead(False)
    assert (world.quiescer.shut, world.mouth.kinds(f"ml/{one}")) == (0, [Quiesce])
    world.quiescer.lead(True)
    world.runtime.lead(True)
    await turns()
    assert world.mouth.kinds(f"ml/{one}") == [Quiesce, Quiesce]


def fleet() -> tuple[Fleet, SidecarQuiescer]:
    it = Fleet("a")
    quiescer = SidecarQuiescer(it, call_later=asyncio.get_running_loop().call_later)
    quiescer.start(Mouth(quiescer))
    return it, quiescer


async def test_who_is_busy_is_known_from_reports_and_a_ready_one_that_cannot_be_asked_counts_as_busy() -> None:
    it, quiescer = fleet()
    assert quiescer.busy("r-a") == 0
    it.show("r-a", ReplicaState.STARTING)
    assert quiescer.busy("r-a") == 0
    it.show("r-a", ReplicaState.READY, 1.0)
    assert quiescer.busy("r-a") == 1
    quiescer.on_source("a", "i1")
    assert quiescer.busy("r-a") == 0
    quiescer.on_in_flight("a", 3)
    assert quiescer.busy("r-a") == 3
    quiescer.on_source_lost("a")
    assert quiescer.busy("r-a") == 3
    quiescer.on_source("a", "i2")
    assert quiescer.busy("r-a") == 0


async def test_a_replica_that_ended_before_its_pod_was_gone_is_not_waited_for() -> None:
    it, quiescer = fleet()
    it.all_ready()
    quiescer.on_source("a", "i1")
    quiescer.close_gate("r-a")
    it.show("r-a", ReplicaState.GONE)
    quiescer.on_source_lost("a")
    assert quiescer.waits("chat"), "its pod may have another life"
    it.sources.clear()
    assert not quiescer.waits("chat")
    assert quiescer.shut == 0
    quiescer.close()


async def test_nothing_is_kept_of_replicas_and_sources_that_are_gone() -> None:
    it, quiescer = fleet()
    it.all_ready()
    quiescer.on_source("a", "i1")
    quiescer.on_in_flight("a", 3)
    quiescer.on_source("gateway", "i1")
    quiescer.on_in_flight("gateway", 3)
    quiescer.on_source_lost("gateway")
    quiescer.close_gate("r-a")
    it.sources.clear()
    it.show("r-a", ReplicaState.GONE)
    quiescer.on_source_lost("a")
    kept = {name: value for name, value in vars(quiescer).items() if isinstance(value, dict) and value}
    assert (kept, quiescer.shut) == ({}, 0)
    quiescer.close()


def rounds(*holders: str) -> tuple[Fleet, SidecarQuiescer, Mouth]:
    """A replica without a sidecar, and gateways that answer by themselves."""
    it = Fleet("ml/plain")
    quiescer = SidecarQuiescer(it, call_later=asyncio.get_running_loop().call_later, is_bare=lambda _: True)
    mouth = Mouth(quiescer)
    quiescer.start(mouth)
    it.all_ready()
    quiescer.set_holders(dict.fromkeys(holder.rpartition("/")[0] for holder in holders))
    for holder in holders:
        mouth.inside[holder] = 0
        quiescer.on_holder(holder, "i")
    return it, quiescer, mouth


async def test_a_replica_without_a_sidecar_is_idle_when_all_gateways_say_so() -> None:
    it, quiescer, mouth = rounds("sys/a/1", "sys/b/1")
    mouth.inside["sys/b/1"] = 2
    assert not quiescer.close_gate("r-ml/plain")
    await turns()
    assert [(whose, order.replica) for whose, order in mouth.orders] == [
        ("sys/a/1", "ml/plain"), ("sys/b/1", "ml/plain")
    ]  # fmt: skip
    assert (it.idle, quiescer.shut, quiescer.waiting) == (set(), 1, 1)
    assert quiescer.waits("chat") == ("Gateways have requests inside ml/plain, which may finish; then it is stopped.",)
    mouth.change("sys/b/1", 0)
    await turns()
    assert it.idle == {"r-ml/plain"}
    mouth.change("sys/b/1", 1)
    await turns()
    assert not it.idle
    quiescer.close()


async def test_gateways_are_told_when_it_stays_and_nothing_is_kept_when_it_is_gone() -> None:
    it, quiescer, mouth = rounds("sys/a/1")
    quiescer.close_gate("r-ml/plain")
    quiescer.reopen_gate("r-ml/plain")
    assert mouth.kinds("sys/a/1") == [Quiesce, Reopen]
    quiescer.close_gate("r-ml/plain")
    it.sources.clear()
    it.show("r-ml/plain", ReplicaState.GONE)
    await turns()
    assert (quiescer.shut, quiescer.waits("chat")) == (0, ())
    quiescer.close()


async def test_a_gateway_that_is_not_heard_keeps_a_replica_without_a_sidecar() -> None:
    it, quiescer, mouth = rounds("sys/a/1", "sys/b/1")
    quiescer.close_gate("r-ml/plain")
    await turns()
    assert it.idle
    quiescer.on_holder_lost("sys/b/1")
    await turns()
    assert not it.idle
    assert "What sys/b/1 has inside ml/plain is not known" in quiescer.waits("chat")[0]
    quiescer.set_holders(["sys/a"])
    await turns()
    assert it.idle
    quiescer.on_holder_left("sys/a/1")
    assert mouth.kinds("sys/b/1") == [Quiesce]
    quiescer.close()


async def test_who_does_not_lead_any_more_keeps_no_replica_without_a_sidecar_shut() -> None:
    it, quiescer, mouth = rounds("sys/a/1")
    quiescer.close_gate("r-ml/plain")
    assert quiescer.shut == 1
    quiescer.lead(False)
    assert (quiescer.shut, quiescer.waits("chat")) == (0, ())
    await turns()
    assert not it.idle
    assert mouth.kinds("sys/a/1") == [Quiesce], "whoever leads now may want it shut"
    quiescer.close()


async def test_what_a_worker_had_inside_that_says_goodbye_makes_nobody_busy() -> None:
    _, quiescer, _ = rounds("sys/a/1")
    quiescer.on_inside("sys/a/1", {"ml/plain": 2})
    quiescer.on_holder_left("sys/a/1")
    assert quiescer.busy("r-ml/plain") == 0
    quiescer.close()


async def test_who_is_busy_without_a_sidecar_is_known_from_all_gateways() -> None:
    _, quiescer, _ = rounds("sys/a/1", "sys/b/1")
    assert quiescer.busy("r-ml/plain") == 0
    quiescer.on_inside("sys/a/1", {"ml/plain": 2, "ml/other": 1})
    quiescer.on_inside("sys/b/1", {"ml/plain": 1})
    assert quiescer.busy("r-ml/plain") == 3
    quiescer.on_inside("sys/a/1", {})
    assert quiescer.busy("r-ml/plain") == 1
    quiescer.on_holder_lost("sys/b/1")
    assert quiescer.busy("r-ml/plain") == 1, "its last word"
    quiescer.set_holders(["sys/a"])
    assert quiescer.busy("r-ml/plain") == 0
    quiescer.close()


async def test_what_a_worker_had_inside_that_has_ended_makes_nobody_busy() -> None:
    now_s = 100.0
    it = Fleet("ml/plain")
    quiescer = SidecarQuiescer(
        it, call_later=asyncio.get_running_loop().call_later, clock=lambda: now_s, is_bare=lambda _: True
    )  # fmt: skip
    quiescer.start(Mouth(quiescer))
    it.all_ready()
    quiescer.set_holders(["sys/a"])
    quiescer.on_holder("sys/a/1", "i")
    quiescer.on_inside("sys/a/1", {"ml/plain": 2})
    quiescer.on_holder_lost("sys/a/1")
    quiescer.on_holder("sys/a/2", "i")
    assert quiescer.busy("r-ml/plain") == 2, "its last word"
    now_s += ENDED_S
    quiescer.on_holder("sys/a/3", "i")
    assert quiescer.busy("r-ml/plain") == 0
    quiescer.close()
