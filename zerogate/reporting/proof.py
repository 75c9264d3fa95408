"""How an autoscaler proves itself to a sidecar without TLS, and how both know each other's words from then on. Pure.

A pod's sidecar gets a key of its own when the pod is made. It is derived from a secret that autoscalers alone have, and
from a name that says whose it is, so every autoscaler can make it again and none has to keep it. A stream begins with
a challenge: both sides give a number that was never used before, the autoscaler shows that it has the key, and each
message that follows carries a code over its place in the stream and its text (BLAKE2b with a key, RFC 7693). What was
not said by the other side, or not just then, is a WireError and ends the stream.

Nothing is hidden by that: who overhears a stream can read it, the token as well. The token alone opens nothing, because
a stream needs the key too. Used by `zerogate.reporting.stream` and `autoscaler.stream`.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from zerogate.errors import DefinitionError
from zerogate.reporting.wire import WireError

MASTER_BYTES: Final = 32
NONCE_BYTES: Final = 16
CODE_BYTES: Final = 16
"""128 bits, as TLS has; a stream ends with the first wrong one."""
_KEY: Final = re.compile(r"([0-9a-f]{8}\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9._/-]{1,317}):([0-9a-f]{64})")


class Key(msgspec.Struct, frozen=True):
    """Of one sidecar. `name` is told to everybody, `secret` to nobody."""

    name: str
    secret: bytes

    @property
    def service(self) -> str:
        """Whose pods may have it."""
        return service_of(self.name)

    def text(self) -> str:
        """As a variable of a container has it."""
        return f"{self.name}:{self.secret.hex()}"


def parse_key(text: str) -> Key:
    """What `Key.text` wrote. Raises DefinitionError without a place, and without the text."""
    found = _KEY.fullmatch(text)
    if found is None:
        raise DefinitionError("is not a key of a stream of reports", hint="The injector writes it; it is not shown.")
    return Key(found[1], bytes.fromhex(found[2]))


def new_key(master: bytes, service: str, salt: str) -> Key:
    """The key of a new sidecar. `salt`: at random."""
    return _derived(master, f"{_print(master)}.{salt}.{service}")


def key_named(masters: Iterable[bytes], name: str) -> Key | None:
    """The key of this name; None where none of the masters made it."""
    for master in masters:
        if name.startswith(f"{_print(master)}."):
            return _derived(master, name)
    return None


def service_of(name: str) -> str:
    """The service that stands in a key's name."""
    return name.split(".", 2)[-1]


def _derived(master: bytes, name: str) -> Key:
    return Key(name, hashlib.blake2b(name.encode(), key=master, digest_size=32, person=b"zerogate-key").digest())


def _print(master: bytes) -> str:
    return hashlib.blake2b(b"", key=master, digest_size=4, person=b"zerogate-print").hexdigest()


class Session:
    """One stream's codes, of one side of it. Every message is sealed or opened once, in its order."""

    __slots__ = ("_hear", "_heard", "_proof", "_said", "_say")

    def __init__(self, key: Key, source_nonce: bytes, autoscaler_nonce: bytes, *, is_source: bool) -> None:
        if len(source_nonce) != NONCE_BYTES or len(autoscaler_nonce) != NONCE_BYTES:
            raise WireError(f"a stream begins with {NONCE_BYTES} bytes from both sides")
        what = source_nonce + autoscaler_nonce + key.name.encode()
        shared = hashlib.blake2b(what, key=key.secret, digest_size=32, person=b"zerogate-stream").digest()
        self._proof, source, autoscaler = (
            hashlib.blake2b(b"", key=shared, digest_size=32, person=use).digest()
            for use in (b"zerogate-proof", b"from-source", b"from-autoscaler")
        )
        self._say, self._hear = (source, autoscaler) if is_source else (autoscaler, source)
        self._said = self._heard = 0

    @property
    def proof(self) -> bytes:
        """What an autoscaler shows, and nobody else can."""
        return self._proof

    def is_proven_by(self, proof: bytes) -> bool:
        """Whether an autoscaler showed this."""
        return hmac.compare_digest(self._proof, proof)

    def seal(self, framed: bytes) -> bytes:
        """One message with its length, as `wire.frame` makes it; with its code, as it goes over the stream."""
        body = framed[4:]
        code = _code(self._say, self._said, body)
        self._said += 1
        return (len(body) + CODE_BYTES).to_bytes(4, "big") + body + code

    def open(self, sealed: bytes) -> bytes:
        """The body of the next message. Raises WireError."""
        body, code = sealed[:-CODE_BYTES], sealed[-CODE_BYTES:]
        if not hmac.compare_digest(_code(self._hear, self._heard, body), code):
            raise WireError("a message that the other side did not say, or not just now")
        self._heard += 1
        return body


def _code(key: bytes, number: int, body: bytes) -> bytes:
    return hashlib.blake2b(body, key=key, digest_size=CODE_BYTES, salt=number.to_bytes(16, "big")).digest()
