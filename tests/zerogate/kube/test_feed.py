"""What listeners hear of services and their pods, with the double of an API server."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest

from tests.zerogate.kube.double import ApiDouble
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.feed import Feed
from zerogate.kube.objects import DEPLOYMENTS, PODS, STATEFUL_SETS, Pod


class Heard:
    """A listener, with what holds after all that it was told."""

    def __init__(self) -> None:
        self.services: dict[str, tuple[str, str]] = {}
        """Kind and uid."""
        self.numbers: dict[str, list[int]] = {}
        """Of the workload that has the name now."""
        self.pods: dict[str, list[str]] = {}

    def on_services(self, services: Mapping[str, Managed]) -> None:
        for name in [name for name in self.services if name not in services]:
            del self.services[name]
            self.numbers.pop(name, None)
            self.pods.pop(name, None)
        self.services |= {name: (one.kind, one.uid) for name, one in services.items()}

    def on_number(self, service: str, number: int, version: int) -> None:
        self.numbers.setdefault(service, []).append(number)

    def on_pod(self, service: str, pod: Pod) -> None:
        self.pods.setdefault(service, []).append(pod.metadata.name)

    def on_pod_gone(self, service: str, name: str) -> None:
        self.pods[service].remove(name)


class Room:
    def __init__(self, double: ApiDouble, client: KubeClient) -> None:
        self.double = double
        self.client = client
        self.heard = Heard()
        self.feed = Feed(client, self.heard, home="zerogate-system")

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not holds():
                await asyncio.sleep(0.005)

    async def workload(self, kind: str, *, replicas: int) -> None:
        resource = {"Deployment": DEPLOYMENTS, "StatefulSet": STATEFUL_SETS}[kind]
        metadata = {"name": "llama", "annotations": {"zerogate.dev/enabled": "true"}}
        body: dict[str, Any] = {"metadata": metadata, "spec": {"replicas": replicas}}
        await self.client.create(resource, body, namespace="ml")

    async def pod(self, name: str, owner: tuple[str, str]) -> None:
        owners = [{"kind": owner[0], "name": owner[1], "uid": "o", "controller": True}]
        labels = {"pod-template-hash": "7d9f"}
        body: dict[str, Any] = {"metadata": {"name": name, "labels": labels, "ownerReferences": owners}, "spec": {}}
        await self.client.create(PODS, body, namespace="ml")


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    double = ApiDouble()
    await double.start()
    async with AsyncExitStack() as closing:
        client = await closing.enter_async_context(aclosing(KubeClient(double.access)))
        it = Room(double, client)
        yield it
        await it.feed.aclose()
    await double.aclose()


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
async def test_a_workload_that_was_made_anew_under_its_name_is_another_service(
    room: Room, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the one before holds: not its number, which nobody else has changed, and not its pods."""
    await room.workload("Deployment", replicas=3)
    await room.pod("llama-7d9f-old", ("ReplicaSet", "llama-7d9f"))
    await room.feed.start()
    await room.until(lambda: room.heard.pods)
    before = room.heard.services["ml/llama"]
    # both changes come together
    monkeypatch.setattr("zerogate.kube.feed._FLUSH_GAP_S", 0.3)
    await room.client.delete(PODS, "llama-7d9f-old", namespace="ml")
    await room.client.delete(DEPLOYMENTS, "llama", namespace="ml")
    await room.workload(kind, replicas=1)
    await room.pod("llama-0", (kind, "llama") if kind == "StatefulSet" else ("ReplicaSet", "llama-7d9f"))
    await room.until(lambda: room.heard.services["ml/llama"] != before and room.heard.numbers.get("ml/llama"))
    assert room.heard.services["ml/llama"][0] == kind
    await room.until(lambda: room.heard.pods.get("ml/llama"))
    assert (room.heard.numbers, room.heard.pods) == ({"ml/llama": [1]}, {"ml/llama": ["llama-0"]})


async def test_who_waited_for_a_name_is_told_when_it_is_free(room: Room) -> None:
    await room.workload("Deployment", replicas=1)
    await room.feed.start()
    await room.workload("StatefulSet", replicas=2)
    await room.until(lambda: room.feed.catalog.clash("StatefulSet", ("ml", "llama")))
    await room.client.delete(DEPLOYMENTS, "llama", namespace="ml")
    await room.until(lambda: room.heard.numbers == {"ml/llama": [2]})
    assert room.heard.services["ml/llama"][0] == "StatefulSet"


def _store(room: Room, plural: str, *, counted: int) -> None:
    """The workload, whose status counts so many pods."""
    body = {
        "metadata": {"annotations": {"zerogate.dev/enabled": "true"}},
        "spec": {"replicas": 1},
        "status": {"replicas": counted},
    }
    room.double.store("apps/v1", plural, ("ml", "llama"), body)


def _store_pod(room: Room, plural: str, **about: Any) -> None:
    owner = ("ReplicaSet", "llama-7d9f") if plural == "deployments" else ("StatefulSet", "llama")
    owners = [{"kind": owner[0], "name": owner[1], "uid": "o", "controller": True}]
    meta = {"labels": {"pod-template-hash": "7d9f"}, "ownerReferences": owners, **about}
    room.double.store("v1", "pods", ("ml", "llama-0"), {"metadata": meta, "status": {"phase": "Running"}})


def _counts(room: Room, count: int) -> bool:
    workload = room.feed.workload_of("ml/llama")
    return workload is not None and workload.status.replicas == count


@pytest.mark.parametrize("plural", ["deployments", "statefulsets"])
async def test_it_lacks_pods_that_the_workload_counts_while_their_own_watch_is_silent(room: Room, plural: str) -> None:
    await room.feed.start()
    _store(room, plural, counted=0)
    await room.until(lambda: _counts(room, 0))
    assert not room.feed.lacks_pods("ml/llama"), "there are none"
    room.double.stall("/api/v1/pods")
    _store_pod(room, plural)
    _store(room, plural, counted=1)
    await room.until(lambda: room.feed.lacks_pods("ml/llama"))
    room.double.resume()
    await room.until(lambda: not room.feed.lacks_pods("ml/llama"))
    assert not room.feed.lacks_pods("ml/nobody"), "of which nothing is known"


@pytest.mark.parametrize(
    ("plural", "lacks"), [("deployments", True), ("statefulsets", False)], ids=["a ReplicaSet", "a StatefulSet"]
)
async def test_a_pod_that_is_being_deleted_hides_none_where_the_controller_does_not_count_it(
    room: Room, plural: str, lacks: bool
) -> None:
    await room.feed.start()
    _store(room, plural, counted=1)
    _store_pod(room, plural, deletionTimestamp="2026-01-01T00:00:00Z")
    await room.until(lambda: _counts(room, 1) and room.feed.pods_of("ml/llama"))
    assert room.feed.lacks_pods("ml/llama") is lacks
