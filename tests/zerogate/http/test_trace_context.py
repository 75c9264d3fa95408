"""W3C trace context: which values name a parent, what is passed on, which traces are chosen."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.extras import extra
from zerogate.http.trace_context import (
    STATE_BYTES,
    STATE_MEMBERS,
    Parent,
    bounded_state,
    context_lines,
    is_chosen,
    parse_traceparent,
    read_context,
)

TRACE = b"0af7651916cd43dd8448eb211c80319c"
SPAN = b"b7ad6b7169203331"
RIGHT = b"00-" + TRACE + b"-" + SPAN + b"-01"


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        pytest.param(RIGHT, 1, id="sampled"),
        pytest.param(RIGHT[:-2] + b"00", 0, id="not sampled"),
        pytest.param(RIGHT[:-2] + b"ff", 0xFF, id="flags of later levels"),
        pytest.param(b"01" + RIGHT[2:], 1, id="a later version"),
        pytest.param(b"cc" + RIGHT[2:] + b"-what-the-future-brings", 1, id="a later version with more"),
    ],
)
def test_a_right_traceparent_names_its_parent(value: bytes, flags: int) -> None:
    assert parse_traceparent(value) == Parent(TRACE, SPAN, flags)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(RIGHT.upper(), id="capitals"),
        pytest.param(RIGHT.replace(b"a", b"A"), id="capitals in an id"),
        pytest.param(b"ff" + RIGHT[2:], id="version ff"),
        pytest.param(b"0" + RIGHT[2:], id="short version"),
        pytest.param(RIGHT + b"-", id="version 00 with more"),
        pytest.param(RIGHT + b"-01", id="version 00 with a fifth part"),
        pytest.param(b"01" + RIGHT[2:] + b"x", id="a later version with more behind no dash"),
        pytest.param(RIGHT.replace(TRACE, b"0" * 32), id="trace id of zeros"),
        pytest.param(RIGHT.replace(SPAN, b"0" * 16), id="span id of zeros"),
        pytest.param(RIGHT.replace(TRACE, TRACE[1:]), id="short trace id"),
        pytest.param(RIGHT.replace(SPAN, SPAN + b"0"), id="long span id"),
        pytest.param(RIGHT.replace(TRACE, b"g" + TRACE[1:]), id="no hexadecimal digit"),
        pytest.param(RIGHT[:-1], id="short flags"),
        pytest.param(RIGHT.replace(b"-", b"_"), id="other dashes"),
        pytest.param(RIGHT + b"\n", id="end of line"),
        pytest.param(b" " + RIGHT, id="blank"),
    ],
)
def test_anything_else_names_none(value: bytes) -> None:
    assert parse_traceparent(value) is None


@pytest.mark.parametrize(
    ("lines", "rest", "parent", "state"),
    [
        pytest.param(b"", b"", None, b"", id="no fields"),
        pytest.param(b"Accept: a\r\nX: y\r\n", b"Accept: a\r\nX: y\r\n", None, b"", id="none of ours"),
        pytest.param(b"TraceParent: %b\r\nX: y\r\n" % RIGHT, b"X: y\r\n", RIGHT, b"", id="first, in any case"),
        pytest.param(b"X: y\r\ntraceparent: %b\r\ntracestate: a=1,b=2\r\n" % RIGHT, b"X: y\r\n", RIGHT, b"a=1,b=2",
                     id="with a state"),
        pytest.param(b"tracestate: a=1\r\ntraceparent: %b\r\ntracestate: b=2\r\n" % RIGHT, b"", RIGHT, b"a=1,b=2",
                     id="a state in two fields"),
        pytest.param(b"traceparent: %b\r\ntraceparent: %b\r\ntracestate: a=1\r\n" % (RIGHT, RIGHT), b"", None, b"",
                     id="two parents are none"),
        pytest.param(b"traceparent: nonsense\r\ntracestate: a=1\r\nX: y\r\n", b"X: y\r\n", None, b"",
                     id="a wrong parent takes the state with it"),
        pytest.param(b"tracestate: a=1\r\n", b"", None, b"", id="a state alone"),
        pytest.param(b"Trace: on\r\nX-Traceparent: z\r\n", b"Trace: on\r\nX-Traceparent: z\r\n", None, b"",
                     id="fields that only look alike"),
    ],
)  # fmt: skip
def test_the_fields_are_taken_out_of_the_others(lines: bytes, rest: bytes, parent: bytes | None, state: bytes) -> None:
    incoming = read_context(lines)
    assert incoming.lines == rest
    assert incoming.parent == (parse_traceparent(parent) if parent else None)
    assert incoming.state == state


@pytest.mark.parametrize(
    ("value", "passed"),
    [
        pytest.param(b"a=1, b=2\t,,c=3,", b"a=1,b=2,c=3", id="blanks and empty members"),
        pytest.param(b",".join(b"k%d=v" % n for n in range(40)), b",".join(b"k%d=v" % n for n in range(32)),
                     id="the oldest members go"),
        pytest.param(b"a=1,b=" + b"x" * 600 + b",c=3", b"a=1,c=3", id="long members go first"),
        pytest.param(b",".join(b"k%d=%b" % (n, b"x" * 100) for n in range(6)),
                     b",".join(b"k%d=%b" % (n, b"x" * 100) for n in range(4)), id="then those at the end"),
        pytest.param(b"a=" + b"x" * 300, b"a=" + b"x" * 300, id="a long member that fits stays"),
    ],
)  # fmt: skip
def test_a_state_is_passed_on_within_bounds(value: bytes, passed: bytes) -> None:
    assert bounded_state(value) == passed


@given(st.binary(max_size=2000))
def test_no_state_is_too_large_to_pass_on(value: bytes) -> None:
    passed = bounded_state(value)
    assert len(passed) <= STATE_BYTES
    assert passed.count(b",") < STATE_MEMBERS


@given(st.binary(max_size=80))
def test_what_is_passed_on_is_read_again_as_the_same(value: bytes) -> None:
    parent = parse_traceparent(value) or Parent(TRACE, SPAN, 1)
    again = read_context(context_lines(parent.trace_id, SPAN, parent.flags, b"a=1"))
    assert again.parent == Parent(parent.trace_id, SPAN, parent.flags & 3)
    assert (again.lines, again.state) == (b"", b"a=1")


def test_fields_that_are_passed_on_have_version_00() -> None:
    assert context_lines(TRACE, SPAN, 0xFF, b"") == b"traceparent: 00-%b-%b-03\r\n" % (TRACE, SPAN)
    assert re.fullmatch(rb"traceparent: [^\r]*\r\ntracestate: a=1\r\n", context_lines(TRACE, SPAN, 0, b"a=1"))


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_of_the_traces_that_begin_here_a_share_is_chosen_by_their_id(ratio: float) -> None:
    random_bits = random.Random(1)
    ids = [b"%032x" % random_bits.getrandbits(128) for _ in range(5000)]
    chosen = [one for one in ids if is_chosen(one, ratio)]
    assert len(chosen) / len(ids) == pytest.approx(ratio, abs=0.02)
    assert all(is_chosen(one, min(1.0, ratio + 0.1)) for one in chosen)


def test_everybody_who_samples_the_same_share_chooses_the_same_traces() -> None:
    sampling = extra("opentelemetry.sdk.trace.sampling")
    other = sampling.TraceIdRatioBased(0.25)
    random_bits = random.Random(2)
    for _ in range(500):
        number = random_bits.getrandbits(128)
        is_theirs = other.should_sample(None, number, "x").decision.is_sampled()
        assert is_chosen(b"%032x" % number, 0.25) is is_theirs
