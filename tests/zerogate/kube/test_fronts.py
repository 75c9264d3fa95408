"""Which Services lead to a workload that is taken over, and why others cannot."""

from typing import Any

import msgspec
import pytest

from tests.zerogate.kube.pods import policy
from zerogate.kube.catalog import Managed
from zerogate.kube.fronts import (
    TARGETS,
    Front,
    Move,
    Selected,
    fronts_of,
    has_name,
    misfit,
    moves_to_name,
    moves_to_number,
    operations,
)
from zerogate.kube.objects import DEPLOYMENTS, Pod, PodTemplate, Service


def entry(*ports: dict[str, Any], takeover: str = "true", **keys: str) -> Managed:
    """A Deployment `llm` with these ports of its container; by default `http` is 8000 and `metrics` 9000."""
    listed = list(ports or [{"name": "http", "containerPort": 8000}, {"name": "metrics", "containerPort": 9000}])
    spec = {"containers": [{"name": "llm", "ports": listed}]}
    template = msgspec.convert({"metadata": {"labels": {"app": "llm", "v": "1"}}, "spec": spec}, PodTemplate)
    return Managed(
        service="ns/llm", kind="Deployment", resource=DEPLOYMENTS, key=("ns", "llm"), uid="w",
        wanted=policy(takeover=takeover, **keys), template=template,
    )  # fmt: skip


def service(
    *ports: dict[str, Any], name: str = "llm", annotations: dict[str, str] | None = None, **spec: Any
) -> Service:
    listed = list(ports or [{"port": 80, "targetPort": "http"}])
    meta = {"name": name, "namespace": "ns", "uid": f"u-{name}", "annotations": annotations or {}}
    return msgspec.convert(
        {"metadata": meta, "spec": {"selector": {"app": "llm"}, "ports": listed, "clusterIP": "10.0.0.1", **spec}},
        Service,
    )


def front(*ports: dict[str, Any], **more: Any) -> Front:
    (found,), refused = fronts_of(entry(), [service(*ports, **more)])
    assert not refused
    return found


def why(*services: Service, of: Managed | None = None) -> list[str]:
    found, refused = fronts_of(of or entry(), services)
    assert not found
    return [one.reason for one in refused]


def test_a_named_port_that_leads_to_the_model_is_answered_for_and_others_are_left_alone() -> None:
    ports = (
        {"name": "web", "port": 80, "targetPort": "http"},
        {"name": "metrics", "port": 81, "targetPort": "metrics"},
    )
    assert [port.name for port in front(*ports).ports] == ["web"]


def test_all_ports_that_lead_to_the_model_are_answered_for() -> None:
    ports = ({"name": "a", "port": 80, "targetPort": "http"}, {"name": "b", "port": 8000, "targetPort": 8000})
    assert [(port.name, port.number) for port in front(*ports).ports] == [("a", None), ("b", 8000)]


def test_both_families_of_a_service_are_answered_for() -> None:
    assert front(ipFamilies=["IPv6", "IPv4"]).families == ("IPv6", "IPv4")


def test_several_services_of_one_workload_are_fronts_each() -> None:
    fronts, refused = fronts_of(entry(), [service(), service(name="other", selector={"v": "1"})])
    assert [one.key[1] for one in fronts] == ["llm", "other"]
    assert not refused


def test_a_headless_service_beside_another_is_refused_alone() -> None:
    fronts, refused = fronts_of(entry(), [service(), service(name="governing", clusterIP="None")])
    assert [one.key[1] for one in fronts] == ["llm"]
    assert [one.key[1] for one in refused] == ["governing"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"clusterIP": "None"}, "headless"),
        ({"type": "ExternalName"}, "ExternalName"),
        ({"publishNotReadyAddresses": True}, "publishNotReadyAddresses"),
        ({"internalTrafficPolicy": "Local"}, "internalTrafficPolicy"),
        ({"ports": [{"port": 53, "targetPort": 8000, "protocol": "UDP"}]}, "UDP"),
        ({"ports": [{"port": 80, "targetPort": 1234}]}, "none of its ports leads to the model's port 8000"),
    ],
)
def test_what_cannot_be_taken_over_is_refused_with_the_reason(spec: dict[str, Any], words: str) -> None:
    (reason,) = why(service(**spec))
    assert words in reason


def test_a_workload_without_any_service_is_told_so() -> None:
    assert why() == ["no Service selects its pods"]
    assert why(service(selector={"app": "other"})) == ["no Service selects its pods"]
    assert why(service(selector={}, name="other")) == ["no Service selects its pods"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [({}, "it has no selector"), ({"type": "ExternalName"}, "ExternalName"), ({"clusterIP": "None"}, "headless")],
)
def test_a_service_of_its_name_without_a_selector_is_refused_for_that(spec: dict[str, Any], words: str) -> None:
    (reason,) = why(service(selector={}, **spec))
    assert words in reason


def test_a_service_of_another_namespace_is_none_of_it() -> None:
    other = msgspec.structs.replace(service(), metadata=msgspec.structs.replace(service().metadata, namespace="other"))
    assert why(other) == ["no Service selects its pods"]


def test_the_models_port_is_the_one_that_the_policy_says() -> None:
    fronts, _ = fronts_of(entry(port="metrics"), [service({"port": 80, "targetPort": 9000})])
    assert len(fronts) == 1
    assert "no container has a TCP port called" in why(service(), of=entry(port="none-such"))[0]


def test_a_number_is_moved_to_the_sidecars_name_and_back() -> None:
    before = front({"port": 80, "targetPort": 8000})
    assert moves_to_name(before) == (Move(0, 80, 8000, "zg-http"),)
    moved = service({"port": 80, "targetPort": "zg-http"}, annotations={TARGETS: '{"80": 8000}'})
    (after,), _ = fronts_of(entry(), [moved])
    assert moves_to_name(after) == ()
    assert moves_to_number(moved) == (Move(0, 80, "zg-http", 8000),)


def test_names_are_never_moved() -> None:
    assert moves_to_name(front({"port": 80, "targetPort": "http"})) == ()


@pytest.mark.parametrize("record", ["", "no", "[1]", '{"80": "x"}', '{"81": 8000}'])
def test_a_record_that_says_nothing_of_use_gives_nothing_back(record: str) -> None:
    assert moves_to_number(service({"port": 80, "targetPort": "zg-http"}, annotations={TARGETS: record})) == ()


def test_a_move_is_valid_only_for_the_port_that_was_seen() -> None:
    assert operations([Move(2, 80, 8000, "zg-http")]) == [
        {"op": "test", "path": "/spec/ports/2/port", "value": 80},
        {"op": "test", "path": "/spec/ports/2/targetPort", "value": 8000},
        {"op": "replace", "path": "/spec/ports/2/targetPort", "value": "zg-http"},
    ]


@pytest.mark.parametrize(("ports", "answer"), [(["zg-http", "zg-admin"], True), (["http", "zg-admin"], False)])
def test_a_pod_is_found_by_the_sidecars_name_only_where_it_has_it(ports: list[str], answer: bool) -> None:
    one = {"name": "zerogate-queueproxy", "ports": [{"name": name, "containerPort": 1} for name in ports]}
    assert has_name(msgspec.convert({"spec": {"initContainers": [one]}}, Pod)) is answer
    assert not has_name(Pod())


def test_a_port_that_no_container_has_is_said() -> None:
    assert misfit(entry(port="grpc")) == (
        "Its pods get no sidecar: no container has a TCP port called grpc (zerogate.dev/port)."
    )
    assert misfit(entry(port="http")) == ""
    assert misfit(entry(port="grpc", inject="false")) == (
        "Nobody knows where its pods take requests: no container has a TCP port called grpc (zerogate.dev/port)."
    )


def test_a_workload_looks_at_services_that_may_be_its_own_and_at_no_others() -> None:
    mine = [
        service(),
        service(name="second", selector={"v": "1", "app": "llm"}),
        service(name="third", selector={"v": "1"}),
    ]
    near = [service(name="both", selector={"app": "llm", "v": "2"})]
    others = [service(name=f"other-{number}", selector={"app": f"other-{number}"}) for number in range(50)]
    bare = [service(name=f"bare-{number}", selector=None) for number in range(50)]
    it = Selected([*others, *mine, *bare, *near])
    assert sorted(one.metadata.name for one in it.near(entry())) == ["both", "llm", "second", "third"]
    assert fronts_of(entry(), it.near(entry())) == fronts_of(entry(), mine)


def test_a_namesake_without_a_selector_is_looked_at_too() -> None:
    lone = service(selector=None)
    it = Selected([lone, service(name="other", selector={"app": "other"})])
    assert it.near(entry()) == [lone]
    assert fronts_of(entry(), it.near(entry())) == fronts_of(entry(), [lone])
    it.remove(lone)
    assert it.near(entry()) == []


def test_a_service_that_was_removed_or_changed_is_found_no_more_and_leaves_nothing_behind() -> None:
    it = Selected()
    before, after = service(), service(selector={"app": "other"})
    it.add(before)
    it.remove(before)
    it.add(after)
    assert it.near(entry()) == []
    it.remove(after)
    it.remove(after)
    assert not it._by_pair
    assert not it._without
