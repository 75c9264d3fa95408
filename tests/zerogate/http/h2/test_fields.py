"""Field sections and heads: one meaning, or refused (RFC 9113 sections 8.2, 8.3 and 10.3)."""

import pytest

from zerogate.http.h2.fields import fields_of, request_head, response_fields, trailers_of
from zerogate.http.h2.frames import PROTOCOL_ERROR, ViolationError
from zerogate.http.heads import BadMessageError, Field, RequestHead, ResponseHead
from zerogate.http.write_heads import request_bytes

BASE: list[Field] = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a?b"), (b":authority", b"chat:80")]


def head(*more: Field, base: list[Field] = BASE, ended: bool = True) -> RequestHead:
    return request_head([(name, value, False) for name, value in (*base, *more)], ended=ended)


def without(name: bytes, *more: Field) -> list[Field]:
    return [*(field for field in BASE if field[0] != name), *more]


def instead(name: bytes, value: bytes) -> list[Field]:
    return [(name, value) if field[0] == name else field for field in BASE]


def test_a_request_means_the_same_as_in_http_1() -> None:
    one = head((b"user-agent", b"x/1"), (b"prefer", b"wait=7"), (b"x-a", b"b"))
    assert (one.method, one.target, one.host) == (b"GET", b"/a?b", b"chat:80")
    assert one.lines == b"user-agent: x/1\r\nprefer: wait=7\r\nx-a: b\r\n"
    assert (one.wait_s, one.user_agent, one.has_body, one.keep_alive, one.http_1_0) == (7.0, b"x/1", False, True, False)


def test_a_body_with_a_length_is_counted_and_one_without_is_chunked() -> None:
    counted = head((b"content-length", b"5"), ended=False)
    assert (counted.content_length, counted.chunked, counted.has_body) == (5, False, True)
    unknown = head(ended=False)
    assert (unknown.content_length, unknown.chunked, unknown.has_body) == (None, True, True)
    empty = head((b"content-length", b"0"), ended=False)
    assert (empty.content_length, empty.chunked, empty.has_body) == (0, False, False)


def test_crumbs_of_cookies_are_joined() -> None:
    assert head((b"cookie", b"a=1"), (b"x-a", b"b"), (b"cookie", b"c=2")).lines == b"x-a: b\r\ncookie: a=1; c=2\r\n"


def test_host_alone_is_an_authority() -> None:
    assert head(base=without(b":authority", (b"host", b"other"))).host == b"other"


def test_the_same_fields_share_one_head() -> None:
    first, second, third = (head((b"x-shared", b"1")) for _ in range(3))
    assert second is third
    assert first.lines == third.lines
    assert head((b"x-shared", b"1"), ended=False) is not third


def test_te_is_not_passed_on() -> None:
    assert b"te" not in head((b"te", b"trailers")).lines


MALFORMED = {
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
}


@pytest.mark.parametrize("case", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_ends_its_stream(case: tuple[list[Field], bool]) -> None:
    fields, ended = case
    with pytest.raises(ViolationError) as caught:
        head(base=fields, ended=ended)
    assert caught.value.code == PROTOCOL_ERROR


REFUSED = {
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
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_a_well_formed_request_that_is_not_taken_is_answered(case: tuple[list[Field], int]) -> None:
    fields, status = case
    with pytest.raises(BadMessageError) as caught:
        head(base=fields)
    assert caught.value.status == status


def test_what_becomes_of_a_request_in_http_1_is_one_request() -> None:
    one = head((b"x-a", b"b"), (b"content-length", b"5"), ended=False)
    data = request_bytes(one, client=b"10.0.0.1")
    assert data.count(b"\r\n\r\n") == 1
    assert data.startswith(b"GET /a?b HTTP/1.1\r\nHost: chat:80\r\nx-a: b\r\nContent-Length: 5\r\n")


@pytest.mark.parametrize(
    "fields", [[(b":status", b"200", False)], [(b"x", b"a\n", False)], [(b"connection", b"close", False)]]
)
def test_malformed_trailers_are_refused(fields: list[tuple[bytes, bytes, bool]]) -> None:
    with pytest.raises(ViolationError):
        trailers_of(fields)


def answer(lines: bytes, length: int | None = None, status: int = 200) -> ResponseHead:
    return ResponseHead(
        status=status, reason=b"OK", lines=lines, content_length=length, chunked=False, keep_alive=True, field_count=1
    )


def test_an_answer_has_lower_case_names_and_its_length() -> None:
    fields = response_fields(
        answer(b"Content-Type: a/b\r\nX-A:  b \r\n", 5), extra=b"Server-Timing: x\r\n", has_body=True
    )
    assert [(name, value) for name, value, _ in fields] == [
        (b":status", b"200"), (b"content-type", b"a/b"), (b"x-a", b"b"), (b"content-length", b"5"),
        (b"server-timing", b"x"),
    ]  # fmt: skip


def test_an_answer_without_content_has_no_length() -> None:
    assert response_fields(answer(b"", 0, 204), extra=b"", has_body=False) == [(b":status", b"204", False)]
    assert len(response_fields(answer(b"", 9), extra=b"", has_body=False)) == 2


def test_known_lines_are_read_once() -> None:
    first, second, third = (fields_of(b"X-Known: 1\r\n") for _ in range(3))
    assert second is third
    assert first == third
