import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from cli.file import parse_box_file
from cli.file_keys import BOX_KEYS, SERVICE_KEYS
from cli.schema import schema, schema_text
from tests.fuzz import examples
from zerogate.errors import DefinitionErrors
from zerogate.policy_keys import KEYS

ROOT = Path(__file__).resolve().parents[2]
VALIDATOR = Draft7Validator(schema())


def is_parsed(document: Any) -> bool:
    try:
        parse_box_file(json.dumps(document), source="z.yaml", folder=Path("/srv"), environ={"HOME": "/home/u"})
    except DefinitionErrors:
        return False
    return True


def test_the_schema_is_a_schema_and_the_shipped_one_is_current() -> None:
    Draft7Validator.check_schema(schema())
    shipped = (ROOT / "cli" / "zerogate.schema.json").read_text(encoding="utf-8")
    assert shipped == schema_text(), "run `make docs`"


def test_the_default_of_each_key_is_right_for_its_own_fragment() -> None:
    fragments = {**schema()["properties"], **schema()["definitions"]["policy"]["properties"]}
    fragments |= schema()["definitions"]["service"]["properties"]
    defaults = {name: fragment for name, fragment in fragments.items() if "default" in fragment}
    assert {"listen", "idle-timeout", "start-timeout"} <= set(defaults)
    for name, fragment in defaults.items():
        assert Draft7Validator(fragment).is_valid(fragment["default"]), name


RUN = {"command": "x --port {port}"}
ELSEWHERE = {"endpoint": "http://127.0.0.1:9005"}

ONE = {"services": {"a": RUN}}
TLS = {"listen-tls": "127.0.0.1:8443", "tls": [{"certificate": "c", "key": "k"}]}

GOOD: list[Any] = [
    {"services": {"a": RUN}},
    {"listen": "0.0.0.0:80", "admin": "[::1]:0", "access-log": "sampled", "services": {"a": ELSEWHERE}},
    {"services": {"a": {**RUN, "env": {"A": 1, "B": True, "C": "x"}, "cwd": "/", "models": "m"}}},
    {"services": {"a": {**RUN, "policy": {"schedule": ["daily 08:00-09:00 UTC = 1"], "learn": "off"}}}},
    {**TLS, "client-ca": "c", "client-certificates": "optional", "services": {"a": RUN}},
    {**TLS, "tls": "folder", "listen": "unix:/run/z.sock", "proxy-protocol-from": ["10.0.0.0/8", "::1", "unix"], **ONE},
    {"services": {"a": {"endpoint": "https://h", "tls": {"ca": "c", "server-name": "n", "verify": False}}}},
    {"services": {"a": {"endpoint": "unix:m.sock"}}},
    {"services": {"a": {**ELSEWHERE, "policy": {"hold-timeout": "1m", "affinity": "none"}, "path-prefix": "/x"}}},
]
BAD: list[Any] = [
    None,
    [],
    {},
    {"services": {}},
    {"services": {"A": RUN}},
    {"services": {"a": {}}},
    {"services": {"a": None}},
    {"services": {"a": {**RUN, **ELSEWHERE}}},
    {"services": {"a": {**RUN, "unknown": 1}}},
    {"services": {"a": {**RUN, "idle-timeout": "5s"}}},
    {"services": {"a": {**RUN, "env": {"PORT": 1}}}},
    {"services": {"a": {**RUN, "env": {"ZEROGATE_X": "1"}}}},
    {"services": {"a": {**RUN, "env": {"A": None}}}},
    {"services": {"a": {**RUN, "env": []}}},
    {"services": {"a": {**RUN, "policy": {"pin": "paused"}}}},
    {"services": {"a": {**RUN, "policy": {"learn": "on"}}}},
    {"services": {"a": {**RUN, "policy": {"idle-timeout": 5}}}},
    {"services": {"a": {**ELSEWHERE, "cwd": "/"}}},
    {"services": {"a": {**ELSEWHERE, "env": {}}}},
    {"services": {"a": {**ELSEWHERE, "policy": {"max-replicas": 2}}}},
    {"tls": "folder", **ONE},
    {"listen-tls": "127.0.0.1:8443", **ONE},
    {**TLS, "tls": [{"certificate": "c"}], **ONE},
    {**TLS, "tls": [], **ONE},
    {**TLS, "client-certificates": "optional", **ONE},
    {"client-ca": "c", **ONE},
    {"proxy-protocol-from": [], **ONE},
    {"services": {"a": {**RUN, "tls": {"ca": "c"}}}},
    {"services": {"a": {"endpoint": "https://h", "tls": {"certificate": "c"}}}},
    {"services": {"a": RUN}, "listen": 8080},
    {"services": {"a": RUN}, "lisen": "127.0.0.1:80"},
]


@pytest.mark.parametrize("document", GOOD, ids=json.dumps)
def test_schema_and_parser_take_what_is_right(document: Any) -> None:
    assert is_parsed(document)
    assert VALIDATOR.is_valid(document)


@pytest.mark.parametrize("document", BAD, ids=json.dumps)
def test_schema_and_parser_refuse_what_is_wrong(document: Any) -> None:
    assert not is_parsed(document)
    assert not VALIDATOR.is_valid(document)


VALUES = st.sampled_from(
    [0, 1, 2, 7, -1, 1.5, True, None, "", "1", "x", "5s", "1m", "none", "64Mi", "150%", "/x", "/x/", "a.b", "*.a.b"]
) | st.sampled_from(
    ["concurrency", "rps", "S", "stale", "off", "on", "127.0.0.1:1", "http://h:1", "daily 08:00-09:00 UTC = 1", []]
) | st.lists(st.sampled_from(["a", "b", "/x", 1, None]), max_size=2)  # fmt: skip
POLICIES = st.dictionaries(st.sampled_from([*KEYS, "learn", "pin", "x"]), VALUES, max_size=3)
SERVICES = st.builds(
    lambda base, extra, policy: {**base, **extra, **({"policy": policy} if policy else {})},
    st.sampled_from([RUN, ELSEWHERE]),
    st.dictionaries(
        st.sampled_from([*SERVICE_KEYS, "models", "hosts", "path-prefix", "env", "retry"]), VALUES, max_size=2
    ),
    POLICIES,
)
FILES = st.builds(
    lambda top, service: {**top, "services": {"a": service}},
    st.dictionaries(st.sampled_from([*BOX_KEYS, "x"]), VALUES, max_size=1),
    SERVICES,
)


@settings(max_examples=examples(400), deadline=None)
@given(FILES)
def test_no_editor_marks_what_the_parser_takes(document: Any) -> None:
    if is_parsed(document):
        assert VALIDATOR.is_valid(document), document
