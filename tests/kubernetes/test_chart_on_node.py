"""The chart on a real node: its pods start, are ready, and answer `kubectl zerogate` through the API server."""

from collections.abc import Iterator

import pytest
import yaml
from typer.testing import CliRunner

from cli.kubectl.app import app
from cli.kubectl.words import hoisted
from tests.deploy.chart import CHART, SYSTEM, helm
from tests.kubernetes.harness import images
from tests.kubernetes.harness.manifests import STUB, container, deployment
from tests.kubernetes.harness.node import Node

pytestmark = [
    pytest.mark.may_block("what reads kubeconfigs takes a second to import, in a process of its own"),
    pytest.mark.timeout(600),
]
VALUES = {"image": {"repository": images.ZEROGATE.partition(":")[0], "tag": "tests", "pullPolicy": "Never"}}
ROLES = ("autoscaler", "gateway")


@pytest.fixture(scope="module")
def release_on_node(node: Node) -> Iterator[Node]:
    where = ["zerogate", "-n", SYSTEM, "--kubeconfig", str(node.cluster.kubeconfig)]
    helm("install", *where, CHART, "--create-namespace", "--values", "-", stdin=yaml.safe_dump(VALUES))
    restricted = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    node.cluster.patch(f"/api/v1/namespaces/{SYSTEM}", restricted)
    yield node
    helm("uninstall", *where, "--wait", within_s=120)
    node.cluster.delete(f"/api/v1/namespaces/{SYSTEM}")


def zerogate(node: Node, *words: str) -> str:
    done = CliRunner().invoke(
        app, hoisted([*words, "--kubeconfig", str(node.cluster.kubeconfig)]), env={"COLUMNS": "300"}
    )
    assert done.exit_code == 0, done.output
    return done.output


def test_all_pods_get_ready_and_the_plugin_is_answered(release_on_node: Node, node_namespace: str) -> None:
    for role in ROLES:
        path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/zerogate-{role}"
        release_on_node.cluster.until(path, lambda found: found["status"].get("readyReplicas") == 2, within_s=120)
    keys = {"zerogate.dev/enabled": "true"}
    release_on_node.cluster.apply(
        deployment("model", container("model", STUB, port=8000), annotations=keys), namespace=node_namespace
    )
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/zerogate-autoscaler"
    release_on_node.cluster.until(
        lease, lambda found: found["spec"].get("holderIdentity", "").startswith("zerogate-autoscaler-")
    )
    assert f"{node_namespace}/model" in zerogate(release_on_node, "status")
    assert f"{node_namespace}/model" in zerogate(release_on_node, "explain", "model", "-n", node_namespace)
    assert "pinned to 1 replica" in zerogate(release_on_node, "pin", "model", "1", "--for", "1h", "-n", node_namespace)


def test_a_rolling_upgrade_of_the_release_leaves_it_ready(release_on_node: Node) -> None:
    values = {**VALUES, "gateway": {"podAnnotations": {"changed": "yes"}}}
    helm(
        "upgrade", "zerogate", CHART, "-n", SYSTEM, "--kubeconfig", release_on_node.cluster.kubeconfig,
        "--values", "-", "--wait", "--timeout", "120s", stdin=yaml.safe_dump(values), within_s=130,
    )  # fmt: skip
    path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/zerogate-gateway"
    found = release_on_node.cluster.get(path)
    assert found["status"]["readyReplicas"] == found["status"]["updatedReplicas"] == 2
