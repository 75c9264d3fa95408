import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueproxy.settings import read
from tests.zerogate.kube.pods import (
    TERMS,
    attempt,
    container,
    env,
    injected,
    patched,
    pod,
    policy,
    refusal,
    service,
    sidecar,
)
from zerogate.affinity import Affinity
from zerogate.kube.injection import Injection, Refused, inject
from zerogate.kube.sidecar import LABEL, SIDECAR, Placed, SidecarTerms, is_guaranteed, sidecar_of
from zerogate.kube.sidecar_memory import CONNECTION_BYTES, ITSELF_BYTES, USEFUL_LIMIT_BYTES
from zerogate.quantities import parse_size
from zerogate.runtime.interface import Address


def test_the_sidecar_is_the_first_init_container_and_starts_before_the_others() -> None:
    others = [{"name": "weights", "image": "x"}, {"name": "log", "image": "x", "restartPolicy": "Always"}]
    after = injected(pod(initContainers=others))
    assert [one["name"] for one in after["spec"]["initContainers"]] == [SIDECAR, "weights", "log"]
    assert sidecar(after)["restartPolicy"] == "Always"


def test_the_sidecar_understands_what_it_is_told() -> None:
    after = injected(
        pod(), concurrency_limit="4", target_concurrency="2.5", hold_timeout="90s", total_timeout="1h",
        idle_websocket="quiet", idle_timeout="2m", protocol="h2c", ready_path="/up", drain_deadline="2m30s",
    )  # fmt: skip
    settings = read((), env(after))
    assert settings.upstream == Address("127.0.0.1", 8000)
    assert (str(settings.listen), str(settings.admin)) == ("0.0.0.0:8012", "0.0.0.0:8013")
    assert (settings.service, settings.concurrency_limit, settings.release_limit) == ("default/llm", 4, 2)
    assert (settings.hold_timeout_s, settings.total_timeout_s, settings.websocket_quiet_after_s) == (90, 3600, 120)
    assert (settings.protocol, settings.probe_path, settings.drain_deadline_s) == ("h2c", "/up", 150)
    assert settings.drain_token == "t" * 32


@pytest.mark.parametrize(
    ("limit", "body", "connections"),
    [("48Mi", 11, 64), ("64Mi", 20, 96), ("128Mi", 56, 320), ("1Gi", 560, 3360), ("100G", 9200, 55488)],
)
def test_what_a_sidecar_keeps_and_takes_follows_from_its_limit(limit: str, body: int, connections: int) -> None:
    settings = read((), env(injected(pod(), terms=SidecarTerms(image="x", memory_limit=limit))))
    assert (settings.body_memory_bytes, settings.max_connections) == (body << 20, connections)
    most = min(parse_size(limit), USEFUL_LIMIT_BYTES)
    assert settings.body_memory_bytes + connections * CONNECTION_BYTES + ITSELF_BYTES <= most


def test_with_the_usual_limit_a_sidecar_has_its_own_defaults() -> None:
    settings, own = read((), env(injected(pod()))), read(("--upstream", "8000"), {})
    assert (settings.body_memory_bytes, settings.max_connections) == (own.body_memory_bytes, own.max_connections)


def test_who_says_how_much_a_sidecar_keeps_and_takes_has_the_last_word() -> None:
    terms = SidecarTerms(image="x", memory_limit="64Mi", body_memory="16.5Mi", max_connections=0)
    settings = read((), env(injected(pod(), terms=terms)))
    assert (settings.body_memory_bytes, settings.max_connections) == (33 << 19, 0)


@pytest.mark.parametrize(
    "keys", [{}, {"total_timeout": "7d"}, {"hold_timeout": "1h0.5s"}, {"first_byte_timeout": "1d"}]
)
def test_no_policy_is_one_that_the_sidecar_refuses(keys: dict[str, str]) -> None:
    settings = read((), env(injected(pod(), (), terms=TERMS, **keys)))
    told = {"total_timeout": settings.total_timeout_s, "hold_timeout": settings.hold_timeout_s,
            "first_byte_timeout": settings.first_byte_timeout_s}  # fmt: skip
    meant = {"7d": 604_800.0, "1h0.5s": 3600.5, "1d": 86_400.0}
    assert {key: told[key] for key in keys} == {key: meant[value] for key, value in keys.items()}
    assert settings.service == "default/llm"


def test_a_sidecar_listens_where_no_container_of_the_pod_does() -> None:
    after = injected(pod(container("llm", 8012, 8014), container("b", 8013)))
    assert sidecar_of(after["spec"]) == Placed(8015, 8016, 8012, "t" * 32)


def test_both_families_are_listened_on_where_the_cluster_has_them() -> None:
    after = injected(pod(), terms=SidecarTerms(image="x", listen_host="::"))
    assert str(read((), env(after)).listen) == str(Address("::", 8012))


def test_the_probe_asks_what_the_containers_own_probe_asks_unless_a_path_is_given() -> None:
    obj = pod(container("llm", 8000, readinessProbe={"httpGet": {"path": "/up", "port": 8000}}))
    assert env(injected(obj))["ZEROGATE_PROBE_PATH"] == "/up"
    assert env(injected(obj, ready_path="/health"))["ZEROGATE_PROBE_PATH"] == "/health"
    assert env(injected(pod()))["ZEROGATE_PROBE_PATH"] == "/health"


def test_the_pod_is_ready_when_the_sidecar_says_that_the_model_is() -> None:
    after = injected(pod())
    assert sidecar(after)["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 8013}
    assert not {"startupProbe", "livenessProbe"} & set(sidecar(after))


def test_each_container_without_a_prestop_drains_the_sidecar_before_it_is_told_to_end() -> None:
    own = {"exec": {"command": ["save"]}}
    obj = pod(
        container("llm", 8000),
        container("b", lifecycle={"preStop": own}),
        container("c", lifecycle={"postStart": own}),
    )
    after = injected(obj)["spec"]["containers"]
    hook = {
        "httpGet": {
            "path": "/drain?wait", "port": 8013, "httpHeaders": [{"name": "zerogate-drain-token", "value": "t" * 32}],
        }
    }  # fmt: skip
    assert [one["lifecycle"] for one in after] == [
        {"preStop": hook},
        {"preStop": own},
        {"postStart": own, "preStop": hook},
    ]


def test_a_model_that_keeps_its_own_prestop_is_warned_of() -> None:
    obj = pod(container("llm", 8000, lifecycle={"preStop": {"sleep": {"seconds": 5}}}))
    assert "keeps its own preStop" in attempt(obj).warnings[0]


@pytest.mark.parametrize(("given_s", "after_s"), [(None, 130), (30, 130), (130, 130), (600, 600)])
def test_the_grace_period_covers_the_drain_and_is_never_shortened(given_s: int | None, after_s: int) -> None:
    obj = pod()
    if given_s is not None:
        obj["spec"]["terminationGracePeriodSeconds"] = given_s
    assert injected(obj, drain_deadline="2m")["spec"]["terminationGracePeriodSeconds"] == after_s


def test_a_pod_is_labelled_beside_its_own_labels() -> None:
    assert injected(pod())["metadata"]["labels"] == {"app": "llm", LABEL: "true"}
    bare = pod()
    del bare["metadata"]["labels"]
    assert injected(bare)["metadata"]["labels"] == {LABEL: "true"}


RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def test_it_fits_the_restricted_level_whatever_the_pod_says() -> None:
    assert sidecar(injected(pod(securityContext={"runAsUser": 0})))["securityContext"] == RESTRICTED
    given_by_cluster = injected(pod(), terms=SidecarTerms(image="x", run_as_user=None))
    assert "runAsUser" not in sidecar(given_by_cluster)["securityContext"]


SAME = {"limits": {"cpu": "2", "memory": "4Gi"}, "requests": {"cpu": "2", "memory": "4Gi"}}


@pytest.mark.parametrize(
    ("resources", "guaranteed"),
    [
        (SAME, True),
        ({"limits": SAME["limits"]}, True),
        ({"requests": SAME["limits"]}, False),
        ({"limits": {"cpu": "2"}}, False),
        ({**SAME, "requests": {"cpu": "1", "memory": "4Gi"}}, False),
        ({}, False),
    ],
)
def test_a_guaranteed_pod_stays_one(resources: dict[str, Any], guaranteed: bool) -> None:
    after = injected(pod(container("llm", 8000, resources=resources)))
    assert is_guaranteed(after["spec"]) == guaranteed
    assert ("cpu" in sidecar(after)["resources"]["limits"]) == guaranteed


def test_a_pod_with_resources_of_its_own_shares_them() -> None:
    assert sidecar(injected(pod(resources={"limits": {"cpu": "2"}})))["resources"] == {}


def test_a_token_for_reports_is_mounted_where_the_cluster_wants_one() -> None:
    terms = SidecarTerms(image="x", token_audience="zerogate", extra_env=(("A", "b"),))
    for obj in (pod(), pod(volumes=[{"name": "weights", "emptyDir": {}}])):
        after = injected(obj, terms=terms)
        assert after["spec"]["volumes"][-1]["projected"]["sources"][0]["serviceAccountToken"]["audience"] == "zerogate"
        assert sidecar(after)["volumeMounts"][0]["name"] == after["spec"]["volumes"][-1]["name"]
        assert env(after)["A"] == "b"


PROBED = container(
    "llm", ("http", 8000), 9000,
    readinessProbe={"httpGet": {"path": "/up", "port": "http"}, "periodSeconds": 3},
    livenessProbe={"tcpSocket": {"port": "http"}},
    startupProbe={"httpGet": {"path": "/up", "port": 9000}},
    lifecycle={"postStart": {"httpGet": {"path": "/warm", "port": "http"}}},
)  # fmt: skip


def test_for_takeover_the_ports_name_moves_to_the_sidecar_and_the_containers_own_probes_get_the_number() -> None:
    after = injected(pod(PROBED), [service()], takeover="true")
    (llm,) = after["spec"]["containers"]
    assert llm["ports"] == [{"containerPort": 8000}, {"containerPort": 9000}]
    assert llm["readinessProbe"] == {"httpGet": {"path": "/up", "port": 8000}, "periodSeconds": 3}
    assert llm["livenessProbe"] == {"tcpSocket": {"port": 8000}}
    assert llm["startupProbe"] == {"httpGet": {"path": "/up", "port": 9000}}
    assert llm["lifecycle"]["postStart"] == {"httpGet": {"path": "/warm", "port": 8000}}
    assert sidecar(after)["ports"][0] == {"name": "http", "containerPort": 8012, "protocol": "TCP"}


def test_without_takeover_names_stay_where_they_are() -> None:
    assert injected(pod(PROBED), [service()])["spec"]["containers"][0]["ports"][0] == {
        "name": "http", "containerPort": 8000,
    }  # fmt: skip


def test_a_service_that_leads_to_a_number_is_reported_as_to_be_patched() -> None:
    outcome = attempt(pod(), [service(target=8000)], takeover="true")
    assert "once its targetPort is zg-http" in outcome.warnings[0]
    assert sidecar(patched(pod(), outcome.operations))["ports"][0]["name"] == "zg-http"


def test_a_service_that_comes_after_the_first_pod_finds_the_sidecar_by_the_ports_name() -> None:
    outcome = attempt(pod(), [], takeover="true")
    assert "no Service selects this pod yet" in outcome.warnings[0]
    assert sidecar(patched(pod(), outcome.operations))["ports"][0]["name"] == "http"


def test_a_takeover_that_is_not_possible_costs_the_sidecar_nothing() -> None:
    outcome = attempt(pod(), [service(target=9000)], takeover="true")
    assert "takeover is not possible: no port of Service llm leads to port 8000" in outcome.warnings[0]
    assert outcome.operations == attempt(pod(), []).operations


@pytest.mark.parametrize(
    ("obj", "reason"),
    [
        (pod(hostNetwork=True), "hostNetwork"),
        (pod(os={"name": "windows"}), "Windows"),
        (pod(container("a")), "no container declares a TCP port"),
        (pod(container(SIDECAR, 8000)), "rename it"),
        (pod(initContainers=[{"name": SIDECAR, "image": "x"}]), "rename it"),
        (pod(container("a", ("zg-http", 8000))), "rename it"),
    ],
    ids=["host-network", "windows", "no-port", "our-name", "our-name-once", "our-port-name"],
)
def test_a_pod_that_cannot_have_one_is_left_with_the_reason(obj: dict[str, Any], reason: str) -> None:
    assert reason in refusal(obj)


def test_a_port_of_the_node_leads_past_the_sidecar_and_that_is_said() -> None:
    obj = pod({"name": "llm", "ports": [{"containerPort": 8000, "hostPort": 80}]})
    assert "not measured" in attempt(obj).warnings[0]


def test_asked_again_after_another_webhook_it_does_what_is_left_and_leaves_what_was_changed() -> None:
    once = injected(pod(), [service()], takeover="true", port="http")
    sidecar(once)["resources"] = {"limits": {"memory": "1Gi"}}
    once["spec"]["initContainers"].insert(0, {"name": "first"})
    once["spec"]["containers"].append(container("mesh", 15001))
    outcome = attempt(once, [service()], token="u" * 32, takeover="true", port="http")
    (operation,) = outcome.operations
    assert operation["path"] == "/spec/containers/1/lifecycle"
    assert operation["value"]["preStop"]["httpGet"]["httpHeaders"][0]["value"] == "t" * 32


USUAL = [{"name": "http", "containerPort": 8000}]
PORTS = st.just(USUAL) | st.lists(
    st.fixed_dictionaries(
        {"containerPort": st.sampled_from([8000, 8000, 80, 8012, 8013])},
        optional={
            "name": st.sampled_from(["http", "http", "web", "a"]),
            "protocol": st.sampled_from(["TCP", "TCP", "UDP"]),
            "hostPort": st.just(80),
        },
    ),
    max_size=3,
)
HANDLERS = st.fixed_dictionaries(
    {},
    optional={
        "httpGet": st.fixed_dictionaries(
            {"port": st.sampled_from(["http", "web", 8000])}, optional={"path": st.just("/x")}
        ),
        "tcpSocket": st.fixed_dictionaries({"port": st.sampled_from(["http", 8012])}),
        "exec": st.just({"command": ["x"]}),
    },
)
CONTAINERS = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "c"]), "ports": PORTS},
    optional={
        "readinessProbe": HANDLERS,
        "livenessProbe": HANDLERS,
        "startupProbe": HANDLERS,
        "lifecycle": st.fixed_dictionaries({}, optional={"preStop": HANDLERS, "postStart": HANDLERS}) | st.none(),
        "resources": st.sampled_from([{}, SAME]),
        "restartPolicy": st.sampled_from(["Always"]),
        "env": st.just([{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]),
    },
)


def _name(one: dict[str, Any]) -> str:
    return str(one["name"])


PODS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "labels": st.sampled_from([{"app": "llm"}, {"app": "llm", LABEL: "false"}, {}]),
                "annotations": st.dictionaries(st.sampled_from(["x", "zerogate.dev/port"]), st.text(max_size=3)),
            },
        ),
        "spec": st.fixed_dictionaries(
            {"containers": st.lists(CONTAINERS, min_size=1, max_size=3, unique_by=_name)},
            optional={
                "initContainers": st.lists(CONTAINERS, max_size=2, unique_by=_name),
                "terminationGracePeriodSeconds": st.integers(0, 900),
                "volumes": st.lists(st.just({"name": "v"}), max_size=1),
                "hostNetwork": st.just(False),
                "nodeName": st.text(max_size=3),
            },
        ),
    }
)
SERVICES = st.lists(
    st.builds(service, st.sampled_from(["one", "two"]), st.sampled_from(["http", "http", "web", 8000])), max_size=2
)


def without_ours(obj: dict[str, Any], before: dict[str, Any], moved: list[str]) -> dict[str, Any]:
    """The pod with all that a sidecar brings taken out again, by rules of the test's own."""
    rest = copy.deepcopy(obj)
    for path in moved:
        *steps, last = path.split("/")[1:]
        _at(rest, steps)[last] = _at(before, steps)[last]
    spec, old = rest["spec"], before["spec"]
    spec["initContainers"] = [one for one in spec["initContainers"] if not (one["name"] == SIDECAR and "image" in one)]
    if "initContainers" not in old:
        del spec["initContainers"]
    spec.pop("terminationGracePeriodSeconds")
    if "terminationGracePeriodSeconds" in old:
        spec["terminationGracePeriodSeconds"] = old["terminationGracePeriodSeconds"]
    if "labels" in before["metadata"]:
        rest["metadata"]["labels"] = before["metadata"]["labels"]
    else:
        del rest["metadata"]["labels"]
    for now, was in zip(spec["containers"], old["containers"], strict=True):
        lifecycle = now["lifecycle"]
        if not (was.get("lifecycle") or {}).get("preStop"):
            assert lifecycle.pop("preStop")["httpGet"]["path"] == "/drain?wait"
            if "preStop" in (was.get("lifecycle") or {}):
                lifecycle["preStop"] = was["lifecycle"]["preStop"]
        now.pop("lifecycle")
        if "lifecycle" in was:
            now["lifecycle"] = lifecycle or was["lifecycle"]
    return rest


def _at(obj: Any, steps: list[str]) -> Any:
    for step in steps:
        obj = obj[int(step)] if isinstance(obj, list) else obj[step]
    return obj


@given(PODS, SERVICES, st.booleans())
def test_nothing_else_of_any_pod_changes_and_applying_it_twice_is_applying_it_once(
    obj: dict[str, Any], services: list[dict[str, Any]], takeover: bool
) -> None:
    wanted = policy(takeover="true" if takeover else "false")
    before = copy.deepcopy(obj)
    outcome = inject(obj, wanted, TERMS, service="default/llm", services=services, token="t" * 32)
    assert obj == before
    if isinstance(outcome, Refused):
        assert outcome.reason
        return
    after = patched(obj, outcome.operations)
    again = inject(after, wanted, TERMS, service="default/llm", services=services, token="u" * 32)
    assert isinstance(again, Injection)
    assert again.operations == ()
    moved = [operation["path"] for operation in outcome.operations if operation["op"] != "add"]
    assert takeover or not moved
    assert all(path.endswith(("/name", "/port")) for path in moved)
    assert without_ours(after, before, moved) == before
    numbers = [port["containerPort"] for port in sidecar(after)["ports"]]
    declared = [port["containerPort"] for one in before["spec"]["containers"] for port in one.get("ports", [])]
    assert not set(numbers) & set(declared)


def test_what_a_sidecar_is_told_is_not_more_than_the_policy() -> None:
    assert policy(affinity="header:X-Session").policy.affinity == Affinity("header", "x-session")
    assert not any("AFFINITY" in name for name in env(injected(pod(), affinity="header:X-Session")))
