"""W3C trace context: which trace a request belongs to, read from its fields and written for its replica. Pure.

https://www.w3.org/TR/trace-context/ : a `traceparent` that is not exactly right, or that comes twice, is none, and the
`tracestate` beside it is dropped with it. Read by `zerogate.http.trace` for requests that are traced; all others pass
with these fields untouched.
"""

import re
from typing import Final

import msgspec

SAMPLED: Final = 0x01
RANDOM_ID: Final = 0x02
"""The trace id's last seven bytes are random (level 2 of the recommendation): said on, never claimed by us."""

STATE_MEMBERS: Final = 32
STATE_BYTES: Final = 512
"""What the recommendation wants to be passed on at least; more is not."""
LONG_MEMBER_BYTES: Final = 128
"""Members that are longer are the first to go."""

_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_ID_SPACE: Final = 1 << 64


class Parent(msgspec.Struct, frozen=True):
    """Whose child a request is. Ids in lower-case hexadecimal digits, 32 and 16 of them."""

    trace_id: bytes
    span_id: bytes
    flags: int


class Incoming(msgspec.Struct, frozen=True):
    """What a request brought along. `lines`: its other fields; `state`: the value of `tracestate`, within bounds."""

    lines: bytes
    parent: Parent | None = None
    state: bytes = b""


def parse_traceparent(value: bytes) -> Parent | None:
    """The parent that a field's value names, or None where it names none: section 3.2 of the recommendation.

    Versions above 00 are read as far as 00 goes, and only 00 has to end there.
    """
    match = _PARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    return Parent(trace_id, span_id, int(flags, 16))


def bounded_state(value: bytes) -> bytes:
    """A `tracestate` of at most 32 members and 512 bytes: section 3.3.1.5. Those at the end are the oldest."""
    members = [member for part in value.split(b",") if (member := part.strip(b" \t"))][:STATE_MEMBERS]
    if _size(members) > STATE_BYTES:
        members = [member for member in members if len(member) <= LONG_MEMBER_BYTES]
    while members and _size(members) > STATE_BYTES:
        members.pop()
    return b",".join(members)


def _size(members: list[bytes]) -> int:
    return sum(len(member) + 1 for member in members) - 1


def read_context(lines: bytes) -> Incoming:
    """Take the trace's fields out of a head's serialised fields."""
    lowered = lines.lower()
    if not lowered.startswith(b"trace") and b"\ntrace" not in lowered:
        return Incoming(lines)
    kept: list[bytes] = []
    parents: list[bytes] = []
    states: list[bytes] = []
    for line in lines.splitlines(keepends=True):
        name, _, value = line.partition(b": ")
        key = name.lower()
        if key == b"traceparent":
            parents.append(value.strip())
        elif key == b"tracestate":
            states.append(value.strip())
        else:
            kept.append(line)
    parent = parse_traceparent(parents[0]) if len(parents) == 1 else None
    state = bounded_state(b",".join(states)) if states and parent is not None else b""
    return Incoming(b"".join(kept), parent, state)


def context_lines(trace_id: bytes, span_id: bytes, flags: int, state: bytes) -> bytes:
    """The fields for the next one on the way."""
    own = b"traceparent: 00-%b-%b-%02x\r\n" % (trace_id, span_id, flags & (SAMPLED | RANDOM_ID))
    return own + b"tracestate: %b\r\n" % state if state else own


def is_chosen(trace_id: bytes, ratio: float) -> bool:
    """Whether a trace without a parent is one of the share `ratio` (0 to 1) that is recorded.

    By the lower half of its id, as OpenTelemetry's `TraceIdRatioBased` decides: everybody who samples the same share
    chooses the same traces.
    """
    return int(trace_id[16:], 16) < round(ratio * _ID_SPACE)
