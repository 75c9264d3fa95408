"""What becomes of a pod that is to have a sidecar: a JSON Patch, or the reason why there is none. Pure.

The patch adds the sidecar before all other init containers, a preStop hook that drains to each container that has none,
and a label; it raises the grace period to the drain deadline; for takeover it moves names of ports to the sidecar. It
touches nothing else. Applied to its own result it is empty, so that an API server may ask again after other webhooks;
what those have changed in the sidecar stays. Called by the admission webhook; `sidecar_of` by whoever looks at pods.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from zerogate.kube.policies import WorkloadPolicy
from zerogate.kube.ports import (
    HOOKS,
    PROBES,
    Json,
    ModelPort,
    Takeover,
    UnfitError,
    model_port,
    probed_path,
    takeover_of,
)
from zerogate.kube.sidecar import (
    DRAIN_TOKEN,
    LABEL,
    PORT_NAME,
    SIDECAR,
    TOKEN_VOLUME,
    Placed,
    SidecarTerms,
    container_of,
    drain_hook,
    is_sidecar,
    sidecar_of,
    token_volume,
)

AFTER_DRAIN_S: Final = 10
"""For the model server's own end, behind the drain: what Kubernetes' guides leave for it."""
_DEFAULT_GRACE_S: Final = 30

Operation = dict[str, Any]
"""Of a JSON Patch (RFC 6902)."""


class Injection(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done to a pod. Without operations it is as it should be."""

    operations: tuple[Operation, ...]
    warnings: tuple[str, ...] = ()


class Refused(msgspec.Struct, frozen=True):
    """The pod gets no sidecar, and its requests are measured by gateways alone; `reason` is a clause or two."""

    reason: str


def inject(
    pod: Json, wanted: WorkloadPolicy, terms: SidecarTerms, *, service: str, services: Sequence[Json], token: str,
    key: str = "",
) -> Injection | Refused:  # fmt: skip
    """See the module. `service`: NAMESPACE/NAME of the workload; `services`: the Services of its namespace; `token`: a
    new secret for `/drain`, `key`: one by which autoscalers are known, both used where the pod has none yet."""
    try:
        _refuse_unfit(pod)
        return _Patch(pod, wanted, terms, service, token, key).made(services)
    except UnfitError as error:
        return Refused(str(error))


def _refuse_unfit(pod: Json) -> None:
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        raise UnfitError("it uses the node's network (hostNetwork), whose ports a sidecar must not take")
    if (spec.get("os") or {}).get("name") == "windows":
        raise UnfitError("it runs on Windows, for which there is no sidecar")
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            if container.get("name") == SIDECAR and not (field == "initContainers" and is_sidecar(container)):
                raise UnfitError(f"it has a container called {SIDECAR} that is none of zerogate's; rename it")


class _Patch:
    """The operations for one pod, in the order in which they are applied."""

    def __init__(self, pod: Json, wanted: WorkloadPolicy, terms: SidecarTerms, service: str, token: str, key: str
    ) -> None:  # fmt: skip
        self._pod = pod
        self._spec: Json = pod["spec"]
        self._wanted = wanted
        self._terms = terms
        self._service = service
        self._token = token
        self._key = key
        self._operations: list[Operation] = []
        self._warnings: list[str] = []

    def made(self, services: Sequence[Json]) -> Injection:
        placed = sidecar_of(self._spec)
        # asked again, the name that the policy has for the port may be the sidecar's by now
        model = model_port(self._pod, str(placed.model) if placed else self._wanted.cluster.port)
        takeover = Takeover()
        if placed is None:
            takeover = self._takeover(model, services)
            placed = self._place(model, takeover)
        for name in takeover.names:
            self._move_name(model, name)
        for index, container in enumerate(self._spec["containers"]):
            self._hook(index, container, placed, model)
        self._label()
        self._grace()
        self._warn_of_host_ports(model)
        return Injection(operations=tuple(self._operations), warnings=tuple(self._warnings))

    def _add(self, path: str, value: Any) -> None:
        self._operations.append({"op": "add", "path": path, "value": value})

    def _takeover(self, model: ModelPort, services: Sequence[Json]) -> Takeover:
        if not self._wanted.cluster.takeover:
            return Takeover()
        try:
            takeover = takeover_of(self._pod, model, services, PORT_NAME)
        except UnfitError as error:
            self._warnings.append(f"takeover is not possible: {error}")
            return Takeover()
        self._warnings += takeover.notes
        for patch in takeover.patches:
            self._warnings.append(
                f"Service {patch.service}: port {patch.port} leads to the number {patch.from_target}; it is taken over "
                f"once its targetPort is {patch.to_target}"
            )
        return takeover

    def _place(self, model: ModelPort, takeover: Takeover) -> Placed:
        """Add the sidecar."""
        taken = {port["containerPort"] for container in self._all_containers() for port in container.get("ports") or ()}
        taken.add(model.number)
        free = (number for number in range(self._terms.first_port, 65536) if number not in taken)
        placed = Placed(next(free), next(free), model.number, self._token)
        path = self._wanted.policy.ready_path
        if "ready-path" not in self._wanted.given:
            probed, why = probed_path(self._pod, model)
            path = probed or path
            if why:
                self._warnings.append(f"{why}, so the sidecar asks for {path}; zerogate.dev/ready-path says otherwise")
        needs_own = takeover.patches or takeover.by_own_name or not takeover.names
        names = (*takeover.names, PORT_NAME) if needs_own else takeover.names
        for name in names:
            self._refuse_used(name, takeover)
        container = container_of(
            self._terms, self._wanted, placed,
            service=self._service, ready_path=path, port_names=names,
            leads_services=bool(takeover.names or takeover.patches or takeover.by_own_name), pod_spec=self._spec,
            key=self._key,
        )  # fmt: skip
        if self._spec.get("initContainers"):
            self._add("/spec/initContainers/0", container)
        else:
            self._add("/spec/initContainers", [container])
        self._add_volume()
        return placed

    def _refuse_used(self, name: str, takeover: Takeover) -> None:
        if name in takeover.names:
            return
        if any(
            port.get("name") == name for container in self._all_containers() for port in container.get("ports") or ()
        ):
            raise UnfitError(f"it has a port called {name}, which is the sidecar's; rename it")

    def _all_containers(self) -> Iterator[Json]:
        yield from self._spec["containers"]
        yield from self._spec.get("initContainers") or ()

    def _add_volume(self) -> None:
        volumes = self._spec.get("volumes") or ()
        if self._terms.token_audience is None or any(volume.get("name") == TOKEN_VOLUME for volume in volumes):
            return
        volume = token_volume(self._terms.token_audience)
        if volumes:
            self._add("/spec/volumes/-", volume)
        else:
            self._add("/spec/volumes", [volume])

    def _move_name(self, model: ModelPort, name: str) -> None:
        """Take a port's name from the model's container, whose own probes and hooks get the number."""
        container = self._spec["containers"][model.container]
        base = f"/spec/containers/{model.container}"
        for index, port in enumerate(container.get("ports") or ()):
            if port.get("name") == name:
                self._operations.append({"op": "remove", "path": f"{base}/ports/{index}/name"})
        for path, handler in _named_handlers(container):
            if handler.get("port") == name:
                self._operations.append({"op": "replace", "path": f"{base}{path}/port", "value": model.number})

    def _hook(self, index: int, container: Json, placed: Placed, model: ModelPort) -> None:
        lifecycle = container.get("lifecycle")
        hook = drain_hook(placed)
        if not lifecycle:
            self._add(f"/spec/containers/{index}/lifecycle", {"preStop": hook})
        elif not lifecycle.get("preStop"):
            self._add(f"/spec/containers/{index}/lifecycle/preStop", hook)
        elif index == model.container and not _drains(lifecycle["preStop"]):
            self._warnings.append(
                f"container {container['name']} keeps its own preStop: when that ends it is stopped, whatever is inside"
            )

    def _label(self) -> None:
        metadata = self._pod.get("metadata")
        labels = (metadata or {}).get("labels")
        if not metadata:
            self._add("/metadata", {"labels": {LABEL: "true"}})
        elif not labels:
            self._add("/metadata/labels", {LABEL: "true"})
        elif labels.get(LABEL) != "true":
            self._add(f"/metadata/labels/{_pointer(LABEL)}", "true")

    def _grace(self) -> None:
        needed = math.ceil(self._wanted.cluster.drain_deadline_s) + AFTER_DRAIN_S
        given = self._spec.get("terminationGracePeriodSeconds")
        if (_DEFAULT_GRACE_S if given is None else given) < needed:
            self._add("/spec/terminationGracePeriodSeconds", needed)

    def _warn_of_host_ports(self, model: ModelPort) -> None:
        container = self._spec["containers"][model.container]
        for port in container.get("ports") or ():
            if port.get("hostPort") and port.get("containerPort") == model.number:
                self._warnings.append(
                    f"hostPort {port['hostPort']} of container {model.container_name} leads past the sidecar: "
                    "its requests are not measured"
                )


def _named_handlers(container: Json) -> Iterator[tuple[str, Json]]:
    """The container's probes and hooks that ask a port, by their path in it."""
    lifecycle = container.get("lifecycle") or {}
    places: list[tuple[str, Mapping[str, Any]]] = [(f"/{name}", container.get(name) or {}) for name in PROBES]
    places += [(f"/lifecycle/{name}", lifecycle.get(name) or {}) for name in HOOKS]
    for path, place in places:
        for kind in ("httpGet", "tcpSocket"):
            if place.get(kind):
                yield f"{path}/{kind}", place[kind]


def _drains(hook: Json) -> bool:
    headers = (hook.get("httpGet") or {}).get("httpHeaders") or ()
    return any(header.get("name") == DRAIN_TOKEN for header in headers)


def _pointer(key: str) -> str:
    """A key as one step of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
