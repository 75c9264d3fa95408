"""What the watches tell, brought to runtime and deciding side in an order that ends nobody's replicas."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from autoscaler.cluster.coverage import Coverage
from autoscaler.cluster.services import Services
from autoscaler.decision import Pin
from autoscaler.loop import Autoscaler
from tests.autoscaler.virtual import VirtualLoop
from tests.zerogate.kube.test_catalog import workload
from zerogate.kube.acts import WriteScale
from zerogate.kube.catalog import Catalog
from zerogate.kube.event_book import Happening
from zerogate.kube.objects import DEPLOYMENTS, Workload
from zerogate.kube.pins import PIN, pin_text
from zerogate.kube.runtime import KubernetesRuntime
from zerogate.tasks import Nursery

NAME = "ml/llama"
WALL_S = 1_790_000_000.0


class Hands:
    def __init__(self) -> None:
        self.writes: list[WriteScale] = []

    async def write_scale(self, target: Any, write: WriteScale, is_due: Any) -> int:
        self.writes.append(write)
        return 50

    async def write_cost(self, target: Any, pod: str, cost: int) -> None: ...

    async def write_floor(self, target: Any, replicas: int, is_due: Any) -> int:
        return replicas

    def tell_foreign(self, target: Any, write: Any, *, is_hands_off: bool) -> None: ...


class Room:
    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.hands = Hands()
        self.runtime = KubernetesRuntime(self.hands, Nursery(), call_later=loop.call_later, clock=loop.time)
        self.runtime.lead(True)
        self.autoscaler = Autoscaler(
            self.runtime, loop=loop, busy=lambda _: 0, activity=lambda _: None, clock=loop.time,
            wall=lambda: WALL_S, unmetered=lambda service: self.it.unmetered(service),
        )  # fmt: skip
        self.autoscaler.start()
        self.seen: dict[str, Workload] = {}
        self.told: list[Happening] = []
        self.with_another_hpa: list[str] = []
        self.catalog = Catalog()
        self.it = Services(
            self.runtime, self.autoscaler, Coverage(lambda _: False),
            workload_of=self.seen.get, tell=self.told.append,
            on_hpa=self.with_another_hpa.append, wall=lambda: WALL_S,
        )  # fmt: skip

    def show(self, seen: Workload, *, version: int = 7) -> None:
        self.seen[NAME] = seen
        self.catalog.set_workload("Deployment", DEPLOYMENTS, seen)
        self.it.on_services(self.catalog.services())
        if NAME in self.it.entries:
            self.it.on_number(NAME, seen.spec.replicas or 0, version)

    def pin(self) -> Pin | None:
        return self.autoscaler.view(NAME).pin


@pytest.fixture
def room() -> Iterator[Room]:
    loop = VirtualLoop()
    yield Room(loop)
    loop.run_for(0.0)
    loop.close()


def noted(pin: str | None) -> Workload:
    seen = workload(enabled="true")
    notes = {**(seen.metadata.annotations or {}), **({PIN: pin} if pin else {})}
    return msgspec.structs.replace(seen, metadata=msgspec.structs.replace(seen.metadata, annotations=notes))


def test_a_workload_that_is_taken_away_keeps_its_replicas(room: Room) -> None:
    room.show(workload(enabled="true"))
    room.loop.run_for(1.0)
    room.show(workload())
    room.loop.run_for(60.0)
    assert (room.hands.writes, room.it.entries) == ([], {})


def test_the_pin_that_is_noted_holds_until_it_is_over_or_gone(room: Room) -> None:
    room.show(noted(pin_text(1, None)))
    assert room.pin() == Pin(replicas=1)
    room.show(noted(pin_text(0, WALL_S + 60.0)), version=8)
    assert room.pin() == Pin(replicas=0, until_wall_s=WALL_S + 60.0)
    room.show(noted(pin_text(1, WALL_S - 1.0)), version=9)
    assert room.pin() is None
    room.show(noted(pin_text(1, None)), version=10)
    room.show(noted(None), version=11)
    assert room.pin() is None


def test_another_hpa_is_told_also_where_the_workload_itself_stays_as_it_is(room: Room) -> None:
    room.show(workload(enabled="true"))
    room.catalog.set_namespace("ml", {"zerogate.dev/hpa": "floor"})
    room.it.on_services(room.catalog.services())
    room.it.on_services(room.catalog.services())
    assert room.with_another_hpa == [NAME]
    room.catalog.set_namespace("ml", None)
    room.it.on_services(room.catalog.services())
    assert room.with_another_hpa == [NAME, NAME]


def test_each_mistake_is_told_once_and_again_by_the_next_leader(room: Room) -> None:
    room.show(workload(enabled="true", min_replicas="many"))
    room.show(workload(enabled="true", min_replicas="many"))
    (event,) = room.told
    assert event.reason == "WrongPolicy"
    assert "zerogate.dev/min-replicas" in event.note
    room.it.begin_to_lead()
    assert len(room.told) == 2
