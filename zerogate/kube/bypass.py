"""Which Services lead clients past the sidecars of a workload, to the port of the model itself. Pure.

Who comes that way is counted by nobody, so the workload is not taken to zero (`autoscaler.cluster.coverage`). Called by
`autoscaler.cluster.bypasses`.
"""

from collections.abc import Iterable

import msgspec

from zerogate.kube.catalog import Managed
from zerogate.kube.fronts import is_sidecars, selects, target_number
from zerogate.kube.objects import PodTemplate, Service, ServicePort
from zerogate.kube.ports import UnfitError, model_port
from zerogate.kube.sidecar import PORT_NAME


class Bypass(msgspec.Struct, frozen=True):
    """A Service that leads to the model's own port. `is_open`: it is headless, and no targetPort changes that."""

    name: str
    is_open: bool = False


def past_sidecar(entry: Managed, services: Iterable[Service]) -> tuple[Bypass, ...]:
    """The Services that lead to the port of the model itself, where nobody counts who comes.

    With takeover the names of ports lead to the sidecar; a number does so when it has been patched. Behind a headless
    Service no port is translated: who knows its address and port comes to that port of the pod, whatever its target is.
    """
    template = entry.template
    if template is None or template.metadata is None:
        return ()
    try:
        model = model_port(msgspec.to_builtins(template), entry.wanted.cluster.port).number
    except UnfitError:
        return ()
    labels = template.metadata.labels or {}
    is_taken_over = entry.wanted.cluster.takeover and entry.wanted.cluster.inject
    mine = (one for one in services if one.metadata.namespace == entry.key[0] and selects(one, labels))
    found = (
        Bypass(one.metadata.name, is_open)
        for one in mine
        if (is_open := _is_open(one, model))
        or any(_is_past(port, template, model, is_taken_over) for port in one.spec.ports)
    )
    return tuple(found)


def _is_open(service: Service, model: int) -> bool:
    ports = service.spec.ports
    return service.spec.cluster_ip == "None" and any(one.port == model and one.protocol == "TCP" for one in ports)


def _is_past(port: ServicePort, template: PodTemplate, model: int, is_taken_over: bool) -> bool:
    target = port.port if port.target_port is None else port.target_port
    if port.protocol != "TCP" or target == PORT_NAME or is_sidecars(target, template):
        return False
    if isinstance(target, str) and is_taken_over:
        return False
    return target_number(target, template) == model
