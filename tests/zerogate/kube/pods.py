"""Pods as an API server would send them, and JSON Patch (RFC 6902) applied to them."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from zerogate.kube.injection import Injection, Refused, inject
from zerogate.kube.policies import NO_DEFAULTS, Layer, WorkloadPolicy, read_workload
from zerogate.kube.sidecar import SidecarTerms

TERMS = SidecarTerms(image="zerogate:test")


def policy(**annotations: str) -> WorkloadPolicy:
    """Of a workload with these keys, `_` for `-`."""
    raw = {"enabled": "true", **{name.replace("_", "-"): value for name, value in annotations.items()}}
    reading = read_workload(NO_DEFAULTS, [Layer(source="Deployment default/llm", raw=raw)])
    assert not reading.mistakes, [str(mistake.error) for mistake in reading.mistakes]
    return reading.policy


def container(name: str = "llm", *ports: Any, **more: Any) -> dict[str, Any]:
    """A container; a port is a number, or a name and a number."""
    entries = [{"name": port[0], "containerPort": port[1]} if isinstance(port, tuple) else {"containerPort": port}
               for port in ports]  # fmt: skip
    return {"name": name, "image": "model", **({"ports": entries} if entries else {}), **more}


def pod(*containers: dict[str, Any], labels: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod of a Deployment."""
    return {
        "metadata": {"generateName": "llm-", "labels": dict(labels or {"app": "llm"})},
        "spec": {"containers": list(containers or [container("llm", ("http", 8000))]), **spec},
    }


def service(name: str = "llm", target: int | str = "http", **spec: Any) -> dict[str, Any]:
    """A Service of one port."""
    ports = [{"port": 80, "targetPort": target, "protocol": "TCP"}]
    return {"metadata": {"name": name}, "spec": {"selector": {"app": "llm"}, "ports": ports, **spec}}


def attempt(obj: dict[str, Any], services: Iterable[dict[str, Any]] = (), token: str = "t" * 32, **keys: str) -> Any:
    """What `inject` says of a pod whose workload has these keys."""
    return inject(obj, policy(**keys), TERMS, service="default/llm", services=[*services], token=token)


def refusal(obj: dict[str, Any]) -> str:
    """Why a pod gets no sidecar."""
    outcome = attempt(obj)
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


def injected(
    obj: dict[str, Any], services: Iterable[dict[str, Any]] = (), *, terms: SidecarTerms = TERMS, **keys: str
) -> dict[str, Any]:
    """The pod after the patch."""
    outcome = inject(obj, policy(**keys), terms, service="default/llm", services=[*services], token="t" * 32)
    assert isinstance(outcome, Injection), outcome
    return patched(obj, outcome.operations)


def sidecar(obj: dict[str, Any]) -> dict[str, Any]:
    """The pod's first init container."""
    first: dict[str, Any] = obj["spec"]["initContainers"][0]
    return first


def env(obj: dict[str, Any]) -> dict[str, str]:
    """What its sidecar is told."""
    return {entry["name"]: entry["value"] for entry in sidecar(obj)["env"]}


def patched(obj: dict[str, Any], operations: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A copy of an object with the operations applied, as strictly as an API server does."""
    result = copy.deepcopy(obj)
    for operation in operations:
        *steps, last = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
        place: Any = result
        for step in steps:
            place = place[int(step)] if isinstance(place, list) else place[step]
        value = copy.deepcopy(operation.get("value"))
        if isinstance(place, list):
            assert operation["op"] == "add"
            place.insert(len(place) if last == "-" else int(last), value)
        elif operation["op"] == "remove":
            del place[last]
        else:
            assert operation["op"] == "add" or last in place
            place[last] = value
    return result
