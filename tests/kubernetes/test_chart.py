"""The chart on a real API server: installed, upgraded, rolled back, and what its accounts may do there."""

import asyncio
import base64
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import CHART, EVERYTHING, SYSTEM, HelmError, helm, objects
from tests.e2e.harness import free_port
from tests.kubernetes.autoscalers import Autoscaler, Crowd, reporting
from tests.kubernetes.harness.access import Access, Cluster
from tests.kubernetes.harness.control_plane import ControlPlane
from zerogate.kube.rights import ROLES, Role, Step, rights_of, steps_of
from zerogate.runtime.interface import Address

pytestmark = pytest.mark.may_block("the client of the tests and their processes wait")

HOOKS = "admissionregistration.k8s.io"
HOOK = f"/apis/{HOOKS}/v1/mutatingwebhookconfigurations/zerogate"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/zerogate-gateway"
MADE_BY_AUTOSCALERS = {"secret/zerogate-webhook", "lease.coordination.k8s.io/zerogate-autoscaler"}
"""What is not the chart's own."""
VALUES = {**EVERYTHING, "extraWorkloads": [], "metrics": {}}
"""All that needs no kinds of other projects."""


class Release:
    """Helm on one cluster."""

    def __init__(self, cluster: Cluster, name: str = "zerogate", namespace: str = SYSTEM) -> None:
        self._where = [name, "--namespace", namespace, "--kubeconfig", str(cluster.kubeconfig)]

    def run(self, verb: str, *more: str | Path, values: dict[str, Any] | None = None) -> str:
        """`helm VERB` of this release."""
        given = ["--values", "-"] if values is not None else []
        return helm(*verb.split(), *self._where, *more, *given, stdin=yaml.safe_dump(values or {}))


@pytest.fixture(scope="module")
def plane(chart_api_server: ControlPlane) -> ControlPlane:
    chart_api_server.cluster.create("/api/v1/namespaces", {"metadata": {"name": "team-a"}})
    return chart_api_server


@pytest.fixture(scope="module")
def release(plane: ControlPlane) -> Iterator[Release]:
    it = Release(plane.cluster)
    said = it.run("install", CHART, "--create-namespace", values=VALUES)
    assert "kubectl zerogate" in said
    yield it
    it.run("uninstall")
    assert plane.cluster.find(HOOK) is None
    assert plane.cluster.find(DEPLOYMENT) is None
    assert _left(plane.cluster) <= MADE_BY_AUTOSCALERS
    # as docs/deploying.md says
    delete = ["delete", "-n", SYSTEM, "--ignore-not-found", *MADE_BY_AUTOSCALERS]
    plane.cluster.kubectl(*delete)
    assert not _left(plane.cluster)


def _left(cluster: Cluster) -> set[str]:
    kinds = "secrets,leases,configmaps,serviceaccounts,roles,rolebindings,services,deployments,networkpolicies"
    names = cluster.kubectl("get", kinds, "-n", SYSTEM, "-o", "name").split()
    cluster_wide = cluster.kubectl("get", "clusterroles,clusterrolebindings,priorityclasses", "-o", "name").split()
    return {*names, *(name for name in cluster_wide if "zerogate" in name)}


def test_everything_is_installed(plane: ControlPlane, release: Release) -> None:
    made = yaml.safe_load_all(release.run("get manifest"))
    assert len([one for one in made if one]) == len(objects(VALUES))
    assert plane.cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 315


def test_the_restricted_level_takes_the_pods(plane: ControlPlane, release: Release) -> None:
    del release
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    plane.cluster.patch(f"/api/v1/namespaces/{SYSTEM}", label)
    for role in ROLES:
        template = plane.cluster.get(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/zerogate-{role}")["spec"][
            "template"
        ]
        pod = {"metadata": {"name": f"try-{role}"}, "spec": template["spec"]}
        answer = plane.cluster.ask("POST", f"/api/v1/namespaces/{SYSTEM}/pods?dryRun=All", pod)
        assert answer.status == 201, answer.body


def test_an_upgrade_keeps_the_authority_and_what_people_wrote(plane: ControlPlane, release: Release) -> None:
    bundle = base64.b64encode(b"an authority").decode()
    hooks = plane.cluster.get(HOOK)["webhooks"]
    operations = [
        {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
        for index in range(len(hooks))
    ]
    answer = plane.cluster.ask("PATCH", HOOK, operations, kind="application/json-patch+json")
    assert answer.status == 200, answer
    policy = f"/api/v1/namespaces/{SYSTEM}/configmaps/zerogate-policy"
    plane.cluster.patch(policy, {"data": {"default.tier": "A"}})
    release.run("upgrade", CHART, values={**VALUES, "gateway": {**VALUES["gateway"], "drainDeadlineSeconds": 60}})
    assert plane.cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 75
    assert {one["clientConfig"]["caBundle"] for one in plane.cluster.get(HOOK)["webhooks"]} == {bundle}
    assert plane.cluster.get(policy)["data"]["default.tier"] == "A"
    release.run("rollback", "1")
    assert plane.cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 315
    assert {one["clientConfig"]["caBundle"] for one in plane.cluster.get(HOOK)["webhooks"]} == {bundle}


@pytest.mark.parametrize(("name", "namespace"), [("zerogate", "other"), ("second", SYSTEM), ("second", "other")])
def test_a_second_release_is_refused_in_words(plane: ControlPlane, release: Release, name: str, namespace: str) -> None:
    del release
    with pytest.raises(HelmError, match='in this cluster already: release "zerogate" in namespace "zerogate-system"'):
        Release(plane.cluster, name, namespace).run("install", CHART, "--create-namespace")
    assert plane.cluster.get("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/zerogate-autoscaler")[
        "subjects"
    ] == [{"kind": "ServiceAccount", "name": "zerogate-autoscaler", "namespace": SYSTEM}]


def test_without_webhooks_a_second_release_is_refused_too(plane: ControlPlane, release: Release) -> None:
    del release
    with pytest.raises(HelmError, match="already"):
        Release(plane.cluster, "second").run("install", CHART, values={"webhook": {"enabled": False}})


def _may(cluster: Cluster, account: str, step: Step) -> bool:
    about: dict[str, Any] = {"resourceAttributes": _fields(step)}
    if step.is_path:
        about = {"nonResourceAttributes": {"verb": step.verb, "path": step.resource}}
    review = {"spec": {"user": f"system:serviceaccount:{SYSTEM}:{account}", **about}}
    done = cluster.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(done["status"]["allowed"])


OTHERS: dict[Role, Sequence[Step]] = {
    "autoscaler": [
        Step(verb="update", group="apps", resource="deployments"),
        Step(verb="delete", group="", resource="pods"),
        Step(verb="update", group="apps", resource="deployments", subresource="scale"),
        Step(verb="get", group="", resource="secrets", name="zerogate-webhook", namespace="team-a"),
        Step(verb="get", group="", resource="secrets", name="another", namespace=SYSTEM),
        Step(verb="list", group="", resource="secrets", namespace=SYSTEM),
        Step(verb="patch", group="coordination.k8s.io", resource="leases", name="another", namespace=SYSTEM),
        Step(verb="patch", group="", resource="configmaps", name="zerogate-policy", namespace=SYSTEM),
        Step(verb="patch", group=HOOKS, resource="mutatingwebhookconfigurations", name="other"),
        Step(verb="delete", group="", resource="services"),
        Step(verb="update", group="discovery.k8s.io", resource="endpointslices"),
        Step(verb="get", group="", resource="configmaps", name="another", namespace=SYSTEM),
        Step(verb="get", group="", resource="/metrics"),
    ],
    "gateway": [
        Step(verb="patch", group="apps", resource="deployments"),
        Step(verb="patch", group="", resource="pods"),
        Step(verb="get", group="", resource="secrets", name="zerogate-webhook", namespace=SYSTEM),
        Step(verb="create", group="authentication.k8s.io", resource="tokenreviews"),
        Step(verb="get", group="", resource="/openid/v1/jwks"),
        Step(verb="create", group="coordination.k8s.io", resource="leases", namespace=SYSTEM),
        Step(verb="patch", group="apps", resource="deployments", subresource="scale", namespace="team-b"),
        Step(verb="patch", group="discovery.k8s.io", resource="endpointslices"),
        Step(verb="patch", group="", resource="services"),
        Step(verb="patch", group="gateway.networking.k8s.io", resource="httproutes", subresource="status"),
        Step(verb="list", group="", resource="secrets", namespace=SYSTEM),
    ],
    "activator": [
        Step(verb="patch", group="apps", resource="deployments"),
        Step(verb="patch", group="discovery.k8s.io", resource="endpointslices"),
        Step(verb="get", group="", resource="secrets", name="zerogate-webhook", namespace=SYSTEM),
        Step(verb="patch", group="", resource="services"),
    ],
}  # fmt: skip
"""One verb more, another name, another namespace: none of it is theirs."""


@pytest.mark.parametrize("role", ROLES)
def test_an_account_may_do_all_that_its_role_needs(plane: ControlPlane, release: Release, role: Role) -> None:
    del release
    steps = [step for right in rights_of(role) for step in steps_of(right, SYSTEM)]
    # the values say where gateways and activators may wake
    steps = [Step(**{**_fields(step), "namespace": "team-a"}) if step.subresource else step for step in steps]
    refused = [step for step in steps if not _may(plane.cluster, f"zerogate-{role}", step)]
    assert not refused


@pytest.mark.parametrize("role", ROLES)
def test_an_account_may_do_nothing_more(plane: ControlPlane, release: Release, role: Role) -> None:
    del release
    allowed = [step for step in OTHERS[role] if _may(plane.cluster, f"zerogate-{role}", step)]
    assert not allowed


def _fields(step: Step) -> dict[str, str]:
    return {name: getattr(step, name) for name in step.__struct_fields__}


@pytest.fixture
def autoscaler(plane: ControlPlane, release: Release, tmp_path: Path) -> Iterator[Autoscaler]:
    """The process as the chart's own account, with its webhook, for which no Service is here."""
    del release
    path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/zerogate-autoscaler/token"
    token = plane.cluster.create(path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
    authority = plane.authority_file
    account = Access.written(tmp_path / "kubeconfig", plane.cluster.access.url, authority, token=token)
    flags = ("--unproven-sources=refused", f"--webhook=127.0.0.1:{free_port()}", "--sidecar-image=zerogate:test")
    it = Autoscaler(plane, account, home=SYSTEM, name="zerogate-autoscaler-0", flags=flags)
    it.start()
    try:
        it.wait_ready()
        yield it
    finally:
        it.stop()


def _token(plane: ControlPlane, path: Path, account: str) -> Path:
    spec = {"audiences": ["zerogate-stats"], "expirationSeconds": 600}
    accounts = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts"
    path.write_text(plane.cluster.create(f"{accounts}/{account}/token", {"spec": spec})["status"]["token"])
    return path


async def test_what_the_chart_mounts_proves_the_autoscaler_to_gateways(
    plane: ControlPlane, autoscaler: Autoscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolved(target: Address) -> list[Address]:
        return [Address("127.0.0.1", target.port)]

    monkeypatch.setattr("zerogate.reporting.sender.resolve", resolved)
    deployment = plane.cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]
    env = {each["name"]: each.get("value", "") for each in deployment["containers"][0]["env"]}
    (volume,) = [each for each in deployment["volumes"] if each["name"] == "token"]
    (mounted,) = [each["secret"] for each in volume["projected"]["sources"] if "secret" in each]
    secret = plane.cluster.get(f"/api/v1/namespaces/{SYSTEM}/secrets/{mounted['name']}")["data"]
    ca_file = tmp_path / "ca.crt"
    ca_file.write_bytes(b"".join(base64.b64decode(secret[item["key"]]) for item in mounted["items"]))
    token = _token(plane, tmp_path / "token", "zerogate-gateway")
    host = env["ZEROGATE_STATS"].rpartition(":")[0]
    async with reporting(Crowd("a/b"), [autoscaler.stats], token, ca_file=str(ca_file), host=host) as sender:
        await _until(lambda: sender.open_streams == 1)
        assert 'zerogate_proven_sources{proof="tls"} 1\n' in autoscaler.ask("/metrics")[1]
    async with reporting(Crowd("a/b"), [autoscaler.stats], token, ca_file=str(ca_file), host="elsewhere") as sender:
        await _until(lambda: 'refused_sources_total{reason="tls"} 0\n' not in autoscaler.ask("/metrics")[1])
        assert sender.open_streams == 0
    async with reporting(Crowd("a/b"), [autoscaler.stats], token) as sender:
        await _until(lambda: 'refused_sources_total{reason="unproven"} 0\n' not in autoscaler.ask("/metrics")[1])
        assert sender.open_streams == 0


async def _until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not seen():
            await asyncio.sleep(0.1)


def test_people_may_look_by_their_role_and_change_nothing_through_the_admin_api(
    plane: ControlPlane, release: Release
) -> None:
    del release
    admin = plane.cluster

    def may(user: str, group: str, verb: str, name: str) -> bool:
        attributes = {"verb": verb, "resource": "services", "subresource": "proxy", "name": name, "namespace": SYSTEM}
        review = {"spec": {"user": user, "groups": [group], "resourceAttributes": attributes}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(admin.create(path, review)["status"]["allowed"])

    own = "zerogate-autoscaler:8081"
    assert may("eve", "developers", "get", own)
    assert not may("eve", "developers", "create", own)
    assert not may("eve", "developers", "delete", own)
    assert not may("eve", "developers", "get", "zerogate-gateway:8081")
    assert not may("mallory", "nobody", "get", own)
