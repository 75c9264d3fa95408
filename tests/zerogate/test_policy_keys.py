from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.affinity import Affinity
from zerogate.errors import DefinitionError
from zerogate.kinds import Raw
from zerogate.policy import Policy
from zerogate.policy_keys import ELSEWHERE_KEYS, KEYS, LATER_KEYS, parse_policy, read_policy


def refusal(raw: dict[str, Raw], *, scaled: bool = True) -> str:
    with pytest.raises(DefinitionError) as caught:
        parse_policy(raw, scaled=scaled)
    return str(caught.value)


def test_nothing_given_is_the_default_policy() -> None:
    assert parse_policy({}, scaled=True) == Policy()
    assert parse_policy({}, scaled=False) == Policy()


def test_each_field_of_a_policy_has_exactly_one_key() -> None:
    assert sorted(key.field for key in KEYS.values()) == sorted(field.name for field in msgspec.structs.fields(Policy))


@pytest.mark.parametrize("name", KEYS)
def test_a_default_is_within_its_own_bounds_and_survives_writing(name: str) -> None:
    key = KEYS[name]
    if key.default_text() != "–":
        assert key.kind.parse(key.default_text()) == key.default


@pytest.mark.parametrize("name", KEYS)
def test_each_key_says_what_it_means_and_why_its_default_is_so(name: str) -> None:
    assert KEYS[name].doc.endswith(".")
    assert KEYS[name].reason.endswith(".")


RIGHT: dict[str, tuple[Raw, Any]] = {
    "min-replicas": (1, 1),
    "max-replicas": ("4", 4),
    "target-concurrency": (2.5, 2.5),
    "concurrency-limit": (16, 16),
    "metric": ("concurrency", "concurrency"),
    "target-rps": (None, None),
    "idle-timeout": ("15s", 15.0),
    "scale-down-delay": ("2m", 120.0),
    "scale-down-rate": (3, 3.0),
    "stable-window": ("2m", 120.0),
    "panic-window": ("12s", 12.0),
    "panic-threshold": ("150%", 1.5),
    "drain-backlog-within": ("1m", 60.0),
    "queue-limit": (0, 0),
    "queue-bytes": ("1G", 10**9),
    "priority": ("X-Priority", "x-priority"),
    "hold-timeout": ("1h", 3600.0),
    "hold-heartbeat": ("15s", 15.0),
    "connect-timeout": ("1s", 1.0),
    "first-byte-timeout": ("90s", 90.0),
    "idle-stream-timeout": ("1m30s", 90.0),
    "total-timeout": ("1h", 3600.0),
    "hosts": ("LLM.example.org, *.example.net", ("llm.example.org", "*.example.net")),
    "path-prefix": ("/asr/", "/asr"),
    "models": (["a", "Qwen/Qwen2.5-7B:awq"], ("a", "Qwen/Qwen2.5-7B:awq")),
    "ready-path": ("/v1/health?full=1", "/v1/health?full=1"),
    "health-paths": ("/health\n/ping", ("/health", "/ping")),
    "retry": ("stale", "stale"),
    "idle-websocket": ("quiet", "quiet"),
    "body-limit": ("10Mi", 10 << 20),
    "affinity": ("header:X-Session", Affinity("header", "x-session")),
    "protocol": ("h2c", "h2c"),
}


@pytest.mark.parametrize("name", [name for name in RIGHT if name != "target-rps"])
def test_a_right_value_reaches_its_field(name: str) -> None:
    raw, value = RIGHT[name]
    policy = parse_policy({name: raw, **({"max-replicas": 2} if name == "min-replicas" else {})}, scaled=True)
    assert getattr(policy, KEYS[name].field) == value
    assert msgspec.convert(msgspec.to_builtins(policy), Policy) == policy


def test_the_table_of_right_values_forgets_no_key() -> None:
    assert set(RIGHT) | {"schedule"} == set(KEYS)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"idle-timeout": 15}, '"15" has no unit'),
        ({"idle-timeout": "0s"}, "out of range"),
        ({"idle-timeout": "-3s"}, "is not a duration"),
        ({"idle-timeout": "400d"}, "a duration from 1s to 30d"),
        ({"idle-timeout": "none"}, "is not a duration"),
        ({"idle-timeout": True}, "true is not allowed"),
        ({"idle-timeout": ["1s"]}, "is not allowed"),
        ({"idle-timeout": None}, "has no value"),
        ({"idle-timeout": "auto"}, "not available in this version"),
        ({"max-replicas": 0}, "a whole number from 1 to 10000"),
        ({"max-replicas": -1}, "out of range"),
        ({"max-replicas": 1.5}, "1.5 is not allowed"),
        ({"max-replicas": True}, "true is not allowed"),
        ({"max-replicas": float("nan")}, "is not allowed"),
        ({"max-replicas": "9" * 5000}, "is not allowed"),
        ({"max-replicas": "two"}, '"two" is not allowed'),
        ({"scale-down-rate": 1}, "a number from 1.1"),
        ({"panic-threshold": 2}, "such as 200%"),
        ({"panic-threshold": "100%"}, "from 110%"),
        ({"queue-bytes": 256}, "has no unit"),
        ({"queue-bytes": "1Ki"}, "out of range"),
        ({"metric": "engine:kv"}, "not available in this version"),
        ({"metric": "rsp"}, "Did you mean rps"),
        ({"retry": "never"}, "unsent or stale"),
        ({"hosts": "a.example.org:80"}, "without a port"),
        ({"hosts": "*.*.org"}, "without a port"),
        ({"hosts": "a..b"}, "without a port"),
        ({"hosts": ["a", 7]}, "Put it in quotes"),
        ({"hosts": ["A", "a"]}, "given twice"),
        ({"path-prefix": "asr"}, "a path such as /asr"),
        ({"path-prefix": "/a//b"}, "a path such as /asr"),
        ({"path-prefix": "/a?b"}, "a path such as /asr"),
        ({"path-prefix": "/" + "a" * 900 + "#"}, "a path such as /asr"),
        ({"models": ""}, "a model name"),
        ({"models": ["a b"]}, "a model name"),
        ({"models": {"a": 1}}, "a list of them"),
        ({"models": [f"m{number}" for number in range(300)]}, "300 items"),
        ({"priority": "X Priority"}, "the name of a request header"),
        ({"priority": "x:y"}, "the name of a request header"),
        ({"health-paths": "health"}, "a path such as /health"),
        ({"schedule": "nonsense"}, "no '='"),
        ({"min-replicas": 2}, "min-replicas: 2 is above max-replicas (1 by default)"),
        ({"schedule": "daily 08:00-09:00 UTC = 2"}, "the floor 2 is above max-replicas (1 by default)"),
        ({"stable-window": "5s"}, "panic-window: 6s by default is not shorter than stable-window (5s)"),
        ({"concurrency-limit": 4, "target-concurrency": 5}, "5 is above concurrency-limit (4)"),
        ({"metric": "rps"}, "rps needs target-rps"),
        ({"target-rps": 5}, "only with metric: rps"),
        ({"idle-timout": "5s"}, "Did you mean idle-timeout?"),
        ({"xyzzy": 1}, "Known keys are min-replicas"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(raw: dict[str, Raw], said: str) -> None:
    message = refusal(raw)
    assert said in message
    assert any(message.startswith(f"{key}: ") for key in (*raw, "panic-window"))


def test_replicas_over_h2c_are_asked_for_their_health_as_grpc_does_unless_a_path_is_given() -> None:
    assert parse_policy({"protocol": "h2c"}, scaled=True).ready_path == "/grpc.health.v1.Health/Check"
    assert parse_policy({"protocol": "h2c", "ready-path": "/up"}, scaled=True).ready_path == "/up"
    assert parse_policy({"protocol": "http1"}, scaled=True).ready_path == "/health"


@pytest.mark.parametrize("name", ELSEWHERE_KEYS)
def test_a_key_of_kubernetes_is_refused_here_with_what_to_do_instead(name: str) -> None:
    assert refusal({name: "true"}) == f"{name}: is a key for Kubernetes alone. {ELSEWHERE_KEYS[name]}"


@pytest.mark.parametrize("name", LATER_KEYS)
def test_a_key_of_a_later_version_is_refused_as_such(name: str) -> None:
    assert "not available in this version" in refusal({name: "1"})


@pytest.mark.parametrize("name", [name for name, key in LATER_KEYS.items() if key.neutral])
def test_a_key_of_a_later_version_may_ask_for_what_is_anyway(name: str) -> None:
    assert parse_policy({name: LATER_KEYS[name].neutral}, scaled=True) == Policy()


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if key.scales])
def test_a_key_that_scales_is_refused_for_what_zerogate_does_not_run(name: str) -> None:
    assert "is about scaling" in refusal({name: "1"}, scaled=False)


def test_timers_limits_and_routes_work_for_what_zerogate_does_not_run() -> None:
    raw: dict[str, Raw] = {"total-timeout": "1m", "queue-limit": 3, "hosts": "a.org", "concurrency-limit": 2}
    policy = parse_policy(raw, scaled=False)
    assert (policy.total_timeout_s, policy.queue_limit, policy.hosts, policy.concurrency_limit) == (
        60,
        3,
        ("a.org",),
        2,
    )


def test_the_target_follows_a_lower_limit() -> None:
    assert parse_policy({"concurrency-limit": 1}, scaled=True).target_concurrency == 1
    assert parse_policy({"concurrency-limit": 100}, scaled=True).target_concurrency == 8
    assert parse_policy({"concurrency-limit": 4, "target-concurrency": 2}, scaled=True).target_concurrency == 2


def test_several_windows_stand_in_one_text_or_in_a_list() -> None:
    one, other = "daily 08:00-09:00 UTC = 1", "Mon,Tue 10:00-11:00 UTC = 0..1"
    ways: list[Raw] = [f"{one}; {other}", f"{one}\n{other}\n", [one, other]]
    as_text, as_lines, as_list = (parse_policy({"schedule": raw}, scaled=True).schedule for raw in ways)
    assert as_text == as_lines == as_list
    assert [window.text for window in as_list] == [one, other]


def test_all_mistakes_are_found_at_once_and_what_is_right_is_kept() -> None:
    policy, errors = read_policy({"idle-timeout": 3, "retry": "X", "queue-limit": 7}, scaled=True)
    assert [error.key for error in errors] == ["idle-timeout", "retry"]
    assert policy.queue_limit == 7


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.lists(st.text(max_size=5))


@given(st.dictionaries(st.sampled_from([*KEYS, *LATER_KEYS]) | st.text(max_size=9), JUNK, max_size=4), st.booleans())
def test_no_value_is_answered_with_anything_but_a_policy_or_a_definition_error(
    raw: dict[str, Any], scaled: bool
) -> None:
    policy, errors = read_policy(raw, scaled=scaled)
    assert all(str(error).endswith((".", "?")) for error in errors)
    assert msgspec.convert(msgspec.to_builtins(policy), Policy) == policy
