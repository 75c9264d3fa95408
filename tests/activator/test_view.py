"""What a cluster shows an activator."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from activator.view import Shown, View
from tests.zerogate.kube.pods import policy
from zerogate.kube.access import Access
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.cluster_flags import ExtraKind
from zerogate.kube.errors import Asked, Unreachable
from zerogate.kube.feed import KINDS
from zerogate.kube.objects import EndpointSlice, Pod, Workload
from zerogate.kube.scaling import NotScalable
from zerogate.kube.takeover import WORKLOAD
from zerogate.runtime.interface import Address, Trouble

CLONE_SET = ExtraKind("CloneSet", "apps.kruise.io/v1alpha1")


class Room:
    """A view of a cluster that says what the test says."""

    def __init__(self, client: KubeClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[Shown] = []
        self.asked: list[tuple[str, ...]] = []
        """What was wrong when a kind was asked for."""
        self.answers: list[Exception] = []
        self.added: list[str] = []
        self.view = View(client, self.shown.append, home="zerogate-system", kinds=[CLONE_SET])
        monkeypatch.setattr(self.view._scales, "find", self._find)
        monkeypatch.setattr(self.view._feed, "add_kind", lambda kind, _: self.added.append(kind))
        monkeypatch.setattr(self.view._feed, "start", self._nothing)
        monkeypatch.setattr(self.view._slices, "start", lambda _: None)
        monkeypatch.setattr(self.view._slices, "wait_synced", self._nothing)

    async def _nothing(self) -> None: ...

    async def _find(self, api_version: str, kind: str) -> Any:
        assert (api_version, kind) == (CLONE_SET.api_version, CLONE_SET.kind)
        self.asked.append(self.view.faults)
        if self.answers:
            raise self.answers.pop(0)
        return KINDS["Deployment"]

    async def start_with_a_service(self) -> None:
        """A Service of the workload leads here."""
        meta = {"name": "s", "namespace": "ml", "annotations": {WORKLOAD: "llama"}}
        one = msgspec.convert({"metadata": meta, "ports": [{"port": 20000}]}, EndpointSlice)
        self.view._slices._items[one.key] = one
        await self.view.start()

    async def until_shown(self) -> Shown:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self.shown[-1]


def llama(**keys: str) -> Managed:
    return Managed(
        service="ml/llama", kind="Deployment", resource=KINDS["Deployment"], key=("ml", "llama"), uid="u",
        wanted=policy(**keys),
    )  # fmt: skip


@pytest.fixture
async def room(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> AsyncIterator[Room]:
    client = KubeClient(Access(f"http://127.0.0.1:{unused_tcp_port}"))
    made = Room(client, monkeypatch)
    yield made
    await made.view.aclose()
    await client.aclose()


async def test_a_kind_that_is_not_defined_keeps_it_from_nothing_and_is_taken_when_it_is(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room.view._kinds, "_again_s", 0.01)
    room.answers = [NotScalable("The API server does not know CloneSet.")]
    async with asyncio.timeout(30):
        await room.view.start()
        assert (room.added, len(room.shown)) == ([], 1)
        while not room.added:
            await asyncio.sleep(0.01)
    assert (room.added, room.view.faults) == (["CloneSet"], ())


async def test_a_cluster_that_does_not_answer_is_waited_for_and_said(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerogate.kube.extra_kinds.ANSWER_AGAIN_S", 0.01)
    room.answers = [Unreachable(Asked(verb="get"), "refused")]
    async with asyncio.timeout(30):
        await room.view.start()
    assert room.asked[0] == ()
    assert "refused" in room.asked[1][0]
    assert (room.added, room.view.faults) == (["CloneSet"], ())


def pod(name: str, ip: str) -> Pod:
    ports = [{"name": "zg-http", "containerPort": 8012}]
    spec = {"initContainers": [{"name": "zerogate-queueproxy", "ports": ports}], "containers": []}
    meta = {"name": name, "namespace": "ml", "uid": f"uid-{name}"}
    return msgspec.convert({"metadata": meta, "spec": spec, "status": {"podIP": ip, "phase": "Running"}}, Pod)


@pytest.mark.parametrize("limit", [0, 3], ids=["no limit", "a limit"])
async def test_a_pod_without_a_sidecar_is_sent_to_while_the_kubelet_calls_it_ready_and_it_stays(
    room: Room, limit: int
) -> None:
    await room.start_with_a_service()
    entry = llama(concurrency_limit=str(limit), target_concurrency="2")
    room.view.on_services({"ml/llama": entry})
    shown = []
    for is_ready, is_deleting in ((False, False), (True, False), (True, True)):
        room.view.on_pod("ml/llama", bare(is_ready=is_ready, is_deleting=is_deleting))
        shown.append((await room.until_shown()).bare["ml/llama"])
    (found,) = shown[1]
    assert (found.name, found.address, found.slots) == ("ml/b", Address("10.0.0.3", 8000), limit or None)
    assert found.release == (limit or 2)
    assert (shown[0], shown[2]) == ((), ())


def bare(*, is_ready: bool, is_deleting: bool) -> Pod:
    spec = {"containers": [{"name": "model", "ports": [{"name": "http", "containerPort": 8000}]}]}
    meta = {"name": "b", "namespace": "ml", "uid": "uid-b", **({"deletionTimestamp": "now"} if is_deleting else {})}
    conditions = [{"type": "Ready", "status": str(is_ready)}]
    status = {"podIP": "10.0.0.3", "phase": "Running", "conditions": conditions}
    return msgspec.convert({"metadata": meta, "spec": spec, "status": status}, Pod)


async def test_why_a_stateful_sets_pods_are_not_made_is_asked_for_and_shown(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerogate.kube.obstacles.ASK_AFTER_S", 0.0)
    meta = {"name": "s", "namespace": "ml", "annotations": {WORKLOAD: "llama"}}
    one = msgspec.convert({"metadata": meta, "ports": [{"port": 20000}]}, EndpointSlice)
    room.view._slices._items[one.key] = one
    await room.view.start()
    entry = Managed(
        service="ml/llama", kind="StatefulSet", resource=KINDS["StatefulSet"], key=("ml", "llama"), uid="u",
        wanted=policy(),
    )  # fmt: skip
    workload = msgspec.convert({"metadata": {"name": "llama"}, "spec": {"replicas": 1}}, Workload)
    monkeypatch.setattr(room.view._feed, "workload_of", lambda _: workload)
    asked: list[str] = []
    monkeypatch.setattr(room.view._unmade, "ask", lambda due: asked.extend(one.service for one, _ in due))
    room.view.on_services({"ml/llama": entry})
    assert (await room.until_shown()).troubles == {}
    room.view.on_time()
    assert asked == ["ml/llama"]
    room.view._on_unmade("ml/llama", "exceeded quota: gpus")
    room.view._on_unmade("ml/other", "nobody's")
    assert (await room.until_shown()).troubles == {"ml/llama": Trouble("exceeded quota: gpus")}


async def test_pods_that_went_while_their_workload_was_not_ours_are_none_when_it_is_again(room: Room) -> None:
    await room.start_with_a_service()
    entry = llama()
    room.view.on_services({"ml/llama": entry})
    room.view.on_pod("ml/llama", pod("old", "10.0.0.1"))
    assert set((await room.until_shown()).sidecars["ml/llama"]) == {"uid-old"}
    room.view.on_services({})
    assert set((await room.until_shown()).sidecars["ml/llama"]) == {"uid-old"}
    room.view.on_services({"ml/llama": entry})
    room.view.on_pod("ml/llama", pod("new", "10.0.0.2"))
    assert set((await room.until_shown()).sidecars["ml/llama"]) == {"uid-new"}
