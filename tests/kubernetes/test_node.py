"""The node of the tests runs containers as any node does, and this machine sees nothing of it."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests import guards
from tests.kubernetes.harness import images, processes
from tests.kubernetes.harness.audit import Audited
from tests.kubernetes.harness.manifests import STUB, container, deployment, service, sidecar
from tests.kubernetes.harness.namespaces import ADDRESS
from tests.kubernetes.harness.node import Node
from tests.kubernetes.harness.node import node as second_node
from zerogate.clock import wall

SIDECAR = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=9000)"


@pytest.fixture(scope="module")
def model(node: Node, node_namespace: str) -> str:
    """A ready Deployment with a native sidecar and a Service; the Service's address."""
    beside = sidecar(
        "beside", ["python3", "-c", SIDECAR], startupProbe={"tcpSocket": {"port": 9000}, "periodSeconds": 1}
    )
    pods = deployment("model", container("model", STUB, port=8000), initContainers=[beside])
    node.cluster.apply(pods, service("model", target="model"), namespace=node_namespace)
    path = f"/apis/apps/v1/namespaces/{node_namespace}/deployments/model"
    node.cluster.until(path, lambda found: found["status"].get("readyReplicas") == 1)
    found = node.cluster.get(f"/api/v1/namespaces/{node_namespace}/services/model")
    return str(found["spec"]["clusterIP"])


def test_a_deployment_with_a_native_sidecar_becomes_ready(node: Node, node_namespace: str, model: str) -> None:
    (pod,) = node.cluster.get(f"/api/v1/namespaces/{node_namespace}/pods")["items"]
    states = [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]
    assert {one["name"]: one["ready"] for one in states} == {"beside": True, "model": True}


def test_a_service_answers_by_its_address_inside_and_outside(node: Node, model: str) -> None:
    fetch = f"import urllib.request; print(urllib.request.urlopen('http://{model}/health').status)"
    assert node.run("python3", "-c", fetch).strip() == "200"
    with urllib.request.urlopen(f"http://127.0.0.1:{node.reach(80, model)}/health", timeout=10) as answer:
        assert answer.status == 200
    with node.connect(80, model) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: model\r\n\r\n")
        assert sock.recv(1024).startswith(b"HTTP/1.1 200 ")
        assert sock.getsockname()[0] == ADDRESS


def test_a_pod_reaches_the_api_server_with_its_own_token(node: Node, node_namespace: str, model: str) -> None:
    code = (
        "import ssl, urllib.request\n"
        "folder = '/var/run/secrets/kubernetes.io/serviceaccount'\n"
        "headers = {'Authorization': 'Bearer ' + open(f'{folder}/token').read()}\n"
        "url = 'https://10.96.0.1/apis/authentication.k8s.io/v1'\n"
        "context = ssl.create_default_context(cafile=f'{folder}/ca.crt')\n"
        "print(urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=context).status)\n"
    )
    said = node.cluster.kubectl(
        "exec", "-n", node_namespace, "deploy/model", "-c", "model", "--", "python3", "-c", code
    )
    assert said.strip() == "200"


def test_a_pod_finds_a_service_by_its_name(node: Node, node_namespace: str, model: str) -> None:
    code = "import socket; print(socket.gethostbyname('model'), socket.gethostbyname('kubernetes.default.svc'))"
    said = node.cluster.kubectl(
        "exec", "-n", node_namespace, "deploy/model", "-c", "model", "--", "python3", "-c", code
    )
    assert said.split() == [model, "10.96.0.1"]


def test_containers_run_zerogate_as_nobody(node: Node, node_namespace: str, model: str) -> None:
    code = "import os, gateway.running, queueproxy.__main__, kubernetes_asyncio; print(os.getuid())"
    said = node.cluster.kubectl(
        "exec", "-n", node_namespace, "deploy/model", "-c", "model", "--", "python3", "-c", code
    )
    assert said.strip() == "65532"


def test_this_machine_has_nothing_of_the_nodes_network(node: Node, model: str) -> None:
    assert "pods0" in node.run("ip", "link")
    assert "pods0" not in processes.run("ip", "link")
    assert model in node.run("iptables-save")
    assert model not in processes.run("iptables-save")


def test_pods_outlive_a_restart_of_the_kubelet(node: Node, node_namespace: str, model: str) -> None:
    path = f"/api/v1/namespaces/{node_namespace}/pods"
    before = _identities(node, path)
    node.kubelet.stop()
    node.kubelet.start()
    node.until_ready()
    assert _identities(node, path) == before


def test_an_image_that_a_test_adds_can_be_run(node: Node, node_namespace: str) -> None:
    base = images.zerogate()
    layers = [*base.layers, [images.File("zerogate/said.txt", content=b"hello from a layer\n")]]
    node.add_image(images.Image("tests.zerogate.dev/added:tests", layers, env=base.env, folder=base.folder))
    one = container("one", ["sh", "-c", "cat said.txt; sleep 100"], image="tests.zerogate.dev/added:tests")
    node.cluster.apply(deployment("added", one), namespace=node_namespace)
    path = f"/apis/apps/v1/namespaces/{node_namespace}/deployments/added"
    node.cluster.until(path, lambda found: found["status"].get("readyReplicas") == 1)
    said = processes.until(
        lambda: node.cluster.kubectl("logs", "-n", node_namespace, "deploy/added"),
        within_s=30,
        what="a line of its log",
    )
    assert said == "hello from a layer\n"


def test_a_node_leaves_nothing_on_this_machine(node: Node) -> None:
    """Beside the shared one, which shows that two nodes do not meet. Its API server says when requests came."""
    before = _traces()
    with second_node([Audited("patch", "apps", "deployments/scale")]) as another:
        assert _traces() != before
        folder = another.folder
        assert _groups(folder.name)
        another.cluster.apply(deployment("left", container("left", ["sleep", "1000"])), namespace="default")
        another.cluster.until(
            "/apis/apps/v1/namespaces/default/deployments/left", lambda found: found["status"].get("readyReplicas")
        )
        path, began_at_s = "/apis/apps/v1/namespaces/default/deployments/left/scale", wall()
        another.cluster.patch(path, {"spec": {"replicas": 0}})
        ended_at_s = wall()
        assert another.plane.audit is not None
        noted = another.plane.audit.first_since(began_at_s, "default", "left")
        assert began_at_s < noted.received_at_s < noted.answered_at_s < ended_at_s
    assert _traces() == before
    assert not _groups(folder.name)
    assert not folder.exists()
    assert node.cluster.is_ready()


def test_a_killed_run_leaves_no_container_and_the_next_start_removes_its_folder(node: Node) -> None:
    before = _traces()
    code = (
        "import time\nfrom tests.kubernetes.harness.node import node\n"
        "with node() as one:\n    print(one.folder, flush=True)\n    time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        folder = Path(run.stdout.readline().strip())
        noted = [line.split()[:2] for line in (folder / "processes").read_text().splitlines()]
        run.kill()
    processes.until(
        lambda: not any(processes.started_at(int(pid)) == began for pid, began in noted),
        within_s=20,
        what="the end of its processes",
    )
    assert folder.name in processes.remove_stale()
    assert _traces() == before
    assert not _groups(folder.name)
    assert node.cluster.is_ready()


def _identities(node: Node, path: str) -> set[str]:
    pods = node.cluster.get(path)["items"]
    return {str(one["containerID"]) for pod in pods for one in pod["status"]["containerStatuses"]}


def _traces() -> dict[str, object]:
    """What a node could leave beside its control groups: devices, rules, mounts, namespaces, processes."""
    return {
        "devices": processes.run("ip", "-o", "link").count("\n"),
        "rules": processes.run("iptables", "-t", "nat", "-S"),
        "mounts": Path("/proc/mounts").read_text(),
        "namespaces": processes.run("ip", "netns", "list"),
        "processes": sorted(guards.spared),
    }


def _groups(folder: str) -> list[Path]:
    """The control groups of this node alone: others may run."""
    return [*Path("/sys/fs/cgroup").glob(f"*/zerogate-{folder}"), *Path("/sys/fs/cgroup").glob(f"zerogate-{folder}")]
