"""Heads of HTTP/1.1 messages: one meaning or a refusal, and their serialisation from that meaning. Pure.

llhttp has already refused what breaks the grammar (bare CR or LF, obs-fold, whitespace before a colon, two lengths,
length and chunked together). It lets pass several Hosts, transfer codings other than exactly "chunked", and targets
of every form: those are decided here. What is passed on is written anew from the parsed fields: hop-by-hop fields,
those named in Connection, and all framing stay behind. Called by the protocols of `h1` and `h2`.
"""

import re
from typing import Final

from zerogate.errors import ZerogateError
from zerogate.http.grpc import format_timeout, is_grpc, parse_timeout
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
_REQUEST_SPECIAL: Final = _HOP_BY_HOP | {
    b"host", b"expect", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded", HOLDER,
    b"x-forwarded-client-cert", b"client-cert", b"client-cert-chain",
}  # fmt: skip
"""Those of the last line say who the client has proved to be: whoever may write them may be anyone, so they are dropped
on every port, and only `zerogate.http.client_identity` writes one."""
_LOOK_ALIKES: Final = frozenset({name.replace(b"-", b"_") for name in _REQUEST_SPECIAL if b"-" in name})
"""Servers that hand fields on as CGI's variables cannot tell these from ours: `X_Forwarded_For` is a way around us."""
_LOOKED_AT: Final = frozenset({b"content-type", b"content-encoding", b"prefer", b"user-agent"})
"""Passed on like any other field, and of use here."""
_NOT_PLAIN: Final = _REQUEST_SPECIAL | _LOOK_ALIKES | _LOOKED_AT
_GRPC_TIMEOUT: Final = re.compile(rb"(?:(?<=\r\n)|\A)grpc-timeout: ([^\r\n]*)\r\n", re.IGNORECASE)
_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
_FORBIDDEN_IN_TRAILERS: Final = (
    _REQUEST_SPECIAL
    | _LOOK_ALIKES
    | {
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"set-cookie",
    }
)
_HOST: Final = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=-]*(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)([/?].*)?", re.IGNORECASE | re.DOTALL)
_WAIT: Final = re.compile(rb"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,6})", re.IGNORECASE)


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


def parse_request(method: bytes, target: bytes, version: str, fields: list[Field], *, keep_alive: bool) -> RequestHead:
    """The meaning of a request head; raises BadMessageError. `fields` are as they came, names in any case."""
    if version != "1.1" and version != "1.0":
        raise BadMessageError(f"HTTP/{version} is not spoken here, only HTTP/1.1, HTTP/1.0 and HTTP/2", 505)
    head = RequestHead(method, len(fields), http_1_0=version == "1.0", keep_alive=keep_alive)
    host: bytes | None = None
    lines: list[bytes] = []
    dropped: frozenset[bytes] = frozenset()
    for name, value in fields:
        key = name.lower()
        if key not in _NOT_PLAIN:
            lines += (name, b": ", value, b"\r\n")
        elif key in _LOOKED_AT:
            lines += (name, b": ", value, b"\r\n")
            _look_at(head, key, value)
        elif key == b"host":
            if host is not None:
                raise BadMessageError("the request has more than one Host field")
            host = value
        elif key == b"content-length":
            head.content_length = int(value)
        elif key == b"connection":
            options = {option.strip().lower() for option in value.split(b",")}
            dropped |= options - {b"close", b"keep-alive", b"te", b"upgrade", b""}
            if b"upgrade" in options:
                head.wants_upgrade = True
        else:
            _take_special(head, key, value)
    if method == b"CONNECT":
        raise BadMessageError("CONNECT is not served: this is not a forward proxy", 405)
    _take_target(head, target, host)
    head.lines = b"".join(_without(lines, dropped) if dropped else lines)
    if is_grpc(head.content_type):
        take_grpc(head)
    head.has_body = head.chunked or bool(head.content_length)
    return head


def _without(lines: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    """Drop the fields with these names; a field is four entries of `lines`."""
    kept = (lines[at : at + 4] for at in range(0, len(lines), 4) if lines[at].lower() not in names)
    return [piece for field in kept for piece in field]


def take_grpc(head: RequestHead) -> None:
    """Read what a request of gRPC says about itself. Raises BadMessageError for a deadline that cannot be read."""
    head.is_grpc = True
    found = _GRPC_TIMEOUT.findall(head.lines)
    if found:
        head.timeout_s = parse_timeout(found[0]) if len(found) == 1 else None
        if head.timeout_s is None:
            raise BadMessageError("grpc-timeout is not given once, as up to 8 digits and one of H, M, S, m, u, n")
        head.lines = _GRPC_TIMEOUT.sub(b"", head.lines)


def _look_at(head: RequestHead, key: bytes, value: bytes) -> None:
    if key == b"user-agent":
        head.user_agent = value
    elif key == b"content-type":
        head.content_type = value
    elif key == b"content-encoding":
        head.content_encoding = value
    elif match := _WAIT.search(value):
        head.wait_s = float(match[1])


def _take_special(head: RequestHead, key: bytes, value: bytes) -> None:
    if key == b"transfer-encoding":
        if head.chunked or value.strip(b" ").lower() != b"chunked" or head.http_1_0:
            raise BadMessageError("the only transfer coding that is taken is a single chunked, in HTTP/1.1", 501)
        head.chunked = True
    elif key == b"expect":
        if value.lower() != b"100-continue":
            raise BadMessageError("the only expectation that is met is 100-continue", 417)
        head.expects_continue = not head.http_1_0
    elif key == b"te":
        head.accepts_trailers = b"trailers" in value.lower()
    elif key == b"upgrade":
        head.upgrade = head.upgrade + b", " + value.lower() if head.upgrade else value.lower()
    elif key == HOLDER:
        head.holder = value
    elif key == b"forwarded":
        head.forwarded = head.forwarded + b", " + value if head.forwarded else value
    elif key == b"x-forwarded-for":
        head.forwarded_for = head.forwarded_for + b", " + value if head.forwarded_for else value
    elif key == b"x-forwarded-proto":
        head.forwarded_proto = value
    elif key == b"x-forwarded-host":
        head.forwarded_host = value
    elif key in _LOOK_ALIKES:
        raise BadMessageError(f"the field {key.decode()} could be taken for {key.replace(b'_', b'-').decode()}")


def _take_target(head: RequestHead, target: bytes, host: bytes | None) -> None:
    if len(target) > MAX_TARGET_BYTES:
        raise BadMessageError(f"the request target is longer than {MAX_TARGET_BYTES} bytes", 414)
    if host is None and not head.http_1_0:
        raise BadMessageError("an HTTP/1.1 request needs a Host field")
    if not target.startswith(b"/") and not (target == b"*" and head.method == b"OPTIONS"):
        match = _ABSOLUTE.fullmatch(target)
        if match is None:
            raise BadMessageError("the request target has to begin with / or be an absolute http URL")
        # RFC 9112 section 3.2.2: the authority of an absolute-form target replaces the Host field
        host = match[1]
        rest = match[2] or b"/"
        target = rest if rest.startswith(b"/") else b"/" + rest
    if host is not None and _HOST.fullmatch(host) is None:
        raise BadMessageError("the Host field is not a host name with an optional port")
    if b"#" in target:
        raise BadMessageError("the request target has a fragment")
    head.target = target
    head.host = host or b""


def framing_line(head: RequestHead) -> bytes:
    """The field that says where the body of this request ends, or nothing."""
    if head.chunked:
        return b"Transfer-Encoding: chunked\r\n"
    return b"Content-Length: %d\r\n" % head.content_length if head.content_length is not None else b""


def _for_sidecar(head: RequestHead, holder: bytes) -> bytes:
    """Our own name, and that trailers are taken: a server of gRPC behind the sidecar breaks off without that word."""
    name = b"%b: %b\r\n" % (HOLDER, holder)
    return name + b"Connection: TE\r\nTE: trailers\r\n" if head.accepts_trailers else name


def request_bytes(
    head: RequestHead, *, client: bytes, host: bytes | None = None, holder: bytes | None = None,
    proto: bytes = b"http", identity: bytes = b"", left_s: float | None = None, lines: bytes | None = None,
) -> bytes:  # fmt: skip
    """The head as it goes to a replica.

    `client`: the peer's address; `host`: written instead of the client's own; `holder`: our own name, for a sidecar;
    `identity`: a whole line about who the client has proved to be; `left_s`: of the time that a client of gRPC allows;
    `lines`: sent instead of the head's own.
    """
    own = head.host
    node = b'"[%b]"' % client if b":" in client else client if client != UNIX_PEER else b"_unix"
    element = b"for=%b;host=%b;proto=%b" % (node, own if own.isalnum() else b'"%b"' % own, proto)
    framing = framing_line(head) if head.websocket_key is None else b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    if left_s is not None:
        framing += b"grpc-timeout: %b\r\n" % format_timeout(left_s)
    return b"".join(
        (
            head.method, b" ", head.target, b" HTTP/1.1\r\nHost: ", own if host is None else host, b"\r\n",
            head.lines if lines is None else lines, framing, identity,
            b"" if holder is None else _for_sidecar(head, holder),
            b"X-Forwarded-For: ", head.forwarded_for, b", " if head.forwarded_for else b"", client,
            b"\r\nX-Forwarded-Proto: ", head.forwarded_proto or proto,
            b"\r\nX-Forwarded-Host: ", head.forwarded_host or own,
            b"\r\nForwarded: ", head.forwarded, b", " if head.forwarded else b"", element, b"\r\n\r\n",
        )
    )  # fmt: skip


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


def parse_response(status: int, reason: bytes, version: str, fields: list[Field], *, keep_alive: bool) -> ResponseHead:
    """The meaning of a response head; raises BadMessageError."""
    if not 100 <= status <= 599:
        raise BadMessageError("the answer's status is not from 100 to 599 (RFC 9110 section 15)", 502)
    lines: list[bytes] = []
    content_length: int | None = None
    chunked = not_sent = False
    dropped: frozenset[bytes] = frozenset()
    for name, value in fields:
        key = name.lower()
        if key not in RESPONSE_SPECIAL:
            lines += (name, b": ", value, b"\r\n")
        elif key == b"content-length":
            content_length = int(value)
        elif key == b"transfer-encoding":
            if chunked or value.strip(b" ").lower() != b"chunked" or version == "1.0":
                raise BadMessageError("the replica used a transfer coding other than chunked", 502)
            chunked = True
        elif key == b"connection":
            options = {option.strip().lower() for option in value.split(b",")}
            dropped |= options - {b"close", b"keep-alive", b"upgrade", b""}
        elif key == b"trailer":
            lines += (b"Trailer", b": ", value, b"\r\n")
        elif key == NOT_SENT:
            not_sent = True
    if dropped:
        lines = _without(lines, dropped)
    return ResponseHead(
        status=status,
        reason=reason,
        lines=b"".join(lines),
        content_length=content_length,
        chunked=chunked,
        keep_alive=keep_alive,
        field_count=len(fields),
        not_sent=not_sent,
    )


def response_bytes(head: ResponseHead) -> bytes:
    """The head of an answer with a length as it goes to a client whose connection stays."""
    return b"HTTP/1.1 %d %b\r\n%bContent-Length: %d\r\n\r\n" % (
        head.status, head.reason, head.lines, head.content_length or 0,
    )  # fmt: skip


def has_no_body(status: int, method: bytes) -> bool:
    """Whether a response to `method` with `status` ends with its head (RFC 9112 section 6.3)."""
    return method == b"HEAD" or status == 204 or status == 304 or status < 200


def head_size(fields: list[Field]) -> int:
    """Bytes of the lines of these fields."""
    return sum(len(name) + len(value) + 4 for name, value in fields)


def may_trail(name: bytes) -> bool:
    """Whether a field may stand in trailers (RFC 9110 section 6.5.1)."""
    return name.lower() not in _FORBIDDEN_IN_TRAILERS


def trailer_bytes(trailers: list[Field]) -> bytes:
    """The last chunk with its trailers; fields that must not stand there are left out."""
    if not trailers:
        return b"0\r\n\r\n"
    lines = [b"%b: %b\r\n" % field for field in trailers if may_trail(field[0])]
    return b"0\r\n" + b"".join(lines) + b"\r\n"
