"""The webhook's configuration, certificates and patches as a real API server takes them."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509

from autoscaler.injector.rotation import MASTERS, read_masters
from tests.kubernetes.harness.access import JSON_PATCH
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.processes import ClusterError, until
from tests.kubernetes.webhook import HOOKS, SECRET, SYSTEM, Webhooks, webhooks
from tests.zerogate.kube.pods import policy
from zerogate.clock import wall
from zerogate.kube.injection import Injection, inject
from zerogate.kube.sidecar import LABEL, SIDECAR, SidecarTerms, sidecar_of
from zerogate.reporting.proof import key_named, parse_key

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
FITTING = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="module")
def webhook(controllers: ControlPlane) -> Iterator[Webhooks]:
    with webhooks(controllers) as it:
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
    controllers: ControlPlane, webhook: Webhooks, team: str
) -> None:
    controllers.cluster.apply(deployment(enabled="true", concurrency_limit="4"), namespace=team)
    pod = pod_of(controllers, team)
    (sidecar,) = pod["spec"]["initContainers"]
    told = {entry["name"]: entry["value"] for entry in sidecar["env"]}
    assert (sidecar["name"], sidecar["restartPolicy"], told["ZEROGATE_CONCURRENCY_LIMIT"]) == (SIDECAR, "Always", "4")
    assert told["ZEROGATE_SERVICE"] == f"{team}/llm"
    secret = controllers.cluster.get(f"/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}")["data"]
    key = parse_key(told["ZEROGATE_STATS_KEY"])
    assert key.service == f"{team}/llm"
    assert key_named(read_masters({MASTERS: base64.b64decode(secret[MASTERS])}), key.name) == key
    assert told["ZEROGATE_PROBE_PATH"] == "/up"
    assert pod["spec"]["terminationGracePeriodSeconds"] == 310
    assert pod["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]["path"] == "/drain?wait"
    assert pod["metadata"]["labels"][LABEL] == "true"


def test_an_annotation_of_the_pod_template_is_enough(controllers: ControlPlane, webhook: Webhooks, team: str) -> None:
    controllers.cluster.apply(deployment(template={"zerogate.dev/enabled": "true"}), namespace=team)
    assert sidecar_of(pod_of(controllers, team)["spec"])


def test_what_was_stored_is_not_patched_again(controllers: ControlPlane, webhook: Webhooks, team: str) -> None:
    controllers.cluster.apply(deployment(enabled="true"), namespace=team)
    stored = pod_of(controllers, team)
    outcome = inject(
        stored, policy(), SidecarTerms(image="another"), service="-", services=(), token="u" * 32
    )  # fmt: skip
    assert isinstance(outcome, Injection)
    assert outcome.operations == ()


def test_a_wrong_annotation_is_refused_at_apply_in_the_words_of_check(
    controllers: ControlPlane, webhook: Webhooks, team: str
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


def test_a_wrong_policy_of_the_cluster_is_refused_at_apply(controllers: ControlPlane, webhook: Webhooks) -> None:
    wrong = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "zerogate-policy"},
        "data": {"most.max-replicas": "x"},
    }
    with pytest.raises(ClusterError, match=f"ConfigMap {SYSTEM}/zerogate-policy: most.max-replicas: "):
        controllers.cluster.apply(wrong, namespace=SYSTEM)


def test_what_is_none_of_zerogates_business_does_not_even_ask(
    controllers: ControlPlane, webhook: Webhooks, team: str
) -> None:
    before = [dict(replica.injector.counts) for replica in webhook.replicas]
    bare = {
        "metadata": {"name": "bare"},
        "spec": {"containers": [{"name": "a", "image": "a", "securityContext": FITTING}]},
    }
    controllers.cluster.create(f"/api/v1/namespaces/{team}/pods", bare)
    controllers.cluster.create(f"/apis/apps/v1/namespaces/{team}/deployments", {**deployment(), "spec": {
        **deployment()["spec"], "replicas": 0}})  # fmt: skip
    assert [replica.injector.counts for replica in webhook.replicas] == before


def test_a_pod_that_cannot_have_a_sidecar_is_made_without_and_its_owner_is_told(
    controllers: ControlPlane, webhook: Webhooks
) -> None:
    with controllers.namespace("free") as name:
        wanted = deployment(enabled="true")
        wanted["spec"]["template"]["spec"]["hostNetwork"] = True
        said = controllers.cluster.kubectl("apply", "-n", name, "-f", "-", stdin=json.dumps(wanted))
        assert "configured" in said or "created" in said
        assert "initContainers" not in pod_of(controllers, name)["spec"]
        events = f"/apis/events.k8s.io/v1/namespaces/{name}/events"
        about_owner = controllers.cluster.until(events, lambda found: [
            event for event in found["items"] if event["reason"] == "SidecarRefused"])  # fmt: skip
        (event,) = [event for event in about_owner["items"] if event["reason"] == "SidecarRefused"]
        assert (event["regarding"]["kind"], event["regarding"]["name"], event["type"]) == (
            "Deployment", "llm", "Warning",
        )  # fmt: skip
        assert "hostNetwork" in event["note"]


def test_a_service_of_a_named_port_leads_to_the_sidecar_once_it_is_taken_over(
    controllers: ControlPlane, webhook: Webhooks, team: str
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


def secret_of(plane: ControlPlane) -> dict[str, Any]:
    found: dict[str, Any] = plane.cluster.get(f"/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}")
    return found


def trusted(plane: ControlPlane, webhook: Webhooks) -> set[str]:
    """The bundles in all entries of both configurations."""
    found = [
        plane.cluster.get(f"{HOOKS}/{kind}webhookconfigurations/{webhook.installation.name}")
        for kind in ("mutating", "validating")
    ]
    return {str(hook["clientConfig"].get("caBundle")) for one in found for hook in one["webhooks"]}


def test_replicas_that_start_together_make_one_authority_that_both_configurations_trust(
    controllers: ControlPlane, webhook: Webhooks
) -> None:
    data = secret_of(controllers)["data"]
    assert base64.b64decode(data["ca.crt"]).count(b"BEGIN CERTIFICATE") == 1
    assert trusted(controllers, webhook) == {data["ca.crt"]}
    assert all(replica.injector.is_serving and not replica.injector.fault for replica in webhook.replicas)


def test_events_of_one_workload_are_one_however_many_pods_it_has(
    controllers: ControlPlane, webhook: Webhooks, team: str
) -> None:
    wanted = deployment(enabled="true")
    wanted["spec"]["replicas"] = 5
    controllers.cluster.apply(wanted, namespace=team)
    pods = f"/api/v1/namespaces/{team}/pods"
    controllers.cluster.until(pods, lambda found: len(found["items"]) == 5)
    path = f"/apis/events.k8s.io/v1/namespaces/{team}/events"
    ours = [
        event
        for event in controllers.cluster.until(path, _injected)["items"]
        if event["reportingController"] == "zerogate.dev/autoscaler"
    ]
    assert len([one for one in webhook.told if one.reason == "SidecarInjected" and one.about.namespace == team]) == 5
    assert 1 <= len(ours) <= len(webhook.replicas)
    assert {event["regarding"]["name"] for event in ours} == {"llm"}


def _injected(found: dict[str, Any]) -> bool:
    return any(event["reason"] == "SidecarInjected" for event in found["items"])


def test_a_dry_run_leaves_no_event(controllers: ControlPlane, webhook: Webhooks, team: str) -> None:
    controllers.cluster.apply(deployment(enabled="true"), namespace=team)
    pod = pod_of(controllers, team)
    before, asked = len(webhook.told), webhook.counted("answered")
    metadata = {"name": "for-show", "ownerReferences": pod["metadata"]["ownerReferences"]}
    like = {"metadata": metadata, "spec": deployment()["spec"]["template"]["spec"]}
    said = controllers.cluster.create(f"/api/v1/namespaces/{team}/pods?dryRun=All", like)
    assert sidecar_of(said["spec"]) is not None
    assert webhook.counted("answered") > asked
    assert len(webhook.told) == before


def test_the_first_pods_after_an_annotation_have_what_it_says(
    controllers: ControlPlane, webhook: Webhooks, team: str
) -> None:
    cluster = controllers.cluster
    cluster.apply(deployment(), namespace=team)
    assert sidecar_of(pod_of(controllers, team)["spec"]) is None
    path = f"/apis/apps/v1/namespaces/{team}/deployments/llm"
    for limit in range(1, 6):
        said = {"zerogate.dev/enabled": "true", "zerogate.dev/concurrency-limit": str(limit)}
        cluster.patch(path, {"metadata": {"annotations": said}})
        template = {"metadata": {"annotations": {"restarted": str(limit)}}}
        cluster.patch(path, {"spec": {"template": template}})
        assert _limit_of_newest(controllers, team, limit) == str(limit)


def _limit_of_newest(plane: ControlPlane, namespace: str, turn: int) -> str:
    def of_turn(pods: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            pod for pod in pods["items"] if (pod["metadata"].get("annotations") or {}).get("restarted") == str(turn)
        ]

    (pod,) = of_turn(plane.cluster.until(f"/api/v1/namespaces/{namespace}/pods", of_turn))
    (sidecar,) = pod["spec"]["initContainers"]
    return str({entry["name"]: entry["value"] for entry in sidecar["env"]}["ZEROGATE_CONCURRENCY_LIMIT"])


def test_trust_that_somebody_took_away_comes_back(controllers: ControlPlane, webhook: Webhooks) -> None:
    path = f"{HOOKS}/mutatingwebhookconfigurations/{webhook.installation.name}"
    controllers.cluster.patch(path, [{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}], kind=JSON_PATCH)
    webhook.restart()  # looks at once, where one that runs looks within a minute
    assert trusted(controllers, webhook) == {secret_of(controllers)["data"]["ca.crt"]}


def test_a_lost_secret_is_made_anew_and_the_api_server_trusts_the_new_one(
    controllers: ControlPlane, webhook: Webhooks
) -> None:
    before = secret_of(controllers)["data"]["ca.crt"]
    controllers.cluster.delete(f"/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}")
    webhook.restart()
    after = secret_of(controllers)["data"]["ca.crt"]
    assert after != before
    assert trusted(controllers, webhook) == {after}


@pytest.mark.parametrize(
    ("later_days", "authorities"),
    [pytest.param(70, 1, id="renewal of what is served"), pytest.param(800, 1, id="all expired meanwhile")],
)
def test_restarted_after_a_long_time_it_serves_what_is_valid_then(
    controllers: ControlPlane, webhook: Webhooks, later_days: int, authorities: int
) -> None:
    """The calendar of the API server cannot be moved: what was made for then is looked at, and then made for now."""
    before = secret_of(controllers)["data"]
    webhook.stop()
    webhook.ahead_s = later_days * 86400.0
    webhook.start_again(are_asked=False)
    until(
        lambda: (
            secret_of(controllers)["data"]["tls.crt"] != before["tls.crt"]
            and all(replica.injector.is_serving for replica in webhook.replicas)
        ),
        within_s=20,
        what="another certificate",
    )
    after = secret_of(controllers)["data"]
    bundle = x509.load_pem_x509_certificates(base64.b64decode(after["ca.crt"]))
    leaf = x509.load_pem_x509_certificate(base64.b64decode(after["tls.crt"]))
    assert len(bundle) == authorities
    leaf.verify_directly_issued_by(bundle[-1])
    assert leaf.not_valid_after_utc.timestamp() > wall() + webhook.ahead_s
    assert trusted(controllers, webhook) == {after["ca.crt"]}
    webhook.stop()
    webhook.ahead_s = 0.0
    controllers.cluster.delete(f"/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}")
    webhook.start_again()


def test_with_one_replica_gone_the_other_answers(controllers: ControlPlane, webhook: Webhooks, team: str) -> None:
    gone = webhook.replicas.pop()
    webhook.run(gone.stop())
    controllers.cluster.apply(deployment(enabled="true"), namespace=team)
    assert sidecar_of(pod_of(controllers, team)["spec"]) is not None


def test_with_the_webhooks_gone_pods_start_and_nothing_is_refused(
    controllers: ControlPlane, webhook: Webhooks, team: str
) -> None:
    webhook.stop()  # for good: this is the last test
    controllers.cluster.apply(deployment(enabled="true", idle_timeout="wrong"), namespace=team)
    assert "initContainers" not in pod_of(controllers, team)["spec"]
