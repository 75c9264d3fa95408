"""Requests as attackers, and clients of thirty years, write them: those with one meaning, and those without.

Written from RFC 9110 and 9112 and from what is published about request smuggling: CL.TE, TE.CL, TE.TE, CL.0, chunk
extensions and line terminators, h2-like names in HTTP/1.1, spoofed hop fields. A name says what is odd.
"""

from typing import Final

GET: Final = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST: Final = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED: Final = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def _posts(*lines: bytes) -> bytes:
    return POST + b"".join(line + b"\r\n" for line in lines) + b"\r\nhello"


REFUSED: Final[dict[str, tuple[bytes, int]]] = {
    # Content-Length
    "length-signed": (_posts(b"Content-Length: +5"), 400),
    "length-negative": (_posts(b"Content-Length: -5"), 400),
    "length-list-equal": (_posts(b"Content-Length: 5, 5"), 400),
    "length-list-different": (_posts(b"Content-Length: 5, 6"), 400),
    "length-twice-equal": (_posts(b"Content-Length: 5", b"Content-Length: 5"), 400),
    "length-twice-different": (_posts(b"Content-Length: 5", b"Content-Length: 0"), 400),
    "length-hexadecimal": (_posts(b"Content-Length: 0x5"), 400),
    "length-empty": (_posts(b"Content-Length:"), 400),
    "length-with-a-space": (_posts(b"Content-Length: 1 2"), 400),
    "length-with-an-underscore": (_posts(b"Content-Length: 1_0"), 400),
    "length-a-fraction": (_posts(b"Content-Length: 5.0"), 400),
    "length-beyond-64-bits": (_posts(b"Content-Length: 18446744073709551621"), 400),
    "length-under-an-underscore-name": (_posts(b"Content_Length: 5"), 400),
    # Transfer-Encoding
    "both-framings": (_posts(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
    "both-framings-reversed": (_posts(b"Transfer-Encoding: chunked", b"Content-Length: 5"), 400),
    "coding-twice-in-a-list": (_posts(b"Transfer-Encoding: chunked, chunked"), 400),
    "coding-twice": (_posts(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "coding-then-identity": (_posts(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), 400),
    "coding-identity": (_posts(b"Transfer-Encoding: identity"), 501),
    "coding-gzip-chunked": (_posts(b"Transfer-Encoding: gzip, chunked"), 501),
    "coding-chunked-gzip": (_posts(b"Transfer-Encoding: chunked, gzip"), 400),
    "coding-with-a-parameter": (_posts(b"Transfer-Encoding: chunked;q=1"), 501),
    "coding-with-a-letter-more": (_posts(b"Transfer-Encoding: xchunked"), 501),
    "coding-with-a-vertical-tab": (_posts(b"Transfer-Encoding: \x0bchunked"), 400),
    "coding-in-quotes": (_posts(b'Transfer-Encoding: "chunked"'), 501),
    "coding-before-a-tab": (_posts(b"Transfer-Encoding: chunked\t"), 501),
    "coding-empty": (_posts(b"Transfer-Encoding:", b"Content-Length: 5"), 400),
    "coding-folded": (_posts(b"Transfer-Encoding:\r\n chunked"), 400),
    "coding-name-with-a-space": (_posts(b"Transfer-Encoding : chunked"), 400),
    "coding-name-with-a-tab": (_posts(b"Transfer-Encoding\t: chunked"), 400),
    "coding-under-an-underscore-name": (_posts(b"Transfer_Encoding: chunked"), 400),
    "coding-in-1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    # lines and fields
    "lines-end-with-lf": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "one-line-ends-with-lf": (b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", 400),
    "one-line-ends-with-cr": (GET + b"X: 1\rY: 2\r\n\r\n", 400),
    "field-folded-by-a-space": (GET + b"X: 1\r\n 2\r\n\r\n", 400),
    "field-folded-by-a-tab": (GET + b"X: 1\r\n\t2\r\n\r\n", 400),
    "first-field-behind-a-space": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "name-with-a-space": (GET + b"X Y: 1\r\n\r\n", 400),
    "name-before-a-space": (GET + b"X : 1\r\n\r\n", 400),
    "name-empty": (GET + b": 1\r\n\r\n", 400),
    "name-without-colon": (GET + b"X\r\n\r\n", 400),
    "name-with-nul": (GET + b"X\x00: 1\r\n\r\n", 400),
    "name-with-a-high-byte": (GET + b"X\xff: 1\r\n\r\n", 400),
    "name-with-parentheses": (GET + b"X(): 1\r\n\r\n", 400),
    "name-of-http-2": (GET + b":path: /x\r\n\r\n", 400),
    "value-with-nul": (GET + b"X: a\x00b\r\n\r\n", 400),
    "value-with-a-control": (GET + b"X: a\x01b\r\n\r\n", 400),
    "value-with-del": (GET + b"X: a\x7fb\r\n\r\n", 400),
    # the first line
    "version-0.9": (b"GET /\r\n\r\n", 505),
    "version-1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400),
    "version-0.9-in-full": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    "version-2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "version-with-three-numbers": (b"GET / HTTP/1.1.1\r\nHost: a\r\n\r\n", 400),
    "version-with-two-digits": (b"GET / HTTP/01.1\r\nHost: a\r\n\r\n", 400),
    "version-in-small-letters": (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    "first-line-behind-a-space": (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a-space-at-the-end": (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    "tabs-in-the-first-line": (b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "method-in-small-letters": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "method-with-a-control": (b"G\x01ET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "another-protocol": (b"DESCRIBE / RTSP/1.0\r\nHost: a\r\n\r\n", 400),
    "another-protocol-get": (b"GET / RTSP/1.0\r\nHost: a\r\n\r\n", 400),
    "another-protocol-post": (b"POST /a RTSP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 400),
    "another-protocol-options": (b"OPTIONS *   RTSP/1.0\r\nHost: a\r\n\r\n", 400),
    "another-protocol-behind-an-empty-line": (b"\r\nGET http://a/ RTSP/1.0\r\nHost: a\r\n\r\n", 400),
    "another-protocol-in-capitals-twice": (b"GET /RTSP/ RTSP/1.0\r\nHost: a\r\n\r\n", 400),
    "another-protocol-of-casters": (b"SOURCE / ICE/1.0\r\nHost: a\r\n\r\n", 400),
    "connect": (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "target-with-a-space": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target-with-a-control": (b"GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target-with-nul": (b"GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target-with-a-fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target-relative": (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target-empty": (b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target-star-of-a-get": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target-of-another-scheme": (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target-with-a-user": (b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target-too-long": (b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 20_000), 414),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    # Host
    "hosts-two": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "hosts-two-equal": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "hosts-two-and-an-absolute-target": (b"GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "host-missing": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "host-with-a-space": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "host-with-a-comma": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    "host-with-a-path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "host-with-a-user": (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    "host-with-a-port-in-letters": (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
    "host-with-two-ports": (b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", 400),
    # fields that only a hop may write
    "forwarding-under-an-underscore-name": (GET + b"X_Forwarded_For: 192.0.2.1\r\n\r\n", 400),
    # sizes
    "many-fields": (GET + b"X: y\r\n" * 200 + b"\r\n", 431),
    "one-large-field": (GET + b"X: " + b"y" * 400_000, 431),
    "many-large-fields": (GET + b"X: %b\r\n" % (b"y" * 1000) * 90 + b"\r\n", 431),
}
"""Heads, and the status that they are refused with."""

REFUSED_BODIES: Final[dict[str, tuple[bytes, int]]] = {
    "chunk-size-prefixed": (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-size-signed": (CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-size-negative": (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-size-behind-a-space": (CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-size-before-a-space": (CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", 400),
    "chunk-size-no-digit": (CHUNKED + b"g\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-size-empty": (CHUNKED + b"\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-size-beyond-64-bits": (CHUNKED + b"10000000000000005\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-size-bare-lf": (CHUNKED + b"5\nhello\r\n0\r\n\r\n", 400),
    "chunk-size-bare-cr": (CHUNKED + b"5\rhello\r\n0\r\n\r\n", 400),
    "chunk-extension-bare-lf": (CHUNKED + b"5;a\nhello\r\n0\r\n\r\n", 400),
    "chunk-extension-bare-cr": (CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-without-its-end": (CHUNKED + b"5\r\nhello0\r\n\r\n", 400),
    "chunk-longer-than-said": (CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n", 400),
    "chunk-ended-by-lf": (CHUNKED + b"5\r\nhello\n0\r\n\r\n", 400),
    "last-chunk-ended-by-lf": (CHUNKED + b"0\n\n", 400),
    "trailer-folded": (CHUNKED + b"0\r\nX: 1\r\n 2\r\n\r\n", 400),
    "trailer-with-a-space-in-its-name": (CHUNKED + b"0\r\nX : 1\r\n\r\n", 400),
}
"""Good heads with bodies that are refused."""

Meaning = tuple[bytes, bytes, bytes, bytes]

UNDERSTOOD: Final[dict[str, tuple[bytes, list[Meaning]]]] = {
    "a-field-that-names-another-protocol": (
        GET + b"Via: / RTSP/1.0, GET / RTSP/1.0\r\n\r\n", [(b"GET", b"a", b"/", b"")]
    ),
    "a-target-that-names-another-protocol": (
        b"GET /RTSP/1.0 HTTP/1.1\r\nHost: a\r\n\r\n", [(b"GET", b"a", b"/RTSP/1.0", b"")]
    ),
    "a-body-that-names-another-protocol": (
        POST + b"Content-Length: 18\r\n\r\nPOST / RTSP/1.0\r\n\r", [(b"POST", b"a", b"/", b"POST / RTSP/1.0\r\n\r")]
    ),
    "plain": (GET + b"\r\n", [(b"GET", b"a", b"/", b"")]),
    "length": (_posts(b"Content-Length: 5"), [(b"POST", b"a", b"/", b"hello")]),
    "length-with-zeros": (_posts(b"Content-Length: 005"), [(b"POST", b"a", b"/", b"hello")]),
    "length-among-spaces": (_posts(b"Content-Length: \t 5 \t"), [(b"POST", b"a", b"/", b"hello")]),
    "length-of-a-get": (GET + b"Content-Length: 5\r\n\r\nhello", [(b"GET", b"a", b"/", b"hello")]),
    "length-zero-then-another-request": (
        POST + b"Content-Length: 0\r\n\r\n" + GET + b"\r\n",
        [(b"POST", b"a", b"/", b""), (b"GET", b"a", b"/", b"")],
    ),
    "no-framing-no-body": (POST + b"\r\n" + GET + b"\r\n", [(b"POST", b"a", b"/", b""), (b"GET", b"a", b"/", b"")]),
    "chunks": (CHUNKED + b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", [(b"POST", b"a", b"/", b"hello!")]),
    "chunk-sizes-in-both-cases": (CHUNKED + b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", [
        (b"POST", b"a", b"/", b"01234567890123456789")
    ]),
    "chunk-size-with-zeros": (CHUNKED + b"0005\r\nhello\r\n0\r\n\r\n", [(b"POST", b"a", b"/", b"hello")]),
    "chunk-extensions": (CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n', [(b"POST", b"a", b"/", b"hello")]),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX: 1\r\n\r\n", [(b"POST", b"a", b"/", b"hello")]),
    "coding-in-capitals": (
        POST + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", [(b"POST", b"a", b"/", b"hello")]
    ),
    "coding-among-spaces": (
        POST + b"Transfer-Encoding: \t chunked \r\n\r\n5\r\nhello\r\n0\r\n\r\n", [(b"POST", b"a", b"/", b"hello")]
    ),
    "an-offer-with-a-length": (
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello" + GET + b"\r\n",
        [(b"POST", b"a", b"/", b"hello"), (b"GET", b"a", b"/", b"")],
    ),
    "an-offer-with-chunks": (
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"5\r\nhello\r\n0\r\nX: 1\r\n\r\n" + GET + b"\r\n",
        [(b"POST", b"a", b"/", b"hello"), (b"GET", b"a", b"/", b"")],
    ),
    "an-offer-without-a-body": (
        GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + GET + b"\r\n",
        [(b"GET", b"a", b"/", b""), (b"GET", b"a", b"/", b"")],
    ),
    "an-empty-line-before": (b"\r\n" + GET + b"\r\n", [(b"GET", b"a", b"/", b"")]),
    "two-spaces-before-the-target": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", [(b"GET", b"a", b"/", b"")]),
    "two-spaces-behind-the-target": (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", [(b"GET", b"a", b"/", b"")]),
    "absolute-target": (b"GET http://b/x?y HTTP/1.1\r\nHost: b\r\n\r\n", [(b"GET", b"b", b"/x?y", b"")]),
    "absolute-target-wins": (b"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", [(b"GET", b"b", b"/x", b"")]),
    "absolute-target-without-a-path": (b"GET http://b?y HTTP/1.1\r\nHost: b\r\n\r\n", [(b"GET", b"b", b"/?y", b"")]),
    "options-star": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", [(b"OPTIONS", b"a", b"*", b"")]),
    "host-with-a-port": (b"GET / HTTP/1.1\r\nHost: a:80\r\n\r\n", [(b"GET", b"a:80", b"/", b"")]),
    "host-an-address": (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", [(b"GET", b"[::1]:80", b"/", b"")]),
    "http-1.0-without-host": (b"GET / HTTP/1.0\r\n\r\n", [(b"GET", b"", b"/", b"")]),
    "value-with-high-bytes": (GET + b"X: caf\xe9\r\n\r\n", [(b"GET", b"a", b"/", b"")]),
    "value-empty": (GET + b"X:\r\n\r\n", [(b"GET", b"a", b"/", b"")]),
    "value-with-a-tab": (GET + b"X: a\tb\r\n\r\n", [(b"GET", b"a", b"/", b"")]),
    "name-with-an-underscore": (GET + b"x_trace: 1\r\n\r\n", [(b"GET", b"a", b"/", b"")]),
}  # fmt: skip
"""Bytes, and what they say: (method, authority, target, body) of each request."""
