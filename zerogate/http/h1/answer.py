"""How an answer is framed toward an HTTP/1.1 client. Pure.

Called by `server`, which knows what the connection allows; here are only the bytes.
"""

from typing import Final

from zerogate.http.heads import Field, ResponseHead

REASONS: Final = {
    200: b"OK", 202: b"Accepted", 400: b"Bad Request", 404: b"Not Found", 405: b"Method Not Allowed",
    408: b"Request Timeout", 413: b"Content Too Large", 414: b"URI Too Long", 417: b"Expectation Failed",
    426: b"Upgrade Required",
    429: b"Too Many Requests", 431: b"Request Header Fields Too Large", 500: b"Internal Server Error",
    501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable", 504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}  # fmt: skip

COUNTED: Final = 0
"""The body ends after its Content-Length, or there is none."""
CHUNKED: Final = 1
UNTIL_CLOSE: Final = 2
"""The body ends with the connection: an HTTP/1.0 client and a length that is not known."""


def framing(head: ResponseHead, *, has_body: bool, http_1_0: bool) -> tuple[int, bytes]:
    """How the body of this answer ends, and the header line that says so."""
    if not has_body:
        if head.content_length is not None and head.status >= 200 and head.status != 204:
            return COUNTED, b"Content-Length: %d\r\n" % head.content_length
        return COUNTED, b""
    if head.content_length is not None:
        return COUNTED, b"Content-Length: %d\r\n" % head.content_length
    if http_1_0:
        return UNTIL_CLOSE, b""
    return CHUNKED, b"Transfer-Encoding: chunked\r\n"


def own_answer(
    status: int, headers: tuple[Field, ...], body: bytes, method: bytes, *, close: bool, extra: bytes = b""
) -> bytes:
    """An answer in zerogate's own name, whole; `extra`: header lines."""
    lines = b"".join(b"%b: %b\r\n" % field for field in headers)
    connection = b"Connection: close\r\n" if close else b""
    reason = REASONS.get(status, b"")
    head = b"HTTP/1.1 %d %b\r\n%bContent-Length: %d\r\n%b%b\r\n" % (
        status, reason, lines, len(body), extra, connection,
    )  # fmt: skip
    return head if method == b"HEAD" else head + body
