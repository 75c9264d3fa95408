"""The PROXY protocol, versions 1 and 2: who a balancer says it speaks for. Pure.

One header at the very beginning of a connection, before TLS. `parse` is called with all bytes so far until it returns
a `ProxyHeader` or raises; while it returns None, every byte belongs to the header. Written after HAProxy's
`proxy-protocol.txt`. Who may be believed is decided by the caller: whoever may write a header may be anyone.
"""

import re
from ipaddress import ip_address
from typing import Final

import msgspec

from zerogate.errors import ZerogateError

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
LONGEST_V1: Final = 107
"""By the specification, with its end of line."""
LONGEST_V2: Final = 4096
"""A whole header. The addresses take 52 bytes; the rest are TLVs, of which a client's certificate name is the longest
that balancers send. The format would allow 64 KiB."""

_V1: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [ -~]*)?|TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (\d{1,5}) (\d{1,5}))"
)
_V1_START: Final = b"PROXY "
_HEAD_BYTES: Final = 16
_LOCAL, _PROXY = 0, 1
_ADDRESS_BYTES: Final = {0x1: (4, 12), 0x2: (16, 36), 0x3: (0, 216)}
"""By address family: bytes of one address that is understood, and bytes of the whole block."""
_STREAM: Final = 1


class ProxyHeaderError(ZerogateError):
    """The bytes are no PROXY header, or one that cannot be followed."""


class ProxyHeader(msgspec.Struct, frozen=True):
    """`client`: the address it speaks for, as text; None where it speaks for itself (a health check), or of no address
    of a network. `size`: bytes of the header; what lies behind is the connection's own."""

    client: str | None
    size: int


def parse(data: bytes) -> ProxyHeader | None:
    """The header at the beginning of `data`, or None where more bytes are needed. Raises ProxyHeaderError."""
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _parse_v2(data)
    if data[: len(_V1_START)] == _V1_START[: len(data)]:
        return _parse_v1(data)
    raise ProxyHeaderError("the connection does not begin with a PROXY header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, LONGEST_V1)
    if end < 0:
        if len(data) >= LONGEST_V1:
            raise ProxyHeaderError(f"a PROXY header of version 1 is longer than {LONGEST_V1} bytes")
        return None
    match = _V1.fullmatch(data, 0, end)
    if match is None:
        raise ProxyHeaderError("the PROXY header of version 1 is malformed")
    version, source, destination, *ports = match.groups()
    if version is None:
        return ProxyHeader(None, end + 2)
    if any(int(port) > 65535 or (len(port) > 1 and port[:1] == b"0") for port in ports):
        raise ProxyHeaderError("the PROXY header of version 1 has no valid port")
    _address(destination.decode(), int(version))
    return ProxyHeader(_address(source.decode(), int(version)), end + 2)


def _address(text: str, version: int) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        raise ProxyHeaderError("the PROXY header of version 1 has no valid address") from None
    if address.version != version:
        raise ProxyHeaderError("the PROXY header of version 1 has an address of another family than it says")
    return str(address)


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _HEAD_BYTES:
        return None
    version, command = data[12] >> 4, data[12] & 0x0F
    family, protocol = data[13] >> 4, data[13] & 0x0F
    size = _HEAD_BYTES + int.from_bytes(data[14:16], "big")
    if version != 2 or command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("the PROXY header of version 2 has an unknown version or command")
    if size > LONGEST_V2:
        raise ProxyHeaderError(f"the PROXY header of version 2 is longer than {LONGEST_V2} bytes")
    if command == _PROXY and data[13]:
        _check_block(family, protocol, size - _HEAD_BYTES)
    if len(data) < size:
        return None
    if command == _LOCAL or family not in (0x1, 0x2):
        return ProxyHeader(None, size)
    address_bytes, _ = _ADDRESS_BYTES[family]
    return ProxyHeader(str(ip_address(data[_HEAD_BYTES : _HEAD_BYTES + address_bytes])), size)


def _check_block(family: int, protocol: int, block_bytes: int) -> None:
    if family not in _ADDRESS_BYTES or protocol != _STREAM:
        raise ProxyHeaderError("the PROXY header of version 2 is not about a stream")
    if block_bytes < _ADDRESS_BYTES[family][1]:
        raise ProxyHeaderError("the PROXY header of version 2 is too short for its addresses")
