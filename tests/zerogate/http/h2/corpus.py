"""Requests over HTTP/2 as attackers write them, to become something else where they are passed on in HTTP/1.1.

Written from RFC 9113 sections 8.1 to 8.5 and 10.3, and from what is published about downgrades: H2.CL, H2.TE, line
breaks in names, values, paths and methods, pseudo-fields that come twice or late, authorities that disagree. Names
begin with the section that forbids it. A case is its fields and whether nothing follows them; a body that follows is
`BODY`.
"""

from typing import Final

from zerogate.http.heads import Field

BASE: Final[list[Field]] = [
    (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a?b"), (b":authority", b"chat:80"),
]  # fmt: skip
BODY: Final = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: chat\r\n\r\n"
"""Ends a chunked message and begins another one, for whoever takes it for framing."""


def without(name: bytes, *more: Field) -> list[Field]:
    return [*(field for field in BASE if field[0] != name), *more]


def instead(name: bytes, value: bytes) -> list[Field]:
    return [(name, value) if field[0] == name else field for field in BASE]


MALFORMED: Final[dict[str, tuple[list[Field], bool]]] = {
    "8.2.1 upper case": ([*BASE, (b"X-A", b"b")], True),
    "8.2.1 a colon in a name": ([*BASE, (b"x:a", b"b")], True),
    "8.2.1 a space in a name": ([*BASE, (b"x a", b"b")], True),
    "8.2.1 a line break in a name": ([*BASE, (b"x\r\nhost", b"b")], True),
    "8.2.1 a high byte in a name": ([*BASE, (b"x\xff", b"b")], True),
    "8.2.1 no name": ([*BASE, (b"", b"b")], True),
    "8.2.1 a line feed in a value": ([*BASE, (b"x", b"a\nb: c")], True),
    "8.2.1 a line break in a value": ([*BASE, (b"x", b"a\r\nb: c")], True),
    "8.2.1 NUL in a value": ([*BASE, (b"x", b"a\0")], True),
    "8.2.1 a line feed in the last value": ([*BASE, (b"x", b"a\n")], True),
    "8.2.1 a line feed in a crumb": ([*BASE, (b"cookie", b"a\n")], True),
    "8.2.1 a space before a value": ([*BASE, (b"x", b" a")], True),
    "8.2.1 a tab behind a value": ([*BASE, (b"x", b"a\t")], True),
    "8.2.2 connection": ([*BASE, (b"connection", b"close")], True),
    "8.2.2 keep-alive": ([*BASE, (b"keep-alive", b"1")], True),
    "8.2.2 proxy-connection": ([*BASE, (b"proxy-connection", b"close")], True),
    "8.2.2 transfer-encoding": ([*BASE, (b"transfer-encoding", b"chunked")], False),
    "8.2.2 upgrade": ([*BASE, (b"upgrade", b"h2c")], True),
    "8.2.2 TE gzip": ([*BASE, (b"te", b"trailers, gzip")], True),
    "8.3 a pseudo-field behind a field": ([*BASE[:3], (b"x", b"a"), BASE[3]], True),
    "8.3 a pseudo-field behind a crumb": ([*BASE[:3], (b"cookie", b"a"), BASE[3]], True),
    "8.3 an unknown pseudo-field": ([*BASE, (b":version", b"2")], True),
    "8.3 one of answers": ([*BASE, (b":status", b"200")], True),
    "8.3.1 two methods": ([*BASE, (b":method", b"GET")], True),
    "8.3.1 two paths": ([*BASE, (b":path", b"/")], True),
    "8.3.1 no method": (without(b":method"), True),
    "8.3.1 no scheme": (without(b":scheme"), True),
    "8.3.1 no path": (without(b":path"), True),
    "8.3.1 an empty path": (instead(b":path", b""), True),
    "8.3.1 a path without a slash": (instead(b":path", b"a"), True),
    "8.3.1 a path that is a URL": (instead(b":path", b"http://a/"), True),
    "8.3.1 a star for GET": (instead(b":path", b"*"), True),
    "8.3.1 a space in a path": (instead(b":path", b"/a HTTP/1.1\r\nx: y"), True),
    "8.3.1 a line break in a method": (instead(b":method", b"GET / HTTP/1.1\r\nx: y\r\n"), True),
    "8.3.1 another scheme": (instead(b":scheme", b"ftp"), True),
    "8.3.1 a scheme with a line break": (instead(b":scheme", b"http\r\nx: y"), True),
    "8.3.1 authority and Host disagree": ([*BASE, (b"host", b"other")], True),
    "8.3.1 two Hosts": (without(b":authority", (b"host", b"a"), (b"host", b"a")), True),
    "8.3.1 authority and two Hosts": ([*BASE, (b"host", b"chat:80"), (b"host", b"chat:80")], True),
    "8.1.1 two lengths": ([*BASE, (b"content-length", b"1"), (b"content-length", b"1")], False),
    "8.1.1 a signed length": ([*BASE, (b"content-length", b"+1")], False),
    "8.1.1 a list of lengths": ([*BASE, (b"content-length", b"1, 1")], False),
    "8.1.1 an empty length": ([*BASE, (b"content-length", b"")], False),
    "8.1.1 a length without a body": ([*BASE, (b"content-length", b"1")], True),
    "8.5 CONNECT with a path": ([(b":method", b"CONNECT"), *BASE[1:]], True),
    "8441 a protocol without CONNECT": ([*BASE, (b":protocol", b"websocket")], True),
    "8.2.1 a carriage return alone in a value": ([*BASE, (b"x", b"a\rb: c")], True),
    "8.2.1 a folded value": ([*BASE, (b"x", b"a\r\n b")], True),
    "8.2.1 a second request in a value": (
        [*BASE, (b"x", b"a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: chat\r\n\r\n")], True,
    ),
    "8.2.1 a second request in a name": (
        [*BASE, (b"x: a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: chat\r\n\r\n", b"a")], True,
    ),
    "8.2.1 a framing in a value": ([*BASE, (b"x", b"a\r\ntransfer-encoding: chunked")], False),
    "8.2.1 a framing in a name": ([*BASE, (b"transfer-encoding: chunked\r\nx", b"a")], False),
    "8.2.1 NUL in a name": ([*BASE, (b"x\0a", b"b")], True),
    "8.2.1 a tab in a name": ([*BASE, (b"transfer-encoding\t", b"chunked")], False),
    "8.2.1 a space behind a name": ([*BASE, (b"content-length ", b"3")], False),
    "8.2.1 a colon behind a name": ([*BASE, (b"content-length:", b"3")], False),
    "8.2.1 DEL in a value": ([*BASE, (b"x", b"a\x7f")], True),
    "8.2.1 a vertical tab in a value": ([*BASE, (b"x", b"a\x0bb")], True),
    "8.2.1 a value that is a space": ([*BASE, (b"x", b" ")], True),
    "8.2.2 transfer-encoding identity": ([*BASE, (b"transfer-encoding", b"identity")], False),
    "8.2.2 both framings": ([*BASE, (b"content-length", b"5"), (b"transfer-encoding", b"chunked")], False),
    "8.2.2 connection that names a field": ([*BASE, (b"connection", b"x-forwarded-for")], True),
    "8.2.2 TE chunked": ([*BASE, (b"te", b"chunked")], True),
    "8.3 a pseudo-field in upper case": ([*BASE, (b":Path", b"/other")], True),
    "8.3 a pseudo-field without a name": ([*BASE, (b":", b"/other")], True),
    "8.3.1 two authorities": ([*BASE, (b":authority", b"other")], True),
    "8.3.1 two schemes": ([*BASE, (b":scheme", b"https")], True),
    "8.3.1 authority and Host in another case of the name": ([*BASE, (b"Host", b"other")], True),
    "8.3.1 a tab in a path": (instead(b":path", b"/a\tHTTP/1.1"), True),
    "8.3.1 NUL in a path": (instead(b":path", b"/a\0"), True),
    "8.3.1 a high byte in a path": (instead(b":path", b"/\xff"), True),
    "8.3.1 a carriage return in a path": (instead(b":path", b"/a\rb"), True),
    "8.3.1 a second request in a path": (instead(b":path", b"/ HTTP/1.1\r\n\r\nGET /smuggled"), True),
    "8.3.1 a star and more": (instead(b":path", b"*a"), True),
    "8.3.1 a space in a method": (instead(b":method", b"GET /smuggled"), True),
    "8.3.1 an empty method": (instead(b":method", b""), True),
    "8.3.1 a line break in an authority": (instead(b":authority", b"chat\r\nx: y"), True),
    "8.1.1 a negative length": ([*BASE, (b"content-length", b"-1")], False),
    "8.1.1 a hexadecimal length": ([*BASE, (b"content-length", b"0x5")], False),
    "8.1.1 a length with a space": ([*BASE, (b"content-length", b"1 2")], False),
    "8.1.1 a length of twenty digits": ([*BASE, (b"content-length", b"18446744073709551621")], False),
    "8.1.1 two different lengths": ([*BASE, (b"content-length", b"0"), (b"content-length", b"5")], False),
    "8.5 CONNECT without an authority": ([(b":method", b"CONNECT")], True),
}  # fmt: skip
"""Reset with PROTOCOL_ERROR; nothing of it reaches anybody."""

REFUSED: Final[dict[str, tuple[list[Field], int]]] = {
    "CONNECT": ([(b":method", b"CONNECT"), (b":authority", b"a:1")], 405),
    "extended CONNECT for another protocol": ([(b":method", b"CONNECT"), *BASE[1:], (b":protocol", b"x")], 501),
    "no authority": (without(b":authority"), 400),
    "an authority with a user": (instead(b":authority", b"user@chat"), 400),
    "an authority with a path": (instead(b":authority", b"chat/a"), 400),
    "a fragment": (instead(b":path", b"/a#b"), 400),
    "a long path": (instead(b":path", b"/" + b"a" * 17_000), 414),
    "many fields": ([*BASE, *[(b"x", b"y")] * 129], 431),
    "a large head": ([*BASE, *[(b"x", b"y" * 1000)] * 64], 431),
    "another expectation": ([*BASE, (b"expect", b"200-maybe")], 417),
    "an authority with a space": (instead(b":authority", b"chat HTTP/1.1"), 400),
}
"""Well-formed, and answered with this status; nothing of it reaches anybody."""

POST: Final = instead(b":method", b"POST")
TAKEN: Final[dict[str, tuple[list[Field], bytes, bytes]]] = {
    "a body that looks like framing": (POST, b"chat:80", BODY),
    "a counted body that looks like framing": ([*POST, (b"content-length", b"%d" % len(BODY))], b"chat:80", BODY),
    "Host that agrees": ([*BASE, (b"host", b"chat:80")], b"chat:80", b""),
    "Host alone": (without(b":authority", (b"host", b"chat")), b"chat", b""),
    "a path with two slashes": (instead(b":path", b"//other.test/a"), b"chat:80", b""),
    "a path with a colon": (instead(b":path", b"/http://other.test/"), b"chat:80", b""),
    "a star for OPTIONS": ([(b":method", b"OPTIONS"), BASE[1], (b":path", b"*"), BASE[3]], b"chat:80", b""),
    "https over cleartext": (instead(b":scheme", b"https"), b"chat:80", b""),
    "TE trailers": ([*BASE, (b"te", b"trailers")], b"chat:80", b""),
    "a method of a client's own": (instead(b":method", b"brew"), b"chat:80", b""),
    "a value with a comma and a colon": ([*BASE, (b"x-a", b"b: c, d")], b"chat:80", b""),
    "a value of high bytes": ([*BASE, (b"x-a", b"\xc3\xa4")], b"chat:80", b""),
    "an empty value": ([*BASE, (b"x-a", b"")], b"chat:80", b""),
}
"""Odd but with one meaning: its Host and its body at the replica."""

UNFINISHED: Final[dict[str, tuple[list[Field], bytes, list[Field]]]] = {
    "8.1.1 less than its length": ([*POST, (b"content-length", b"50")], b"short", []),
    "8.1.1 more than its length": ([*POST, (b"content-length", b"2")], BODY, []),
    "8.1.1 more than nothing": ([*POST, (b"content-length", b"0")], BODY, []),
    "8.1 less than its length, then trailers": ([*POST, (b"content-length", b"50")], b"short", [(b"x-a", b"b")]),
    "8.1 a pseudo-field in trailers": (POST, b"x", [(b":path", b"/other")]),
    "8.2.1 a line break in trailers": (POST, b"x", [(b"x-a", b"b\r\n\r\nGET /smuggled HTTP/1.1")]),
    "8.2.2 a framing in trailers": (POST, b"x", [(b"transfer-encoding", b"chunked")]),
}
"""Wrong only behind its head: fields, body, trailers. It may begin at the replica, and must never seem complete."""
