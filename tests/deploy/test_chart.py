"""What the chart renders: as committed, as the code has it, and nothing that a cluster with strict rules refuses."""

import importlib.util
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from autoscaler.injector.manifests import WORKLOADS, Installation, Workloads, server_names, webhook_configurations
from tests.deploy.chart import (
    CASES,
    CERT_MANAGER,
    CHART,
    EVERYTHING,
    ROOT,
    SNAPSHOTS,
    HelmError,
    Object,
    helm,
    objects,
    one,
    pod_specs,
    render,
)
from zerogate.kube.catalog import CONFIG_MAP
from zerogate.kube.keys import CLUSTER_KEYS, ClusterKey
from zerogate.kube.policies import is_of_one_workload, read_defaults
from zerogate.policy_keys import KEYS, Key

pytestmark = [pytest.mark.usefixtures("helm"), pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_what_was_looked_at(case: str) -> None:
    said = "look at the difference; `python -m tests.deploy.chart` writes the snapshots anew"
    assert render(CASES[case]) == (SNAPSHOTS / f"{case}.yaml").read_text(), said


def test_helm_finds_nothing_to_complain_of() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", "--kube-version", "1.34.4", CHART)


def _webhooks(found: list[Object]) -> list[list[Any]]:
    kinds = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
    return [one(found, kind, "zerogate")["webhooks"] for kind in kinds]


@pytest.mark.parametrize("namespace", ["zerogate-system", "models"])
def test_the_webhooks_are_those_of_the_code(namespace: str) -> None:
    made = webhook_configurations(Installation(namespace=namespace, service="mine-autoscaler"))
    assert _webhooks(objects(name="mine", namespace=namespace)) == [each["webhooks"] for each in made]


def test_further_kinds_of_workloads_are_asked_about() -> None:
    more = tuple(Workloads(one["group"], (one["resource"],)) for one in EVERYTHING["extraWorkloads"])
    made = webhook_configurations(Installation(workloads=(*WORKLOADS, *more)))
    assert _webhooks(objects(EVERYTHING)) == [each["webhooks"] for each in made]


def test_without_webhooks_nothing_of_them_is_left() -> None:
    found = objects({"webhook": {"enabled": False}})
    assert not [each for each in found if "Webhook" in each["kind"]]
    assert "admissionregistration" not in str([each for each in found if each["kind"].endswith("Role")])


def test_the_certificate_is_for_the_names_by_which_autoscalers_are_asked() -> None:
    found = objects({**CERT_MANAGER, **EVERYTHING}, name="mine", namespace="models")
    asked = Installation(namespace="models", service="mine-autoscaler")
    made = one(found, "Certificate", "mine-autoscaler")["spec"]
    assert made["dnsNames"] == list(server_names(asked))
    for role in ("gateway", "activator"):
        spec = pod_specs(found)[role]["spec"]
        env = {each["name"]: each.get("value", "") for each in spec["containers"][0]["env"]}
        assert env["ZEROGATE_STATS"].rpartition(":")[0] in made["dnsNames"]
        secrets = [
            each["secret"] for volume in spec["volumes"] for each in volume.get("projected", {}).get("sources", [])
            if "secret" in each
        ]  # fmt: skip
        assert secrets == [{"name": made["secretName"], "items": [{"key": "ca.crt", "path": "ca.crt"}]}]


def test_an_issuer_of_ones_own_makes_the_charts_needless() -> None:
    issuer = {"name": "house", "kind": "ClusterIssuer"}
    found = objects({"certificates": {"certManager": {"enabled": True, "issuerRef": issuer}}})
    assert [each["metadata"]["name"] for each in found if each["kind"] in ("Issuer", "Certificate")] == [
        "zerogate-autoscaler"
    ]
    assert one(found, "Certificate", "zerogate-autoscaler")["spec"]["issuerRef"] == issuer


def test_the_cluster_policy_reads_without_a_mistake() -> None:
    data = one(objects(EVERYTHING), "ConfigMap", CONFIG_MAP)["data"]
    assert data == {
        "default.idle-timeout": "10m",
        "default.target-concurrency": "4",
        "least.idle-timeout": "1m",
        "most.max-replicas": "8",
        "only.protocol": "http1, h2c",
        "only.takeover": "false",
    }
    defaults, errors = read_defaults(data, "values")
    assert not errors
    assert defaults.layer is not None


def test_large_numbers_in_the_policy_stay_whole() -> None:
    policy = {"default": {"queue-limit": 1_000_000, "target-concurrency": 2.5}}
    data = one(objects({"policy": policy}), "ConfigMap", CONFIG_MAP)["data"]
    assert data == {"default.queue-limit": "1000000", "default.target-concurrency": "2.5"}


def test_helm_takes_the_default_of_each_key() -> None:
    keys: list[Key | ClusterKey] = [*KEYS.values(), *CLUSTER_KEYS.values()]
    texts = {key.name: key.default_text() for key in keys if not is_of_one_workload(key) and key.default_text() != "–"}
    data = one(objects({"policy": {"default": texts}}), "ConfigMap", CONFIG_MAP)["data"]
    assert data == {f"default.{name}": text for name, text in texts.items()}


def test_lists_and_switches_are_written_as_annotations_are() -> None:
    hours = ["Mon-Fri 08:00-18:00 UTC = 1", "Sat 10:00-12:00 UTC = 1"]
    policy = {"default": {"schedule": hours, "health-paths": ["/health", "/ready"], "takeover": True}}
    data = one(objects({"policy": policy}), "ConfigMap", CONFIG_MAP)["data"]
    assert data == {
        "default.schedule": "; ".join(hours), "default.health-paths": "/health, /ready", "default.takeover": "true",
    }  # fmt: skip
    assert read_defaults(data, "values")[1] == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"gateway": {"replicaz": 3}}, "replicaz"),
        ({"policy": {"default": {"idle-timout": "5m"}}}, "idle-timout"),
        ({"policy": {"default": {"idle-timeout": "5"}}}, "/policy/default/idle-timeout"),
        ({"policy": {"default": {"max-replicas": 0}}}, "/policy/default/max-replicas"),
        ({"policy": {"default": {"hosts": "llm.example.org"}}}, "hosts"),
        ({"policy": {"most": {"metric": "rps"}}}, "metric"),
        ({"policy": {"only": {"protocol": ["http1", "http3"]}}}, "/policy/only/protocol"),
        ({"gateway": {"service": {"type": "ExternalName"}}}, "/gateway/service/type"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"autoscaler": {"replicas": 0}}, "/autoscaler/replicas"),
        ({"activator": {"ports": {"first": 80}}}, "/activator/ports/first"),
        ({"networkPolicy": {"adminFrom": [{}]}}, "/networkPolicy/adminFrom"),
        ({"gateway": {"bodyMemory": "512"}}, "/gateway/bodyMemory"),
        ({"gateway": {"bodyMemory": "10T"}}, "/gateway/bodyMemory"),
        ({"activator": {"enabled": True, "ports": {"first": 25000}}}, "activator.ports: 25000 to 24999"),
        ({"activator": {"enabled": True, "ports": {"first": 8000, "last": 9000}}}, "without 8081"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_wrong_values_are_refused_by_their_name(values: dict[str, Any], says: str) -> None:
    with pytest.raises(HelmError, match=says):
        render(values)


@pytest.mark.parametrize("case", CASES)
def test_pods_fit_the_restricted_level(case: str) -> None:
    for template in pod_specs(objects(CASES[case])).values():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }


def test_users_can_be_left_to_the_cluster() -> None:
    for template in pod_specs(objects({"runAsUser": None})).values():
        assert template["spec"]["securityContext"].keys() == {"runAsNonRoot", "seccompProfile"}


def test_a_pod_has_time_to_drain() -> None:
    values = {"gateway": {"drainDeadlineSeconds": 600, "drainWaitSeconds": 8}}
    pod = pod_specs(objects(values))["gateway"]["spec"]
    env = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert (env["ZEROGATE_DRAIN_DEADLINE"], env["ZEROGATE_DRAIN_WAIT"]) == ("600s", "8s")
    assert pod["terminationGracePeriodSeconds"] == 618


@pytest.mark.parametrize("case", CASES)
def test_each_probe_and_service_leads_to_a_port_of_its_pod(case: str) -> None:
    found = objects(CASES[case])
    pods = pod_specs(found)
    ports = {role: {port["name"] for port in pod["spec"]["containers"][0]["ports"]} for role, pod in pods.items()}
    for role, pod in pods.items():
        (container,) = pod["spec"]["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["port"] in ports[role]
    services = [each for each in found if each["kind"] == "Service"]
    assert len(services) >= 3
    for service in services:
        role = service["spec"]["selector"]["app.kubernetes.io/component"]
        assert service["spec"]["selector"].items() <= pods[role]["metadata"]["labels"].items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports[role]


@pytest.mark.parametrize("role", ["gateway", "activator", "autoscaler"])
def test_a_process_reads_the_settings_that_its_pod_gives(role: str) -> None:
    settings = importlib.import_module(f"{role}.settings")
    (container,) = pod_specs(objects(EVERYTHING))[role]["spec"]["containers"]
    env = {each["name"]: each.get("value", "from-the-pod") for each in container["env"]}
    known = {option.variable for option in settings.OPTIONS}
    assert {name for name in env if name.startswith("ZEROGATE_")} <= known
    settings.read(container["command"][3:], env)


def test_secrets_reach_the_folder_of_certificates() -> None:
    pod = pod_specs(objects(EVERYTHING))["gateway"]["spec"]
    volumes = {each["name"]: each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
    paths = {
        volumes[each["name"]]: each["mountPath"]
        for each in pod["containers"][0]["volumeMounts"]
        if each["name"] in volumes
    }
    assert paths == {"default": "/etc/zerogate/tls/default", "models": "/etc/zerogate/tls/models"}


def test_a_sidecars_admin_port_alone_is_closed() -> None:
    policy = one(objects(EVERYTHING), "NetworkPolicy", "zerogate-sidecars")
    assert policy["metadata"]["namespace"] == "team-a"
    open_to_all, admin = policy["spec"]["ingress"]
    tcp = [range(port["port"], port["endPort"] + 1) for port in open_to_all["ports"] if port["protocol"] == "TCP"]
    assert [number for number in range(1, 65536) if not any(number in each for each in tcp)] == [8013]
    assert "from" not in open_to_all
    assert admin["ports"] == [{"protocol": "TCP", "port": 8013}]


def test_namespaced_objects_carry_the_release_and_those_of_the_cluster_do_not() -> None:
    for each in objects(EVERYTHING, name="mine"):
        name, is_namespaced = each["metadata"]["name"], "namespace" in each["metadata"]
        if each["metadata"].get("namespace") == "zerogate-system":
            assert name == CONFIG_MAP or name.split("-")[0] == "mine"
        elif not is_namespaced:
            assert name.split("-")[0] == "zerogate"


def test_one_replica_has_no_budget_that_keeps_its_node() -> None:
    found = objects({"gateway": {"replicas": 1}})
    budgets = [each["metadata"]["name"] for each in found if each["kind"] == "PodDisruptionBudget"]
    assert budgets == ["zerogate-autoscaler"]


def test_values_in_the_documents_are_right() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "deploying.md").read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        assert objects(yaml.safe_load(block))


def test_every_value_has_its_word_and_every_word_its_value() -> None:
    """A default that is not in the schema would be refused; one that is in it alone would be unknown to readers."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(_paths(values, schema)) == set(_known(schema)) - {"global"}


def _paths(values: dict[str, Any], schema: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in values.items():
        below = schema["properties"][key]
        if "properties" in below and not above.startswith("policy"):
            yield from _paths(value, below, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def _known(schema: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, below in schema["properties"].items():
        if "properties" in below and not above.startswith("policy"):
            yield from _known(below, f"{above}{key}.")
        else:
            yield f"{above}{key}"
