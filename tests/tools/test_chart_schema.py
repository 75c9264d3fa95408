"""What the chart's schema says of policies: it takes what the parser takes, and refuses what it can know to be wrong.

That Helm reads it so is tested in `tests/deploy/test_chart.py`.
"""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tools.chart_schema import schema_text
from zerogate.kube.keys import CLUSTER_KEYS
from zerogate.kube.policies import read_defaults
from zerogate.policy_keys import KEYS, LATER_KEYS

SCHEMA = json.loads(schema_text())["properties"]["policy"]
VALIDATOR = Draft7Validator(SCHEMA)
SECTIONS = ("default", "least", "most", "only")


def written(section: str, key: str, value: Any) -> dict[str, str]:
    """The entry of the ConfigMap, as the chart writes it."""
    if isinstance(value, list):
        text = ("; " if key == "schedule" else ", ").join(value)
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return {f"{section}.{key}": text}


def is_read(section: str, key: str, value: Any) -> bool:
    return not read_defaults(written(section, key, value), "values")[1]


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(json.loads(schema_text()))


def test_no_pattern_looks_ahead_which_helm_cannot() -> None:
    """Go's regular expressions know neither looking ahead nor behind, nor references."""
    patterns = re.findall(r'"pattern": (".*")', schema_text())
    assert patterns
    assert not [one for one in patterns if re.search(r"\(\?[=!<]|\\\\[1-9]", one)]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("default", "idle-timeout", "1h30m"),
        ("default", "min-replicas", 1),
        ("default", "target-concurrency", 2.5),
        ("default", "target-concurrency", "2.5"),
        ("default", "total-timeout", "none"),
        ("default", "queue-bytes", "1.5Gi"),
        ("default", "panic-threshold", "150%"),
        ("default", "takeover", True),
        ("default", "takeover", "true"),
        ("default", "schedule", "Mon-Fri 08:00-18:00 UTC = 1"),
        ("default", "schedule", ["Mon-Fri 08:00-18:00 UTC = 1", "Sat 10:00-12:00 UTC = 1"]),
        ("default", "health-paths", ["/health", "/ready"]),
        ("default", "affinity", "header:x-session"),
        ("default", "tier", "A"),
        ("least", "idle-timeout", "1m"),
        ("most", "max-replicas", 8),
        ("most", "body-limit", "8Mi"),
        ("only", "takeover", False),
        ("only", "protocol", ["http1", "h2c"]),
        ("only", "protocol", "http1, h2c"),
    ],
)
def test_what_is_right_is_taken(section: str, key: str, value: Any) -> None:
    assert is_read(section, key, value)
    assert VALIDATOR.is_valid({section: {key: value}})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("default", "idle-timout", "5m"),
        ("default", "idle-timeout", 5),
        ("default", "idle-timeout", "5 m"),
        ("default", "idle-timeout", ""),
        ("default", "idle-timeout", "none"),
        ("default", "max-replicas", 0),
        ("default", "max-replicas", 1.5),
        ("default", "max-replicas", "many"),
        ("default", "queue-limit", 20_000_000),
        ("default", "queue-bytes", "256"),
        ("default", "panic-threshold", 2),
        ("default", "metric", "cpu"),
        ("default", "takeover", "yes"),
        ("default", "hpa", True),
        ("default", "hosts", "llm.example.org"),
        ("default", "port", 8000),
        ("default", "enabled", True),
        ("default", "tier", "S"),
        ("default", "gpus", 1),
        ("least", "metric", "rps"),
        ("most", "max-replicas", "x"),
        ("only", "idle-timeout", "5m"),
        ("only", "protocol", "http3"),
        ("only", "protocol", ["http1", "http3"]),
        ("allow", "protocol", "http1"),
    ],
)
def test_what_is_wrong_is_refused(section: str, key: str, value: Any) -> None:
    assert not is_read(section, key, value)
    assert not VALIDATOR.is_valid({section: {key: value}})


@pytest.mark.parametrize("name", [*KEYS, *CLUSTER_KEYS])
@pytest.mark.parametrize("section", SECTIONS)
def test_a_key_is_there_where_it_means_something(section: str, name: str) -> None:
    """The default of each, as a user would write it, is right in all of the sections that know it."""
    text = (KEYS.get(name) or CLUSTER_KEYS[name]).default_text()
    if text != "–":
        assert VALIDATOR.is_valid({section: {name: text}}) is is_read(section, name, text)


TEXTS = st.from_regex(
    r"[0-9]{1,4}(\.[0-9]{1,2})?(s|m|h|d|%|Mi|G|)|true|false|none|http1|h2c|/[a-z]{1,4}", fullmatch=True
)


@given(
    section=st.sampled_from(SECTIONS), key=st.sampled_from([*KEYS, *CLUSTER_KEYS, *LATER_KEYS]), text=TEXTS
)  # fmt: skip
def test_whatever_text_the_parser_takes_is_taken(section: str, key: str, text: str) -> None:
    if is_read(section, key, text):
        assert VALIDATOR.is_valid({section: {key: text}})
