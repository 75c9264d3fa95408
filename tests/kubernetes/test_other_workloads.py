"""CloneSets and LeaderWorkerSets by their real definitions on a real API server. Their controllers are played here.

What that proves: the kinds are found, their numbers are read and written by `/scale` and on condition, victims are
named in the field that the definition has, groups count by their leaders. What the projects' own controllers make of
it, it does not.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

import pytest

from tests.kubernetes.harness import definitions
from tests.kubernetes.harness.control_plane import ControlPlane
from zerogate.clock import now
from zerogate.kube.access import by_kubeconfig
from zerogate.kube.acts import WriteScale
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.feed import KINDS, Feed
from zerogate.kube.hands import KubeHands
from zerogate.kube.happenings import Happenings
from zerogate.kube.objects import Pod
from zerogate.kube.runtime import KubernetesRuntime
from zerogate.kube.scaling import ReplicasDiffer, Scales
from zerogate.kube.target import Target
from zerogate.runtime.interface import ReplicaState, Scale
from zerogate.tasks import Nursery

pytestmark = [
    pytest.mark.may_block("the first kubeconfig imports kubernetes_asyncio"),
    # as in test_runtime: asyncio leaves the socket of a TLS handshake that is cancelled in its midst to the collector
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <(socket.so|function _Selector):pytest.PytestUnraisableExceptionWarning"
    ),
]

VERSIONS = {"CloneSet": "apps.kruise.io/v1alpha1", "LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1"}
PLURALS = {"CloneSet": "clonesets", "LeaderWorkerSet": "leaderworkersets"}
ENABLED = {"zerogate.dev/enabled": "true", "zerogate.dev/max-replicas": "5"}
GROUP = "leaderworkerset.sigs.k8s.io"


@pytest.fixture(scope="module")
def plane(definitions_plane: ControlPlane) -> ControlPlane:
    definitions.install(definitions_plane.cluster, ["kruise", "lws"])
    return definitions_plane


@pytest.fixture
def place(plane: ControlPlane) -> Iterator[str]:
    with plane.namespace() as name:
        yield name


class Steered:
    """A runtime on the workloads of a namespace; a feed's listener."""

    def __init__(self, plane: ControlPlane, namespace: str, client: KubeClient, runtime: KubernetesRuntime) -> None:
        self.plane = plane
        self.namespace = namespace
        self.client = client
        self.runtime = runtime
        self.hands: KubeHands
        self.services: Mapping[str, Managed] = {}
        self._generations = iter(range(1, 100))
        self._addresses = iter(range(1, 250))

    def on_services(self, services: Mapping[str, Managed]) -> None:
        self.services = dict(services)
        self.runtime.configure({name: target_of(entry) for name, entry in services.items()})

    def on_number(self, service: str, number: int, version: int) -> None:
        self.runtime.on_number(service, number, version)

    def on_pod(self, service: str, pod: Pod) -> None:
        self.runtime.on_pod(service, pod)

    def on_pod_gone(self, service: str, name: str) -> None:
        self.runtime.on_pod_gone(service, name)

    async def make(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        whole = {
            "apiVersion": VERSIONS[kind], "kind": kind, "metadata": {"name": name, "annotations": ENABLED},
            "spec": spec,
        }  # fmt: skip
        await self.ask("create", self._path(kind), whole)
        await self.until(lambda: f"{self.namespace}/{name}" in self.services)

    async def scale(self, name: str, replicas: int, *victims: str) -> None:
        """As a decision does, by the replicas' pods."""
        ids = {self._pod_of(replica.id): replica.id for replica in self.runtime.replicas()}
        self.runtime.scale(
            Scale(
                service=f"{self.namespace}/{name}", replicas=replicas, generation=next(self._generations), cause="test",
                victims=tuple(ids[one] for one in victims),
            )
        )  # fmt: skip

    async def until_number(self, kind: str, name: str, number: int) -> dict[str, Any]:
        path = f"{self._path(kind)}/{name}"
        found = await self.ask("until", path, lambda one: one["spec"].get("replicas", 0) == number)
        return dict(found)

    async def pod(self, name: str, owner: dict[str, Any], labels: dict[str, str]) -> None:
        """A ready pod, as controller and kubelet make one."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        await self.ask("create", path, {
            "metadata": {"name": name, "labels": labels, "ownerReferences": [{
                "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"], "controller": True,
            }]},
            "spec": {"containers": [{"name": "model", "image": "model", "ports": [{"containerPort": 8000}]}]},
        })  # fmt: skip
        address = f"10.9.7.{next(self._addresses)}"
        container = {"name": "model", "image": "model", "imageID": "", "ready": True, "state": {"running": {}},
                     "restartCount": 0}  # fmt: skip
        await self.ask("patch", f"{path}/{name}/status", {"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "containerStatuses": [container],
            "conditions": [{"type": "Ready", "status": "True"}],
        }})  # fmt: skip

    async def until_ready(self, *pods: str) -> None:
        await self.until(lambda: self.ready() == sorted(pods))

    def ready(self) -> list[str]:
        found = (one for one in self.runtime.replicas() if one.state is ReplicaState.READY)
        return sorted(self._pod_of(one.id) for one in found)

    def _pod_of(self, replica_id: str) -> str:
        return (self.runtime.source_of(replica_id) or "").partition("/")[2]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0.02)

    async def ask(self, verb: str, *arguments: Any) -> Any:
        return await asyncio.to_thread(getattr(self.plane.cluster, verb), *arguments)

    def _path(self, kind: str) -> str:
        return f"/apis/{VERSIONS[kind]}/namespaces/{self.namespace}/{PLURALS[kind]}"


def target_of(entry: Managed) -> Target:
    return Target(
        service=entry.service, kind=entry.kind, resource=entry.resource, key=entry.key, uid=entry.uid,
        order=entry.order, ceiling=entry.wanted.policy.max_replicas,
    )  # fmt: skip


@pytest.fixture
async def steered(plane: ControlPlane, place: str) -> AsyncIterator[Steered]:
    access = await by_kubeconfig(plane.cluster.kubeconfig)
    async with aclosing(KubeClient(access)) as client:
        nursery = Nursery()
        hands = KubeHands(client, Happenings(client, controller="zerogate.dev/autoscaler", instance="test"))
        runtime = KubernetesRuntime(hands, nursery, call_later=asyncio.get_running_loop().call_later, clock=now)
        runtime.lead(True)
        it = Steered(plane, place, client, runtime)
        it.hands = hands
        scales = Scales(client)
        found = {kind: await scales.find(version, kind) for kind, version in VERSIONS.items()}
        feed = Feed(client, it, home=place, namespace=place, kinds={**KINDS, **found})
        await feed.start()
        yield it
        await feed.aclose()
        await runtime.aclose(drain_deadline_s=0)
        await nursery.aclose()


def pod_template(name: str, **annotations: str) -> dict[str, Any]:
    containers = [{"name": "model", "image": "model", "ports": [{"containerPort": 8000}]}]
    return {"metadata": {"labels": {"app": name}, "annotations": annotations}, "spec": {"containers": containers}}


def clone_set(name: str, **more: Any) -> dict[str, Any]:
    return {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": pod_template(name), **more}


@pytest.mark.parametrize("more", [{}, {"scaleStrategy": {"maxUnavailable": 1}}], ids=["no strategy", "a strategy"])
async def test_a_clone_set_is_told_its_number_and_whom_to_delete_in_one_write(
    steered: Steered, more: dict[str, Any]
) -> None:
    await steered.make("CloneSet", "llama", clone_set("llama", **more))
    await steered.scale("llama", 2)
    made = await steered.until_number("CloneSet", "llama", 2)
    for name in ("llama-abcde", "llama-vwxyz"):
        await steered.pod(name, made, {"app": "llama"})
    await steered.until_ready("llama-abcde", "llama-vwxyz")
    await steered.scale("llama", 1, "llama-abcde")
    after = await steered.until_number("CloneSet", "llama", 1)
    assert after["spec"]["scaleStrategy"] == {**more.get("scaleStrategy", {}), "podsToDelete": ["llama-abcde"]}
    assert after["metadata"]["generation"] == made["metadata"]["generation"] + 1, "one write, and not two"


async def test_nobody_is_named_where_the_number_is_another(steered: Steered) -> None:
    await steered.make("CloneSet", "llama", clone_set("llama", replicas=3))
    target = target_of(steered.services[f"{steered.namespace}/llama"])
    with pytest.raises(ReplicasDiffer) as raised:
        await steered.hands.write_scale(target, WriteScale(2, 1, ("llama-abcde",)), lambda: True)
    assert raised.value.found == 3
    after = await steered.until_number("CloneSet", "llama", 3)
    assert "scaleStrategy" not in after["spec"]


async def test_a_group_is_one_replica_whose_leader_serves_and_the_last_group_goes_first(steered: Steered) -> None:
    await steered.make("LeaderWorkerSet", "big", {
        "replicas": 0,
        "leaderWorkerTemplate": {
            "size": 2, "leaderTemplate": pod_template("big", **ENABLED), "workerTemplate": pod_template("big"),
        },
    })  # fmt: skip
    await steered.scale("big", 2)
    made = await steered.until_number("LeaderWorkerSet", "big", 2)
    leaders = await stateful_set(steered, "big", made)
    for group in ("0", "1"):
        labels = {f"{GROUP}/name": "big", f"{GROUP}/group-index": group}
        await steered.pod(f"big-{group}", leaders, {**labels, f"{GROUP}/worker-index": "0"})
        await steered.pod(f"big-{group}-1", leaders, {**labels, f"{GROUP}/worker-index": "1"})
    await steered.until_ready("big-0", "big-1")
    assert list(steered.services) == [f"{steered.namespace}/big"]
    assert steered.services[f"{steered.namespace}/big"].kind == "LeaderWorkerSet"
    await steered.scale("big", 1, "big-0")
    await steered.until_number("LeaderWorkerSet", "big", 1)
    assert steered.ready() == ["big-0"], "its controller ends the last group, whoever was named"
    await steered.scale("big", 0)
    await steered.until_number("LeaderWorkerSet", "big", 0)


async def stateful_set(steered: Steered, name: str, owner: dict[str, Any]) -> dict[str, Any]:
    """The leaders' own, with the annotations of their template, as the project's controller makes it. No pods come of
    it here: it asks for none."""
    path = f"/apis/apps/v1/namespaces/{steered.namespace}/statefulsets"
    made = await steered.ask("create", path, {
        "metadata": {"name": name, "ownerReferences": [{
            "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name, "uid": owner["metadata"]["uid"],
            "controller": True,
        }]},
        "spec": {
            "replicas": 0, "serviceName": name, "selector": {"matchLabels": {"app": "none"}},
            "template": {**pod_template("none", **ENABLED)},
        },
    })  # fmt: skip
    return {**dict(made), "apiVersion": "apps/v1", "kind": "StatefulSet"}
