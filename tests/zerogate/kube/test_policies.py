import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.kube.keys import CLUSTER_KEYS, OnCluster
from zerogate.kube.policies import Defaults, Layer, Reading, ours, read_defaults, read_workload
from zerogate.policy import Policy
from zerogate.policy_keys import ELSEWHERE_KEYS, KEYS, LATER_KEYS

NAMESPACE, WORKLOAD, TEMPLATE = "Namespace default", "Deployment default/llm", "Deployment default/llm, pod template"


def read(
    workload: dict[str, str] | None = None,
    template: dict[str, str] | None = None,
    namespace: dict[str, str] | None = None,
    cluster: dict[str, str] | None = None,
) -> Reading:
    defaults, errors = read_defaults(cluster or {}, "ConfigMap zerogate-system/zerogate-policy")
    assert not errors, [str(error) for error in errors]
    layers = [
        Layer(source=NAMESPACE, raw=namespace or {}, is_of_one_workload=False),
        Layer(source=WORKLOAD, raw=workload or {}, is_own=True),
        Layer(source=TEMPLATE, raw=template or {}, is_own=True),
    ]
    return read_workload(defaults, layers)


def said(reading: Reading) -> list[str]:
    return [str(mistake.error) for mistake in reading.mistakes]


def test_a_workload_that_says_nothing_has_the_defaults_and_is_not_enabled() -> None:
    reading = read()
    assert (reading.policy.policy, reading.policy.cluster) == (Policy(), OnCluster())
    assert not reading.policy.cluster.enabled


def test_the_nearest_to_the_pod_has_the_last_word() -> None:
    cluster = {
        "default.idle-timeout": "1m",
        "default.queue-limit": "1",
        "default.retry": "stale",
        "default.hpa": "floor",
    }
    reading = read(
        cluster=cluster,
        namespace={"idle-timeout": "2m", "queue-limit": "2", "takeover": "true"},
        workload={"enabled": "true", "idle-timeout": "3m", "port": "8000"},
        template={"idle-timeout": "4m", "takeover": "false"},
    )
    assert not reading.mistakes
    policy, on_cluster = reading.policy.policy, reading.policy.cluster
    assert (policy.idle_timeout_s, policy.queue_limit, policy.retry) == (240, 2, "stale")
    assert (on_cluster.enabled, on_cluster.takeover, on_cluster.hpa, on_cluster.port) == (True, False, "floor", "8000")
    assert set(reading.policy.given) >= {"idle-timeout", "takeover", "port"}


def test_a_wrong_value_changes_nothing_and_the_layer_below_stays() -> None:
    reading = read(namespace={"idle-timeout": "2m"}, workload={"idle-timeout": "soon", "queue-limit": "7"})
    assert (reading.policy.policy.idle_timeout_s, reading.policy.policy.queue_limit) == (120, 7)
    assert said(reading) == [
        'Deployment default/llm: zerogate.dev/idle-timeout: "soon" is not a duration. Write 15s, 10m, 1h30m or 2d, '
        "without spaces. Allowed is a duration from 1s to 30d."
    ]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"idle-timout": "5m"}, "is not a key of a policy. Did you mean zerogate.dev/idle-timeout?"),
        ({"take-over": "true"}, "Did you mean zerogate.dev/takeover?"),
        ({"xyzzy": "1"}, "Known keys are enabled, inject, takeover"),
        ({"enabled": "yes"}, '"yes" is not allowed. Allowed is true or false.'),
        ({"inject": "True"}, "Did you mean true?"),
        ({"hpa": "ceiling"}, "Allowed is none or floor."),
        ({"port": "70000"}, "a port from 1 to 65535"),
        ({"port": "0"}, "a port from 1 to 65535"),
        ({"port": "Http"}, "the name of a container's port such as http"),
        ({"drain-deadline": "7h"}, "a duration from 1s to 6h"),
        ({"gpus": "2"}, "not available in this version. Say them in the container's resources"),
        ({"pin": "2"}, "kubectl zerogate pin"),
        ({"tier": "S"}, "not available in this version"),
        ({"min-replicas": "3"}, "zerogate.dev/min-replicas: 3 is above max-replicas (1 by default)"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said_with_its_object_its_key_and_what_is_allowed(keys: dict[str, str], words: str) -> None:
    (mistake,) = read(workload=keys).mistakes
    assert mistake.is_own
    assert str(mistake.error).startswith(f"{WORKLOAD}: zerogate.dev/{next(iter(keys))}: ")
    assert words in str(mistake.error)


def test_a_mistake_of_the_namespace_is_not_the_workloads() -> None:
    (mistake,) = read(workload={"enabled": "true"}, namespace={"idle-timeout": "x"}).mistakes
    assert not mistake.is_own
    assert str(mistake.error).startswith("Namespace default: zerogate.dev/idle-timeout: ")


@pytest.mark.parametrize("name", ["enabled", "hosts", "path-prefix", "models", "port"])
def test_what_is_one_workloads_cannot_be_a_default_for_several(name: str) -> None:
    value = {"enabled": "true", "hosts": "a.org", "path-prefix": "/a", "models": "m", "port": "http"}[name]
    assert "is a key of one workload" in said(read(namespace={name: value}))[0]
    _, errors = read_defaults({f"default.{name}": value}, "ConfigMap x")
    assert "is a key of one workload" in str(errors[0])


def test_a_contradiction_between_two_is_laid_on_the_stronger_and_names_the_other() -> None:
    (mistake,) = read(namespace={"min-replicas": "2"}, workload={"max-replicas": "1"}).mistakes
    assert mistake.is_own
    assert str(mistake.error) == (
        "Deployment default/llm: zerogate.dev/min-replicas: 2 is above max-replicas (1). Raise max-replicas, or lower "
        "this. It comes from Namespace default."
    )


BOUNDS = {
    "most.max-replicas": "4",
    "least.idle-timeout": "10m",
    "most.total-timeout": "1h",
    "most.concurrency-limit": "64",
    "only.takeover": "false",
    "only.retry": "unsent",
}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("max-replicas", "5", "Allowed is at most 4 here."),
        ("idle-timeout", "1m", "Allowed is at least 10m here."),
        ("total-timeout", "none", "Allowed is at most 1h here."),
        ("concurrency-limit", "0", "Allowed is at most 64 here."),
        ("takeover", "true", "Allowed is only false here."),
        ("retry", "stale", "Allowed is only unsent here."),
    ],
)
def test_an_annotation_may_not_exceed_the_clusters_bounds(key: str, value: str, words: str) -> None:
    (message,) = said(read(workload={key: value}, cluster=BOUNDS))
    assert message.startswith(f'{WORKLOAD}: zerogate.dev/{key}: "{value}" is out of this cluster\'s bounds. ')
    assert message.endswith(words)


def test_a_default_out_of_the_bounds_is_moved_into_them() -> None:
    reading = read(workload={"enabled": "true"}, cluster={**BOUNDS, "only.hpa": "floor"})
    policy = reading.policy.policy
    assert (policy.max_replicas, policy.idle_timeout_s, policy.total_timeout_s) == (1, 600, 3600)
    assert (policy.concurrency_limit, reading.policy.cluster.hpa) == (64, "floor")
    assert not reading.mistakes


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("max-replicas", "4", "Write one of default, least, most, only, a dot and a key."),
        ("mots.max-replicas", "4", "Did you mean most.max-replicas?"),
        ("most.max-replica", "4", "Did you mean zerogate.dev/max-replicas?"),
        ("most.max-replicas", "four", '"four" is not allowed'),
        ("most.retry", "stale", "has no order"),
        ("only.max-replicas", "4", "Write least.max-replicas or most.max-replicas."),
        ("only.retry", "never", "unsent or stale"),
        ("most.tier", "A", "it is of a later version"),
        ("default.idle-timeout", "5", "has no unit"),
    ],
)
def test_a_wrong_entry_of_the_clusters_policy_is_said_and_left_out(entry: str, value: str, words: str) -> None:
    defaults, errors = read_defaults({entry: value}, "ConfigMap system/policy")
    (message,) = map(str, errors)
    assert message.startswith(f"ConfigMap system/policy: {entry}: ")
    assert words in message
    assert read_workload(defaults, []).policy.policy == Policy()
    assert not read_workload(defaults, []).mistakes


def test_bounds_that_allow_nothing_are_left_out() -> None:
    defaults, errors = read_defaults({"least.queue-limit": "9", "most.queue-limit": "3"}, "ConfigMap x")
    assert "9 is above most.queue-limit (3)" in str(errors[0])
    assert not defaults.bounds


def test_a_default_of_the_cluster_has_to_be_within_its_own_bounds() -> None:
    _, errors = read_defaults({"default.max-replicas": "8", "most.max-replicas": "4"}, "ConfigMap x")
    assert "ConfigMap x: default.max-replicas: " in str(errors[0])


def test_only_annotations_with_the_prefix_are_keys() -> None:
    found = ours({"zerogate.dev/port": "1", "state.zerogate.dev/was": "3", "other/port": "2", "port": "4"})
    assert found == {"port": "1"}
    assert ours(None) == {}


def test_no_key_is_in_two_tables() -> None:
    assert sorted(CLUSTER_KEYS) == sorted(ELSEWHERE_KEYS)
    assert not set(CLUSTER_KEYS) & (set(KEYS) | set(LATER_KEYS))


@pytest.mark.parametrize("name", CLUSTER_KEYS)
def test_a_default_can_be_written(name: str) -> None:
    key = CLUSTER_KEYS[name]
    if key.default_text() != "–":
        assert key.parse(key.default_text()) == key.default
    assert key.doc.endswith(".")
    assert key.reason.endswith(".")


WORDS = st.sampled_from([*KEYS, *CLUSTER_KEYS, *LATER_KEYS]) | st.text(max_size=8)
RAW = st.dictionaries(
    WORDS, st.sampled_from(["true", "0", "5", "5m", "none", "floor", "256Mi", ""]) | st.text(max_size=6)
)
ENTRIES = st.dictionaries(
    st.tuples(st.sampled_from(["default", "least", "most", "only", "x"]), WORDS).map(".".join),
    st.sampled_from(["1", "7", "5m", "true", "false", "stale", "1Gi"]) | st.text(max_size=4),
    max_size=4,
)


@given(RAW, RAW, RAW, ENTRIES)
def test_whatever_is_written_there_is_a_policy_and_each_mistake_has_its_place(
    workload: dict[str, str], template: dict[str, str], namespace: dict[str, str], cluster: dict[str, str]
) -> None:
    defaults, errors = read_defaults(cluster, "ConfigMap x")
    assert all(error.source and error.key for error in errors)
    layers = [Layer(source="a", raw=namespace, is_of_one_workload=False), Layer(source="b", raw=workload)]
    reading = read_workload(defaults, [*layers, Layer(source="c", raw=template)])
    assert all(mistake.error.source in ("a", "b", "c", "ConfigMap x") for mistake in reading.mistakes)
    assert isinstance(defaults, Defaults)


@pytest.mark.parametrize(
    ("had", "keys", "most"),
    [(0, {}, 1), (1, {}, 1), (3, {}, 3), (3, {"max-replicas": "2"}, 2), (10**6, {}, 10_000)],
)
def test_a_workload_may_have_as_many_replicas_as_it_had_where_nobody_says_otherwise(
    had: int, keys: dict[str, str], most: int
) -> None:
    layer = Layer(source="deployment ml/llm", raw=keys, is_own=True)
    assert read_workload(Defaults(), [layer], had=had).policy.policy.max_replicas == most


def test_what_a_workload_had_stays_within_the_clusters_bounds() -> None:
    defaults, _ = read_defaults({"most.max-replicas": "2"}, "ConfigMap")
    assert read_workload(defaults, [], had=5).policy.policy.max_replicas == 2


def test_a_default_of_the_cluster_is_stronger_than_what_a_workload_had() -> None:
    defaults, _ = read_defaults({"default.max-replicas": "2"}, "ConfigMap")
    assert read_workload(defaults, [], had=5).policy.policy.max_replicas == 2


def test_a_floor_may_be_as_high_as_what_a_workload_had() -> None:
    layer = Layer(source="deployment ml/llm", raw={"min-replicas": "3"}, is_own=True)
    assert not read_workload(Defaults(), [layer], had=3).mistakes
    assert read_workload(Defaults(), [layer], had=2).mistakes
