"""Who should report, and which ways to a service nobody counts."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from autoscaler.cluster.coverage import Coverage
from tests.zerogate.kube.test_catalog import catalog, workload
from zerogate.kube.bypass import Bypass
from zerogate.kube.catalog import Managed
from zerogate.kube.objects import Pod

SIDECAR = {"name": "zerogate-queueproxy", "ports": [{"name": "zg-http", "containerPort": 8012}]}
SERVICE = "ml/llama"


def pod(name: str = "llama-1", *, sidecar: bool = True, **more: Any) -> Pod:
    meta = {"name": name, "namespace": "ml", "uid": f"u-{name}", **more.pop("metadata", {})}
    spec = {"containers": [{"name": "model"}], "initContainers": [SIDECAR] if sidecar else []}
    status = {"phase": "Running", **more}
    return msgspec.convert({"metadata": meta, "spec": spec, "status": status}, Pod)


def entry(*, inject: str = "true", takeover: str = "false", uncounted: str = "withhold") -> Managed:
    annotated = workload(enabled="true", inject=inject, takeover=takeover, uncounted=uncounted)
    return catalog(annotated).services()[SERVICE]


def coverage(*pods: Pod, lost: tuple[str, ...] = ()) -> Coverage:
    made = Coverage(lambda source: source in lost)
    for one in pods:
        made.set_pod(SERVICE, one)
    return made


def taken(it: Coverage, heard: Sequence[str] = ()) -> tuple[dict[str, str | None], list[str]]:
    changes = it.take_expected(heard, 100)
    return changes.added, changes.gone


def test_a_pod_that_no_node_takes_yet_has_nothing_to_report() -> None:
    unscheduled = {"type": "PodScheduled", "status": "False"}
    it = coverage(pod("llama-1", phase="Pending", conditions=[unscheduled]))
    assert taken(it) == ({}, [])
    it.set_pod(SERVICE, pod("llama-1", phase="Pending", conditions=[{**unscheduled, "status": "True"}]))
    assert taken(it) == ({"ml/llama-1": SERVICE}, [])


def test_each_pod_with_a_sidecar_should_report_its_own_service() -> None:
    it = coverage(pod("llama-1"), pod("llama-2", sidecar=False))
    assert taken(it) == ({"ml/llama-1": SERVICE}, [])
    it.remove_pod(SERVICE, "llama-1")
    it.remove_pod(SERVICE, "llama-2")
    assert taken(it) == ({}, ["ml/llama-1"])


def test_a_gateway_is_expected_by_each_worker_that_was_heard_and_by_its_pod_before() -> None:
    it = coverage()
    it.set_gateway(("system", "gateway-1"), "u1")
    it.set_gateway(("system", "gateway-2"), "u2")
    assert taken(it) == ({"system/gateway-1": None, "system/gateway-2": None}, [])
    heard = ["system/gateway-1/a", "system/gateway-1/b", "system/stranger/a", "somebody"]
    assert taken(it, heard) == ({"system/gateway-1/a": None, "system/gateway-1/b": None}, ["system/gateway-1"])
    assert taken(it, heard) == ({}, [])
    it.remove_gateway(("system", "gateway-1"))
    assert taken(it) == ({}, ["system/gateway-1/a", "system/gateway-1/b"])


def test_a_gateway_is_the_very_pod_that_is_there() -> None:
    it = coverage()
    it.set_gateway(("system", "gateway-1"), "u1")
    asked = [("system", "gateway-1", "u1"), ("system", "gateway-1", "u0"), ("system", "gateway-1", ""), ("", "x", "u1")]
    assert [it.is_gateway(*one) for one in asked] == [True, False, False, False]
    it.remove_gateway(("system", "gateway-1"))
    assert not it.is_gateway("system", "gateway-1", "u1")


def test_a_pod_is_known_by_its_uid_too() -> None:
    it = coverage(pod())
    assert it.service_of("ml", "llama-1", "u-llama-1") == SERVICE
    assert it.service_of("ml", "llama-1", "") == SERVICE
    assert it.service_of("ml", "llama-1", "the one before") is None
    assert it.service_of("ml", "llama-2", "") is None
    it.remove_pod(SERVICE, "llama-1")
    assert it.service_of("ml", "llama-1", "") is None


def test_services_that_are_gone_take_their_pods_along() -> None:
    it = coverage(pod())
    taken(it)
    it.keep({})
    assert taken(it) == ({}, ["ml/llama-1"])
    assert it.service_of("ml", "llama-1", "") is None


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ((pod(),), ""),
        ((), ""),
        ((pod(sidecar=False),), "pod llama-1 has no sidecar. To give them one: kubectl rollout restart "
                                "deployment/llama -n ml"),
        ((pod("a", sidecar=False), pod("b", sidecar=False)), "pods a, b have no sidecar."),
        (tuple(pod(name, sidecar=False) for name in "abcdef"), "pods a, b, c and 3 more have no sidecar."),
        ((pod(sidecar=False, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),), ""),
        ((pod(sidecar=False, phase="Failed"),), ""),
        ((pod(sidecar=False, phase="Pending"),), ""),
    ],
    ids=["counted", "none", "one", "two", "many", "leaving", "ended", "not begun"],
)  # fmt: skip
def test_pods_without_a_sidecar_are_named_with_the_command(seen: tuple[Pod, ...], said: str) -> None:
    found = coverage(*seen).unmetered(entry())
    assert found.startswith(said)
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    ("kind", "paused", "command"),
    [
        ("Deployment", False, "kubectl rollout restart deployment/llama -n ml"),
        (
            "Deployment", True,
            "kubectl rollout resume deployment/llama -n ml && kubectl rollout restart deployment/llama -n ml",
        ),
        ("StatefulSet", False, "kubectl rollout restart statefulset/llama -n ml"),
        (
            "CloneSet", False,
            "kubectl patch cloneset/llama -n ml --type=merge -p "
            """'{"spec":{"template":{"metadata":{"annotations":{"restartedAt":"'$(date +%s)'"}}}}}'""",
        ),
        (
            "LeaderWorkerSet", False,
            """kubectl patch leaderworkerset/llama -n ml --type=merge -p '{"spec":{"leaderWorkerTemplate":"""
            """{"workerTemplate":{"metadata":{"annotations":{"restartedAt":"'$(date +%s)'"}}}}}}'""",
        ),
    ],
    ids=["deployment", "paused", "stateful set", "clone set", "groups"],
)  # fmt: skip
def test_the_command_that_is_named_is_one_that_works_for_the_kind(kind: str, paused: bool, command: str) -> None:
    of_kind = msgspec.structs.replace(entry(), kind=kind, is_paused=paused)
    assert coverage(pod(sidecar=False)).unmetered(of_kind).endswith(f"To give them one: {command}")


def test_who_wants_no_sidecar_is_counted_by_gateways_as_long_as_no_service_leads_to_the_pods() -> None:
    assert not coverage(pod(sidecar=False)).unmetered(entry(inject="false"))
    it = Coverage(lambda _: False, lambda _: (Bypass("a"), Bypass("b", is_open=True)))
    it.set_pod(SERVICE, pod(sidecar=False))
    assert it.unmetered(entry(inject="false")) == (
        "nobody counts who comes by Service a, b: its pods have no sidecar, because inject is false, and only gateways "
        "count. If all clients come by gateways, set zerogate.dev/uncounted to ignore"
    )
    assert not it.unmetered(entry(inject="false", uncounted="ignore"))


@pytest.mark.parametrize(
    ("seen", "keys", "said"),
    [
        ((pod(),), {}, ""),
        ((pod(sidecar=False),), {}, "Pod llama-1 has no sidecar: gateways count what is inside."),
        (
            (pod("a", sidecar=False), pod("B", sidecar=False)), {"inject": "false", "concurrency_limit": "4"},
            "Pods a, B have no sidecar: gateways count what is inside and split its 4 slots evenly. To give them one, "
            'set zerogate.dev/inject to "true", and restart: kubectl rollout restart deployment/llama -n ml',
        ),
    ],
    ids=["none", "slipped through", "as its owner wants"],
)  # fmt: skip
def test_it_is_said_what_becomes_of_pods_without_a_sidecar(
    seen: tuple[Pod, ...], keys: dict[str, str], said: str
) -> None:
    annotated = workload("llama", template=None, **{"enabled": "true", **keys})
    assert coverage(*seen).shared(catalog(annotated).services()[SERVICE]) == said


def test_only_gateways_whose_process_runs_hold_requests() -> None:
    it = coverage(pod("llama-1"), pod("llama-2", sidecar=False))
    it.set_gateway(("system", "a"), "uid-a")
    it.set_gateway(("system", "b"), "uid-b", runs=False)
    assert it.holders() == ("system/a",)
    assert [it.is_bare(f"ml/{name}") for name in ("llama-1", "llama-2", "llama-3")] == [False, True, False]


def test_a_sidecar_that_does_not_report_counts_nothing() -> None:
    it = coverage(pod("a"), pod("b"), pod("c", phase="Pending"), lost=("ml/b", "ml/c"))
    assert it.unmetered(entry()).startswith("the sidecar of b does not report")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {},
            "by Service a, b, past the sidecar to the model's own port. To have them counted, set ",
        ),
        ({"takeover": "true"}, "To have them counted, let the targetPort be zg-http"),
        ({"uncounted": "ignore"}, ""),
    ],
    ids=["withheld", "taken over", "ignored"],
)
def test_services_that_lead_past_the_sidecars_count_nobody(keys: dict[str, str], words: str) -> None:
    it = Coverage(lambda _: False, lambda _: (Bypass("a"), Bypass("b")))
    it.set_pod(SERVICE, pod())
    found = it.unmetered(entry(**keys))
    assert words in found
    assert bool(found) == bool(words)


@pytest.mark.parametrize("takeover", ["false", "true"])
def test_no_target_port_is_advised_behind_a_headless_service(takeover: str) -> None:
    it = Coverage(lambda _: False, lambda _: (Bypass("pods", is_open=True),))
    it.set_pod(SERVICE, pod())
    found = it.unmetered(entry(takeover=takeover))
    assert "let the targetPort" not in found
    assert "takeover" not in found
    assert "Behind headless Service pods no targetPort counts" in found
    assert "a Service with a cluster IP or by a gateway" in found


def test_each_service_past_the_sidecar_gets_the_advice_that_helps_there() -> None:
    it = Coverage(lambda _: False, lambda _: (Bypass("a"), Bypass("pods", is_open=True)))
    it.set_pod(SERVICE, pod())
    found = it.unmetered(entry())
    assert "by Service a, pods, past the sidecar" in found
    assert "let the targetPort be zg-http. Behind headless Service pods no targetPort counts" in found


def test_takeover_without_activators_withholds_zero() -> None:
    it = Coverage(lambda _: False, has_activators=False)
    assert "there are no activators" in it.unmetered(entry(takeover="true"))
    assert not it.unmetered(entry())
