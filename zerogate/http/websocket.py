"""Frames of a WebSocket (RFC 6455), followed by their headers only. Pure.

Whoever passes frames on has to know three things: where one ends, so that a frame of its own can be put between two;
when a Close has gone by, and with which code; and when the bytes are no frames at all. All of it stands in the headers
(2 to 14 bytes) and in the first two bytes of a Close. Payloads are neither unmasked nor kept, and what extensions mean
by the reserved bits and opcodes is between the two ends, which negotiated them.

Invariant: however the bytes are split, the same boundaries, codes and violations come out. Used by
`zerogate.http.tunnel`, one follower for each direction.
"""

import struct
from typing import Final

GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NO_STATUS: Final = 1005
"""Never on the wire: a Close without a code (RFC 6455 section 7.1.5)."""

_FIN: Final = 0x80
_OPCODE: Final = 0x0F
_CONTROL: Final = 0x08
_CONTINUATION: Final = 0x0
_TEXT_OR_BINARY: Final = (0x1, 0x2)
_CLOSE: Final = 0x8
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_MOST_CONTROL_BYTES: Final = 125
_LONGEST_HEADER: Final = 14
_CODE_BYTES: Final = 2


class FrameFollower:
    """One direction of a WebSocket. `masked`: it comes from the client.

    `violation` says in words what was no frame, and nothing is followed from there on. After a Close nothing is either:
    an end that has said it sends no more, has said all.
    """

    __slots__ = (
        "_close", "_header", "_is_masked", "_left", "_mask", "_opcode", "_within", "close_code", "has_data",
        "violation",
    )  # fmt: skip

    def __init__(self, *, masked: bool) -> None:
        self._is_masked = masked
        self._header = b""
        """The beginning of a header whose rest has not come."""
        self._left = 0
        """Bytes of the present frame's payload that have not come."""
        self._opcode = 0
        self._within = False
        """Between the fragments of a message."""
        self._mask = b""
        self._close = b""
        """As much of a Close's payload as holds its code."""
        self.close_code: int | None = None
        """Of the Close that has gone by whole; None before it."""
        self.has_data = False
        """A piece of a data frame came by; whoever has seen it sets it back."""
        self.violation = ""

    @property
    def is_over(self) -> bool:
        """Whether no further frame can come this way."""
        return self.close_code is not None or bool(self.violation)

    @property
    def is_at_boundary(self) -> bool:
        """Whether a frame of somebody else may be put here, between two frames or fragments."""
        return not self._left and not self._header

    def feed(self, data: bytes, *, to_boundary: bool = False) -> int:
        """Follow `data`; returns how many of its bytes belong to frames: all, or less before a violation or behind a
        Close. With `to_boundary` it goes no further than the first boundary."""
        at, size = 0, len(data)
        while at < size and not self.is_over:
            at = self._pass_payload(data, at, size) if self._left else self._read_header(data, at, size)
            if to_boundary and self.is_at_boundary:
                break
        return at

    def _pass_payload(self, data: bytes, at: int, size: int) -> int:
        step = min(self._left, size - at)
        if self._opcode == _CLOSE:
            self._close += data[at : at + min(step, _CODE_BYTES - len(self._close))]
        elif self._opcode < _CONTROL:
            self.has_data = True
        self._left -= step
        if not self._left:
            self._end_frame()
        return at + step

    def _read_header(self, data: bytes, at: int, size: int) -> int:
        """Read what is left of a header; where it is none, `at` stays before its bytes."""
        known = len(self._header)
        header = self._header + data[at : at + _LONGEST_HEADER - known]
        if len(header) >= 2:
            self.violation = self._violation_of(header[0], header[1])
            if self.violation:
                return at
            length = header[1] & _LENGTH
            extended = 2 if length == 126 else 8 if length == 127 else 0
            end = 2 + extended + (4 if self._is_masked else 0)
            if len(header) >= end:
                if extended:
                    length = int.from_bytes(header[2 : 2 + extended], "big")
                if length >> 63:
                    self.violation = "a length of more than 63 bits"
                    return at
                self._begin_frame(header, length, header[2 + extended : end])
                return at + end - known
        self._header = header
        return size

    def _violation_of(self, first: int, second: int) -> str:
        """What is wrong with the first two bytes of a header, or nothing (RFC 6455 sections 5.1, 5.4 and 5.5)."""
        opcode = first & _OPCODE
        if bool(second & _MASKED) is not self._is_masked:
            return "a frame without a mask" if self._is_masked else "a frame with a mask"
        if opcode & _CONTROL:
            if not first & _FIN:
                return "a control frame in fragments"
            if second & _LENGTH > _MOST_CONTROL_BYTES:
                return f"a control frame of more than {_MOST_CONTROL_BYTES} bytes"
        elif opcode == _CONTINUATION and not self._within:
            return "a continuation of no message"
        elif opcode in _TEXT_OR_BINARY and self._within:
            return "a new message inside another"
        return ""

    def _begin_frame(self, header: bytes, length: int, mask: bytes) -> None:
        self._header = b""
        self._opcode = opcode = header[0] & _OPCODE
        self._left = length
        self._mask = mask
        if not opcode & _CONTROL:
            self._within = not header[0] & _FIN
            self.has_data = True
        if not length:
            self._end_frame()

    def _end_frame(self) -> None:
        if self._opcode != _CLOSE:
            return
        code = self._close
        if self._is_masked:
            code = bytes(byte ^ key for byte, key in zip(code, self._mask, strict=False))
        self.close_code = int.from_bytes(code, "big") if len(code) == _CODE_BYTES else NO_STATUS


def close_frame(code: int, *, mask: bytes = b"") -> bytes:
    """A Close with this code; with a mask of four bytes as a client sends it."""
    payload = struct.pack("!H", code)
    if not mask:
        return bytes((_FIN | _CLOSE, len(payload))) + payload
    masked = bytes(byte ^ key for byte, key in zip(payload, mask, strict=False))
    return bytes((_FIN | _CLOSE, _MASKED | len(payload))) + mask + masked
