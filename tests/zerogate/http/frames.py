"""WebSocket frames as bytes, for tests."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def frame(opcode: int, payload: bytes, *, mask: bytes = b"", fin: bool = True, reserved: int = 0) -> bytes:
    """One frame; `reserved` are its three bits."""
    size = len(payload)
    first = bytes(((0x80 if fin else 0) | reserved << 4 | opcode,))
    flag = 0x80 if mask else 0
    if size <= 125:
        length = bytes((flag | size,))
    elif size < 1 << 16:
        length = bytes((flag | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((flag | 127,)) + size.to_bytes(8, "big")
    if mask:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return first + length + mask + payload


def closing(code: int, reason: bytes = b"", *, mask: bytes = b"") -> bytes:
    """A Close."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason, mask=mask)
