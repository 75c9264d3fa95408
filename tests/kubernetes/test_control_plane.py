"""The control plane of the tests is a real one, and leaves nothing behind."""

import subprocess
import sys
import time
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.kubernetes.harness import processes
from tests.kubernetes.harness.access import JSON_PATCH
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.processes import ClusterError

READ_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}


def test_an_object_that_was_written_is_read_again(api_server: ControlPlane, namespace: str) -> None:
    cluster = api_server.cluster
    cluster.apply(_config_map("written", key="value"), namespace=namespace)
    assert cluster.get(f"/api/v1/namespaces/{namespace}/configmaps/written")["data"] == {"key": "value"}


def test_a_patch_whose_test_does_not_hold_is_refused(api_server: ControlPlane, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api_server.cluster.create(path, _config_map("tested", key="old"))
    wrong = [{"op": "test", "path": "/data/key", "value": "other"}, {"op": "remove", "path": "/data/key"}]
    assert api_server.cluster.ask("PATCH", f"{path}/tested", wrong, kind=JSON_PATCH).status == 422


def test_an_account_may_do_what_its_rules_say_and_nothing_else(api_server: ControlPlane, namespace: str) -> None:
    client = api_server.client(api_server.account(namespace, "reader", rules=[READ_PODS]))
    assert client.ask("GET", f"/api/v1/namespaces/{namespace}/pods").status == 200
    assert client.ask("GET", "/api/v1/namespaces/default/pods").status == 403
    assert client.ask("GET", f"/api/v1/namespaces/{namespace}/secrets").status == 403
    client.close()


def test_a_pod_is_admitted_to_a_new_namespace(api_server: ControlPlane, namespace: str) -> None:
    pod = {"metadata": {"name": "admitted"}, "spec": {"containers": [{"name": "one", "image": "none"}]}}
    assert api_server.cluster.create(f"/api/v1/namespaces/{namespace}/pods", pod)["status"]["phase"] == "Pending"


def test_a_restart_of_api_server_and_etcd_keeps_what_was_written(own_api_server: ControlPlane) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    own_api_server.cluster.create(path, _config_map("kept", key="value"))
    own_api_server.api_server.stop()
    own_api_server.etcd.stop()
    with pytest.raises((OSError, HTTPException)):
        own_api_server.cluster.ask("GET", f"{path}/kept")
    own_api_server.etcd.start()
    own_api_server.start_api_server()
    assert own_api_server.cluster.get(f"{path}/kept")["data"] == {"key": "value"}


def test_the_controllers_act_on_what_is_written(controllers: ControlPlane) -> None:
    with controllers.namespace() as name:
        path = f"/apis/apps/v1/namespaces/{name}/deployments"
        controllers.cluster.create(path, _deployment("one", replicas=2))
        pods = controllers.cluster.until(f"/api/v1/namespaces/{name}/pods", lambda found: len(found["items"]) == 2)
        assert {pod["status"]["phase"] for pod in pods["items"]} == {"Pending"}


def test_what_a_killed_run_left_is_ended_at_once_and_removed_at_the_next_start(own_api_server: ControlPlane) -> None:
    code = (
        "import time\nfrom tests.kubernetes.harness.control_plane import control_plane\n"
        "with control_plane() as plane:\n"
        "    print(plane.folder, plane.etcd.pid, plane.api_server.pid, flush=True)\n"
        "    time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        folder, *pids = run.stdout.readline().split()
        run.kill()
    processes.until(
        lambda: not any(processes.started_at(int(pid)) for pid in pids), within_s=10, what="the end of its processes"
    )
    assert Path(folder).exists()
    assert Path(folder).name in processes.remove_stale()
    assert not Path(folder).exists()
    assert own_api_server.cluster.is_ready(), "another run's folder and processes are left alone"


def test_a_program_that_does_not_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = processes.Process("broken", ["sh", "-c", "echo no such flag; exit 3"], tmp_path, {})
    process.start()
    began = time.monotonic()
    with pytest.raises(ClusterError, match="broken ended\nno such flag"):
        processes.until(lambda: None, within_s=30, what="a start", process=process)
    assert time.monotonic() - began < 10


def _config_map(name: str, **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _deployment(name: str, *, replicas: int) -> dict[str, object]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "one", "image": "none"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}
