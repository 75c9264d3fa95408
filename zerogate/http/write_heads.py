"""Heads of HTTP/1.1 as bytes, written anew from their meaning: what came is never copied. Pure.

Called by the protocols of `h1` and by the pool that sends requests to a replica.
"""

from zerogate.http.grpc import format_timeout
from zerogate.http.heads import UNIX_PEER, Field, RequestHead, ResponseHead, may_trail
from zerogate.names import HOLDER


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


def response_bytes(head: ResponseHead) -> bytes:
    """The head of an answer with a length as it goes to a client whose connection stays."""
    return b"HTTP/1.1 %d %b\r\n%bContent-Length: %d\r\n\r\n" % (
        head.status, head.reason, head.lines, head.content_length or 0,
    )  # fmt: skip


def trailer_bytes(trailers: list[Field]) -> bytes:
    """The last chunk with its trailers; fields that must not stand there are left out."""
    if not trailers:
        return b"0\r\n\r\n"
    lines = [b"%b: %b\r\n" % field for field in trailers if may_trail(field[0])]
    return b"0\r\n" + b"".join(lines) + b"\r\n"
