import base64

from autoscaler.injector.manifests import Installation, Workloads, server_names, webhook_configurations
from autoscaler.injector.server import DEADLINE_S

MUTATING, VALIDATING = webhook_configurations(Installation())
ALL = [*MUTATING["webhooks"], *VALIDATING["webhooks"]]


def test_no_webhook_stops_anything_when_nobody_answers() -> None:
    assert {webhook["failurePolicy"] for webhook in ALL} == {"Ignore"}
    assert all(DEADLINE_S < webhook["timeoutSeconds"] <= 3 for webhook in ALL)
    assert {webhook["sideEffects"] for webhook in ALL} == {"NoneOnDryRun"}


def test_zerogates_own_pods_and_those_a_cluster_lives_by_are_never_asked_about() -> None:
    (pods,) = MUTATING["webhooks"]
    never, opted_out = pods["namespaceSelector"]["matchExpressions"]
    assert {"kube-system", "zerogate-system"} <= set(never["values"])
    assert (opted_out["key"], opted_out["operator"]) == ("zerogate.dev/injection", "NotIn")


def test_only_new_pods_of_workloads_are_asked_about_and_again_after_other_webhooks() -> None:
    (pods,) = MUTATING["webhooks"]
    assert pods["rules"][0]["operations"] == ["CREATE"]
    assert pods["reinvocationPolicy"] == "IfNeeded"
    assert "'ReplicaSet'" in pods["matchConditions"][0]["expression"]


def test_workloads_of_other_kinds_are_added_by_the_installation() -> None:
    groups = (Workloads("apps.kruise.io", ("clonesets",)),)
    _, validating = webhook_configurations(Installation(workloads=groups))
    assert validating["webhooks"][0]["rules"][0]["apiGroups"] == ["apps.kruise.io"]


def test_the_bundle_and_the_place_are_the_installations() -> None:
    installation = Installation(name="two", namespace="there", service="hook", ca_bundle=b"PEM")
    mutating, _ = webhook_configurations(installation)
    client = mutating["webhooks"][0]["clientConfig"]
    assert base64.b64decode(client["caBundle"]) == b"PEM"
    assert client["service"] == {"namespace": "there", "name": "hook", "path": "/mutate", "port": 443}
    assert mutating["metadata"]["name"] == "two"
    assert server_names(installation)[0] == "hook.there.svc"
