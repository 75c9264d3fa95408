"""The one way in which replica counts are written: a JSON Patch on `/scale`, valid only for the number that was seen.

A CloneSet that is told whom to delete is the exception: names and number are one patch of the CloneSet itself, valid
only for the number, too. Works for whatever has a `/scale` subresource: `Scales.find` looks a kind up in the
server's own list. Called by the Kubernetes runtime, and by gateways and activators that wake without an autoscaler.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from zerogate.errors import ZerogateError
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Asked, Invalid, NotFound
from zerogate.kube.objects import Json, Kind, Resource, Scale, Wire, Workload
from zerogate.kube.rate import Priority


class NotScalable(ZerogateError):  # noqa: N818
    """The kind does not exist, or has no `/scale`."""


class ReplicasDiffer(ZerogateError):  # noqa: N818 - a fact, and the caller's to judge
    """Nothing was written: the workload has another number than the writer had seen.

    `found` is what it has, `version` the resource version of that.
    """

    def __init__(self, name: str, *, was: int, wanted: int, found: Scale) -> None:
        self.was = was
        self.wanted = wanted
        self.found = found.spec.replicas
        self.version = found.metadata.resource_version
        super().__init__(
            f"{name} has {self.found} replicas and not the {was} last seen: {wanted} was not written, "
            "because somebody else wrote in between"
        )


class _ApiResource(msgspec.Struct, frozen=True):
    name: str
    kind: str
    namespaced: bool = True


class _ApiResources(msgspec.Struct, frozen=True):
    resources: list[_ApiResource] = []


class Scales:
    """Reads and writes `/scale`."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._found: dict[tuple[str, str], Resource[Workload]] = {}

    async def find(self, api_version: str, kind: str) -> Resource[Workload]:
        """The resource of a kind, such as `CloneSet` of `apps.kruise.io/v1alpha1`. `NotScalable` where it has no scale.

        What was found is remembered; what was not is asked for again, as a definition may be added at any time.
        """
        key = (api_version, kind)
        if key not in self._found:
            self._found[key] = await self._discover(api_version, kind)
        return self._found[key]

    async def _discover(self, api_version: str, kind: str) -> Resource[Workload]:
        group, _, version = api_version.rpartition("/")
        root = Resource(group, version, "", Workload).root
        asked = Asked(verb="get", group=group, resource=root)
        try:
            data = await self._client.request("GET", root, asked=asked)
        except NotFound as error:
            raise NotScalable(f"The cluster has no {api_version}: is what defines {kind} installed?") from error
        listed = msgspec.json.decode(data, type=_ApiResources).resources
        plural = next((one.name for one in listed if one.kind == kind and "/" not in one.name), None)
        if plural is None:
            raise NotScalable(f"{api_version} has no kind {kind}.")
        if not any(one.name == f"{plural}/scale" for one in listed):
            raise NotScalable(f"{kind} of {api_version} has no /scale, so nobody can set its number of replicas.")
        return Resource(group, version, plural, Workload)

    async def read(self, workload: Resource[Workload], name: str, *, namespace: str) -> Scale:
        """The number of replicas that are asked for and that there are."""
        return await self._client.get(_scale_of(workload), name, namespace=namespace, subresource="scale")

    async def patch(
        self,
        workload: Resource[Workload],
        name: str,
        *,
        namespace: str,
        was: int,
        to: int,
        priority: Priority = Priority.WRITE,
        is_due: Callable[[], bool] | None = None,
    ) -> Scale:
        """Write `to` where the number is still `was`; else `ReplicasDiffer`. `is_due`: as of `KubeClient.json_patch`.

        After `Unreachable` nobody knows whether it was written: repeating it is safe, and says `ReplicasDiffer` with
        `found == to` where it had been.
        """
        for operations in (_operations(was, to), _operations_with_zero(was, to)):
            try:
                return await self._client.json_patch(
                    _scale_of(workload),
                    name,
                    operations,
                    namespace=namespace,
                    subresource="scale",
                    priority=priority,
                    is_due=is_due,
                )
            except Invalid as error:
                refused = error
                found = await self.read(workload, name, namespace=namespace)
                if found.spec.replicas != was:
                    raise ReplicasDiffer(f"{namespace}/{name}", was=was, wanted=to, found=found) from error
                if was != 0:
                    raise
        raise refused

    async def patch_naming(
        self, workload: Resource[Workload], name: str, *, namespace: str, was: int, to: int, victims: Sequence[str],
        is_due: Callable[[], bool] | None = None,
    ) -> str:  # fmt: skip
        """Write `to` where the number is still `was`, and whom the controller of a CloneSet is to delete; the version
        since. Else `ReplicasDiffer`, and nobody was named: one who is deleted while the number stands is replaced, and
        when it falls then, another one goes.
        """
        number = [
            {"op": "test", "path": "/spec/replicas", "value": was},
            {"op": "replace", "path": "/spec/replicas", "value": to},
        ]
        names: dict[str, Json] = {"podsToDelete": list(victims)}
        add: dict[str, Json] = {"op": "add", "path": "/spec/scaleStrategy/podsToDelete", "value": names["podsToDelete"]}
        try:
            written = await self._client.json_patch(workload, name, [*number, add], namespace=namespace, is_due=is_due)
        except Invalid as error:
            found = await self.read(workload, name, namespace=namespace)
            if found.spec.replicas != was:
                raise ReplicasDiffer(f"{namespace}/{name}", was=was, wanted=to, found=found) from error
            seen = await self._client.get(_with_strategy(workload), name, namespace=namespace)
            if seen.spec.scale_strategy is not None:
                raise
            # there is no scaleStrategy to add to; whoever adds one in between is not written over
            version = {"op": "test", "path": "/metadata/resourceVersion", "value": seen.metadata.resource_version}
            whole = {"op": "add", "path": "/spec/scaleStrategy", "value": names}
            written = await self._client.json_patch(
                workload, name, [version, *number, whole], namespace=namespace, is_due=is_due
            )  # fmt: skip
        return written.metadata.resource_version


class _StrategySpec(Wire, frozen=True, kw_only=True):
    scale_strategy: dict[str, Json] | None = None


class _WithStrategy(Kind, frozen=True, kw_only=True):
    spec: _StrategySpec = _StrategySpec()


def _with_strategy(workload: Resource[Any]) -> Resource[_WithStrategy]:
    return Resource(workload.group, workload.version, workload.plural, _WithStrategy)


def _operations(was: int, to: int) -> Sequence[Mapping[str, Json]]:
    """A Scale of 0 has no `/spec/replicas` that could be tested: the API leaves zeroes out, so all of `spec` is."""
    if was == 0:
        return (
            {"op": "test", "path": "/spec", "value": {}},
            {"op": "add", "path": "/spec/replicas", "value": to},
        )
    return (
        {"op": "test", "path": "/spec/replicas", "value": was},
        {"op": "replace", "path": "/spec/replicas", "value": to},
    )


def _operations_with_zero(was: int, to: int) -> Sequence[Mapping[str, Json]]:
    """For servers that write the zero out."""
    return (
        {"op": "test", "path": "/spec/replicas", "value": was},
        {"op": "replace", "path": "/spec/replicas", "value": to},
    )


def _scale_of(workload: Resource[Any]) -> Resource[Scale]:
    return Resource(workload.group, workload.version, workload.plural, Scale)
