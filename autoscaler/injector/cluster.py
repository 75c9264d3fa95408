"""A `Lookup` in a real cluster: what stays with a pod for its life is asked anew, the rest comes from what is watched.

A workload's annotations are read at the API server each time: a Deployment's first pod, and the first one after its
annotations changed, comes within milliseconds of the write, and a watch may be behind. That is one GET for a pod that
costs an API server ten requests anyway. Where the server does not answer, the watched state is better than none.
A ReplicaSet never changes its owner, so it is asked for once. Owned by `autoscaler.injector.injector`.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from autoscaler.injector.lookup import OwnerReference
from zerogate.kube.catalog import CONFIG_MAP
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Forbidden, KubeError, NotFound
from zerogate.kube.objects import CONFIG_MAPS, NAMESPACES, REPLICA_SETS, SERVICES, Key, Meta, Resource, Workload
from zerogate.kube.policies import NO_DEFAULTS, Defaults, read_defaults
from zerogate.kube.ports import Json

REPLICA_SET: Final = "ReplicaSet"
_REMEMBERED: Final = 4096
"""ReplicaSets; each rollout makes one."""


class Known(Protocol):
    """What somebody watches anyway, such as a `Feed`. None: not known, or not yet."""

    def workload(self, kind: str, key: Key) -> Workload | None:
        """As last seen."""

    def namespace_annotations(self, name: str) -> Mapping[str, str] | None:
        """Of a namespace."""

    def defaults(self) -> Defaults | None:
        """The cluster's."""


class Nothing:
    """Nobody watches."""

    def workload(self, kind: str, key: Key) -> Workload | None:
        del kind, key
        return None

    def namespace_annotations(self, name: str) -> Mapping[str, str] | None:
        del name
        return None

    def defaults(self) -> Defaults | None:
        return None


class ClusterLookup:
    """See the module. `home`: zerogate's own namespace; `kinds`: the workloads that are scaled."""

    def __init__(self, client: KubeClient, known: Known, *, home: str, kinds: Mapping[str, Resource[Workload]]) -> None:
        self._client = client
        self._known = known
        self._home = home
        self._kinds = kinds
        """More of them may come, once they are defined."""
        self._replica_sets: OrderedDict[tuple[str, OwnerReference], Json] = OrderedDict()

    async def object(self, namespace: str, reference: OwnerReference) -> Json | None:
        resource = REPLICA_SETS if reference.kind == REPLICA_SET else self._kinds.get(reference.kind)
        if resource is None or reference.api_version.partition("/")[0] != resource.group:
            return None
        remembered = self._replica_sets.get((namespace, reference))
        if remembered is not None:
            return remembered
        seen = await self._workload(resource, namespace, reference)
        if seen is None or seen.metadata.uid != reference.uid:
            return None
        found = _with_owners(seen.metadata)
        if reference.kind == REPLICA_SET and seen.metadata.controller is not None:
            self._remember((namespace, reference), found)
        return found

    async def _workload(
        self, resource: Resource[Workload], namespace: str, reference: OwnerReference
    ) -> Workload | None:
        try:
            return await self._client.get(resource, reference.name, namespace=namespace)
        except (NotFound, Forbidden):
            return None
        except KubeError:
            known = self._known.workload(reference.kind, (namespace, reference.name))
            if known is None:
                raise
            return known

    def _remember(self, key: tuple[str, OwnerReference], found: Json) -> None:
        self._replica_sets[key] = found
        if len(self._replica_sets) > _REMEMBERED:
            self._replica_sets.popitem(last=False)

    async def namespace_annotations(self, namespace: str) -> Mapping[str, str]:
        known = self._known.namespace_annotations(namespace)
        if known is not None:
            return known
        return (await self._client.get(NAMESPACES, namespace)).metadata.annotations or {}

    async def services(self, namespace: str) -> Sequence[Json]:
        found, _ = await self._client.list(SERVICES, namespace=namespace)
        return [msgspec.to_builtins(service) for service in found]

    async def defaults(self) -> Defaults:
        known = self._known.defaults()
        if known is not None:
            return known
        try:
            found = await self._client.get(CONFIG_MAPS, CONFIG_MAP, namespace=self._home)
        except NotFound:
            return NO_DEFAULTS
        return read_defaults(found.data or {}, f"ConfigMap {self._home}/{CONFIG_MAP}")[0]


def _with_owners(metadata: Meta) -> dict[str, Any]:
    """As JSON, as much of it as a `Lookup` promises."""
    found: dict[str, Any] = msgspec.to_builtins({"metadata": metadata})
    return found
