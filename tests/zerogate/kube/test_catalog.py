"""Which workloads are services, and whose a pod is."""

from typing import Any

import msgspec
import pytest

from zerogate.kube.acts import Order
from zerogate.kube.catalog import Catalog, had, model_port, number_of, owner_of, sidecar_port, version_number
from zerogate.kube.objects import DEPLOYMENTS, STATEFUL_SETS, Pod, Workload
from zerogate.policy import Policy


def workload(
    name: str = "llama", *, template: dict[str, str] | None = None, uid: str = "u1", **annotations: str
) -> Workload:
    body = {
        "metadata": {
            "name": name, "namespace": "ml", "uid": uid, "resourceVersion": "7",
            "annotations": {f"zerogate.dev/{key.replace('_', '-')}": value for key, value in annotations.items()},
        },
        "spec": {
            "replicas": 1,
            "template": {"metadata": {"annotations": {f"zerogate.dev/{k}": v for k, v in (template or {}).items()}}},
        },
    }  # fmt: skip
    return msgspec.convert(body, Workload)


def catalog(*workloads: Workload) -> Catalog:
    made = Catalog()
    for one in workloads:
        made.set_workload("Deployment", DEPLOYMENTS, one)
    return made


def pod(owner: tuple[str, str] | None, *, labels: dict[str, str] | None = None, **spec: Any) -> Pod:
    owners = [] if owner is None else [{"kind": owner[0], "name": owner[1], "uid": "o", "controller": True}]
    meta = {"name": "p", "namespace": "ml", "labels": labels, "ownerReferences": owners}
    return msgspec.convert({"metadata": meta, "spec": spec}, Pod)


def test_a_workload_is_taken_up_by_its_annotation_and_let_go_without() -> None:
    made = catalog(workload(enabled="true", idle_timeout="10m"))
    entry = made.services()["ml/llama"]
    assert entry.wanted.policy.idle_timeout_s == 600.0
    assert made.take_changed() == ["ml/llama"]
    assert made.take_changed() == []
    made.set_workload("Deployment", DEPLOYMENTS, workload(idle_timeout="10m"))
    assert made.services() == {}
    assert made.take_changed() == ["ml/llama"]


@pytest.mark.parametrize(
    ("own", "template", "taken"),
    [({}, {}, False), ({}, {"enabled": "true"}, True), ({"enabled": "true"}, {"enabled": "false"}, False)],
    ids=["neither", "template", "the template has the last word"],
)
def test_who_enables(own: dict[str, str], template: dict[str, str], taken: bool) -> None:
    assert bool(catalog(workload(template=template, **own)).services()) is taken


def test_a_wrong_value_leaves_the_last_good_policy_in_force_and_says_so() -> None:
    made = catalog(workload(enabled="true", idle_timeout="10m"))
    made.set_workload("Deployment", DEPLOYMENTS, workload(enabled="true", idle_timeout="10"))
    entry = made.services()["ml/llama"]
    assert entry.wanted.policy.idle_timeout_s == 600.0
    (mistake,) = entry.mistakes
    assert mistake.startswith('deployment ml/llama: zerogate.dev/idle-timeout: "10" has no unit')


def test_layers_weakest_first() -> None:
    made = Catalog()
    made.set_defaults({"default.idle-timeout": "1m", "default.queue-limit": "7"}, "configmap")
    made.set_namespace("ml", {"zerogate.dev/idle-timeout": "2m", "zerogate.dev/max-replicas": "4"})
    made.set_workload("Deployment", DEPLOYMENTS, workload(enabled="true", max_replicas="5", template={"tier": "A"}))
    policy = made.services()["ml/llama"].wanted.policy
    assert (policy.queue_limit, policy.idle_timeout_s, policy.max_replicas) == (7, 120.0, 5)


def test_a_change_of_the_namespace_or_of_the_cluster_is_a_change_of_its_services() -> None:
    made = catalog(workload(enabled="true"))
    made.take_changed()
    made.set_namespace("other", {"zerogate.dev/idle-timeout": "2m"})
    assert made.take_changed() == []
    made.set_namespace("ml", {"zerogate.dev/idle-timeout": "2m"})
    assert made.take_changed() == ["ml/llama"]
    made.set_namespace("ml", None)
    assert made.services()["ml/llama"].wanted.policy.idle_timeout_s == 300.0
    made.set_defaults({"default.idle-timeout": "1m", "most.idle-timeout": "1m"}, "configmap")
    assert made.services()["ml/llama"].wanted.policy.idle_timeout_s == 60.0


def test_two_kinds_of_one_name_are_not_one_service() -> None:
    made = catalog(workload(enabled="true"))
    made.set_workload("StatefulSet", STATEFUL_SETS, workload(enabled="true"))
    assert made.services()["ml/llama"].kind == "Deployment"
    assert made.clash("Deployment", ("ml", "llama")) == ""
    assert made.clash("StatefulSet", ("ml", "llama")) == (
        "StatefulSet ml/llama is not taken up: Deployment ml/llama has the same name and was there first. "
        "Rename one of them."
    )
    made.remove_workload("StatefulSet", ("ml", "llama"))
    assert (made.clash("StatefulSet", ("ml", "llama")), len(made.services())) == ("", 1)


def test_who_waited_for_a_name_has_it_when_the_other_goes_or_is_let_go() -> None:
    made = catalog(workload(enabled="true"))
    for kind, resource, other in (
        ("StatefulSet", STATEFUL_SETS, "Deployment"),
        ("Deployment", DEPLOYMENTS, "StatefulSet"),
    ):
        made.set_workload(kind, resource, workload(enabled="true"))
        made.take_changed()
        made.remove_workload(other, ("ml", "llama"))
        assert (made.services()["ml/llama"].kind, made.clash(kind, ("ml", "llama"))) == (kind, "")
        assert made.take_changed() == ["ml/llama"]


def test_what_was_valid_of_a_workload_is_nothing_to_the_next_one_of_its_name() -> None:
    made = catalog(workload(uid="one", enabled="true", idle_timeout="1m"))
    made.set_workload("Deployment", DEPLOYMENTS, workload(uid="two", enabled="true", idle_timeout="5"))
    entry = made.services()["ml/llama"]
    assert (entry.uid, entry.wanted.policy.idle_timeout_s) == ("two", Policy().idle_timeout_s)
    assert entry.mistakes


@pytest.mark.parametrize(
    ("seen", "owner"),
    [
        (pod(("ReplicaSet", "llama-7d9f"), labels={"pod-template-hash": "7d9f"}), ("Deployment", "llama")),
        (pod(("ReplicaSet", "bare")), ("ReplicaSet", "bare")),
        (pod(("StatefulSet", "db")), ("StatefulSet", "db")),
        (pod(None), None),
        (
            pod(
                ("StatefulSet", "lws"),
                labels={
                    "leaderworkerset.sigs.k8s.io/name": "lws",
                    "leaderworkerset.sigs.k8s.io/worker-index": "0",
                },
            ),
            ("LeaderWorkerSet", "lws"),
        ),
        (
            pod(
                ("StatefulSet", "lws-0"),
                labels={
                    "leaderworkerset.sigs.k8s.io/name": "lws",
                    "leaderworkerset.sigs.k8s.io/worker-index": "1",
                },
            ),
            None,
        ),
    ],
    ids=["deployment", "bare replica set", "stateful set", "nobody", "leader", "worker"],
)
def test_whose_a_pod_is(seen: Pod, owner: tuple[str, str] | None) -> None:
    assert owner_of(seen) == owner


def test_a_pod_is_a_services_only_if_the_kind_is_the_same() -> None:
    made = catalog(workload(enabled="true"))
    labels = {"pod-template-hash": "7d9f"}
    assert made.service_of(pod(("ReplicaSet", "llama-7d9f"), labels=labels)) == "ml/llama"
    assert made.service_of(pod(("StatefulSet", "llama"))) is None
    assert made.service_of(pod(("ReplicaSet", "other-7d9f"), labels=labels)) is None


def test_the_ports_of_a_pod() -> None:
    containers = [{"name": "log"}, {"name": "model", "ports": [{"containerPort": 8000, "name": "http"}]}]
    sidecar = {"name": "zerogate-queueproxy", "ports": [{"containerPort": 8012, "name": "zg-http"}]}
    with_one = pod(None, containers=containers, initContainers=[sidecar])
    assert (sidecar_port(with_one), sidecar_port(pod(None, containers=containers))) == (8012, None)
    assert [model_port(with_one, asked) for asked in (None, "http", "9000", "grpc")] == [8000, 8000, 9000, None]


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("", 0), ("abc", 0)])
def test_versions_are_compared_as_numbers(text: str, number: int) -> None:
    assert version_number(text) == number


@pytest.mark.parametrize(("spec", "number"), [({}, 1), ({"replicas": 0}, 0), ({"replicas": 3}, 3)])
def test_the_number_of_a_workload_that_says_none_is_one(spec: dict[str, int], number: int) -> None:
    assert number_of(msgspec.convert({"spec": spec}, Workload)) == number


def test_a_status_update_is_no_change_of_a_service() -> None:
    made = catalog(workload(enabled="true"))
    made.take_changed()
    made.set_workload("Deployment", DEPLOYMENTS, workload(enabled="true"))
    assert made.take_changed() == []


def test_each_kind_has_its_order_of_victims() -> None:
    made = Catalog()
    made.set_workload("StatefulSet", STATEFUL_SETS, workload(enabled="true"))
    assert made.services()["ml/llama"].order is Order.BY_ORDINAL


@pytest.mark.parametrize("maker", ["LeaderWorkerSet", "Pod"])
def test_a_stateful_set_that_a_groups_controller_made_is_no_service_whatever_its_template_says(maker: str) -> None:
    owner = {"apiVersion": "x/v1", "kind": maker, "name": "big", "uid": "u", "controller": True}
    body = {
        "metadata": {"name": "big", "namespace": "ml", "ownerReferences": [owner]},
        "spec": {"template": {"metadata": {"annotations": {"zerogate.dev/enabled": "true"}}}},
    }
    catalog = Catalog()
    catalog.set_workload("StatefulSet", STATEFUL_SETS, msgspec.convert(body, Workload))
    assert not catalog.services()


def test_a_workload_had_what_is_noted_on_it_whatever_it_asks_for_by_now() -> None:
    one = workload(enabled="true")
    assert had(one) == 1
    for noted, count in (("3", 3), ("no number", 1), ("-2", 1), ("9" * 30, 1)):
        meta = msgspec.structs.replace(one.metadata, annotations={"state.zerogate.dev/replicas": noted})
        assert had(msgspec.structs.replace(one, metadata=meta)) == count
