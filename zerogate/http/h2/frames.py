"""Frames of HTTP/2 as bytes: constants, the rules that a frame must keep by its type alone, and writing. Pure.

A frame is nine bytes (24 bits of length, type, flags, 31 bits of stream) and a payload. `check` decides what can be
decided without knowing the connection; everything that depends on state is `connection`'s. Sections are RFC 9113's.
"""

import struct
from typing import Final

import msgspec

from zerogate.errors import ZerogateError

PREFACE_LINE: Final = b"PRI * HTTP/2.0\r\n"
"""No request of HTTP/1.1 begins like this (section 3.4)."""
PREFACE: Final = PREFACE_LINE + b"\r\nSM\r\n\r\n"

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6
ENABLE_CONNECT_PROTOCOL: Final = 0x8
"""RFC 8441."""

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
SETTINGS_TIMEOUT: Final = 0x4
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
CONNECT_ERROR: Final = 0xA
ENHANCE_YOUR_CALM: Final = 0xB
INADEQUATE_SECURITY: Final = 0xC
HTTP_1_1_REQUIRED: Final = 0xD

ERROR_NAMES: Final = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip

DEFAULT_WINDOW: Final = 65_535
MAX_WINDOW: Final = 2**31 - 1
FRAME_BYTES: Final = 16_384
"""The largest payload that every peer takes, and the largest that we take: nothing is gained by more (fairness between
streams, and a frame is kept whole until its end has come)."""
HEADER_BYTES: Final = 9

HEADER: Final = struct.Struct(">IBI")
"""Length and type in one word, flags, stream."""
_SETTING: Final = struct.Struct(">HI")
_GOAWAY: Final = struct.Struct(">II")
WORD: Final = struct.Struct(">I")

_ANY: Final = 0
_ON_STREAM: Final = 1
_ON_CONNECTION: Final = 2


class ViolationError(ZerogateError):
    """The peer broke a rule. `stream` 0: the connection cannot go on; otherwise only that stream ends."""

    def __init__(self, code: int, reason: str, stream: int = 0) -> None:
        self.code = code
        self.reason = reason
        self.stream = stream
        super().__init__(f"{error_name(code)}: {reason}")


class Rule(msgspec.Struct, frozen=True):
    """What a frame of one type must be. `wrong_length_ends` is false where a wrong length ends its stream only."""

    name: str
    where: int
    section: str
    least: int = 0
    most: int = FRAME_BYTES
    wrong_length_ends: bool = True


RULES: Final = {
    DATA: Rule("DATA", _ON_STREAM, "6.1"),
    HEADERS: Rule("HEADERS", _ON_STREAM, "6.2"),
    PRIORITY: Rule("PRIORITY", _ON_STREAM, "6.3", 5, 5, wrong_length_ends=False),
    RST_STREAM: Rule("RST_STREAM", _ON_STREAM, "6.4", 4, 4),
    SETTINGS: Rule("SETTINGS", _ON_CONNECTION, "6.5"),
    PUSH_PROMISE: Rule("PUSH_PROMISE", _ON_STREAM, "6.6"),
    PING: Rule("PING", _ON_CONNECTION, "6.7", 8, 8),
    GOAWAY: Rule("GOAWAY", _ON_CONNECTION, "6.8", 8),
    WINDOW_UPDATE: Rule("WINDOW_UPDATE", _ANY, "6.9", 4, 4),
    CONTINUATION: Rule("CONTINUATION", _ON_STREAM, "6.10"),
}
"""By type; frames of other types are ignored (section 5.5)."""


def check(kind: int, stream: int, length: int) -> None:
    """Hold a frame to the rule of its type; raises ViolationError. `length`: of its payload, in bytes."""
    rule = RULES.get(kind)
    if rule is None:
        return
    if rule.where == _ON_STREAM and not stream:
        raise ViolationError(PROTOCOL_ERROR, f"{rule.name} without a stream (section {rule.section})")
    if rule.where == _ON_CONNECTION and stream:
        raise ViolationError(PROTOCOL_ERROR, f"{rule.name} on a stream (section {rule.section})")
    if not rule.least <= length <= rule.most:
        reason = f"{rule.name} of {length} bytes (section {rule.section})"
        raise ViolationError(FRAME_SIZE_ERROR, reason, 0 if rule.wrong_length_ends else stream)


def without_padding(payload: bytes) -> bytes:
    """The payload of a frame with the flag PADDED, without its padding; raises ViolationError (section 6.1)."""
    if not payload:
        raise ViolationError(FRAME_SIZE_ERROR, "a padded frame without the length of its padding (section 6.1)")
    end = len(payload) - payload[0]
    if end < 1:
        raise ViolationError(PROTOCOL_ERROR, "more padding than payload (section 6.1)")
    return payload[1:end]


def without_priority(block: bytes) -> bytes:
    """What lies behind the priority of a HEADERS frame; priorities are not followed (section 5.3.2)."""
    if len(block) < 5:
        raise ViolationError(FRAME_SIZE_ERROR, "HEADERS with less than a whole priority (section 6.2)")
    return block[5:]


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The settings in order, each with a value that it may have; raises ViolationError (section 6.5.2)."""
    if len(payload) % 6:
        raise ViolationError(FRAME_SIZE_ERROR, "SETTINGS whose length is not a multiple of six (section 6.5)")
    settings = list(_SETTING.iter_unpack(payload))
    for key, value in settings:
        if key in (ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL) and value > 1:
            raise ViolationError(PROTOCOL_ERROR, f"setting {key} is neither 0 nor 1 (section 6.5.2)")
        if key == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ViolationError(FLOW_CONTROL_ERROR, "an initial window above 2^31-1 (section 6.5.2)")
        if key == MAX_FRAME_SIZE and not FRAME_BYTES <= value < 2**24:
            raise ViolationError(PROTOCOL_ERROR, f"a largest frame of {value} bytes (section 6.5.2)")
    return settings


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return HEADER.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings_frame(settings: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(key, value) for key, value in settings.items()))


def reset_frame(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, WORD.pack(code))


def window_frame(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, WORD.pack(increment))


def goaway_frame(last_stream: int, code: int, reason: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last_stream, code) + reason)


def read_goaway(payload: bytes) -> tuple[int, int, bytes]:
    """(last stream, code, what the peer says about it)."""
    last, code = _GOAWAY.unpack_from(payload)
    return last & MAX_WINDOW, code, payload[8:]


def header_frames(stream: int, block: bytes, *, end: bool) -> bytes:
    """A field block as HEADERS with as many CONTINUATION as it takes."""
    flags = END_STREAM if end else 0
    if len(block) <= FRAME_BYTES:
        return HEADER.pack(len(block) << 8 | HEADERS, flags | END_HEADERS, stream) + block
    pieces = [frame(HEADERS, flags, stream, block[:FRAME_BYTES])]
    for at in range(FRAME_BYTES, len(block), FRAME_BYTES):
        is_last = at + FRAME_BYTES >= len(block)
        pieces.append(frame(CONTINUATION, END_HEADERS if is_last else 0, stream, block[at : at + FRAME_BYTES]))
    return b"".join(pieces)


def error_name(code: int) -> str:
    """The name of an error code, for logs and messages."""
    return ERROR_NAMES[code] if code < len(ERROR_NAMES) else f"error {code:#x}"
