from typing import Any

import pytest

from autoscaler.injector.answering import WORKER_INDEX
from autoscaler.injector.review import UNCHANGED, Answer
from tests.autoscaler.injector.reviews import World, asked, keys, owned
from tests.zerogate.kube.pods import env, patched
from zerogate.kube.policies import read_defaults


def deployment(name: str = "llm", template: dict[str, str] | None = None, **annotations: str) -> dict[str, Any]:
    containers = [{"name": "llm", "image": "m", "ports": [{"containerPort": 8000}]}]
    return {
        "metadata": {"name": name, "annotations": keys(**annotations)},
        "spec": {"template": {"metadata": {"annotations": template or {}}, "spec": {"containers": containers}}},
    }


async def env_of(world: World, pod: dict[str, Any]) -> dict[str, str]:
    answer = await world.answering.mutate(asked(pod))
    return env(patched(pod, answer.operations))


async def test_a_pod_finds_its_policy_through_its_replicaset_and_deployment() -> None:
    world = World()
    world.deploy(enabled="true", concurrency_limit="4")
    told = await env_of(world, world.pod_of())
    assert told["ZEROGATE_CONCURRENCY_LIMIT"] == "4"
    assert told["ZEROGATE_SERVICE"] == "default/llm"


async def test_annotations_of_the_pod_template_and_the_namespace_count_too() -> None:
    world = World()
    world.deploy()
    world.cluster.of_namespaces["default"] = keys(hold_timeout="1m", connect_timeout="9s")
    world.cluster.cluster_defaults, _ = read_defaults({"default.first-byte-timeout": "2m"}, "ConfigMap x")
    told = await env_of(world, world.pod_of(enabled="true", connect_timeout="3s"))
    assert told["ZEROGATE_HOLD_TIMEOUT"] == "60s"
    assert told["ZEROGATE_CONNECT_TIMEOUT"] == "3s"
    assert told["ZEROGATE_FIRST_BYTE_TIMEOUT"] == "120s"


async def test_what_is_not_enabled_is_left_alone_without_a_word() -> None:
    world = World()
    world.deploy(enabled="false")
    world.deploy("other")
    world.deploy("bare", enabled="true", inject="false")
    for pod in (world.pod_of(), world.pod_of("other"), world.pod_of("bare"), world.pod_of("gone", enabled="true")):
        assert await world.answering.mutate(asked(pod)) == UNCHANGED
    unowned = world.pod_of(enabled="true")
    del unowned["metadata"]["ownerReferences"]
    assert await world.answering.mutate(asked(unowned)) == UNCHANGED
    assert not world.notices


async def test_an_operators_object_above_the_workload_is_not_asked_for_a_policy() -> None:
    world = World()
    world.deploy(enabled="true")
    world.cluster.objects["default", "Deployment", "llm"]["metadata"].update(owned("InferenceService", "llm"))
    world.cluster.put("default", "InferenceService", {"metadata": {"name": "llm"}})
    assert (await env_of(world, world.pod_of()))["ZEROGATE_SERVICE"] == "default/llm"


async def test_of_a_group_only_the_leader_serves_and_the_group_is_the_workload() -> None:
    world = World()
    world.cluster.put("default", "LeaderWorkerSet", {"metadata": {"name": "big", "annotations": keys(enabled="true")}})
    world.cluster.put("default", "StatefulSet", {"metadata": {"name": "big", **owned("LeaderWorkerSet", "big")}})
    leader = {**world.pod_of(), "metadata": {"labels": {WORKER_INDEX: "0"}, **owned("StatefulSet", "big")}}
    worker = {**world.pod_of(), "metadata": {"labels": {WORKER_INDEX: "1"}, **owned("StatefulSet", "big")}}
    assert (await env_of(world, leader))["ZEROGATE_SERVICE"] == "default/big"
    assert await world.answering.mutate(asked(worker)) == UNCHANGED


async def test_a_pod_that_cannot_have_a_sidecar_starts_without_and_its_owner_is_told() -> None:
    world = World()
    world.deploy(enabled="true")
    pod = world.pod_of()
    pod["spec"]["hostNetwork"] = True
    answer = await world.answering.mutate(asked(pod))
    assert not answer.operations
    assert answer.refusal is None
    assert answer.warnings[0].startswith("Deployment default/llm gets no sidecar: it uses the node's network")
    assert [(notice.workload.name, notice.text) for notice in world.notices] == [("llm", answer.warnings[0])]


async def test_a_wrong_annotation_costs_a_pod_nothing_but_a_warning() -> None:
    world = World()
    world.deploy(enabled="true", hold_timeout="soon", concurrency_limit="2")
    answer = await world.answering.mutate(asked(world.pod_of()))
    assert (env(patched(world.pod_of(), answer.operations)))["ZEROGATE_CONCURRENCY_LIMIT"] == "2"
    assert '"soon" is not a duration' in answer.warnings[0]


async def test_takeover_looks_at_the_services_of_the_namespace() -> None:
    world = World()
    world.deploy(enabled="true", takeover="true")
    ports = [{"port": 80, "targetPort": "http"}]
    world.cluster.of_services["default"] = [
        {"metadata": {"name": "llm"}, "spec": {"selector": {"app": "llm"}, "ports": ports}}
    ]
    answer = await world.answering.mutate(asked(world.pod_of()))
    after = patched(world.pod_of(), answer.operations)
    assert "name" not in after["spec"]["containers"][0]["ports"][0]
    assert not answer.warnings


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "Rollout"])
async def test_a_wrong_annotation_of_a_workload_is_refused_in_the_words_of_check(kind: str) -> None:
    wrong = deployment(enabled="true", idle_timeout="5", max_replcas="2")
    answer = await World().answering.validate(asked(wrong, kind))
    assert answer.refusal == (
        f'{kind} default/llm: zerogate.dev/idle-timeout: "5" has no unit. Write 5s, 5m or 5h. Allowed is a duration '
        f"from 1s to 30d.\n{kind} default/llm: zerogate.dev/max-replcas: is not a key of a policy. Did you mean "
        "zerogate.dev/max-replicas?"
    )


async def test_a_wrong_annotation_of_a_pod_template_is_refused_with_its_place() -> None:
    answer = await World().answering.validate(asked(deployment(template=keys(inject="no")), "Deployment"))
    assert answer.refusal is not None
    assert answer.refusal.startswith("Deployment default/llm, pod template: zerogate.dev/inject: ")


async def test_the_template_of_a_groups_leader_is_looked_at() -> None:
    template = {"metadata": {"annotations": keys(port="-")}}
    group = {"metadata": {"name": "big"}, "spec": {"leaderWorkerTemplate": {"leaderTemplate": template}}}
    assert (await World().answering.validate(asked(group, "LeaderWorkerSet"))).refusal is not None


async def test_an_old_mistake_stops_no_other_change() -> None:
    world = World()
    old = deployment(idle_timeout="5")
    new = {**old, "spec": {**old["spec"], "replicas": 3}}
    answer = await world.answering.validate(asked(new, "Deployment", operation="UPDATE", old=old))
    assert answer.refusal is None
    assert "has no unit" in answer.warnings[0]
    worse = deployment(idle_timeout="6")
    assert (await world.answering.validate(asked(worse, "Deployment", operation="UPDATE", old=old))).refusal is not None


async def test_what_another_workload_made_is_not_refused() -> None:
    replica_set = deployment(idle_timeout="5")
    replica_set["metadata"].update(owned("Deployment", "llm"))
    assert (await World().answering.validate(asked(replica_set, "ReplicaSet"))).refusal is None


async def test_a_mistake_of_the_namespace_refuses_no_workload() -> None:
    world = World()
    world.cluster.of_namespaces["default"] = keys(idle_timeout="5")
    answer = await world.answering.validate(asked(deployment(enabled="true"), "Deployment"))
    assert answer.refusal is None
    assert answer.warnings[0].startswith("Namespace default: zerogate.dev/idle-timeout: ")


async def test_bounds_hold_for_workloads_and_namespaces() -> None:
    world = World()
    world.cluster.cluster_defaults, _ = read_defaults({"most.max-replicas": "2"}, "ConfigMap x")
    refused = await world.answering.validate(asked(deployment(max_replicas="3"), "Deployment"))
    assert "Allowed is at most 2 here" in str(refused.refusal)
    namespace = {"metadata": {"name": "team", "annotations": keys(max_replicas="3")}}
    refused = await world.answering.validate(asked(namespace, "Namespace"))
    assert str(refused.refusal).startswith("Namespace team: zerogate.dev/max-replicas: ")


async def test_what_can_be_foreseen_of_its_pods_is_said_when_a_workload_is_applied() -> None:
    host = deployment(enabled="true")
    host["spec"]["template"]["spec"]["hostNetwork"] = True
    answer = await World().answering.validate(asked(host, "Deployment"))
    assert answer.refusal is None
    assert answer.warnings[0].startswith("its pods get no sidecar: it uses the node's network")


async def test_a_wrong_policy_of_the_cluster_is_refused_and_other_configmaps_are_not_looked_at() -> None:
    def config_map(name: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "namespace": "zerogate-system"}, "data": {"most.max-replicas": "x"}}

    answering = World().answering
    refused = await answering.validate(asked(config_map("zerogate-policy"), "ConfigMap"))
    assert str(refused.refusal).startswith("ConfigMap zerogate-system/zerogate-policy: most.max-replicas: ")
    assert await answering.validate(asked(config_map("other"), "ConfigMap")) == UNCHANGED


async def test_what_says_nothing_of_ours_is_allowed_without_a_word() -> None:
    assert await World().answering.validate(asked(deployment(), "Deployment")) == Answer()
