"""The services of a cluster: which workloads are under zerogate, by which policy, and whose a pod is. Pure.

Fed with workloads, namespaces and the cluster's ConfigMap as watches show them, in any order. A workload is taken up
when it or its pod template says `zerogate.dev/enabled: "true"`. A policy that cannot be read whole is not taken: the
last one that could be stays, or the defaults where there was none, and what is wrong is kept beside it for status and
Events. Called by the composition roots of autoscaler, gateway and activator, each with a catalog of its own: they see
the same objects and come to the same services.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from zerogate.kube.acts import Order
from zerogate.kube.keys import REPLICAS
from zerogate.kube.objects import Key, Pod, PodTemplate, Resource, Workload
from zerogate.kube.policies import (
    NO_DEFAULTS,
    Defaults,
    Layer,
    Reading,
    WorkloadPolicy,
    ours,
    read_defaults,
    read_workload,
)
from zerogate.kube.sidecar import ADMIN_NAME, SIDECAR

CONFIG_MAP: Final = "zerogate-policy"
"""The name of the ConfigMap with the cluster's defaults and bounds, in zerogate's own namespace."""

_ORDERS: Final[Mapping[str, Order]] = {
    "CloneSet": Order.BY_NAME,
    "LeaderWorkerSet": Order.BY_ORDINAL,
    "StatefulSet": Order.BY_ORDINAL,
}
_MAKERS: Final = frozenset(("LeaderWorkerSet", "Pod"))
"""Controllers whose own workloads are no services. A LeaderWorkerSet makes a StatefulSet of its name for the leaders,
and each leader one for its workers, with their templates, annotations and all: who scaled them would fight it."""
_TEMPLATE_HASH: Final = "pod-template-hash"
_GROUP_NAME: Final = "leaderworkerset.sigs.k8s.io/name"
_WORKER_INDEX: Final = "leaderworkerset.sigs.k8s.io/worker-index"


class Managed(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One workload under zerogate."""

    service: str
    kind: str
    resource: Resource[Workload]
    key: Key
    uid: str
    wanted: WorkloadPolicy
    template: PodTemplate | None = None
    """Of the pods that serve."""
    is_paused: bool = False
    """Its owner has paused its rollouts; its number is written all the same."""
    mistakes: tuple[str, ...] = ()
    """What is wrong with what was asked for, a sentence each."""

    @property
    def order(self) -> Order:
        """Whom its controller takes first."""
        return _ORDERS.get(self.kind, Order.BY_COST)


class Catalog:
    """See the module's text. `take_changed` says whose entries are new, different or gone since the last call."""

    def __init__(self) -> None:
        self._entries: dict[str, Managed] = {}
        self._workloads: dict[str, tuple[str, Resource[Workload], Workload]] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._defaults = NO_DEFAULTS
        self._changed: dict[str, None] = {}
        self._clashing: dict[tuple[str, Key], tuple[Resource[Workload], Workload]] = {}
        """Workloads that are not taken up because another kind has the name."""
        self.mistakes: tuple[str, ...] = ()
        """What is wrong with the cluster's ConfigMap."""

    @property
    def defaults(self) -> Defaults:
        """The cluster's, as far as they can be read."""
        return self._defaults

    def services(self) -> Mapping[str, Managed]:
        """All there are, by their names."""
        return self._entries

    def take_changed(self) -> list[str]:
        """Services whose entry is another than at the last call."""
        changed, self._changed = list(self._changed), {}
        return changed

    def set_workload(self, kind: str, resource: Resource[Workload], workload: Workload) -> None:
        """A workload is new or looks different."""
        service = service_name(workload.key)
        if not _is_enabled(workload) or _is_made(workload):
            self.remove_workload(kind, workload.key)
            return
        known = self._workloads.get(service)
        if known is not None and known[0] != kind:
            self._clashing[kind, workload.key] = (resource, workload)
            return
        self._workloads[service] = (kind, resource, workload)
        self._read(service)

    def remove_workload(self, kind: str, key: Key) -> None:
        """It is gone, or no longer under zerogate."""
        service = service_name(key)
        self._clashing.pop((kind, key), None)
        known = self._workloads.get(service)
        if known is not None and known[0] == kind:
            del self._workloads[service], self._entries[service]
            self._changed[service] = None
            for other in [other for other in self._clashing if other[1] == key]:
                self.set_workload(other[0], *self._clashing.pop(other))

    def set_namespace(self, name: str, annotations: Mapping[str, str] | None) -> None:
        """What a namespace says for all workloads in it; None: it is gone."""
        said = ours(annotations)
        if said == self._namespaces.get(name, {}):
            return
        self._namespaces[name] = said
        if not said:
            del self._namespaces[name]
        self._read_all(service for service, (_, _, one) in self._workloads.items() if one.metadata.namespace == name)

    def set_defaults(self, data: Mapping[str, str] | None, source: str) -> None:
        """The cluster's ConfigMap; None: there is none."""
        self._defaults, errors = (NO_DEFAULTS, []) if data is None else read_defaults(data, source)
        self.mistakes = tuple(str(error) for error in errors)
        self._read_all(self._workloads)

    def clash(self, kind: str, key: Key) -> str:
        """Why a workload that asks to be taken up is not, as a sentence; empty: it is, or does not ask."""
        if (kind, key) not in self._clashing:
            return ""
        service = service_name(key)
        return (
            f"{kind} {service} is not taken up: {self._workloads[service][0]} {service} has the same name and was "
            "there first. Rename one of them."
        )

    def service_of(self, pod: Pod) -> str | None:
        """Whose pod it is; None: nobody's here, or a worker of a group, which takes no requests."""
        owner = owner_of(pod)
        if owner is None:
            return None
        kind, name = owner
        entry = self._entries.get(service_name((pod.metadata.namespace, name)))
        return entry.service if entry is not None and entry.kind == kind else None

    def _read_all(self, services: Iterable[str]) -> None:
        for service in list(services):
            self._read(service)

    def _read(self, service: str) -> None:
        kind, resource, workload = self._workloads[service]
        before = self._entries.get(service)
        if before is not None and before.uid != workload.metadata.uid:
            # deleted and made anew: what was valid of the one before is nothing to this one
            before = None
        reading = self._reading(kind, workload)
        mistakes = tuple(str(mistake.error) for mistake in reading.mistakes)
        wanted = reading.policy
        if mistakes and before is not None:
            wanted = before.wanted
        entry = Managed(
            service=service,
            kind=kind,
            resource=resource,
            key=workload.key,
            uid=workload.metadata.uid,
            wanted=wanted,
            template=workload.template,
            is_paused=workload.spec.paused,
            mistakes=mistakes,
        )
        if entry != before:
            self._entries[service] = entry
            self._changed[service] = None

    def _reading(self, kind: str, workload: Workload) -> Reading:
        meta, template = workload.metadata, workload.template
        place = f"{kind.lower()} {service_name(workload.key)}"
        namespace = self._namespaces.get(meta.namespace, {})
        layers = [
            Layer(source=f"namespace {meta.namespace}", raw=namespace, is_of_one_workload=False),
            Layer(source=place, raw=ours(meta.annotations), is_own=True),
        ]
        if template is not None and template.metadata is not None:
            own = ours(template.metadata.annotations)
            layers.append(Layer(source=f"{place}, pod template", raw=own, is_own=True))
        return read_workload(self._defaults, layers, had=had(workload))


def service_name(key: Key) -> str:
    """NAMESPACE/NAME of the workload: the service's name in metrics, status and refusals."""
    return "/".join(key)


def version_number(resource_version: str) -> int:
    """A resource version as a number, by which older news are known; 0 where the server's are none (then all are
    taken as they come). Kubernetes promises since 1.35 that they can be compared so."""
    return int(resource_version) if resource_version.isdecimal() else 0


def number_of(workload: Workload) -> int:
    """How many replicas it asks for; the server fills in 1 where nobody said."""
    return 1 if workload.spec.replicas is None else workload.spec.replicas


def recorded_replicas(notes: Mapping[str, str] | None) -> int | None:
    """How many a workload with these annotations had before; None where nothing readable is noted."""
    text = (notes or {}).get(REPLICAS, "")
    return int(text) if text.isdecimal() and len(text) < 7 else None


def had(workload: Workload) -> int:
    """With how many replicas it was put under zerogate; until that is noted, those that it asks for."""
    noted = recorded_replicas(workload.metadata.annotations)
    return number_of(workload) if noted is None else noted


def owner_of(pod: Pod) -> tuple[str, str] | None:
    """(kind, name) of the workload that a pod serves for; None: of nothing, or it is a worker of a group."""
    group = pod.metadata.label(_GROUP_NAME)
    if group is not None:
        return ("LeaderWorkerSet", group) if pod.metadata.label(_WORKER_INDEX) == "0" else None
    owner = pod.metadata.controller
    if owner is None:
        return None
    suffix = f"-{pod.metadata.label(_TEMPLATE_HASH) or ''}"
    if owner.kind == "ReplicaSet" and owner.name.endswith(suffix):
        # a Deployment calls its ReplicaSets so; nobody needs to watch them for it
        return "Deployment", owner.name.removesuffix(suffix)
    return owner.kind, owner.name


def sidecar_port(pod: Pod) -> int | None:
    """Where the pod's sidecar takes requests; None where it has none."""
    for container in pod.spec.init_containers:
        if container.name == SIDECAR:
            # takeover gives it other names
            return next((port.container_port for port in container.ports if port.name != ADMIN_NAME), None)
    return None


def port_of(pod: Pod, asked: str | None) -> int | None:
    """Where the pod takes requests: its sidecar's port, else the model server's own; None where there is none."""
    return sidecar_port(pod) or model_port(pod, asked)


def model_port(pod: Pod, asked: str | None) -> int | None:
    """Where the model server itself takes them: the port that was asked for by number or name, else the first TCP port
    of the first container that has any; None where there is none."""
    if asked is not None and asked.isdecimal():
        return int(asked)
    for container in pod.spec.containers:
        for port in container.ports:
            if port.protocol == "TCP" and asked in (None, port.name):
                return port.container_port
    return None


def _is_made(workload: Workload) -> bool:
    controller = workload.metadata.controller
    return controller is not None and controller.kind in _MAKERS


def _is_enabled(workload: Workload) -> bool:
    template = workload.template
    said = [workload.metadata.annotation("zerogate.dev/enabled")]
    if template is not None and template.metadata is not None:
        said.insert(0, template.metadata.annotation("zerogate.dev/enabled"))
    return next((one for one in said if one is not None), "") == "true"
