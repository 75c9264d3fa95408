"""The fields of a head as they came, and what they mean: one meaning or a refusal. Pure.

llhttp has already refused what breaks the grammar (bare CR or LF, obs-fold, whitespace before a colon, two lengths,
length and chunked together). It lets pass several Hosts, transfer codings other than exactly "chunked", versions that
are not spoken, and targets of every form: those are decided here. Hop-by-hop fields, those named in Connection, and all
framing stay behind. Called by the readers of `h1`, and by `h2` for requests that it has checked by its own rules.
"""

import re
from typing import Final

from zerogate.http.grpc import is_grpc, parse_timeout
from zerogate.http.heads import (
    LOOK_ALIKES,
    MAX_TARGET_BYTES,
    REQUEST_SPECIAL,
    RESPONSE_SPECIAL,
    BadMessageError,
    Field,
    RequestHead,
    ResponseHead,
)
from zerogate.names import HOLDER, NOT_SENT

_LOOKED_AT: Final = frozenset({b"content-type", b"content-encoding", b"prefer", b"user-agent"})
"""Passed on like any other field, and of use here."""
_NOT_PLAIN: Final = REQUEST_SPECIAL | LOOK_ALIKES | _LOOKED_AT
_GRPC_TIMEOUT: Final = re.compile(rb"(?:(?<=\r\n)|\A)grpc-timeout: ([^\r\n]*)\r\n", re.IGNORECASE)
_HOST: Final = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=-]*(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)([/?].*)?", re.IGNORECASE | re.DOTALL)
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_ELSEWHERE: Final = frozenset(
    {b"ANNOUNCE", b"DESCRIBE", b"FLUSH", b"GET_PARAMETER", b"PAUSE", b"PLAY", b"RECORD", b"REDIRECT", b"SET_PARAMETER",
     b"SETUP", b"SOURCE", b"TEARDOWN"}
)  # fmt: skip
"""Methods of RTSP and of Icecast, which llhttp reads as well and tells apart from HTTP by the first line alone."""
_WAIT: Final = re.compile(rb"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,6})", re.IGNORECASE)


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
    if method in _ELSEWHERE:
        raise BadMessageError(f"{method.decode()} is not a method of HTTP")
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
    elif key in LOOK_ALIKES:
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


def parse_response(status: int, reason: bytes, version: str, fields: list[Field], *, keep_alive: bool) -> ResponseHead:
    """The meaning of a response head; raises BadMessageError."""
    if version != "1.1" and version != "1.0":
        raise BadMessageError(f"the replica answered in HTTP/{version}, and HTTP/1.1 was asked for", 502)
    if not 100 <= status <= 599:
        raise BadMessageError("the answer's status is not from 100 to 599 (RFC 9110 section 15)", 502)
    if reason != b"OK" and _CONTROL.search(reason) is not None:
        raise BadMessageError("the answer's reason has a control character", 502)
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
