"""The webhook's configuration, certificates and patches as a real API server takes them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.processes import ClusterError, until
from tests.kubernetes.webhook import SECRET, SYSTEM, RunningWebhook, running_webhook
from tests.zerogate.kube.pods import policy
from zerogate.kube.injection import Injection, inject
from zerogate.kube.sidecar import LABEL, SIDECAR, SidecarTerms, sidecar_of

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
FITTING = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="module")
def webhook(controllers: ControlPlane) -> Iterator[RunningWebhook]:
    with running_webhook(controllers) as it:
        yield it


@pytest.fixture
def team(controllers: ControlPlane) -> Iterator[str]:
    """A namespace that takes restricted pods alone."""
    with controllers.namespace("team", RESTRICTED) as name:
        yield name


def deployment(name: str = "llm", *, template: dict[str, str] | None = None, **annotations: str) -> dict[str, Any]:
    keys = {f"zerogate.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    container = {
        "name": "llm",
        "image": "none",
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/up", "port": "http"}},
        "securityContext": FITTING,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "annotations": keys},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": template or {}},
                "spec": {"containers": [container]},
            },
        },
    }


def pod_of(plane: ControlPlane, namespace: str, name: str = "llm") -> dict[str, Any]:
    """The pod that the controllers make of a Deployment."""
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{name}"
    found = plane.cluster.until(path, lambda pods: pods["items"])
    pod: dict[str, Any] = found["items"][0]
    return pod


def test_a_deployments_pod_gets_the_sidecar_in_a_restricted_namespace(
    controllers: ControlPlane, webhook: RunningWebhook, team: str
) -> None:
    controllers.cluster.apply(deployment(enabled="true", concurrency_limit="4"), namespace=team)
    pod = pod_of(controllers, team)
    (sidecar,) = pod["spec"]["initContainers"]
    told = {entry["name"]: entry["value"] for entry in sidecar["env"]}
    assert (sidecar["name"], sidecar["restartPolicy"], told["ZEROGATE_CONCURRENCY_LIMIT"]) == (SIDECAR, "Always", "4")
    assert told["ZEROGATE_SERVICE"] == f"{team}/llm"
    assert told["ZEROGATE_PROBE_PATH"] == "/up"
    assert pod["spec"]["terminationGracePeriodSeconds"] == 310
    assert pod["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]["path"] == "/drain?wait"
    assert pod["metadata"]["labels"][LABEL] == "true"


def test_an_annotation_of_the_pod_template_is_enough(
    controllers: ControlPlane, webhook: RunningWebhook, team: str
) -> None:
    controllers.cluster.apply(deployment(template={"zerogate.dev/enabled": "true"}), namespace=team)
    assert sidecar_of(pod_of(controllers, team)["spec"])


def test_what_was_stored_is_not_patched_again(controllers: ControlPlane, webhook: RunningWebhook, team: str) -> None:
    controllers.cluster.apply(deployment(enabled="true"), namespace=team)
    stored = pod_of(controllers, team)
    outcome = inject(
        stored, policy(), SidecarTerms(image="another"), service="-", services=(), token="u" * 32
    )  # fmt: skip
    assert isinstance(outcome, Injection)
    assert outcome.operations == ()


def test_a_wrong_annotation_is_refused_at_apply_in_the_words_of_check(
    controllers: ControlPlane, webhook: RunningWebhook, team: str
) -> None:
    with pytest.raises(ClusterError) as caught:
        controllers.cluster.apply(deployment(enabled="true", idle_timeout="5"), namespace=team)
    assert (
        f'Deployment {team}/llm: zerogate.dev/idle-timeout: "5" has no unit. Write 5s, 5m or 5h. Allowed is a duration '
        "from 1s to 30d." in str(caught.value)
    )
    with pytest.raises(ClusterError, match=r"pod template: zerogate\.dev/idle-timout: is not a key of a policy"):
        controllers.cluster.apply(deployment(template={"zerogate.dev/idle-timout": "5m"}), namespace=team)
    with pytest.raises(ClusterError, match=f"Namespace {team}: zerogate.dev/enabled: is a key of one workload"):
        controllers.cluster.kubectl("annotate", "namespace", team, "zerogate.dev/enabled=true")


def test_a_wrong_policy_of_the_cluster_is_refused_at_apply(controllers: ControlPlane, webhook: RunningWebhook) -> None:
    wrong = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "zerogate-policy"},
        "data": {"most.max-replicas": "x"},
    }
    with pytest.raises(ClusterError, match=f"ConfigMap {SYSTEM}/zerogate-policy: most.max-replicas: "):
        controllers.cluster.apply(wrong, namespace=SYSTEM)


def test_what_is_none_of_zerogates_business_does_not_even_ask(
    controllers: ControlPlane, webhook: RunningWebhook, team: str
) -> None:
    before = dict(webhook.webhook.counts)
    bare = {
        "metadata": {"name": "bare"},
        "spec": {"containers": [{"name": "a", "image": "a", "securityContext": FITTING}]},
    }
    controllers.cluster.create(f"/api/v1/namespaces/{team}/pods", bare)
    controllers.cluster.create(f"/apis/apps/v1/namespaces/{team}/deployments", {**deployment(), "spec": {
        **deployment()["spec"], "replicas": 0}})  # fmt: skip
    assert webhook.webhook.counts == before


def test_a_pod_that_cannot_have_a_sidecar_is_made_without_and_its_owner_is_told(
    controllers: ControlPlane, webhook: RunningWebhook
) -> None:
    with controllers.namespace("free") as name:
        wanted = deployment(enabled="true")
        wanted["spec"]["template"]["spec"]["hostNetwork"] = True
        said = controllers.cluster.kubectl("apply", "-n", name, "-f", "-", stdin=json.dumps(wanted))
        assert "configured" in said or "created" in said
        assert "initContainers" not in pod_of(controllers, name)["spec"]
    assert any("hostNetwork" in notice.text for notice in webhook.notices)


def test_a_service_of_a_named_port_leads_to_the_sidecar_once_it_is_taken_over(
    controllers: ControlPlane, webhook: RunningWebhook, team: str
) -> None:
    cluster = controllers.cluster
    spec: dict[str, Any] = {"selector": {"app": "llm"}, "ports": [{"port": 80, "targetPort": "http"}]}
    spec["publishNotReadyAddresses"] = True  # there is no node whose pods could be ready
    cluster.create(f"/api/v1/namespaces/{team}/services", {"metadata": {"name": "llm"}, "spec": spec})
    cluster.apply(deployment(enabled="true", takeover="true"), namespace=team)
    pod = pod_of(controllers, team)
    assert pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] == 8000
    path = f"/api/v1/namespaces/{team}/pods/{pod['metadata']['name']}/status"
    cluster.patch(path, {"status": {"podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]}})
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{team}/endpointslices"
    found = cluster.until(slices, lambda it: it["items"] and it["items"][0]["ports"] and it["items"][0]["endpoints"])
    placed = sidecar_of(pod["spec"])
    assert placed is not None
    assert [port["port"] for port in found["items"][0]["ports"]] == [placed.port]


def test_a_lost_secret_is_made_anew_and_the_api_server_trusts_the_new_one(
    controllers: ControlPlane, webhook: RunningWebhook
) -> None:
    controllers.cluster.delete(f"/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}")
    webhook.run(webhook.rotation.round())
    until(
        lambda: webhook.is_asked(controllers.cluster), within_s=20, what="the API server's trust in the new authority"
    )


def test_with_the_webhook_gone_pods_start_without_a_sidecar(
    controllers: ControlPlane, webhook: RunningWebhook, team: str
) -> None:
    webhook.stop()  # for good: this is the last test
    controllers.cluster.apply(deployment(enabled="true", idle_timeout="wrong"), namespace=team)
    assert "initContainers" not in pod_of(controllers, team)["spec"]
