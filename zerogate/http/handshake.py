"""The opening handshake of a WebSocket (RFC 6455 section 4), checked on both sides. Pure.

A client's offer is read from its request's head; a replica's 101 is held to the key that went out with it. An offer
that is none (another protocol, HTTP/1.0, no `upgrade` in Connection) leaves the request a plain one, as RFC 9110
section 7.8 lets a server do; one that is meant for a WebSocket and wrong is refused, so that no replica can take for an
upgrade what was none here. An offer that is answered with anything but a 101 ends its connection: what lies behind it
would be frames for one and a request for another. Called by the protocols of `zerogate.http.h1` and `h2`.
"""

import base64
import binascii
from typing import Final

from zerogate.http.heads import BadMessageError, Field, RequestHead

WEBSOCKET: Final = b"websocket"
VERSION: Final = b"13"
KEY_BYTES: Final = 16
KEY: Final = b"sec-websocket-key"
ACCEPT: Final = b"sec-websocket-accept"
_VERSION: Final = b"sec-websocket-version"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 section 1.3."""


def take_offer(head: RequestHead) -> None:
    """Note in the head that it opens a WebSocket, if it does. Raises BadMessageError for a wrong offer."""
    if head.http_1_0 or not head.wants_upgrade or head.upgrade is None:
        return
    if WEBSOCKET not in _tokens(head.upgrade):
        return
    if head.method != b"GET":
        raise BadMessageError("a WebSocket is opened with GET")
    if head.has_body:
        raise BadMessageError("a request that opens a WebSocket has no body")
    fields = _values(head.lines, (KEY, _VERSION))
    _check_version(fields[_VERSION])
    keys = fields[KEY]
    if len(keys) != 1 or _nonce(keys[0]) is None:
        raise BadMessageError(f"a WebSocket needs one Sec-WebSocket-Key of {KEY_BYTES} bytes in base64")
    head.websocket_key = keys[0].strip()
    head.content_length = None
    head.keep_alive = head.is_plain = False


def take_connect(head: RequestHead, nonce: bytes) -> None:
    """The same for an extended CONNECT (RFC 8441), which has no key: `nonce`, 16 random bytes, is what the replica is
    asked with over HTTP/1.1."""
    fields = _values(head.lines, (KEY, _VERSION))
    _check_version(fields[_VERSION])
    if fields[KEY]:
        raise BadMessageError("an extended CONNECT has no Sec-WebSocket-Key")
    head.websocket_key = base64.b64encode(nonce)
    head.lines += b"Sec-WebSocket-Key: %b\r\n" % head.websocket_key


def _check_version(versions: list[bytes]) -> None:
    if [version.strip() for version in versions] != [VERSION]:
        raise BadMessageError("the only version of WebSocket that is spoken is 13", 426)


def check_acceptance(fields: list[Field], key: bytes) -> None:
    """Hold a replica's 101 to the `key` that it was sent. Raises BadMessageError."""
    upgrades = [value for name, value in fields if name.lower() == b"upgrade"]
    options = [value for name, value in fields if name.lower() == b"connection"]
    accepts = [value.strip() for name, value in fields if name.lower() == ACCEPT]
    if len(upgrades) != 1 or upgrades[0].strip().lower() != WEBSOCKET:
        raise BadMessageError("the replica did not upgrade to a WebSocket", 502)
    if not any(b"upgrade" in _tokens(value) for value in options):
        raise BadMessageError("the replica's Connection field does not name the upgrade", 502)
    if accepts != [accept_of(key)]:
        raise BadMessageError("the replica's Sec-WebSocket-Accept does not answer the key", 502)


def accept_of(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers a key (RFC 6455 section 4.2.2)."""
    import hashlib  # late: with OpenSSL behind it, it takes 2 ms and 4 MiB that a sidecar without WebSockets spares

    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def mask_of(key: bytes) -> bytes:
    """A mask for a frame of our own toward the replica: bytes that no script in a browser can choose."""
    return base64.b64decode(key)[:4]


def _nonce(key: bytes) -> bytes | None:
    try:
        nonce = base64.b64decode(key.strip(), validate=True)
    except binascii.Error:
        return None
    return nonce if len(nonce) == KEY_BYTES else None


def _tokens(value: bytes) -> set[bytes]:
    return {token.strip().lower() for token in value.split(b",")}


def _values(lines: bytes, names: tuple[bytes, ...]) -> dict[bytes, list[bytes]]:
    """All values of these fields (lower case) among serialised ones."""
    found: dict[bytes, list[bytes]] = {name: [] for name in names}
    for line in lines.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        values = found.get(name.lower())
        if values is not None:
            values.append(value)
    return found
