from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from autoscaler.injector.cluster import ClusterLookup, Nothing
from autoscaler.injector.lookup import OwnerReference, workload_of
from zerogate.kube.errors import Asked, NotFound, Unreachable
from zerogate.kube.feed import KINDS
from zerogate.kube.objects import ConfigMap, Key, Meta, Namespace, Resource, Workload
from zerogate.kube.objects import OwnerReference as Reference
from zerogate.kube.policies import NO_DEFAULTS, Defaults

ENABLED = {"zerogate.dev/enabled": "true"}
SET = OwnerReference("apps/v1", "ReplicaSet", "llm-1", "uid-set")
POD = {"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "llm-1",
                                         "uid": "uid-set", "controller": True}]}}  # fmt: skip


class Server:
    """A `KubeClient`, as far as a lookup uses it."""

    def __init__(self) -> None:
        above = Reference(kind="Deployment", name="llm", uid="uid-llm", api_version="apps/v1", controller=True)
        self.objects: dict[tuple[str, str], Any] = {
            ("replicasets", "llm-1"): Workload(metadata=Meta(uid="uid-set", owner_references=(above,))),
            ("deployments", "llm"): Workload(metadata=Meta(uid="uid-llm", annotations=dict(ENABLED))),
        }
        self.asked: list[str] = []
        self.is_away = False

    async def get(self, resource: Resource[Any], name: str, *, namespace: str = "") -> Any:
        self.asked.append(f"{resource.plural} {name}")
        if self.is_away:
            raise Unreachable(Asked(verb="get"), "gone")
        if (resource.plural, name) not in self.objects:
            raise NotFound(Asked(verb="get"), status=404)
        return self.objects[resource.plural, name]


class Watching(Nothing):
    """What a feed last saw."""

    def workload(self, kind: str, key: Key) -> Workload | None:
        return Workload(metadata=Meta(uid="uid-llm", annotations=dict(ENABLED))) if kind == "Deployment" else None

    def namespace_annotations(self, name: str) -> Mapping[str, str] | None:
        return {"zerogate.dev/tier": "S"} if name == "default" else None

    def defaults(self) -> Defaults | None:
        return NO_DEFAULTS


def lookup(server: Server, known: Nothing | None = None) -> ClusterLookup:
    return ClusterLookup(server, known or Nothing(), home="zerogate-system", kinds=KINDS)  # type: ignore[arg-type]


async def test_a_workload_is_read_anew_for_each_pod_and_its_replicaset_once() -> None:
    server = Server()
    one = lookup(server)
    for _ in range(3):
        found = await workload_of(one, "default", POD, tuple(KINDS))
        assert found is not None
        assert (found.kind, found.name, found.uid, found.annotations) == ("Deployment", "llm", "uid-llm", ENABLED)
    assert server.asked == ["replicasets llm-1", *["deployments llm"] * 3]


async def test_what_is_watched_counts_where_the_api_server_does_not_answer() -> None:
    server = Server()
    one = lookup(server, Watching())
    await one.object("default", SET)
    server.is_away = True
    found = await workload_of(one, "default", POD, tuple(KINDS))
    assert found is not None
    assert found.annotations == ENABLED
    with pytest.raises(Unreachable):
        await lookup(server).object("default", OwnerReference("apps/v1", "Deployment", "llm", "uid-llm"))


async def test_an_owner_that_was_made_anew_under_its_name_is_another() -> None:
    server = Server()
    server.objects["deployments", "llm"] = Workload(metadata=Meta(uid="uid-new", annotations=dict(ENABLED)))
    assert await workload_of(lookup(server), "default", POD, tuple(KINDS)) is None


@pytest.mark.parametrize("reference", [
    OwnerReference("batch/v1", "Job", "llm", "u"),
    OwnerReference("other.io/v1", "Deployment", "llm", "uid-llm"),
    OwnerReference("apps/v1", "Deployment", "gone", "u"),
], ids=["kind", "group", "gone"])  # fmt: skip
async def test_what_is_not_scaled_or_not_there_is_none(reference: OwnerReference) -> None:
    assert await lookup(Server()).object("default", reference) is None


async def test_namespaces_and_defaults_come_from_the_watch_and_else_from_the_api_server() -> None:
    server = Server()
    one = lookup(server, Watching())
    assert await one.namespace_annotations("default") == {"zerogate.dev/tier": "S"}
    assert await one.defaults() == NO_DEFAULTS
    assert not server.asked
    server.objects["namespaces", "team"] = Namespace(metadata=Meta(annotations={"zerogate.dev/tier": "B"}))
    assert await one.namespace_annotations("team") == {"zerogate.dev/tier": "B"}
    alone = lookup(server)
    assert await alone.defaults() == NO_DEFAULTS
    server.objects["configmaps", "zerogate-policy"] = ConfigMap(data={"most.max-replicas": "2"})
    assert (await alone.defaults()).bounds["max-replicas"].most == 2
    assert msgspec.structs.asdict(NO_DEFAULTS)["bounds"] == {}
