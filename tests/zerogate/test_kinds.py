from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from cli.file_kinds import CommandLine, EndpointUrl, ListenAddress
from zerogate.errors import DefinitionError
from zerogate.kinds import Calendar, Choice, Duration, Kind, Number, Percent, Several, Size, Text, Whole
from zerogate.policy_keys import KEYS

KINDS: dict[str, Kind] = {
    "whole": Whole(0, 10),
    "number": Number(0.5, 10),
    "duration": Duration(1, 3600),
    "duration or none": Duration(1, 3600, none=True),
    "size": Size(1024, 1 << 30),
    "size or none": Size(1024, 1 << 30, none=True),
    "percent": Percent(0.5, 2),
    "choice": Choice(("a", "on")),
    "text": Text("[a-z]+", "a word", "x", longest=5),
    "lower text": Text("[a-z]+", "a word", "x", longest=5, lower=True),
    "calendar": Calendar(),
    "several": Several(Text("[a-z]+", "a word", "x", longest=5)),
    "listen": ListenAddress(),
    "endpoint": EndpointUrl(),
    "command": CommandLine(),
    **{f"policy {name}": key.kind for name, key in KEYS.items()},
}
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["none", "1s", "2m", "1h1s", "5Mi", "100%", "a", "on", "abc", "ABC", "7", "1.5", "/x", "/", "x-y"]
    )
    | st.sampled_from(
        ["127.0.0.1:80", "[::1]:0", "http://h:1", "http://[::1]/", "daily 08:00-09:00 UTC = 1", "*.a.b", "K"]
    )
    | st.text(alphabet="0159.smhdKMi%/:ab*-\"' ,;\n", max_size=8)
)


@given(st.sampled_from(sorted(KINDS)), SCALARS | st.lists(SCALARS, max_size=3))
def test_what_is_parsed_is_right_for_the_schema_too(name: str, raw: Any) -> None:
    kind = KINDS[name]
    try:
        value = kind.parse(raw)
    except DefinitionError:
        return
    assert Draft7Validator(kind.fragment()).is_valid(raw)
    if value is not None or isinstance(kind, Duration):
        assert kind.shown_as(value)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("whole", [0, 10, "7", 2.0], [-1, 11, 1.5, "x", True, None, []]),
        ("number", [0.5, "1.5", 3], [0.4, 11, "x", False, None]),
        ("duration", ["1s", "1h"], ["none", "x", 3, None, "1 s", ["1s"]]),
        ("duration or none", ["none", "90s"], ["None", "", 3]),
        ("size", ["1Ki"], ["1", "1KiB", 1024]),
        ("percent", ["100%"], ["100", 1]),
        ("choice", ["a", "on"], ["b", True, None]),
        ("text", ["abc"], ["", "abcdef", "A", 3, None]),
        ("several", ["a", "a, b", ["a", "b"], []], ["", 3, None, [3], [""], ["A"], ["a", "a"]]),
        ("listen", ["localhost:80", "[::1]:8080"], ["80", 80, "a b:80", "::1:80", "x:"]),
        (
            "endpoint",
            ["http://127.0.0.1:9005", "http://h/", "https://h"],
            ["unix:", "h:80", "http://h/p", "ftp://h", 80],
        ),
        ("command", ["a b", ["a", "b c"]], [[], None, 3, ""]),
    ],
)
def test_schema_and_parser_agree_on_examples(name: str, right: list[Any], wrong: list[Any]) -> None:
    kind, schema = KINDS[name], Draft7Validator(KINDS[name].fragment())
    for raw in right:
        kind.parse(raw)
        assert schema.is_valid(raw), raw
    for raw in wrong:
        with pytest.raises(DefinitionError):
            kind.parse(raw)
        assert not schema.is_valid(raw), raw


def test_an_error_repeats_a_long_value_only_in_part_and_without_control_characters() -> None:
    with pytest.raises(DefinitionError) as caught:
        KINDS["whole"].parse("\x1b[31m" + "x" * 500)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 200
