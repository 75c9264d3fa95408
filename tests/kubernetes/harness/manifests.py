"""Objects of Kubernetes that tests write again and again, as the dictionaries of their JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.kubernetes.harness.images import ZEROGATE

Object = dict[str, Any]

STUB = ("python3", "-m", "tests.stub_server", "--host", "0.0.0.0")
"""The stub model server in the image `zerogate`; it listens on the port of its environment's PORT."""


def container(name: str, command: Sequence[str], *, port: int = 0, **fields: Any) -> Object:
    """A container of the image `zerogate`; with a port it is ready when that answers `/health`."""
    answers: Object = {
        "ports": [{"containerPort": port, "name": name}],
        "env": [{"name": "PORT", "value": str(port)}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": port}, "periodSeconds": 1},
    }
    about = {"name": name, "image": ZEROGATE, "imagePullPolicy": "Never", "command": list(command)}
    return {**about, **(answers if port else {}), **fields}


def sidecar(name: str, command: Sequence[str], *, port: int = 0, **fields: Any) -> Object:
    """A container that starts before the others and runs beside them, for `initContainers`."""
    return {**container(name, command, port=port), "restartPolicy": "Always", **fields}


def deployment(
    name: str,
    *containers: Object,
    replicas: int = 1,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **pod: Any,
) -> Object:
    """A Deployment whose pods have the label `app: name`; annotations are the workload's, `pod` its pods' spec.

    Pods leave after 2 s at most, so that a test need not wait for them.
    """
    mine = {"app": name, **(labels or {})}
    spec = {"terminationGracePeriodSeconds": 2, "containers": list(containers), **pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": mine, "annotations": dict(annotations or {})},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": mine}, "spec": spec},
        },
    }


def service(name: str, *, port: int = 80, target: int | str, **spec: Any) -> Object:
    """A Service in front of the Deployment of the same name."""
    ports = [{"name": "http", "port": port, "targetPort": target}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports, **spec},
    }
