"""What gRPC adds to HTTP, as far as a proxy has a part in it: deadlines, refusals, health checks. Pure.

The protocol itself is HTTP/2 with trailers and needs nothing of this: messages pass unread. But a client that sets a
deadline wants an answer in time, one that is refused reads `grpc-status` and nothing else, and a health check must not
wake what it asks about. Used by `heads`, `answers`, `exchange`, the probe and the gateway.
"""

import re
from typing import Final

GRPC: Final = b"application/grpc"
"""What the content type begins with, also that of gRPC-Web."""

HEALTH_CHECK: Final = b"/grpc.health.v1.Health/Check"
"""The standard health service (github.com/grpc/grpc, doc/health-checking.md)."""
HEALTH_WATCH: Final = b"/grpc.health.v1.Health/Watch"

OK: Final = 0
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
UNIMPLEMENTED: Final = 12

_UNKNOWN: Final = 2
_RESOURCE_EXHAUSTED: Final = 8
_INTERNAL: Final = 13
_UNAVAILABLE: Final = 14
_STATUS: Final = {
    400: _INTERNAL, 401: 16, 403: 7, 404: UNIMPLEMENTED, 405: UNIMPLEMENTED, 408: _UNAVAILABLE,
    413: _RESOURCE_EXHAUSTED, 429: _RESOURCE_EXHAUSTED, 431: _RESOURCE_EXHAUSTED,
    501: UNIMPLEMENTED, 502: _UNAVAILABLE, 503: _UNAVAILABLE, 504: DEADLINE_EXCEEDED,
}  # fmt: skip
"""gRPC's table for answers of intermediaries (doc/http-grpc-status-mapping.md) where we know no better. We do for 429
(its table has UNAVAILABLE, which clients take for a server that is not there), for 504 (every one of ours is a timer)
and for what is too large, where gRPC's own servers say RESOURCE_EXHAUSTED."""

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MOST: Final = 99_999_999
_PLAIN: Final = frozenset(range(0x20, 0x7F)) - {0x25}
_MESSAGE_BYTES: Final = 2048
"""Of a message before its escapes: together with the other fields it stays below the 8 KiB of a head that clients of
gRPC take."""
_PREFIX_BYTES: Final = 5
"""Of a message: a flag, and its length in four bytes."""

_SERVING: Final = 1


def is_grpc(content_type: bytes | None) -> bool:
    """Whether a request with this content type expects `grpc-status`."""
    return content_type is not None and content_type[: len(GRPC)].lower() == GRPC


def status_for(http_status: int) -> int:
    """The status of gRPC for a refusal with this status of HTTP."""
    return _STATUS.get(http_status, _UNKNOWN)


def parse_timeout(value: bytes) -> float | None:
    """Seconds of a `grpc-timeout`; None where it is not one (1 to 8 digits and a unit)."""
    match = _TIMEOUT.fullmatch(value)
    return int(match[1]) * _UNIT_S[match[2]] if match is not None else None


def format_timeout(seconds: float) -> bytes:
    """The same time for the next hop, in the finest unit that takes it; what has passed already is the least time."""
    for unit, per_second in ((b"u", 1e6), (b"m", 1e3), (b"S", 1.0)):
        number = int(seconds * per_second)
        if number <= _MOST:
            return b"%d%b" % (max(1, number), unit)
    return b"%dH" % min(_MOST, int(seconds / 3600))


def encode_message(text: str) -> bytes:
    """A sentence as `grpc-message`: percent-encoded UTF-8, cut to a length that fits a head."""
    raw = text.encode("utf-8", "replace")
    if len(raw) > _MESSAGE_BYTES:
        raw = raw[:_MESSAGE_BYTES].decode("utf-8", "ignore").encode() + "…".encode()
    return b"".join(bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in raw)


class MessageFollower:
    """Where the messages of a stream end, by their prefixes of five bytes: nothing else of them is looked at."""

    __slots__ = ("_left", "_prefix")

    def __init__(self) -> None:
        self._prefix = b""
        """The beginning of a prefix whose rest has not come."""
        self._left = 0
        """Bytes of the present message that have not come."""

    @property
    def is_at_boundary(self) -> bool:
        """Whether all that has come is whole messages."""
        return not self._left and not self._prefix

    def feed(self, data: bytes) -> None:
        """Follow a piece of the body."""
        at, size = 0, len(data)
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
            else:
                step = min(_PREFIX_BYTES - len(self._prefix), size - at)
                self._prefix += data[at : at + step]
                if len(self._prefix) == _PREFIX_BYTES:
                    self._left = int.from_bytes(self._prefix[1:], "big")
                    self._prefix = b""
            at += step


def late_trailers(code: str) -> list[tuple[bytes, bytes]]:
    """The end of a stream of messages that took too long. `code`: of the timer, as in refusals."""
    return [
        (b"grpc-status", b"%d" % DEADLINE_EXCEEDED),
        (b"grpc-message", encode_message(f"The call was ended before its answer was complete ({code}).")),
    ]


def message(payload: bytes) -> bytes:
    """One uncompressed message as it stands in a body: a flag, its length, itself."""
    return b"\0%b%b" % (len(payload).to_bytes(4, "big"), payload)


HEALTH_SERVING: Final = message(b"\x08\x01")
"""The body of an answer of the health service: HealthCheckResponse, field 1 (status) is SERVING."""
HEALTH_NOT_SERVING: Final = message(b"\x08\x02")
HEALTH_ASKED: Final = message(b"")
"""The body of a question about the server as a whole: HealthCheckRequest without a service."""


def is_serving(body: bytes) -> bool:
    """Whether an answer of the health service says SERVING."""
    if len(body) < 5 or body[0] != 0:
        return False
    payload = body[5 : 5 + int.from_bytes(body[1:5], "big")]
    return payload[:1] == b"\x08" and payload[1:2] == bytes((_SERVING,))
