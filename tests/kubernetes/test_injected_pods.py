"""Pods with a sidecar on a real node: started, asked and ended by its kubelet."""

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.chart import SYSTEM
from tests.kubernetes.harness import images
from tests.kubernetes.harness.manifests import STUB, Object, container, deployment, service
from tests.kubernetes.harness.node import Node
from tests.kubernetes.harness.processes import until
from tests.kubernetes.release import installed
from zerogate.clock import now
from zerogate.kube.sidecar import Placed, sidecar_of

SHELL_LESS = "tests.zerogate.dev/shell-less:tests"
FITTING = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
KEYS = {"zerogate.dev/enabled": "true", "zerogate.dev/takeover": "true"}


@pytest.fixture(scope="module")
def release(node: Node, helm: None) -> Iterator[None]:
    base = images.zerogate()
    layers = [[file for file in layer if not file.path.startswith("bin/")] for layer in base.layers]
    node.add_image(images.Image(SHELL_LESS, layers, env=base.env, folder=base.folder))
    with installed(node):
        yield


@pytest.fixture
def team(node: Node, release: None) -> Iterator[str]:
    """A namespace that takes restricted pods alone."""
    with node.plane.namespace("team", {"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        yield name


class Deployed:
    """A model of one replica with a Service, behind its sidecar."""

    def __init__(self, node: Node, namespace: str, *, image: str = images.ZEROGATE, **keys: str) -> None:
        self.node = node
        self.namespace = namespace
        model = container("model", STUB, port=8000, securityContext=FITTING, image=image)
        node.cluster.apply(
            deployment("llm", model, annotations={**KEYS, **keys}), service("llm", target="model"), namespace=namespace
        )
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/llm"
        node.cluster.until(path, lambda found: found["status"].get("readyReplicas") == 1)
        found = node.cluster.get(f"/api/v1/namespaces/{namespace}/services/llm")
        self.port = node.reach(80, found["spec"]["clusterIP"])

    def pod(self) -> Object:
        (pod,) = self.node.cluster.get(f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=app%3Dllm")["items"]
        found: Object = pod
        return found

    def placed(self) -> Placed:
        placed = sidecar_of(self.pod()["spec"])
        assert placed is not None
        return placed

    def get(self, path: str) -> bytes:
        """By the Service's address."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            content: bytes = answer.read()
            return content

    def stat(self) -> dict[str, Any]:
        """What the sidecar counted."""
        port = self.node.reach(self.placed().admin, self.pod()["status"]["podIP"])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=10) as answer:
            stat: dict[str, Any] = json.loads(answer.read())
            return stat

    def until_sidecar_leads(self) -> None:
        """Until kube-proxy has heard of the pod, and the sidecar of a request by the Service's address."""

        def is_counted() -> bool:
            try:
                self.get("/echo")
            except OSError:
                return False
            return bool(self.stat()["arrivals"])

        until(is_counted, within_s=20, what="a request by the Service's address that the sidecar counts")

    def delete_pod(self) -> str:
        name: str = self.pod()["metadata"]["name"]
        self.node.cluster.delete(f"/api/v1/namespaces/{self.namespace}/pods/{name}")
        return f"/api/v1/namespaces/{self.namespace}/pods/{name}"


def test_an_annotation_is_all_it_takes_for_a_ready_pod_behind_a_sidecar(node: Node, team: str) -> None:
    model = Deployed(node, team)
    states = model.pod()["status"]
    assert [one["ready"] for one in (*states["initContainerStatuses"], *states["containerStatuses"])] == [True, True]
    model.until_sidecar_leads()
    assert model.pod()["spec"]["terminationGracePeriodSeconds"] == 310


@pytest.mark.parametrize("image", [images.ZEROGATE, SHELL_LESS], ids=["with a shell", "without a shell"])
def test_the_kubelet_drains_a_deleted_pod_before_its_model_is_stopped(node: Node, team: str, image: str) -> None:
    model = Deployed(node, team, image=image)
    model.until_sidecar_leads()
    heard: list[bytes] = []
    client = threading.Thread(target=lambda: heard.append(model.get("/sse?events=6&gap_ms=1000")), name="client")
    client.start()
    until(lambda: model.stat()["in_flight"] == 1, within_s=10, what="the stream's begin")
    began_s = now()
    path = model.delete_pod()
    leaving = node.cluster.get(path)["metadata"]
    assert leaving["deletionGracePeriodSeconds"] == 310
    client.join(30)
    streamed_s = now() - began_s
    (content,) = heard
    assert content.count(b"data: {") == 6
    assert content.endswith(b"data: [DONE]\n\n")
    until(lambda: node.cluster.find(path) is None, within_s=30, what="the pod's end")
    assert streamed_s > 2.0
    assert now() - began_s < streamed_s + 10  # it did not wait for the grace period
    assert not _complaints(node, team)


def _complaints(node: Node, namespace: str) -> list[str]:
    """The kubelet's own Events about hooks that failed."""
    events = node.cluster.get(f"/api/v1/namespaces/{namespace}/events")["items"]
    return [event["message"] for event in events if event["reason"] == "FailedPreStopHook"]


def test_an_idle_pod_leaves_within_seconds(node: Node, team: str) -> None:
    model = Deployed(node, team)
    began_s = now()
    path = model.delete_pod()
    until(lambda: node.cluster.find(path) is None, within_s=60, what="the pod's end")
    assert now() - began_s < 10
    assert not _complaints(node, team)


def test_a_pod_that_is_deleted_before_its_model_hears_signals_does_not_stay_for_the_grace_period(
    node: Node, team: str
) -> None:
    """A shell is the first process of its container until the server begins, and it does not hear SIGTERM."""
    command = ["sh", "-c", 'sleep 5; exec "$@"', "-", *STUB]
    model = container("model", command, port=8000, securityContext=FITTING)
    node.cluster.apply(deployment("llm", model, annotations=KEYS), namespace=team)
    pods = f"/api/v1/namespaces/{team}/pods"
    node.cluster.until(pods, lambda found: any(_runs(pod) for pod in found["items"]))
    (pod,) = node.cluster.get(pods)["items"]
    path = f"{pods}/{pod['metadata']['name']}"
    began_s = now()
    node.cluster.delete(path)
    until(lambda: node.cluster.find(path) is None, within_s=60, what="the pod's end")
    assert now() - began_s > 3, "it proves nothing"
    assert not _complaints(node, team)


def _runs(pod: Object) -> bool:
    return any("running" in one["state"] for one in pod["status"].get("containerStatuses", ()))


def test_a_drain_without_the_pods_token_is_refused(node: Node, team: str) -> None:
    model = Deployed(node, team)
    model.until_sidecar_leads()
    port = node.reach(model.placed().admin, model.pod()["status"]["podIP"])
    with pytest.raises(urllib.request.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/drain", method="POST"), timeout=10)
    model.get("/echo")


def test_a_rolling_restart_of_the_autoscalers_lets_no_pod_through(node: Node, team: str) -> None:
    """F1: pods are asked for all the while, for show, so that hundreds can be."""
    model = Deployed(node, team).pod()
    about = {"labels": model["metadata"]["labels"], "ownerReferences": model["metadata"]["ownerReferences"]}
    like = container("model", STUB, port=8000, securityContext=FITTING)
    node.cluster.kubectl("rollout", "restart", "-n", SYSTEM, "deployment/zerogate-autoscaler")
    path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/zerogate-autoscaler"
    without: list[float] = []
    began_s = now()
    asked = 0
    until_s = began_s + 90
    while now() < until_s:
        asked += 1
        body = {"metadata": {**about, "name": f"for-show-{asked}"}, "spec": {"containers": [like]}}
        made = node.cluster.create(f"/api/v1/namespaces/{team}/pods?dryRun=All", body)
        if sidecar_of(made["spec"]) is None:
            without.append(round(now() - began_s, 2))
        if asked % 20 == 0 and until_s > now() + 10 and _is_rolled_out(node.cluster.get(path)):
            until_s = now() + 6  # the last one that leaves is asked a while longer
        time.sleep(0.01)
    assert not without, f"of {asked}, at these seconds"
    assert asked > 100
    assert now() < began_s + 85, "the rollout came to no end"


def _is_rolled_out(found: Object) -> bool:
    status = found["status"]
    return bool(
        status.get("observedGeneration") == found["metadata"]["generation"]
        and status.get("updatedReplicas") == status.get("availableReplicas") == status.get("replicas") == 2
    )
