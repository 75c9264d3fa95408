"""Which Services lead clients to a workload that is taken over, through which of their ports, and which cannot. Pure.

A Service can be taken over where somebody between client and pod chooses the pod for each connection (a cluster IP),
where the pods' readiness decides whom that is, and where a TCP port leads to the model. The rest is refused with a
sentence. Called for takeovers (`all_fronts.py`, `takeover_book.py`) and routes, and for ways that nobody counts
(`bypass.py`).
"""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import msgspec

from zerogate.kube.catalog import Managed
from zerogate.kube.keys import RECORDS
from zerogate.kube.objects import Key, Pod, PodTemplate, Service, ServicePort
from zerogate.kube.ports import UnfitError, model_port
from zerogate.kube.sidecar import PORT_NAME, SIDECAR

TARGETS: Final = f"{RECORDS}target-ports"
"""On Services: what their patched target ports were, by port, as JSON."""


_NO_SELECTOR: Final = "it has no selector, so nobody knows where it leads"


_Pair = tuple[str, str, str]
"""Namespace, a label, its value."""


class FrontPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port of a Service that leads to the model. `index`: among the Service's ports."""

    name: str
    port: int
    index: int
    target: int | str
    """Where it leads now."""
    number: int | None
    """The number that it led to before zerogate; None where it always led to a name."""
    app_protocol: str | None = None

    @property
    def is_moved(self) -> bool:
        """It leads to the sidecar's name instead of the number."""
        return self.number is not None and self.target == PORT_NAME


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """A Service that stands in front of a workload. `service`: the workload's name with us, NAMESPACE/NAME."""

    key: Key
    uid: str
    service: str
    families: tuple[str, ...]
    ports: tuple[FrontPort, ...]
    record: str | None = None
    """What `TARGETS` says on it."""


class Refused(msgspec.Struct, frozen=True):
    """A Service that cannot be taken over, or a workload where none can (then `key` is its own)."""

    key: Key
    uid: str
    reason: str


class Selected:
    """Services by one pair of what they select, so that a workload looks only at those that may be its own: thousands
    of each are looked at in a time that grows as they do."""

    def __init__(self, services: Iterable[Service] = ()) -> None:
        self._by_pair: dict[_Pair, dict[Key, Service]] = {}
        self._without: dict[Key, Service] = {}
        """Those that select nothing."""
        for service in services:
            self.add(service)

    def add(self, service: Service) -> None:
        """It is new; one of the same name was removed."""
        self._place(service)[service.key] = service

    def remove(self, service: Service) -> None:
        """It is gone, or different, as it was."""
        pair = _pair(service)
        found = self._place(service)
        found.pop(service.key, None)
        if pair is not None and not found:
            del self._by_pair[pair]

    def near(self, entry: Managed) -> list[Service]:
        """Those that may lead to the workload, and one of its name that leads nowhere."""
        template = entry.template
        labels = template.metadata.labels if template is not None and template.metadata is not None else None
        pairs = ((entry.key[0], name, value) for name, value in (labels or {}).items())
        found = [service for pair in pairs for service in self._by_pair.get(pair, {}).values()]
        namesake = self._without.get(entry.key)
        return found if namesake is None else [*found, namesake]

    def _place(self, service: Service) -> dict[Key, Service]:
        pair = _pair(service)
        return self._without if pair is None else self._by_pair.setdefault(pair, {})


def _pair(service: Service) -> _Pair | None:
    selector = service.spec.selector
    if not selector:
        return None
    name = min(selector)
    return service.metadata.namespace, name, selector[name]


def fronts_of(entry: Managed, services: Collection[Service]) -> tuple[list[Front], list[Refused]]:
    """The Services of the workload's namespace that lead to it, and those that do and cannot be taken over.

    `services`: all of them, or those that are `Selected.near` it.
    """
    template = entry.template
    if template is None or template.metadata is None:
        return [], [Refused(entry.key, entry.uid, "it has no pod template")]
    try:
        model = model_port(msgspec.to_builtins(template), entry.wanted.cluster.port).number
    except UnfitError as error:
        return [], [Refused(entry.key, entry.uid, str(error))]
    fronts: list[Front] = []
    refused: list[Refused] = []
    for service in services:
        if service.metadata.namespace == entry.key[0] and selects(service, template.metadata.labels or {}):
            front = _front(entry, service, template, model)
            if isinstance(front, Front):
                fronts.append(front)
            else:
                refused.append(front)
    if not fronts and not refused:
        refused += _namesakes(entry, services)
    if not fronts and not refused:
        refused.append(Refused(entry.key, entry.uid, "no Service selects its pods"))
    return fronts, refused


def misfit(entry: Managed) -> str:
    """What comes of it that nobody knows the port of its model, as a sentence; empty: it is known."""
    unknown = unknown_port(entry)
    what = "Its pods get no sidecar" if entry.wanted.cluster.inject else "Nobody knows where its pods take requests"
    return f"{what}: {unknown}." if unknown else ""


def unknown_port(entry: Managed) -> str:
    """Why nobody knows the port of its model, as a clause; empty: it is known."""
    if entry.template is None:
        return ""
    try:
        model_port(msgspec.to_builtins(entry.template), entry.wanted.cluster.port)
    except UnfitError as error:
        return str(error)
    return ""


def _namesakes(entry: Managed, services: Iterable[Service]) -> list[Refused]:
    """A Service that has the workload's name and leads nowhere that is known: its owner expects more of it."""
    return [
        Refused(one.key, one.metadata.uid, _why_not(one, has_ports=True) or _NO_SELECTOR)
        for one in services
        if one.key == entry.key and not one.spec.selector
    ]


def selects(service: Service, labels: Mapping[str, str]) -> bool:
    """Whether pods with these labels are the Service's."""
    selector = service.spec.selector
    return bool(selector) and all(labels.get(name) == value for name, value in (selector or {}).items())


def _front(entry: Managed, service: Service, template: PodTemplate, model: int) -> Front | Refused:
    spec, meta = service.spec, service.metadata
    before = recorded(service)
    ports = [_front_port(port, index, template, model, before) for index, port in enumerate(spec.ports)]
    kept = tuple(port for port in ports if port is not None)
    reason = _why_not(service, has_ports=bool(kept), model=model)
    if reason:
        return Refused(service.key, meta.uid, reason)
    return Front(
        key=service.key, uid=meta.uid, service=entry.service, families=spec.ip_families or ("IPv4",), ports=kept,
        record=meta.annotation(TARGETS),
    )  # fmt: skip


def why_no_way(entry: Managed, service: Service, number: int | None) -> str:
    """Why the Service's port of this number does not lead to the workload's model, as a clause; empty where it does.

    The Service selects the workload's pods. Unlike for taking over, it may be of any type: nobody goes by its address.
    """
    port = next((one for one in service.spec.ports if one.port == number), None)
    if port is None:
        return f"the Service has no port {number}"
    template = entry.template
    if template is None:
        return "the workload has no pod template"
    try:
        model = model_port(msgspec.to_builtins(template), entry.wanted.cluster.port).number
    except UnfitError as error:
        return str(error)
    if _front_port(port, 0, template, model, recorded(service)) is None:
        return f"its port {number} does not lead to the model's port {model}"
    return ""


def recorded(service: Service) -> dict[str, int]:
    """What its patched target ports were, by the Service's own port."""
    try:
        found: Any = json.loads(service.metadata.annotation(TARGETS) or "{}")
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {port: number for port, number in found.items() if isinstance(number, int)}


def _front_port(
    port: ServicePort, index: int, template: PodTemplate, model: int, before: Mapping[str, int]
) -> FrontPort | None:
    target = port.port if port.target_port is None else port.target_port
    if port.protocol != "TCP":
        return None
    number = target if isinstance(target, int) else None
    if target == PORT_NAME:
        number = before.get(str(port.port))
    elif target_number(target, template) != model and not is_sidecars(target, template):
        return None
    return FrontPort(
        name=port.name, port=port.port, index=index, target=target, number=number, app_protocol=port.app_protocol
    )


def target_number(target: int | str, template: PodTemplate) -> int | None:
    """As the EndpointSlice controller finds it before anything is injected: the first container that has the name."""
    if isinstance(target, int) or template.spec is None:
        return target if isinstance(target, int) else None
    ports = (port for container in template.spec.containers for port in container.ports)
    return next((port.container_port for port in ports if port.name == target and port.protocol == "TCP"), None)


def is_sidecars(target: int | str, template: PodTemplate) -> bool:
    """Whether the template itself has the sidecar, and the name is one of its ports."""
    containers = template.spec.init_containers if template.spec is not None else ()
    return any(port.name == target for one in containers if one.name == SIDECAR for port in one.ports)


def _why_not(service: Service, *, has_ports: bool, model: int = 0) -> str:
    spec = service.spec
    if spec.type == "ExternalName":
        return "it is of type ExternalName, which leads out of the cluster"
    if spec.cluster_ip == "None":
        return "it is headless: its clients go to pods' own addresses, of which there are none at zero"
    if spec.publish_not_ready_addresses:
        return "publishNotReadyAddresses leads its clients to pods that are not ready"
    if spec.internal_traffic_policy == "Local":
        return "internalTrafficPolicy is Local, and not every node has an activator"
    if not has_ports:
        kinds = {port.protocol for port in spec.ports}
        if kinds and "TCP" not in kinds:
            return f"its ports are {' and '.join(sorted(kinds))}, and requests come over TCP"
        return f"none of its ports leads to the model's port {model}"
    return ""


def has_name(pod: Pod) -> bool:
    """Whether a Service that leads to the sidecar's own name finds it in the pod."""
    for container in pod.spec.init_containers:
        if container.name == SIDECAR:
            return any(port.name == PORT_NAME for port in container.ports)
    return False


class Move(msgspec.Struct, frozen=True):
    """One target port to be written: of the Service's port `port`, the `index`-th."""

    index: int
    port: int
    before: int | str
    after: int | str


def moves_to_name(front: Front) -> tuple[Move, ...]:
    """What makes a front's numeric target ports lead to the sidecars."""
    return tuple(
        Move(port.index, port.port, port.target, PORT_NAME)
        for port in front.ports
        if port.number is not None and not port.is_moved
    )


def moves_to_number(service: Service) -> tuple[Move, ...]:
    """What gives a Service the target ports back that it had."""
    before = recorded(service)
    return tuple(
        Move(index, port.port, PORT_NAME, before[str(port.port)])
        for index, port in enumerate(service.spec.ports)
        if port.target_port == PORT_NAME and str(port.port) in before
    )


def operations(moves: Iterable[Move]) -> list[dict[str, Any]]:
    """A JSON Patch that is valid only for the ports as they were seen."""
    found: list[dict[str, Any]] = []
    for move in moves:
        base = f"/spec/ports/{move.index}"
        found.append({"op": "test", "path": f"{base}/port", "value": move.port})
        found.append({"op": "test", "path": f"{base}/targetPort", "value": move.before})
        found.append({"op": "replace", "path": f"{base}/targetPort", "value": move.after})
    return found
