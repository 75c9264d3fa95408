"""The processes themselves with the accounts that the chart makes: each call that they make is permitted."""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.chart import CHART, SYSTEM, helm
from tests.e2e.harness import free_port
from tests.kubernetes.autoscalers import Autoscaler
from tests.kubernetes.harness.access import Access
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.processes import Process, until
from zerogate.kube.pins import PIN, pin_text

TEAM = "/apis/apps/v1/namespaces/team/deployments"
REFUSED = ("not permitted", "forbidden", "Forbidden", "refused:")


@pytest.fixture(scope="module")
def plane(chart_api_server: ControlPlane) -> ControlPlane:
    """With the chart and one workload under zerogate."""
    cluster = chart_api_server.cluster
    helm("install", "zerogate", CHART, "-n", SYSTEM, "--create-namespace", "--kubeconfig", cluster.kubeconfig)
    cluster.create("/api/v1/namespaces", {"metadata": {"name": "team"}})
    cluster.create(TEAM, _workload())
    return chart_api_server


def _workload() -> dict[str, Any]:
    labels = {"app": "llama"}
    keys = {"zerogate.dev/enabled": "true", "zerogate.dev/max-replicas": "3"}
    pod = {"containers": [{"name": "llama", "image": "none", "ports": [{"containerPort": 8000}]}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": "llama", "annotations": keys}, "spec": spec}


def account(plane: ControlPlane, role: str) -> Access:
    """As the pods of a role have it."""
    path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/zerogate-{role}/token"
    token = plane.cluster.create(path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
    access = plane.cluster.access
    return Access.written(plane.folder / f"{role}.kubeconfig", access.url, access.authority, token=token)


@pytest.fixture
def autoscaler(plane: ControlPlane) -> Iterator[Autoscaler]:
    one = Autoscaler(plane, account(plane, "autoscaler"), home=SYSTEM, name="autoscaler-role")
    one.start()
    yield one
    one.stop()


def test_an_autoscaler_leads_scales_and_notes_with_its_own_rights(plane: ControlPlane, autoscaler: Autoscaler) -> None:
    autoscaler.wait_ready()
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/zerogate-autoscaler"
    plane.cluster.until(lease, lambda found: found["spec"].get("holderIdentity"))
    # as `kubectl zerogate pin` writes it, with the rights of whoever asks
    plane.cluster.patch(f"{TEAM}/llama", {"metadata": {"annotations": {PIN: pin_text(3, None)}}})
    plane.cluster.until(f"{TEAM}/llama", lambda found: found["spec"]["replicas"] == 3)
    noted = plane.cluster.until(
        f"{TEAM}/llama", lambda found: "state.zerogate.dev/status" in found["metadata"]["annotations"]
    )
    assert noted["metadata"]["annotations"]["zerogate.dev/enabled"] == "true"
    log = autoscaler.process.log.read_text()
    assert not [line for line in log.splitlines() if any(word in line for word in REFUSED)]


def test_a_gateway_sees_the_cluster_with_its_own_rights(plane: ControlPlane) -> None:
    admin = free_port()
    command = [
        sys.executable, "-m", "gateway", "--cluster", f"--kubeconfig={account(plane, 'gateway').kubeconfig}",
        f"--listen=127.0.0.1:{free_port()}", f"--admin=127.0.0.1:{admin}", "--stats=none",
    ]  # fmt: skip
    process = Process("gateway-role", command, plane.folder, {"PYTHONPATH": os.getcwd(), "POD_NAMESPACE": SYSTEM})

    def answer(path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}{path}", timeout=5) as found:
                return str(found.read().decode())
        except (OSError, urllib.error.HTTPError):
            return ""

    process.start()
    try:
        until(lambda: "team/llama" in answer("/services"), within_s=30, what="the gateway", process=process)
        until(lambda: answer("/readyz"), within_s=30, what="its readiness", process=process)
    finally:
        process.stop(grace_s=10)
    log = process.log.read_text()
    assert not [line for line in log.splitlines() if any(word in line for word in REFUSED)]
