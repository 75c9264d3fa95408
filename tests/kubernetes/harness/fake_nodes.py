"""Nodes that exist only in the API, for scale: kwok answers for them, and their pods are Running at once.

    with fake_nodes(controllers, 10):                              # a control plane with controllers
        controllers.cluster.apply(deployment_of_500)               # pods need the toleration in `TOLERATION`

kwok leaves nodes alone that do not carry its annotation, so that a real node may stand beside them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.kubernetes.harness import binaries
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.processes import until

PROGRAM = "kwok"
TOLERATION = {"key": "kwok.x-k8s.io/node", "operator": "Exists"}
_PODS = 2000
"""Per node. Ten times what a kubelet takes: the fewer nodes, the fewer heartbeats there are between the pods."""


_NODE_READY = """
conditions:
- {type: Ready, status: "True", lastHeartbeatTime: {{ Now | Quote }}, lastTransitionTime: {{ Now | Quote }}}
addresses:
- {type: InternalIP, address: {{ NodeIP | Quote }}}
"""
_POD_READY = """
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
conditions:
{{ range $type := split " " "Initialized ContainersReady Ready" }}
- {type: {{ $type | Quote }}, status: "True", lastTransitionTime: {{ $now | Quote }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- {name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: "", ready: true, started: true, restartCount: 0,
   state: {running: {startedAt: {{ $now | Quote }}}}}
{{ end }}
initContainerStatuses:
{{ range .spec.initContainers }}
- {name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: "", ready: true, started: true, restartCount: 0,
   state: {running: {startedAt: {{ $now | Quote }}}}}
{{ end }}
{{ $root := . }}
{{ range $index, $address := PodIPsWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace }}
{{ if eq $index 0 }}podIP: {{ $address | Quote }}
podIPs:
{{ end }}
- {ip: {{ $address | Quote }}}
{{ end }}
"""
"""Init containers are taken for sidecars, which run on."""


@contextmanager
def fake_nodes(plane: ControlPlane, count: int = 1) -> Iterator[list[str]]:
    """So many Ready nodes in the cluster, by name; removed with their pods' hosts at the end."""
    program = binaries.ensure([PROGRAM])[PROGRAM]
    access = plane.access("kwok", groups=["system:masters"])
    stages = plane.folder / "stages.yaml"
    stages.write_text(yaml.safe_dump_all(_stages()))
    command: list[str | Path] = [
        program,
        f"--config={stages}",
        f"--kubeconfig={access.kubeconfig}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--server-address=127.0.0.1:{plane.place.port(10247)}",
    ]
    kwok = plane.process("kwok", command)
    names = [f"fake-{number}" for number in range(count)]
    for name in names:
        plane.cluster.create("/api/v1/nodes", _node(name))
    kwok.start()
    try:
        for name in names:
            until(
                lambda name=name: _is_ready(plane, name),  # type: ignore[misc]
                within_s=60, what=f"node {name}", process=kwok,
            )  # fmt: skip
        yield names
    finally:
        for name in names:
            plane.cluster.delete(f"/api/v1/nodes/{name}")
        kwok.stop()


def _stages() -> list[dict[str, object]]:
    """What kwok does with objects: nodes and pods become ready, pods to be deleted go."""
    not_ready: dict[str, object] = {
        "key": '.status.conditions.[] | select( .type == "Ready" ) | .status',
        "operator": "NotIn",
    }
    lives: dict[str, object] = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
    leaves: dict[str, object] = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
    return [
        _stage("node-ready", "Node", [{**not_ready, "values": ["True"]}], {"statusTemplate": _NODE_READY}),
        _stage("pod-ready", "Pod", [lives, {**not_ready, "values": ["True"]}], {"statusTemplate": _POD_READY}),
        _stage("pod-gone", "Pod", [leaves], {"delete": True}),
    ]


def _stage(name: str, kind: str, when: list[dict[str, object]], then: dict[str, object]) -> dict[str, object]:
    spec = {"resourceRef": {"apiGroup": "v1", "kind": kind}, "selector": {"matchExpressions": when}, "next": then}
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": spec}


def _node(name: str) -> dict[str, object]:
    amounts = {"cpu": "10000", "memory": "100Ti", "pods": str(_PODS)}
    return {
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"type": "kwok", "kubernetes.io/hostname": name},
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def _is_ready(plane: ControlPlane, name: str) -> bool:
    conditions = plane.cluster.get(f"/api/v1/nodes/{name}")["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
