"""What a watched object costs, and where kinds live."""

import gc
import json
import tracemalloc

import msgspec

from zerogate.kube.decoding import decode
from zerogate.kube.objects import DEPLOYMENTS, NAMESPACES, PODS, Pod

PODS_MEASURED = 2000
MOST_BYTES = 4096


def pod(number: int) -> bytes:
    """A pod of a model server with a sidecar as an API server sends it: about 12 KiB."""
    name = f"llama-7f3a9c{number % 16:x}-{number:05d}"
    environment = [{"name": f"SETTING_{i}", "value": f"value {i} " * 5} for i in range(30)]
    containers = [
        {
            "name": part,
            "image": f"registry.example/{part}@sha256:{'a' * 64}",
            "env": environment,
            "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": "http", "scheme": "HTTP"}, "periodSeconds": 10},
            "resources": {"limits": {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "1"}, "requests": {"cpu": "8"}},
            "volumeMounts": [{"name": "models", "mountPath": "/models"}],
        }
        for part in ("model", "exporter")
    ]
    sidecar = {"name": "zerogate-queueproxy", "image": "zerogate", "restartPolicy": "Always", "ports": []}
    statuses = [
        {
            "name": container,
            "ready": True,
            "started": True,
            "restartCount": 0,
            "containerID": f"containerd://{number:064x}",
            "imageID": "a" * 80,
            "state": {"running": {"startedAt": "2026-03-01T10:00:00Z"}},
            "lastState": {},
        }
        for container in ("model", "exporter")
    ]
    conditions = [
        {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-03-01T10:00:00Z"}
        for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    about = {
        "name": name,
        "namespace": f"team-{number % 20}",
        "uid": f"{number:08x}-0000-4000-8000-000000000000",
        "resourceVersion": str(100000 + number),
        "creationTimestamp": "2026-03-01T10:00:00Z",
        "labels": {"app": "llama", "pod-template-hash": f"7f3a9c{number % 16:x}", "team": f"team-{number % 20}"},
        "annotations": {"zerogate.dev/idle-timeout": "10m", "somebody.dev/notes": "x" * 2000},
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": f"llama-7f3a9c{number % 16:x}",
                "uid": f"{number % 16:08x}-1111-4000-8000-000000000000",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
        "managedFields": [{"manager": "kubelet", "fieldsV1": {f"f:{i}": {} for i in range(100)}}],
    }
    address = f"10.1.{number // 250}.{number % 250}"
    return json.dumps(
        {
            "metadata": about,
            "spec": {
                "containers": containers,
                "initContainers": [sidecar],
                "nodeName": f"gpu-node-{number % 50}",
                "terminationGracePeriodSeconds": 600,
            },
            "status": {
                "phase": "Running",
                "podIP": address,
                "podIPs": [{"ip": address}],
                "startTime": "2026-03-01T10:00:00Z",
                "conditions": conditions,
                "containerStatuses": statuses,
                "initContainerStatuses": statuses[:1],
            },
        }
    ).encode()


def test_a_watched_pod_costs_at_most_four_kibibytes() -> None:
    raw = [pod(number) for number in range(PODS_MEASURED)]
    decode(raw[0], Pod)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        known = {found.key: found for found in (decode(data, Pod) for data in raw)}
        each = (tracemalloc.get_traced_memory()[0] - before) / len(known)
    finally:
        tracemalloc.stop()
    assert len(known) == PODS_MEASURED
    assert each <= MOST_BYTES, f"{each:.0f} bytes"


def test_what_repeats_from_pod_to_pod_is_kept_once() -> None:
    one, other = decode(pod(1), Pod), decode(pod(21), Pod)
    assert one.spec.containers is other.spec.containers
    assert one.status.conditions is other.status.conditions
    assert one.status.container_statuses is other.status.container_statuses
    assert one.metadata.namespace is other.metadata.namespace
    assert one.metadata.labels is not None
    assert other.metadata.labels is not None
    assert one.metadata.labels["team"] is other.metadata.labels["team"]


def test_a_pod_can_be_written_as_json_again() -> None:
    found = decode(pod(1), Pod)
    assert decode(msgspec.json.encode(found), Pod) == found


def test_paths_are_those_of_the_api() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path(namespace="models", name="one") == "/api/v1/namespaces/models/pods/one"
    scale = DEPLOYMENTS.path(namespace="models", name="llama", subresource="scale")
    assert scale == "/apis/apps/v1/namespaces/models/deployments/llama/scale"
    assert NAMESPACES.path(namespace="ignored", name="ml") == "/api/v1/namespaces/ml"
