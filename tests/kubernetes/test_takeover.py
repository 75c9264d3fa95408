"""A Service at zero is answered for by activators, over real nodes' rules, and nobody notices the change of hands."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.harness.images import ZEROGATE
from tests.kubernetes.harness.manifests import STUB, container, deployment, service
from tests.kubernetes.harness.node import Node
from tests.kubernetes.harness.processes import Process, until
from tests.kubernetes.takeover_roles import ACTIVATOR, LEADER, SCALER, objects
from tests.zerogate.kube.pods import patched, policy
from zerogate.kube.injection import Injection, inject
from zerogate.kube.sidecar import SidecarTerms

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
HOME = "zerogate-system"
ROUNDS = 20 if os.environ.get("CI") == "true" else 3
"""Of seven seconds each."""
TERMS = SidecarTerms(image=ZEROGATE, pull_policy="Never", command=("python3", "-m", "queueproxy"))
ANNOTATIONS = {"zerogate.dev/enabled": "true", "zerogate.dev/takeover": "true", "zerogate.dev/max-replicas": "2"}


class Stage:
    """A leader and two activators on a node, and a workload that is taken over."""

    def __init__(self, node: Node, namespace: str) -> None:
        self.node = node
        self.cluster = node.cluster
        self.namespace = namespace
        self.orders = node.folder / "orders"
        self.deployment = f"/apis/apps/v1/namespaces/{namespace}/deployments/llm"
        self.slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self.services = f"/api/v1/namespaces/{namespace}/services"
        self.pods = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3Dllm"

    def order(self, number: int) -> None:
        """Have so many replicas."""
        new = self.orders.with_suffix(".new")
        new.write_text(f"{self.namespace}/llm {number}\n")
        new.rename(self.orders)

    def go_to_zero(self) -> None:
        self.order(0)
        self.cluster.until(self.deployment, lambda it: not it["spec"].get("replicas"))

    def come_up(self) -> None:
        self.order(1)
        self.cluster.until(self.deployment, lambda it: it["status"].get("readyReplicas") == 1)
        self.cluster.until(f"{self.slices}/named-zerogate-ipv4", lambda it: not it.get("endpoints"))

    def address(self, name: str) -> str:
        return str(self.cluster.get(f"{self.services}/{name}")["spec"]["clusterIP"])


def workload(namespace: str) -> dict[str, Any]:
    """A Deployment whose template has the sidecar, as the webhook would give it to its pods."""
    model = container("http", [*STUB, "--ready-after", "0.2"], port=8000)
    model["readinessProbe"]["httpGet"]["port"] = "http"
    made = deployment("llm", model, annotations=ANNOTATIONS)
    template = made["spec"]["template"]
    services = [
        {"metadata": {"name": "named"}, "spec": service("named", target="http", selector={"app": "llm"})["spec"]}
    ]
    services.append(
        {"metadata": {"name": "numbered"}, "spec": service("numbered", target=8000, selector={"app": "llm"})["spec"]}
    )
    outcome = inject(
        template, policy(takeover="true", drain_deadline="20s"), TERMS,
        service=f"{namespace}/llm", services=services, token="t" * 32,
    )  # fmt: skip
    assert isinstance(outcome, Injection), outcome
    made["spec"]["template"] = patched(template, outcome.operations)
    return made


def activators() -> list[dict[str, Any]]:
    env = {
        "POD_NAMESPACE": HOME,
        "ZEROGATE_ADMIN": "0.0.0.0:8081",
        "ZEROGATE_DRAIN_WAIT": "3s",
        "ZEROGATE_STATS": "127.0.0.1:9",
    }
    one = container(
        "activator", ["python3", "-m", "activator"],
        env=[{"name": name, "value": value} for name, value in env.items()],
        ports=[{"containerPort": 8081}],
        readinessProbe={"httpGet": {"path": "/readyz", "port": 8081}, "periodSeconds": 1},
    )  # fmt: skip
    made = deployment(
        "zerogate-activator", one, replicas=2, serviceAccountName="zerogate-activator",
        terminationGracePeriodSeconds=30,
    )  # fmt: skip
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "zerogate-activator"}}
    subject = {"kind": "ServiceAccount", "name": "zerogate-activator", "namespace": HOME}
    return [account, *objects("zerogate-activator", ACTIVATOR, subject), made,
            service("zerogate-activator", port=8081, target=8081)]  # fmt: skip


@pytest.fixture(scope="module")
def stage(node: Node, node_namespace: str) -> Iterator[Stage]:
    stage = Stage(node, node_namespace)
    node.cluster.create("/api/v1/namespaces", {"metadata": {"name": HOME}})
    subject = {"kind": "User", "name": "leader", "apiGroup": "rbac.authorization.k8s.io"}
    node.cluster.apply(*objects("leader", [*LEADER, *SCALER], subject), *activators(), namespace=HOME)
    named = service("named", target="http", selector={"app": "llm"})
    node.cluster.apply(workload(node_namespace), named, namespace=node_namespace)
    stage.order(1)
    leader = node.process(
        "leader",
        [sys.executable, "-m", "tests.kubernetes.takeover_leader", node.plane.access("leader").kubeconfig, stage.orders,
         HOME, node_namespace],
        {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    leader.start()
    try:
        path = f"/apis/apps/v1/namespaces/{HOME}/deployments/zerogate-activator"
        node.cluster.until(path, lambda it: it["status"].get("readyReplicas") == 2)
        stage.come_up()
        yield stage
    finally:
        leader.stop()


def clients(stage: Stage, name: str) -> tuple[Process, Path]:
    file = stage.node.folder / f"said-{name}"
    address = stage.address(name)
    command: list[str | Path] = [sys.executable, "-m", "tests.kubernetes.takeover_client", address, file]
    return stage.node.process(f"clients-{name}", command, {"PYTHONPATH": str(ROOT)}), file


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def test_nobody_notices_when_a_service_goes_to_zero_and_comes_back(stage: Stage) -> None:
    process, file = clients(stage, "named")
    process.start()
    until(lambda: file.exists() and len(lines(file)) > 20, within_s=30, what="the first answers", process=process)
    held = 0
    for _ in range(ROUNDS):
        stage.go_to_zero()
        time.sleep(1.5)  # the pod leaves meanwhile; after three seconds activators would wake it by themselves
        asked = time.monotonic()
        stage.come_up()
        here = [one for one in lines(file) if one["began"] < asked < one["ended"] and "hold" in one["waited"]]
        held += len(here)
        time.sleep(0.5)
    process.stop()
    said = lines(file)
    wrong = [one for one in said if one["came"] != "ok"]
    assert not wrong, f"{len(wrong)} of {len(said)}: {wrong[:5]}\n{stage.node.logs()}"
    assert held >= ROUNDS
    assert sum(one["new"] for one in said if one["kind"] == "kept") < len(said) / 4
