"""Where requests for a pod's model go: which container and port, what it is asked, and which Services lead there.

Pure. Objects are dicts as the API server sends them. What cannot be found out raises `UnfitError` with a reason for a
person. Called by `zerogate.kube.injection`, and by whoever has to know a replica's port without a sidecar.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from zerogate.errors import ZerogateError

Json = Mapping[str, Any]
"""An object as the API server sends it."""

PROBES: Final = ("readinessProbe", "livenessProbe", "startupProbe")
HOOKS: Final = ("postStart", "preStop")
_DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"
_ASKABLE: Final = re.compile("/[!-~]{0,1023}")


class UnfitError(ZerogateError):
    """The pod is not one that a sidecar can stand in front of; `str` says why, as a clause or two."""


class ModelPort(msgspec.Struct, frozen=True):
    """The model server's port. `container`: index in the pod's containers."""

    container: int
    container_name: str
    number: int


class ServicePatch(msgspec.Struct, frozen=True):
    """A port of a Service that has to lead to a name instead of a number, once all pods have that name."""

    service: str
    port: int
    """The Service's own."""
    from_target: int
    to_target: str


class Takeover(msgspec.Struct, frozen=True):
    """How Services come to lead to the sidecar: port names that move to it, and Services to be patched."""

    names: tuple[str, ...] = ()
    patches: tuple[ServicePatch, ...] = ()
    notes: tuple[str, ...] = ()
    """What stays as it is, and why."""
    by_own_name: bool = False
    """A Service leads to the sidecar's own name already."""


def model_port(pod: Json, asked: str | None) -> ModelPort:
    """Port `asked` (a number or a name) of the pod, else the first one of the first container that has any."""
    containers: Sequence[Json] = (pod.get("spec") or {}).get("containers") or ()
    order = _default_first(pod, containers)
    for index in order:
        for port in tcp_ports(containers[index]):
            if asked is None or asked in (port.get("name"), str(port["containerPort"])):
                return ModelPort(index, containers[index]["name"], port["containerPort"])
    if asked is None:
        raise UnfitError("no container declares a TCP port; say it with the annotation zerogate.dev/port")
    if not asked.isdigit():
        raise UnfitError(f"no container has a TCP port called {asked} (zerogate.dev/port)")
    if not order:
        raise UnfitError("it has no containers")
    index = _asked_by_probe(containers, order, int(asked))
    return ModelPort(index, containers[index]["name"], int(asked))


def _default_first(pod: Json, containers: Sequence[Json]) -> list[int]:
    """Indexes of the containers: the one that kubectl is told to take comes first, where somebody said so."""
    named = ((pod.get("metadata") or {}).get("annotations") or {}).get(_DEFAULT_CONTAINER)
    return sorted(range(len(containers)), key=lambda index: containers[index].get("name") != named)


def _asked_by_probe(containers: Sequence[Json], order: Sequence[int], number: int) -> int:
    """Who has an undeclared port: the one that is probed on it, else the first."""
    for index in order:
        if any(number == port for port, _ in _handlers(containers[index], PROBES)):
            return index
    return order[0]


def tcp_ports(container: Json) -> Iterator[Json]:
    """The entries of a container's ports that a request can go to."""
    for port in container.get("ports") or ():
        if port.get("protocol", "TCP") == "TCP" and isinstance(port.get("containerPort"), int):
            yield port


def _handlers(container: Json, names: Sequence[str]) -> Iterator[tuple[int | str, Json]]:
    for name in names:
        for kind in ("httpGet", "tcpSocket"):
            handler = (container.get(name) or {}).get(kind)
            if handler is not None and "port" in handler:
                yield handler["port"], handler


def number_of(container: Json, port: int | str) -> int | None:
    """The number behind a probe's port, as the kubelet resolves it: in the container's own ports."""
    if isinstance(port, int):
        return port
    return next((entry["containerPort"] for entry in tcp_ports(container) if entry.get("name") == port), None)


def probed_path(pod: Json, model: ModelPort) -> tuple[str | None, str]:
    """The path of the model container's readinessProbe, or None and, where it has one, why it cannot be asked."""
    container = pod["spec"]["containers"][model.container]
    handler = (container.get("readinessProbe") or {}).get("httpGet")
    if handler is None:
        return None, ""
    what = f"the readinessProbe of container {model.container_name}"
    if number_of(container, handler.get("port", "")) != model.number:
        return None, f"{what} asks another port than the model's"
    if handler.get("scheme", "HTTP") != "HTTP":
        return None, f"{what} asks over TLS"
    path = handler.get("path") or "/"
    path = path if path.startswith("/") else f"/{path}"
    if not _ASKABLE.fullmatch(path) or "#" in path:
        return None, f"the path of {what} cannot be asked for"
    return path, ""


def selects(service: Json, labels: Mapping[str, str] | None) -> bool:
    """Whether a Service's endpoints are pods with `labels`."""
    selector = (service.get("spec") or {}).get("selector") or {}
    return bool(selector) and all((labels or {}).get(name) == value for name, value in selector.items())


def takeover_of(pod: Json, model: ModelPort, services: Sequence[Json], own_name: str) -> Takeover:
    """How the Services of a pod are led to its sidecar. `own_name`: the sidecar's own port name, for patched Services.

    Raises UnfitError where no Service can be.
    """
    selecting = [service for service in services if selects(service, (pod.get("metadata") or {}).get("labels"))]
    if not selecting:
        return _ahead_of_services(pod, model)
    names: dict[str, None] = {}
    patches: list[ServicePatch] = []
    notes: list[str] = []
    by_own_name = False
    for service in selecting:
        name = service["metadata"]["name"]
        if service["spec"].get("clusterIP") == "None":
            notes.append(f"Service {name} is headless: its clients go to the pods' own ports, past the sidecar")
            continue
        for port in service["spec"].get("ports") or ():
            target = port.get("targetPort", port["port"])
            by_own_name = by_own_name or target == own_name
            if port.get("protocol", "TCP") != "TCP" or _resolved(pod, target) != model.number:
                continue
            if isinstance(target, int):
                patches.append(ServicePatch(name, port["port"], target, own_name))
            else:
                names[target] = None
    if not names and not patches and not by_own_name:
        raise UnfitError(_why_none(model, selecting, notes))
    for port_name in names:
        _refuse_shared(pod, model, port_name)
    return Takeover(tuple(names), tuple(patches), tuple(notes), by_own_name)


def _ahead_of_services(pod: Json, model: ModelPort) -> Takeover:
    """What is applied in one go comes in the order of its file: the Service may be the next thing to come."""
    ports = list(tcp_ports(pod["spec"]["containers"][model.container]))
    here = (port["name"] for port in ports if port["containerPort"] == model.number and port.get("name"))
    names = tuple(dict.fromkeys(here))
    if not names:
        raise UnfitError("no Service selects this pod")
    for name in names:
        _refuse_shared(pod, model, name)
    note = f"no Service selects this pod yet; one that leads to the port {' or '.join(names)} will be taken over"
    return Takeover(names, (), (note,))


def _resolved(pod: Json, target: int | str) -> int | None:
    """The number of a pod's port, as the EndpointSlice controller finds it: containers in order."""
    if isinstance(target, int):
        return target
    numbers = (number_of(container, target) for container in pod["spec"]["containers"])
    return next((number for number in numbers if number is not None), None)


def _refuse_shared(pod: Json, model: ModelPort, port_name: str) -> None:
    """A name that another container keeps would still win over the sidecar's: containers are looked at first."""
    for index, container in enumerate(pod["spec"]["containers"]):
        for port in tcp_ports(container):
            if port.get("name") == port_name and (index, port["containerPort"]) != (model.container, model.number):
                raise UnfitError(
                    f"the port name {port_name} stands for port {port['containerPort']} of container "
                    f"{container['name']} too; give each its own name"
                )


def _why_none(model: ModelPort, selecting: Sequence[Json], notes: Sequence[str]) -> str:
    if notes:
        return "; ".join(notes)
    listed = ", ".join(service["metadata"]["name"] for service in selecting)
    return f"no port of Service {listed} leads to port {model.number} of container {model.container_name}"
