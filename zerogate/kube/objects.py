"""The few fields of Kubernetes objects that zerogate uses, decoded straight from JSON. Pure.

Everything else in an object (managed fields, environment, volumes, other people's annotations) is skipped while it is
decoded and never becomes a Python object, and what repeats from pod to pod (containers, conditions, states, strings) is
kept once: a watched pod costs 1.2 KiB (a test measures 2,000). A field that the server left out has its
default.

`Resource` says where a kind lives in the API and which struct it is decoded into.
"""

import sys
from typing import Any, Generic, TypeVar

import msgspec
from msgspec.structs import force_setattr

KEPT_ANNOTATIONS = frozenset(
    (
        "controller.kubernetes.io/pod-deletion-cost",
        "k8s.io/initial-events-end",
        "kubectl.kubernetes.io/default-container",
    )
)
"""Annotations of others that somebody here reads; the rest (often kilobytes of them) is dropped."""

OUR_PREFIXES = ("zerogate.dev/", "state.zerogate.dev/")
"""What people write, and what zerogate does."""

Json = Any
"""What JSON can say."""


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """Base of everything that is decoded from the API. `gc=False`: none of them can be part of a cycle."""


def _interned(texts: dict[str, str]) -> dict[str, str]:
    return {sys.intern(key): sys.intern(value) for key, value in texts.items()}


V = TypeVar("V")

_SHARED_AT_MOST = 8192
_shared_values: dict[Any, Any] = {}


def _shared(value: V) -> V:
    """The first value seen that equals this one: replicas of one template hold the same containers, not equal ones."""
    if len(_shared_values) >= _SHARED_AT_MOST:
        _shared_values.clear()
    shared: V = _shared_values.setdefault(value, value)
    return shared


class OwnerReference(Wire, frozen=True, kw_only=True):
    kind: str
    name: str
    uid: str
    api_version: str = ""
    controller: bool = False

    def __post_init__(self) -> None:
        for field in self.__struct_fields__[:4]:
            force_setattr(self, field, sys.intern(getattr(self, field)))


class Meta(Wire, frozen=True, kw_only=True):
    """`metadata`. Of annotations only ours and `KEPT_ANNOTATIONS`. Times are RFC 3339 texts of the server's clock."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[OwnerReference, ...] = ()
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "namespace", sys.intern(self.namespace))
        if self.labels:
            force_setattr(self, "labels", _interned(self.labels))
        if self.annotations:
            kept = {k: v for k, v in self.annotations.items() if k.startswith(OUR_PREFIXES) or k in KEPT_ANNOTATIONS}
            force_setattr(self, "annotations", kept or None)

    def label(self, key: str) -> str | None:
        return self.labels.get(key) if self.labels else None

    def annotation(self, key: str) -> str | None:
        return self.annotations.get(key) if self.annotations else None

    @property
    def controller(self) -> OwnerReference | None:
        """The one owner that manages the object; None where nobody does."""
        return next((owner for owner in self.owner_references if owner.controller), None)

    @property
    def is_deleting(self) -> bool:
        return self.deletion_timestamp is not None


class Kind(Wire, frozen=True, kw_only=True):
    """Base of whole objects."""

    metadata: Meta = Meta()

    @property
    def key(self) -> "Key":
        return self.metadata.namespace, self.metadata.name


class GlanceMeta(Wire, frozen=True, kw_only=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class Glance(Wire, frozen=True, kw_only=True):
    """Of an object only what says which one it is, in which state: less than half the work of a whole pod."""

    metadata: GlanceMeta = GlanceMeta()


Key = tuple[str, str]
"""Namespace (empty for what has none) and name."""

T = TypeVar("T", bound=Kind)


class Resource(msgspec.Struct, Generic[T], frozen=True):
    """Where a kind lives: group ("" is the core), version, plural, and the struct of its objects."""

    group: str
    version: str
    plural: str
    shape: type[T]
    namespaced: bool = True

    @property
    def root(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of a request; without `namespace` that of all namespaces, without `name` that of the collection."""
        parts = [self.root]
        if namespace and self.namespaced:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


class Condition(Wire, frozen=True, kw_only=True):
    """`status` is "True", "False" or "Unknown", as on the wire."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        for field in ("type", "status", "reason"):
            force_setattr(self, field, sys.intern(getattr(self, field)))


def condition(conditions: tuple[Condition, ...], kind: str) -> Condition | None:
    """The condition of that type; None where the object has none."""
    return next((one for one in conditions if one.type == kind), None)


class ContainerPort(Wire, frozen=True, kw_only=True):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(Wire, frozen=True, kw_only=True):
    name: str
    ports: tuple[ContainerPort, ...] = ()


class PodSpec(Wire, frozen=True, kw_only=True):
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    node_name: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "node_name", sys.intern(self.node_name))
        force_setattr(self, "containers", _shared(self.containers))
        force_setattr(self, "init_containers", _shared(self.init_containers))


class Waiting(Wire, frozen=True, kw_only=True):
    reason: str = ""
    message: str = ""


class Terminated(Wire, frozen=True, kw_only=True):
    exit_code: int = 0
    reason: str = ""
    message: str = ""


class Running(Wire, frozen=True, kw_only=True):
    pass


class ContainerState(Wire, frozen=True, kw_only=True):
    """At most one is set; none means waiting."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Wire, frozen=True, kw_only=True):
    name: str
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()

    @property
    def is_plain(self) -> bool:
        """Nothing in it is of this pod alone."""
        states = (self.state, self.last_state)
        return not any(state.terminated or (state.waiting and state.waiting.message) for state in states)


class PodStatus(Wire, frozen=True, kw_only=True):
    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()

    def __post_init__(self) -> None:
        if not any(one.message for one in self.conditions):
            force_setattr(self, "conditions", _shared(self.conditions))
        for field in ("container_statuses", "init_container_statuses"):
            statuses = getattr(self, field)
            if all(status.is_plain for status in statuses):
                force_setattr(self, field, _shared(statuses))


class Pod(Kind, frozen=True, kw_only=True):
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def is_ready(self) -> bool:
        """As the kubelet says: our own probes know earlier."""
        ready = condition(self.status.conditions, "Ready")
        return ready is not None and ready.status == "True"

    @property
    def has_ended(self) -> bool:
        """Nothing in it runs any more, or will."""
        return self.status.phase in ("Failed", "Succeeded")

    @property
    def is_present(self) -> bool:
        """Requests may be meant for it: it has not ended and is not being deleted."""
        return not self.has_ended and not self.metadata.is_deleting


class Selector(Wire, frozen=True, kw_only=True):
    match_labels: dict[str, str] | None = None


class PodTemplate(Wire, frozen=True, kw_only=True):
    metadata: Meta | None = None
    spec: PodSpec | None = None


class LeaderWorkerTemplate(Wire, frozen=True, kw_only=True):
    """Of a LeaderWorkerSet: a replica is a group of `size` pods."""

    size: int = 1
    leader_template: PodTemplate | None = None
    worker_template: PodTemplate | None = None


class WorkloadSpec(Wire, frozen=True, kw_only=True):
    replicas: int | None = None
    paused: bool = False
    selector: Selector | None = None
    template: PodTemplate | None = None
    leader_worker_template: LeaderWorkerTemplate | None = None


class WorkloadStatus(Wire, frozen=True, kw_only=True):
    replicas: int = 0
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()


class Workload(Kind, frozen=True, kw_only=True):
    """A Deployment, StatefulSet, ReplicaSet, CloneSet, LeaderWorkerSet, or anything else that has `/scale`."""

    kind: str = ""
    """Empty in lists: the server says it only once for all of them."""
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()

    @property
    def template(self) -> PodTemplate | None:
        """That of the pods that serve: of a group of leader and workers, the leader."""
        if (group := self.spec.leader_worker_template) is not None:
            return group.leader_template or group.worker_template
        return self.spec.template


class ServicePort(Wire, frozen=True, kw_only=True):
    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str | None = None
    app_protocol: str | None = None


class ServiceSpec(Wire, frozen=True, kw_only=True):
    type: str = "ClusterIP"
    selector: dict[str, str] | None = None
    ports: tuple[ServicePort, ...] = ()
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    ip_families: tuple[str, ...] = ()
    publish_not_ready_addresses: bool = False
    internal_traffic_policy: str = ""


class Service(Kind, frozen=True, kw_only=True):
    spec: ServiceSpec = ServiceSpec()


class TargetReference(Wire, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class EndpointConditions(Wire, frozen=True, kw_only=True):
    """None is "unknown", which the API asks to read as ready (and as not terminating)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(Wire, frozen=True, kw_only=True):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    node_name: str = ""

    @property
    def is_ready(self) -> bool:
        """Takes new connections, as far as the slice says."""
        return self.conditions.ready is not False and not self.conditions.terminating


class EndpointPort(Wire, frozen=True, kw_only=True):
    name: str | None = None
    port: int | None = None
    protocol: str = "TCP"


class EndpointSlice(Kind, frozen=True, kw_only=True):
    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] | None = None
    """None and empty both mean that there are none."""
    ports: tuple[EndpointPort, ...] | None = None

    @property
    def service(self) -> str:
        """The name of the Service that it belongs to; empty where it says none."""
        return self.metadata.label("kubernetes.io/service-name") or ""


class LeaseSpec(Wire, frozen=True, kw_only=True):
    """Times are texts of the holder's clock: they are compared for being the same, never with a clock here."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Kind, frozen=True, kw_only=True):
    spec: LeaseSpec = LeaseSpec()


class ScaleSpec(Wire, frozen=True, kw_only=True):
    replicas: int = 0


class ScaleStatus(Wire, frozen=True, kw_only=True):
    replicas: int = 0
    selector: str = ""


class Scale(Kind, frozen=True, kw_only=True):
    """The `/scale` subresource. The server leaves `spec.replicas` out where it is 0."""

    spec: ScaleSpec = ScaleSpec()
    status: ScaleStatus = ScaleStatus()


class ConfigMap(Kind, frozen=True, kw_only=True):
    data: dict[str, str] | None = None


class Namespace(Kind, frozen=True, kw_only=True):
    pass


class ScaleTarget(Wire, frozen=True, kw_only=True):
    kind: str
    name: str
    api_version: str = ""


class HpaSpec(Wire, frozen=True, kw_only=True):
    scale_target_ref: ScaleTarget
    max_replicas: int = 1
    min_replicas: int = 1


class HpaStatus(Wire, frozen=True, kw_only=True):
    conditions: tuple[Condition, ...] = ()


class Hpa(Kind, frozen=True, kw_only=True):
    """A HorizontalPodAutoscaler of `autoscaling/v2`."""

    spec: HpaSpec
    status: HpaStatus = HpaStatus()


class Series(Wire, frozen=True, kw_only=True):
    count: int = 0
    last_observed_time: str | None = None


class Event(Kind, frozen=True, kw_only=True):
    """An Event of `events.k8s.io/v1`."""

    type: str = ""
    reason: str = ""
    note: str = ""
    regarding: TargetReference = TargetReference()
    series: Series | None = None
    event_time: str | None = None
    deprecated_last_timestamp: str | None = None
    """Of controllers that write Events of the core API, as all of Kubernetes' own do."""


PODS = Resource("", "v1", "pods", Pod)
SERVICES = Resource("", "v1", "services", Service)
CONFIG_MAPS = Resource("", "v1", "configmaps", ConfigMap)
NAMESPACES = Resource("", "v1", "namespaces", Namespace, namespaced=False)
DEPLOYMENTS = Resource("apps", "v1", "deployments", Workload)
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", Workload)
REPLICA_SETS = Resource("apps", "v1", "replicasets", Workload)
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", EndpointSlice)
LEASES = Resource("coordination.k8s.io", "v1", "leases", Lease)
HPAS = Resource("autoscaling", "v2", "horizontalpodautoscalers", Hpa)
EVENTS = Resource("events.k8s.io", "v1", "events", Event)
