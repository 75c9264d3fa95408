"""Heads toward a replica over HTTP/2: a request's as fields, an answer's fields as a head with one meaning. Pure.

What leaves is made from the parsed meaning and is in lower case. What comes is held to the grammar by `fields`, as what
clients send is; an answer without one meaning is a BadMessageError, as in `zerogate.http.heads`. Called by
`client_stream` and `pool`.
"""

import re
from http import HTTPStatus
from typing import Final

from zerogate.http.h1.memo import KEPT_BYTES, HeadMemo
from zerogate.http.h2.fields import NO_PSEUDO, RESPONSE_PSEUDO, split
from zerogate.http.h2.frames import ViolationError
from zerogate.http.h2.hpack import HpackField, list_bytes
from zerogate.http.handshake import ACCEPT, KEY, WEBSOCKET, accept_of
from zerogate.http.heads import (
    MAX_FIELDS,
    RESPONSE_SPECIAL,
    UNIX_PEER,
    BadMessageError,
    Field,
    RequestHead,
    ResponseHead,
    may_trail,
)

_LENGTH: Final = re.compile(rb"[0-9]{1,19}")
_STATUS: Final = re.compile(rb"[1-5][0-9]{2}")
_SECRET: Final = frozenset({b"authorization", b"cookie", b"x-api-key", b"api-key"})
"""Never put into a table of the compression (RFC 7541 section 7.1.3)."""
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_ANSWERS: Final[HeadMemo[ResponseHead]] = HeadMemo()
_KNOWN: Final = _ANSWERS.known


def request_fields(
    head: RequestHead, *, client: bytes, host: bytes | None = None, proto: bytes = b"http", identity: bytes = b"",
    lines: bytes | None = None, scheme: bytes = b"http",
) -> list[HpackField]:  # fmt: skip
    """The head as it goes to a replica, without `grpc-timeout`; the arguments are those of `heads.request_bytes`;
    `scheme` tells whether the replica is spoken to over TLS."""
    own = head.host
    node = b'"[%b]"' % client if b":" in client else client if client != UNIX_PEER else b"_unix"
    element = b"for=%b;host=%b;proto=%b" % (node, own if own.isalnum() else b'"%b"' % own, proto)
    opens_websocket = head.websocket_key is not None
    fields: list[HpackField] = [
        (b":method", b"CONNECT" if opens_websocket else head.method, False),
        *(((b":protocol", WEBSOCKET, False),) if opens_websocket else ()),
        (b":scheme", scheme, False),
        (b":authority", own if host is None else host, False),
        (b":path", head.target, False),
    ]
    for line in (head.lines if lines is None else lines).split(b"\r\n"):
        name, _, value = line.partition(b": ")
        key = name.lower()
        if name and key != KEY:
            fields.append((key, value, key in _SECRET))
    if head.content_length is not None and not head.chunked:
        fields.append((b"content-length", b"%d" % head.content_length, False))
    if head.accepts_trailers:
        fields.append((b"te", b"trailers", False))
    if identity:
        name, _, value = identity.rstrip().partition(b": ")
        fields.append((name.lower(), value, False))
    fields += (
        (b"x-forwarded-for", b"%b, %b" % (head.forwarded_for, client) if head.forwarded_for else client, False),
        (b"x-forwarded-proto", head.forwarded_proto or proto, False),
        (b"x-forwarded-host", head.forwarded_host or own, False),
        (b"forwarded", b"%b, %b" % (head.forwarded, element) if head.forwarded else element, False),
    )
    return fields


def acceptance(head: ResponseHead, key: bytes) -> ResponseHead:
    """A replica's answer to an extended CONNECT, as the 101 that answers the client's `key` (RFC 8441 section 5)."""
    lines = [line for line in head.lines.split(b"\r\n") if line and not line.lower().startswith(ACCEPT + b":")]
    return ResponseHead(
        status=101, reason=b"Switching Protocols",
        lines=b"".join(line + b"\r\n" for line in (*lines, b"Sec-WebSocket-Accept: " + accept_of(key))),
        content_length=None, chunked=False, keep_alive=False, field_count=head.field_count,
    )  # fmt: skip


def trailer_fields(trailers: list[Field]) -> list[HpackField]:
    """Trailers of a request, without those that must not stand there."""
    return [(name.lower(), value, False) for name, value in trailers if may_trail(name)]


def answer_head(fields: list[HpackField], *, is_whole: bool = False) -> ResponseHead:
    """The meaning of an answer's head, interim or final; `is_whole`: no body follows, and one might have.

    Raises BadMessageError. The result is shared by all answers with the same fields.
    """
    key = (is_whole, *fields)
    head = _KNOWN.get(key)
    if head is None:
        head = _parse(fields, is_whole)
        if _ANSWERS.comes_again(key) and list_bytes(fields) <= KEPT_BYTES:
            _ANSWERS.keep(key, head)
    return head


def _parse(fields: list[HpackField], is_whole: bool) -> ResponseHead:
    special, plain = _split(fields, RESPONSE_PSEUDO)
    status = special.get(b":status", b"")
    if not _STATUS.fullmatch(status):
        raise BadMessageError("the answer's status is not from 100 to 599", 502)
    lines: list[bytes] = []
    length: int | None = None
    for name, value in plain:
        if name not in RESPONSE_SPECIAL:
            lines += (name, b": ", value, b"\r\n")
        elif name == b"content-length":
            if length is not None or not _LENGTH.fullmatch(value):
                raise BadMessageError("the answer's content-length is not one number", 502)
            length = int(value)
        elif name == b"trailer":
            lines += (b"trailer: ", value, b"\r\n")
    if is_whole:
        if length:
            raise BadMessageError("the answer ends before its content-length", 502)
        length = 0
    return ResponseHead(
        status=int(status),
        reason=_REASONS.get(int(status), b""),
        lines=b"".join(lines),
        content_length=length,
        chunked=False,
        keep_alive=True,
        field_count=len(fields),
    )


def answer_trailers(fields: list[HpackField]) -> list[Field]:
    """Trailers of an answer; raises BadMessageError."""
    return _split(fields, NO_PSEUDO)[1]


def _split(fields: list[HpackField], pseudo: frozenset[bytes]) -> tuple[dict[bytes, bytes], list[Field]]:
    if len(fields) > MAX_FIELDS:
        raise BadMessageError(f"the answer has more than {MAX_FIELDS} fields in one section", 502)
    try:
        return split(fields, pseudo)
    except ViolationError as malformed:
        raise BadMessageError(f"the answer is {malformed.reason}", 502) from malformed
