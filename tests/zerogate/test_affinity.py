"""The policy key `affinity`: what may be written, and what it means."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.affinity import Affinity, AffinityText
from zerogate.errors import DefinitionError
from zerogate.policy_keys import parse_policy

KIND = AffinityText()


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("none", None),
        ("header:X-Session", Affinity("header", "x-session")),
        ("cookie:Session_Id", Affinity("cookie", "Session_Id")),
        ("prompt:64", Affinity("prompt", size_bytes=64)),
        ("prompt:65536", Affinity("prompt", size_bytes=65536)),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, means: Affinity | None) -> None:
    assert parse_policy({"affinity": text}, scaled=True).affinity == means
    assert KIND.parse(KIND.shown_as(means)) == means


@pytest.mark.parametrize(
    "text",
    ["", "Header:x", "header:", "header:a b", "cookie:a;b", "prompt", "prompt:63", "prompt:65537", "prompt:1Ki", 64],
)
def test_anything_else_is_refused_with_what_is_allowed(text: str | int) -> None:
    with pytest.raises(DefinitionError, match="from 64 to 65536"):
        parse_policy({"affinity": text}, scaled=True)


@given(st.text(max_size=20) | st.from_regex(r"(none|(header|cookie):[a-z;]+|prompt:[0-9]+)", fullmatch=True))
def test_no_editor_marks_what_is_taken(text: str) -> None:
    try:
        KIND.parse(text)
    except DefinitionError:
        return
    assert re.search(KIND.fragment()["pattern"], text)
