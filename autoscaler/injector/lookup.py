"""What the webhook asks the cluster: the interface, and the way from a pod up to the workload that is scaled.

`autoscaler.injector.cluster` answers it from the API server; `FakeCluster` stands for it in tests, and shows what is
promised.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from zerogate.kube.policies import NO_DEFAULTS, Defaults
from zerogate.kube.ports import Json

_HIGHEST: Final = 6
"""Steps up from a pod: a group's worker has four (pod, StatefulSet, leader pod, StatefulSet, LeaderWorkerSet)."""


class OwnerReference(msgspec.Struct, frozen=True):
    """Of an object's controller."""

    api_version: str
    kind: str
    name: str
    uid: str = ""


class Lookup(Protocol):
    """What is known of the cluster. All may raise ZerogateError where the API server cannot be asked."""

    async def object(self, namespace: str, reference: OwnerReference) -> Json | None:
        """An object with its metadata; None where there is none, or none that may be read."""

    async def namespace_annotations(self, namespace: str) -> Mapping[str, str]:
        """Of a namespace."""

    async def services(self, namespace: str) -> Sequence[Json]:
        """All Services of a namespace."""

    async def defaults(self) -> Defaults:
        """The cluster's, as last read."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What scales a pod. `annotations`: its own, not its template's."""

    kind: str
    name: str
    annotations: Mapping[str, str]
    api_version: str = ""
    uid: str = ""


def controller_of(obj: Json) -> OwnerReference | None:
    """The object's controller, if it has one."""
    for reference in (obj.get("metadata") or {}).get("ownerReferences") or ():
        if reference.get("controller"):
            return OwnerReference(
                reference["apiVersion"], reference["kind"], reference["name"], reference.get("uid", "")
            )
    return None


async def workload_of(lookup: Lookup, namespace: str, pod: Json, kinds: Container[str]) -> Workload | None:
    """The highest controller above a pod that is of one of `kinds`; None where there is none.

    A ReplicaSet copies its Deployment's annotations once, so only the highest has those of today; what stands above it,
    an operator's own object, is not scaled by zerogate.
    """
    found = None
    obj: Json | None = pod
    for _ in range(_HIGHEST):
        reference = controller_of(obj) if obj is not None else None
        if reference is None:
            break
        obj = await lookup.object(namespace, reference)
        if obj is not None and reference.kind in kinds:
            annotations = (obj.get("metadata") or {}).get("annotations") or {}
            found = Workload(
                kind=reference.kind, name=reference.name, annotations=annotations,
                api_version=reference.api_version, uid=reference.uid,
            )  # fmt: skip
    return found


class FakeCluster:
    """A `Lookup` of what tests put into it."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.of_namespaces: dict[str, dict[str, str]] = {}
        self.of_services: dict[str, list[dict[str, Any]]] = {}
        self.cluster_defaults = NO_DEFAULTS

    def put(self, namespace: str, kind: str, obj: dict[str, Any]) -> None:
        """Let it be there."""
        self.objects[namespace, kind, obj["metadata"]["name"]] = obj

    async def object(self, namespace: str, reference: OwnerReference) -> Json | None:
        return self.objects.get((namespace, reference.kind, reference.name))

    async def namespace_annotations(self, namespace: str) -> Mapping[str, str]:
        return self.of_namespaces.get(namespace, {})

    async def services(self, namespace: str) -> Sequence[Json]:
        return self.of_services.get(namespace, [])

    async def defaults(self) -> Defaults:
        return self.cluster_defaults
