"""Nodes that exist only in the API take pods by the hundred."""

from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.fake_nodes import TOLERATION
from tests.kubernetes.harness.manifests import deployment

CONTAINER = {"name": "one", "image": "none"}
BESIDE = {"name": "beside", "image": "none", "restartPolicy": "Always"}


def test_pods_on_fake_nodes_are_ready_with_addresses_and_go_when_they_are_deleted(fake_nodes: ControlPlane) -> None:
    with fake_nodes.namespace() as name:
        path = f"/apis/apps/v1/namespaces/{name}/deployments/crowd"
        crowd = deployment("crowd", CONTAINER, replicas=200, tolerations=[TOLERATION], initContainers=[BESIDE])
        fake_nodes.cluster.apply(crowd, namespace=name)
        fake_nodes.cluster.until(path, lambda found: found["status"].get("readyReplicas") == 200)
        pods = fake_nodes.cluster.get(f"/api/v1/namespaces/{name}/pods")["items"]
        assert len({pod["status"]["podIP"] for pod in pods}) == 200
        fake_nodes.cluster.patch(f"{path}/scale", {"spec": {"replicas": 0}})
        fake_nodes.cluster.until(f"/api/v1/namespaces/{name}/pods", lambda found: not found["items"])
