"""What a workload had is noted before its number is another, and given back once."""

import asyncio
from typing import Any

import msgspec
import pytest

from autoscaler.cluster.enabling import Enabling, Step, due
from autoscaler.cluster.records import ALL, HPA
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Asked, Unreachable
from zerogate.kube.floors import BEFORE
from zerogate.kube.keys import REPLICAS
from zerogate.kube.objects import DEPLOYMENTS, Hpa, Workload
from zerogate.tasks import Nursery

KEY = ("ml", "llama")


def workload(
    replicas: int = 1, *, had: str = "", status: str = "", hpa: str = "", name: str = "llama"
) -> Workload:  # fmt: skip
    notes = {"replicas": had, "status": status, "hpa": hpa}
    annotations = {f"state.zerogate.dev/{note}": value for note, value in notes.items() if value}
    meta = {"name": name, "namespace": "ml", "annotations": annotations}
    return msgspec.convert({"metadata": meta, "spec": {"replicas": replicas}}, Workload)


@pytest.mark.parametrize(
    ("seen", "is_managed", "step"),
    [
        (workload(), True, Step.RECORD),
        (workload(replicas=0), True, Step.RECORD),
        (workload(replicas=5, had="1"), True, Step.NOTHING),
        (workload(), False, Step.NOTHING),
        (workload(had="1"), False, Step.GIVE_BACK),
        (workload(status="{}"), False, Step.GIVE_BACK),
    ],
)
def test_what_is_due_without_an_hpa(seen: Workload, is_managed: bool, step: Step) -> None:
    assert due(seen, is_managed=is_managed) is step


@pytest.mark.parametrize(
    ("seen", "is_floored", "step"),
    [
        (workload(), True, Step.RECORD),
        (workload(had="1"), True, Step.RECORD),
        (workload(had="1", hpa="floor"), True, Step.NOTHING),
        (workload(had="1", hpa="floor"), False, Step.GIVE_FLOOR_BACK),
    ],
)
def test_what_is_due_with_an_hpa(seen: Workload, is_floored: bool, step: Step) -> None:
    assert due(seen, is_managed=True, is_floored=is_floored) is step


class Server(KubeClient):
    """Notes what is written. `moved`: its one HPA, whose floor was this before."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.moved = ""
        self.failures = 0

    async def merge_patch(self, *_: Any, **__: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise Unreachable(Asked(verb="patch"), "gone")
        self.written.append(_[2]["metadata"]["annotations"])
        if BEFORE in self.written[-1]:
            self.written[-1] = _[2]["spec"]["minReplicas"]
            self.moved = ""

    async def list(self, *_: Any, **__: Any) -> Any:
        meta = {"name": "llama", "namespace": "ml", "annotations": {BEFORE: self.moved} if self.moved else {}}
        spec = {"scaleTargetRef": {"kind": "Deployment", "name": "llama"}, "minReplicas": 5, "maxReplicas": 9}
        return [msgspec.convert({"metadata": meta, "spec": spec}, Hpa)], ""

    async def json_patch(self, *_: Any, **__: Any) -> Any:
        self.written.append(_[2][-1]["value"])


class Room:
    def __init__(self) -> None:
        self.server = Server()
        self.leads = self.managed = True
        self.floored = False
        self.ours: int | None = None
        self.floors_back: list[tuple[str, str]] = []
        self.it = Enabling(
            self.server, is_leader=lambda: self.leads, is_managed=lambda *_: self.managed,
            is_floored=lambda *_: self.floored, number_of_ours=lambda _: self.ours,
            on_floor_back=self.floors_back.append,
        )  # fmt: skip

    def look(self, seen: Workload) -> None:
        self.it.look("Deployment", DEPLOYMENTS, seen)

    async def settle(self) -> list[Any]:
        nursery = Nursery()
        nursery.start(self.it.run(), name="enabling")
        for _ in range(10):
            await asyncio.sleep(0)
        await nursery.aclose()
        return self.server.written


@pytest.fixture
def room() -> Room:
    return Room()


async def test_before_the_first_write_it_is_noted(room: Room) -> None:
    room.look(workload(replicas=2))
    await room.it.record_first("Deployment", KEY)
    assert room.server.written == [{REPLICAS: "2"}]
    await room.it.record_first("Deployment", KEY)
    assert await room.settle() == [{REPLICAS: "2"}]


async def test_who_does_not_lead_notes_nothing(room: Room) -> None:
    room.leads = False
    room.look(workload())
    assert await room.settle() == []


async def test_what_was_due_in_an_earlier_lead_is_not_done_in_the_next_one_before_it_is_looked_at(room: Room) -> None:
    room.managed = False
    room.look(workload(replicas=3, had="2"))
    room.leads = False
    assert await room.settle() == []
    room.leads = room.managed = True  # somebody else led, and the workload was put under zerogate again
    room.it.begin_to_lead()
    room.look(workload(name="another"))
    assert await room.settle() == [{REPLICAS: "1"}]


async def test_the_number_is_given_back_before_the_notes_go(room: Room) -> None:
    room.managed, room.ours = False, 3
    room.look(workload(replicas=3, had="2"))
    assert await room.settle() == [2, dict.fromkeys(ALL)]


async def test_who_writes_a_number_with_the_end_of_the_annotation_means_it(room: Room) -> None:
    room.managed, room.ours = False, 3
    room.look(workload(replicas=5, had="2"))
    room.ours = None  # the runtime has let it go
    room.look(workload(replicas=5, had="2"))
    assert await room.settle() == [dict.fromkeys(ALL)]


async def test_what_failed_is_still_due(room: Room) -> None:
    room.server.failures = 1
    room.look(workload(replicas=2))
    assert await room.settle() == []
    await room.it.record_first("Deployment", KEY)
    assert room.server.written == [{REPLICAS: "2"}]


async def test_that_a_floor_may_be_moved_is_noted_before_it_is(room: Room) -> None:
    room.floored = True
    room.look(workload(replicas=2))
    await room.it.record_first("Deployment", KEY)
    room.look(workload(replicas=2, had="1"))
    await room.it.record_first("Deployment", KEY)
    assert room.server.written == [{REPLICAS: "2", HPA: "floor"}, {HPA: "floor"}]


async def test_the_floor_is_given_back_where_the_policy_leaves_the_hpa_alone(room: Room) -> None:
    room.server.moved = "3"
    room.look(workload(replicas=7, had="2", hpa="floor"))
    assert await room.settle() == [3, {HPA: None}]
    assert room.floors_back == [KEY]


async def test_a_floor_that_was_written_too_late_is_given_back_too(room: Room) -> None:
    room.server.moved, room.floored = "3", True
    await room.it.after_floor("Deployment", KEY)
    assert room.server.written == []
    room.floored = False
    await room.it.after_floor("Deployment", KEY)
    assert room.server.written == [3]
