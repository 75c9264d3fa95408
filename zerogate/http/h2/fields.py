"""Field sections of HTTP/2 and the heads of `zerogate.http.heads`: one meaning, or refused. Pure.

What comes from an HTTP/2 peer is written into HTTP/1.1 later, so nothing that means something else there may pass: line
breaks, colons in names, connection fields, a second length (RFC 9113 sections 8.2, 8.3 and 10.3). A section that breaks
the grammar is *malformed* (ViolationError, its stream is reset with PROTOCOL_ERROR); a well-formed request that is not
taken is a BadMessageError with the status to answer. The rest of the meaning is `parse_request`'s, for both versions.
"""

import re
from typing import Final

from zerogate.http.h1.memo import KEPT_BYTES, HeadMemo
from zerogate.http.h2.frames import PROTOCOL_ERROR, ViolationError
from zerogate.http.h2.hpack import HpackField, list_bytes
from zerogate.http.handshake import WEBSOCKET
from zerogate.http.heads import MAX_FIELDS, MAX_HEAD_BYTES, BadMessageError, Field, RequestHead, ResponseHead
from zerogate.http.parse_heads import parse_request

REQUEST_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
RESPONSE_PSEUDO: Final = frozenset({b":status"})
NO_PSEUDO: Final[frozenset[bytes]] = frozenset()

_CONNECTION_FIELDS: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_NAMES: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]*")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\n[ \t]|[ \t]\n")
"""In values joined by line feeds: control characters, whitespace at an end (section 8.2.1)."""
_PATH: Final = re.compile(rb"/[\x21-\x7e]*|\*")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")

_REQUESTS: Final[HeadMemo[RequestHead]] = HeadMemo()
_RESPONSES: Final[HeadMemo[list[HpackField]]] = HeadMemo()
_KNOWN_REQUESTS: Final = _REQUESTS.known
_KNOWN_RESPONSES: Final = _RESPONSES.known


def split(fields: list[HpackField], pseudo: frozenset[bytes]) -> tuple[dict[bytes, bytes], list[Field]]:
    """(pseudo-fields, fields with their crumbs of cookies joined); raises ViolationError on what is malformed."""
    special: dict[bytes, bytes] = {}
    plain: list[Field] = []
    crumbs: list[bytes] = []
    for name, value, _ in fields:
        if name[:1] == b":":
            if plain or crumbs:
                raise _malformed("a pseudo-field behind a field (section 8.3)")
            if name not in pseudo or name in special:
                raise _malformed("a pseudo-field that is unknown or there twice (section 8.3)")
            special[name] = value
        elif name == b"cookie":
            crumbs.append(value)
        elif name in _CONNECTION_FIELDS or not name:
            raise _malformed("a field about the connection, or without a name (section 8.2.2)")
        elif name == b"te" and value.lower() != b"trailers":
            raise _malformed("a TE other than trailers (section 8.2.2)")
        else:
            plain.append((name, value))
    _check_signs(fields, [name for name, _ in plain])
    if crumbs:
        plain.append((b"cookie", b"; ".join(crumbs)))
    return special, plain


def _check_signs(fields: list[HpackField], names: list[bytes]) -> None:
    """Refuse signs that no name or value may have; all at once, because a search per field takes ten times as long."""
    if _NAMES.fullmatch(b"".join(names)) is None:
        raise _malformed("a name with a sign that is not allowed, or in upper case (section 8.2.1)")
    values = b"\n".join([b"", *[value for _, value, _ in fields], b""])
    if _BAD_VALUE.search(values) is not None or values.count(b"\n") != len(fields) + 1:
        raise _malformed("a value with a control character, or whitespace at an end (section 8.2.1)")


def _malformed(reason: str) -> ViolationError:
    return ViolationError(PROTOCOL_ERROR, f"malformed: {reason}")


def request_head(fields: list[HpackField], *, ended: bool) -> RequestHead:
    """The meaning of a request's section; `ended`: no body follows. Raises ViolationError and BadMessageError.

    A body without a length is `chunked`, which is what it becomes in HTTP/1.1. The result is shared by all requests
    with the same fields.
    """
    key = (ended, *fields)
    head = _KNOWN_REQUESTS.get(key)
    if head is None:
        head = _parse(fields, ended)
        if head.upgrade is None and _REQUESTS.comes_again(key) and list_bytes(fields) <= KEPT_BYTES:
            _REQUESTS.keep(key, head)
    return head


def _parse(fields: list[HpackField], ended: bool) -> RequestHead:
    special, plain = split(fields, REQUEST_PSEUDO)
    if len(plain) > MAX_FIELDS:
        raise BadMessageError(f"the request has more than {MAX_FIELDS} header fields", 431)
    if list_bytes(fields) > MAX_HEAD_BYTES:
        raise BadMessageError(f"the head of the request is larger than {MAX_HEAD_BYTES} bytes", 431)
    method = special.get(b":method", b"")
    if _TOKEN.fullmatch(method) is None:
        raise _malformed("a request without a method (section 8.3.1)")
    if method == b"CONNECT":
        return _connect(special, plain, ended)
    path = _path(special, method)
    length = _content_length(plain, ended)
    head = parse_request(method, path, "1.1", [(b"host", _authority(special, plain)), *_others(plain)], keep_alive=True)
    head.field_count = len(fields)
    head.content_length = length
    head.chunked = not ended and length is None
    head.has_body = head.chunked or bool(length)
    return head


def _connect(special: dict[bytes, bytes], plain: list[Field], ended: bool) -> RequestHead:
    """CONNECT (section 8.5) is not served; with `:protocol` it opens a WebSocket (RFC 8441), which is a GET elsewhere.

    The head says so by its `upgrade`; a key it has not yet.
    """
    protocol = special.pop(b":protocol", None)
    if protocol is None:
        if b":path" in special or b":scheme" in special or not special.get(b":authority"):
            raise _malformed("a CONNECT with a path or a scheme, or without an authority (section 8.5)")
        raise BadMessageError("CONNECT is not served: this is not a forward proxy", 405)
    path = _path(special, b"GET")
    if protocol.lower() != WEBSOCKET:
        raise BadMessageError("this protocol is not served over HTTP/2", 501)
    if ended or _content_length(plain, ended) is not None:
        raise BadMessageError("a request that opens a WebSocket has neither a body nor an end")
    host = (b"host", _authority(special, plain))
    head = parse_request(b"GET", path, "1.1", [host, *_others(plain)], keep_alive=True)
    head.upgrade = WEBSOCKET
    return head


def _path(special: dict[bytes, bytes], method: bytes) -> bytes:
    if b":protocol" in special:
        raise _malformed("a protocol without CONNECT (RFC 8441 section 4)")
    if special.get(b":scheme", b"").lower() not in (b"http", b"https"):
        raise _malformed("a request whose scheme is neither http nor https (section 8.3.1)")
    path = special.get(b":path", b"")
    if _PATH.fullmatch(path) is None or (path == b"*" and method != b"OPTIONS"):
        raise _malformed("a path that does not begin with /, or with a sign that is not allowed (section 8.3.1)")
    return path


def _authority(special: dict[bytes, bytes], plain: list[Field]) -> bytes:
    """Of `:authority` and Host, which must agree where both are there (section 8.3.1)."""
    found = [value for name, value in plain if name == b"host"]
    if b":authority" in special:
        found.append(special[b":authority"])
    if not found or not found[-1]:
        raise BadMessageError("a request needs an authority")
    if len(found) > 2 or found[0].lower() != found[-1].lower() or (len(found) == 2 and b":authority" not in special):
        raise _malformed("authority and Host disagree (section 8.3.1)")
    return found[-1]


def _content_length(plain: list[Field], ended: bool) -> int | None:
    lengths = [value for name, value in plain if name == b"content-length"]
    if not lengths:
        return None
    if len(lengths) > 1 or _LENGTH.fullmatch(lengths[0]) is None:
        raise _malformed("a content-length that is not one number (section 8.1.1)")
    length = int(lengths[0])
    if ended and length:
        raise _malformed("a content-length without a body (section 8.1.1)")
    return length


def _others(plain: list[Field]) -> list[Field]:
    return [field for field in plain if field[0] not in (b"host", b"content-length")]


def trailers_of(fields: list[HpackField]) -> list[Field]:
    """The fields of a trailer section; raises ViolationError."""
    return split(fields, NO_PSEUDO)[1]


def response_fields(head: ResponseHead, *, extra: bytes, has_body: bool) -> list[HpackField]:
    """The section of a final answer; `extra`: header lines of our own."""
    fields = [(b":status", b"%d" % head.status, False), *fields_of(head.lines)]
    length = head.content_length
    if length is not None and (has_body or head.status not in (204, 304)):
        fields.append((b"content-length", b"%d" % length, False))
    if extra:
        fields += _read_lines(extra)
    return fields


def fields_of(lines: bytes) -> list[HpackField]:
    """Serialised header lines as fields; shared, not to be changed."""
    fields = _KNOWN_RESPONSES.get(lines)
    if fields is None:
        fields = _read_lines(lines)
        if len(lines) <= KEPT_BYTES and _RESPONSES.comes_again(lines):
            _RESPONSES.keep(lines, fields)
    return fields


def _read_lines(lines: bytes) -> list[HpackField]:
    pairs = [line.partition(b": ") for line in lines.split(b"\r\n") if line]
    return [(name.lower(), value.strip(), False) for name, _, value in pairs]


def own_fields(status: int, headers: tuple[Field, ...], length: int, extra: bytes = b"") -> list[HpackField]:
    """The section of an answer in zerogate's own name; a 426 names fields that only HTTP/1.1 has."""
    own = [(name, value, False) for name, value in headers if name not in _CONNECTION_FIELDS]
    about = [(b":status", b"%d" % status, False), *own, (b"content-length", b"%d" % length, False)]
    return about + _read_lines(extra) if extra else about
