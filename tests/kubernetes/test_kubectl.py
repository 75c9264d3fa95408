"""`kubectl zerogate` against a real API server: through its proxy to an admin API, and what it says when that fails.

Nothing runs pods here, so the autoscaler is a fake box on this machine, with a pod and Endpoints that lead to it.
"""

import base64
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml
from typer.testing import CliRunner, Result

from cli.exits import ExitCode
from cli.kubectl.app import app
from cli.kubectl.words import hoisted
from tests.certificates import Authority
from tests.cli.fake_box import CHAT, FakeBox, served
from tests.deploy.chart import CHART, ROOT, SYSTEM, helm
from tests.kubernetes.harness import binaries
from tests.kubernetes.harness.control_plane import ControlPlane
from zerogate.kube.pins import PIN, read_pin

pytestmark = pytest.mark.may_block("what reads kubeconfigs takes a second to import, in a process of its own")
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
WORKLOAD = "/apis/apps/v1/namespaces/team/deployments/chat"
ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/zerogate-autoscaler"


def zerogate(plane: ControlPlane, *words: str, kubeconfig: Path | None = None) -> Result:
    """As `kubectl zerogate WORDS`, by the cluster's administrator."""
    given = [*words, "--kubeconfig", str(kubeconfig or plane.cluster.kubeconfig)]
    return CliRunner().invoke(app, hoisted(given), env={"COLUMNS": "400", "ZEROGATE_DEBUG": None})


@pytest.fixture(scope="module")
def bare(chart_api_server: ControlPlane) -> ControlPlane:
    return chart_api_server


@pytest.fixture(scope="module")
def plane(bare: ControlPlane) -> ControlPlane:
    """With the chart in it."""
    values = yaml.safe_dump({"access": {"viewers": [{"kind": "User", "name": "eve"}]}})
    helm(
        "install", "zerogate", CHART, "-n", SYSTEM, "--create-namespace", "--values", "-",
        "--kubeconfig", bare.cluster.kubeconfig, stdin=values,
    )  # fmt: skip
    return bare


@pytest.fixture(scope="module")
def box(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeBox]:
    """An admin API behind the Service, at an address of this machine that an API server proxies to."""
    address = _own_address()
    fake = FakeBox(tmp_path_factory.mktemp("box"))
    plane.cluster.create("/api/v1/namespaces", {"metadata": {"name": "team"}})
    labels = {"app": "chat"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "none"}]}}
    workload = {"metadata": {"name": "chat"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
    plane.cluster.create(WORKLOAD.rpartition("/")[0], workload)
    fake.statuses = {"team/chat": msgspec.structs.replace(CHAT, name="team/chat", api_path=WORKLOAD)}
    with served(fake, host=address) as url:
        _lead_to(plane, address, int(url.rpartition(":")[2]))
        yield fake


def _own_address() -> str:
    """API servers refuse to proxy to loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it asks which address would be used
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


def _lead_to(plane: ControlPlane, address: str, port: int) -> None:
    api, cluster = f"/api/v1/namespaces/{SYSTEM}", plane.cluster
    cluster.create(f"{api}/serviceaccounts", {"metadata": {"name": "default"}})
    spec = {"containers": [{"name": "a", "image": "none"}]}
    cluster.create(f"{api}/pods", {"metadata": {"name": "autoscaler"}, "spec": spec})
    cluster.patch(f"{api}/pods/autoscaler/status", {"status": {"podIP": address, "podIPs": [{"ip": address}]}})
    target = {"ip": address, "targetRef": {"kind": "Pod", "name": "autoscaler", "namespace": SYSTEM}}
    subset = {"addresses": [target], "ports": [{"name": "admin", "port": port}]}
    cluster.create(f"{api}/endpoints", {"metadata": {"name": "zerogate-autoscaler"}, "subsets": [subset]})


def test_a_cluster_without_zerogate_is_told_how_to_install_it(bare: ControlPlane) -> None:
    done = zerogate(bare, "status")
    assert done.exit_code == ExitCode.UNREACHABLE
    assert (
        "zerogate is not installed: there is no Service zerogate-autoscaler in namespace zerogate-system" in done.output
    )
    assert "helm install" in done.output
    done = zerogate(bare, "doctor")
    assert done.exit_code == ExitCode.FAILED
    assert "not in namespace zerogate-system" in done.output


def test_an_autoscaler_that_is_not_ready_is_said(plane: ControlPlane) -> None:
    plane.cluster.create(
        f"/api/v1/namespaces/{SYSTEM}/endpoints", {"metadata": {"name": "zerogate-autoscaler"}, "subsets": []}
    )
    done = zerogate(plane, "status")
    assert done.exit_code == ExitCode.UNREACHABLE
    assert "No autoscaler is ready" in done.output
    plane.cluster.delete(f"/api/v1/namespaces/{SYSTEM}/endpoints/zerogate-autoscaler")


def test_status_explain_and_plan_go_through_the_api_server_and_a_pin_to_the_workload(
    plane: ControlPlane, box: FakeBox
) -> None:
    assert "team/chat" in zerogate(plane, "status").output
    assert "team/chat" in zerogate(plane, "status", "-n", "team").output
    assert "annotate" in zerogate(plane, "status", "-n", "another").output
    for name in (["team/chat"], ["chat", "-n", "team"], ["chat", "--namespace=team"]):
        done = zerogate(plane, "explain", *name)
        assert (done.exit_code, "team/chat is ready" in done.output) == (0, True), done.output
    assert zerogate(plane, "plan", "team/chat").exit_code == 0
    done = zerogate(plane, "pin", "team/chat", "1", "--for", "2h")
    assert done.exit_code == 0, done.output
    assert "`kubectl zerogate unpin team/chat` takes it away" in done.output
    assert box.statuses["team/chat"].pin is None
    noted = read_pin(plane.cluster.get(WORKLOAD)["metadata"]["annotations"][PIN])
    assert noted is not None
    assert (noted.replicas, noted.until is not None) == (1, True)
    assert zerogate(plane, "unpin", "team/chat").exit_code == 0
    assert PIN not in plane.cluster.get(WORKLOAD)["metadata"].get("annotations", {})
    done = zerogate(plane, "pin", "team/chat", "99")
    assert (done.exit_code, "has max-replicas" in done.output) == (ExitCode.FAILED, True)


@pytest.mark.parametrize("path", [None, "/api/v1/namespaces/team/secrets/chat", WORKLOAD + "er", f"{WORKLOAD}/scale"])
def test_a_pin_is_written_nowhere_but_to_the_workload(plane: ControlPlane, box: FakeBox, path: str | None) -> None:
    told = box.statuses["team/chat"]
    box.statuses["team/chat"] = msgspec.structs.replace(told, api_path=path)
    try:
        done = zerogate(plane, "pin", "team/chat", "1")
    finally:
        box.statuses["team/chat"] = told
    assert (done.exit_code, "does not say where the workload" in done.output) == (ExitCode.FAILED, True)


def test_a_name_that_is_no_service_is_said_by_the_autoscaler(plane: ControlPlane, box: FakeBox) -> None:
    del box
    assert zerogate(plane, "explain", "team/nobody").exit_code == ExitCode.UNKNOWN_SERVICE
    done = zerogate(plane, "explain", "A/b/c")
    assert (done.exit_code, "NAMESPACE/NAME" in done.output) == (ExitCode.WRONG_INPUT, True)


def test_who_may_look_may_not_pin_and_is_told_the_rule(plane: ControlPlane, box: FakeBox) -> None:
    del box
    eve = plane.access("eve", is_outside=True).kubeconfig
    assert "team/chat" in zerogate(plane, "status", kubeconfig=eve).output
    done = zerogate(plane, "pin", "team/chat", "1", kubeconfig=eve)
    assert done.exit_code == ExitCode.FAILED
    rule = '{apiGroups: ["apps"], resources: ["deployments"], resourceNames: ["chat"], verbs: ["patch"]}'
    assert rule in done.output
    assert PIN not in plane.cluster.get(WORKLOAD)["metadata"].get("annotations", {})
    stranger = plane.access("mallory", is_outside=True).kubeconfig
    assert "the Role zerogate-viewer" in zerogate(plane, "status", kubeconfig=stranger).output


def test_no_kubeconfig_and_no_server_are_said(plane: ControlPlane, tmp_path: Path) -> None:
    done = zerogate(plane, "status", kubeconfig=tmp_path / "none")
    assert (done.exit_code, "There is no kubeconfig" in done.output) == (ExitCode.UNREACHABLE, True)
    config = yaml.safe_load(plane.cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    done = zerogate(plane, "status", kubeconfig=tmp_path / "config")
    assert (done.exit_code, "does not answer" in done.output) == (ExitCode.UNREACHABLE, True)


def _stand_up(plane: ControlPlane, *, until: str = "2099-01-01T00:00:00.000000Z") -> None:
    """What a whole cluster would have: ready pods, a leader, an authority."""
    cluster = plane.cluster
    for role in ("autoscaler", "gateway"):
        path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/zerogate-{role}/status"
        cluster.patch(path, {"status": {"replicas": 2, "readyReplicas": 2}})
    spec = {"holderIdentity": "zerogate-autoscaler-a", "renewTime": until, "leaseDurationSeconds": 15}
    cluster.create(LEASE, {"metadata": {"name": "zerogate-autoscaler"}, "spec": spec})
    cluster.patch(f"{LEASE}/zerogate-autoscaler", {"spec": spec})
    bundle = base64.b64encode(Path(Authority().write(plane.folder / "webhook.crt")).read_bytes()).decode()
    for kind in ("mutating", "validating"):
        path = f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/zerogate"
        hooks = cluster.get(path)["webhooks"]
        for hook in hooks:
            hook["clientConfig"]["caBundle"] = bundle
        cluster.patch(path, {"webhooks": hooks})


def test_the_doctor_finds_a_whole_installation_well(plane: ControlPlane, box: FakeBox) -> None:
    del box
    _stand_up(plane)
    done = zerogate(plane, "doctor")
    assert done.exit_code == 0, done.output
    for said in (
        "Kubernetes v1.34",
        "clocks",
        "2 of 2 ready",
        "zerogate-autoscaler-a",
        "with an authority",
        "rights of",
    ):
        assert said in done.output
    assert "rights of gateway" in done.output


def test_the_doctor_names_a_missing_rule(plane: ControlPlane, box: FakeBox) -> None:
    del box
    _stand_up(plane)
    rules = plane.cluster.get(ROLE)["rules"]
    plane.cluster.patch(ROLE, {"rules": [one for one in rules if "tokenreviews" not in one.get("resources", ())]})
    done = zerogate(plane, "doctor")
    plane.cluster.patch(ROLE, {"rules": rules})
    assert done.exit_code == ExitCode.FAILED
    rule = '{apiGroups: ["authentication.k8s.io"], resources: ["tokenreviews"], verbs: ["create"]}'
    assert f"{rule} in the ClusterRole zerogate-autoscaler" in done.output


def test_the_doctor_finds_no_leader_no_authority_a_wrong_policy_and_a_second_release(
    plane: ControlPlane, box: FakeBox
) -> None:
    del box
    _stand_up(plane, until="2020-01-01T00:00:00.000000Z")
    cluster = plane.cluster
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/zerogate"
    cluster.ask(
        "PATCH",
        path,
        [{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}],
        kind="application/json-patch+json",
    )
    policy = f"/api/v1/namespaces/{SYSTEM}/configmaps/zerogate-policy"
    cluster.patch(policy, {"data": {"default.idle-timeout": "5"}})
    cluster.create("/api/v1/namespaces", {"metadata": {"name": "second"}})
    other = cluster.get(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/zerogate-autoscaler")
    deployments = "/apis/apps/v1/namespaces/second/deployments"
    cluster.create(
        deployments,
        {"metadata": {"name": "other-autoscaler", "labels": other["metadata"]["labels"]}, "spec": other["spec"]},
    )
    done = zerogate(plane, "doctor")
    cluster.delete(f"{deployments}/other-autoscaler")
    cluster.patch(policy, {"data": {"default.idle-timeout": None}})
    assert done.exit_code == ExitCode.FAILED
    for said in (
        "has not renewed its Lease",
        "pods.zerogate.dev has no authority in its caBundle",
        '"5" has no unit',
        "second/other-autoscaler, zerogate-system/zerogate-autoscaler",
    ):
        assert said in done.output


def test_the_doctor_names_an_hpa_that_scales_a_service_too(plane: ControlPlane, box: FakeBox) -> None:
    del box
    _stand_up(plane)
    hpas = "/apis/autoscaling/v2/namespaces/team/horizontalpodautoscalers"
    for name in ("chat", "other"):
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        plane.cluster.create(
            hpas, {"metadata": {"name": f"{name}-hpa"}, "spec": {"scaleTargetRef": target, "maxReplicas": 3}}
        )
    try:
        done = zerogate(plane, "doctor")
        assert done.exit_code == ExitCode.FAILED
        said = "team/chat-hpa scales team/chat, and so does zerogate: each writes over the other."
        assert said in done.output
        assert "other-hpa" not in done.output
        plane.cluster.patch(WORKLOAD, {"metadata": {"annotations": {"state.zerogate.dev/hpa": "floor"}}})
        done = zerogate(plane, "doctor")
        assert (done.exit_code, "whose floor zerogate moves" in done.output) == (0, True), done.output
        eve = zerogate(plane, "doctor", kubeconfig=plane.access("eve", is_outside=True).kubeconfig)
        assert '{apiGroups: ["autoscaling"], resources: ["horizontalpodautoscalers"], verbs: ["list"]}' in eve.output
    finally:
        plane.cluster.patch(WORKLOAD, {"metadata": {"annotations": {"state.zerogate.dev/hpa": None}}})
        for name in ("chat", "other"):
            plane.cluster.delete(f"{hpas}/{name}-hpa")


def test_kubectl_finds_the_plugin_by_its_name(plane: ControlPlane, box: FakeBox, tmp_path: Path) -> None:
    del box
    plugin = tmp_path / "kubectl-zerogate"
    plugin.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli.kubectl "$@"\n')
    plugin.chmod(0o755)
    env = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "KUBECONFIG": str(plane.cluster.kubeconfig),
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    kubectl = binaries.ensure(["kubectl"])["kubectl"]
    for words in (["status"], ["explain", "chat", "-n", "team"]):
        done = subprocess.run([kubectl, "zerogate", *words], env=env, capture_output=True, text=True, timeout=60)
        assert (done.returncode, "team/chat" in done.stdout) == (0, True), done


def test_the_doctor_says_what_somebody_may_not_look_at(plane: ControlPlane, box: FakeBox) -> None:
    del box
    _stand_up(plane)
    done = zerogate(plane, "doctor", kubeconfig=plane.access("eve", is_outside=True).kubeconfig)
    assert "you may not look" in done.output
    assert '{apiGroups: ["apps"], resources: ["deployments"], verbs: ["get"]}' in done.output
