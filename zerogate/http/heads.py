"""Heads of HTTP messages as values: each has one meaning. Pure.

What a request's and an answer's head say, whatever version they came in; which fields are a hop's own and stay behind;
how much a head may be. `parse_heads` makes them of HTTP/1.1's fields, `write_heads` makes bytes of them again, and
`zerogate.http.h2` does the same for its version.
"""

from typing import Final

from zerogate.errors import ZerogateError
from zerogate.names import HOLDER, NOT_SENT

MAX_HEAD_BYTES: Final = 64 * 1024
"""The same as llama.cpp and Node allow; nginx and uvicorn take less, so no replica needs more."""
MAX_FIELDS: Final = 128
"""Go and Apache allow about 100; browsers and SDKs send fewer than 30."""
MAX_TARGET_BYTES: Final = 16 * 1024

UNIX_PEER: Final = b"unix"
"""What stands for the address of a client of a Unix socket."""

Field = tuple[bytes, bytes]

_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade", b"trailer",
     b"content-length", b"proxy-authenticate", b"proxy-authorization"}
)  # fmt: skip
RESPONSE_SPECIAL: Final = _HOP_BY_HOP | {NOT_SENT}
"""Fields of an answer that are not passed on."""
REQUEST_SPECIAL: Final = _HOP_BY_HOP | {
    b"host", b"expect", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded", HOLDER,
    b"x-forwarded-client-cert", b"client-cert", b"client-cert-chain",
}  # fmt: skip
"""Those of the last line say who the client has proved to be: whoever may write them may be anyone, so they are dropped
on every port, and only `zerogate.http.client_identity` writes one."""
LOOK_ALIKES: Final = frozenset({name.replace(b"-", b"_") for name in REQUEST_SPECIAL if b"-" in name})
"""Servers that hand fields on as CGI's variables cannot tell these from ours: `X_Forwarded_For` is a way around us."""
_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
_FORBIDDEN_IN_TRAILERS: Final = (
    REQUEST_SPECIAL
    | LOOK_ALIKES
    | {
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"set-cookie",
    }
)


class BadMessageError(ZerogateError):
    """A message with no single meaning. `status` is what a client is told."""

    def __init__(self, detail: str, status: int = 400) -> None:
        self.status = status
        super().__init__(detail)


def field_of(lines: bytes, name: bytes) -> bytes | None:
    """The value of the first field called `name` (lower case) in serialised lines, or None."""
    for line in lines.split(b"\r\n"):
        key, _, value = line.partition(b": ")
        if key.lower() == name:
            return value
    return None


class RequestHead:
    """A request head with one meaning.

    `lines` are the end-to-end fields, serialised, without Host, framing and forwarding fields. `content_length` is
    None where there is no such field; a request with neither it nor `chunked` has no body. Not changed once parsed:
    requests with the same bytes share it (`memo`).
    """

    __slots__ = (
        "accepts_trailers", "chunked", "content_encoding", "content_length", "content_type", "expects_continue",
        "field_count", "forwarded", "forwarded_for", "forwarded_host", "forwarded_proto", "has_body", "holder", "host",
        "http_1_0", "is_grpc", "is_idempotent", "is_plain", "keep_alive", "lines", "method", "placed", "sent",
        "sent_fields", "target", "timeout_s", "upgrade", "user_agent", "wait_s", "wants_upgrade", "websocket_key",
    )  # fmt: skip

    def __init__(self, method: bytes, field_count: int, *, http_1_0: bool, keep_alive: bool) -> None:
        self.method = method
        self.field_count = field_count
        """Fields that came, those left out of `lines` too."""
        self.http_1_0 = http_1_0
        self.keep_alive = keep_alive
        self.is_plain = keep_alive and not http_1_0
        """Whether its answer needs no word about the connection."""
        self.placed: tuple[object, object] | None = None
        """A table of routes, and who takes by it whatever has this head: for whoever places requests."""
        self.sent: tuple[bytes, object, object, bytes] | None = None
        """Client, way, arrival and result of the last `request_bytes`: made once for all that share this head."""
        self.sent_fields: tuple[bytes, object, object, list[tuple[bytes, bytes, bool]]] | None = None
        """The same for HTTP/2."""
        self.is_idempotent = method in _IDEMPOTENT
        """Whether sending it twice means the same as once (RFC 9110 section 9.2.2)."""
        self.has_body = False
        """Whether bytes of a body follow the head."""
        self.accepts_trailers = False
        self.is_grpc = False
        """Whether its client reads `grpc-status` instead of the status."""
        self.timeout_s: float | None = None
        """What a client of gRPC allows for the whole, from the head on; not among `lines`."""
        self.target = b""
        self.host = b""
        self.lines = b""
        self.content_length: int | None = None
        self.content_encoding: bytes | None = None
        self.content_type: bytes | None = None
        self.user_agent = b""
        self.chunked = False
        self.expects_continue = False
        self.upgrade: bytes | None = None
        self.wants_upgrade = False
        """The Connection field names the upgrade."""
        self.websocket_key: bytes | None = None
        """Set where the request opens a WebSocket: see `zerogate.http.handshake`."""
        self.wait_s: float | None = None
        self.holder: bytes | None = None
        """The gateway that says it sends this; believed by sidecars only, and never passed on."""
        self.forwarded = b""
        self.forwarded_for = b""
        self.forwarded_host = b""
        self.forwarded_proto = b""

    def field(self, name: bytes) -> bytes | None:
        """The value of the first end-to-end field called `name` (lower case), or None."""
        return field_of(self.lines, name)

    @property
    def can_be_kept(self) -> bool:
        """Whether the parser can be left out when the same bytes come again: what follows can be counted."""
        return self.keep_alive and not self.chunked and self.upgrade is None


class ResponseHead:
    """A response head with one meaning; `lines` are the end-to-end fields, serialised."""

    __slots__ = (
        "chunked", "content_length", "field_count", "keep_alive", "lines", "not_sent", "reason", "status", "whole"
    )  # fmt: skip

    def __init__(
        self, *, status: int, reason: bytes, lines: bytes, content_length: int | None, chunked: bool,
        keep_alive: bool, field_count: int, not_sent: bool = False,
    ) -> None:  # fmt: skip
        self.status = status
        self.reason = reason
        self.lines = lines
        self.content_length = content_length
        self.chunked = chunked
        self.keep_alive = keep_alive
        self.field_count = field_count
        self.not_sent = not_sent
        """It says that no replica saw the request: to be believed of a sidecar only."""
        self.whole = b""
        """The head with its length as it goes to a client whose connection stays; made where it is used often."""

    @property
    def can_be_kept(self) -> bool:
        """Whether the parser can be left out when the same bytes come again: what follows can be counted."""
        return (
            self.content_length is not None
            and self.keep_alive
            and not self.not_sent
            and not self.chunked
            and not has_no_body(self.status, b"GET")
        )


def has_no_body(status: int, method: bytes) -> bool:
    """Whether a response to `method` with `status` ends with its head (RFC 9112 section 6.3)."""
    return method == b"HEAD" or status == 204 or status == 304 or status < 200


def head_size(fields: list[Field]) -> int:
    """Bytes of the lines of these fields."""
    return sum(len(name) + len(value) + 4 for name, value in fields)


def may_trail(name: bytes) -> bool:
    """Whether a field may stand in trailers (RFC 9110 section 6.5.1)."""
    return name.lower() not in _FORBIDDEN_IN_TRAILERS
