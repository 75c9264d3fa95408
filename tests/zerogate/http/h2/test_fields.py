"""Field sections and heads: one meaning, or refused (RFC 9113 sections 8.2, 8.3 and 10.3)."""

import pytest

from tests.zerogate.http.h2.corpus import BASE, MALFORMED, REFUSED, without
from zerogate.http.h2.fields import fields_of, request_head, response_fields, trailers_of
from zerogate.http.h2.frames import PROTOCOL_ERROR, ViolationError
from zerogate.http.h2.replica_heads import request_fields
from zerogate.http.heads import BadMessageError, Field, RequestHead, ResponseHead
from zerogate.http.write_heads import request_bytes


def head(*more: Field, base: list[Field] = BASE, ended: bool = True) -> RequestHead:
    return request_head([(name, value, False) for name, value in (*base, *more)], ended=ended)


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


def test_what_proves_who_a_client_is_never_gets_into_a_table_of_the_way_to_its_replica() -> None:
    secrets = [b"authorization", b"cookie", b"x-api-key", b"api-key"]
    one = head(*[(name, b"s") for name in secrets], (b"x-a", b"b"))
    sent = request_fields(one, client=b"192.0.2.1")
    assert sorted(name for name, _, is_secret in sent if is_secret) == sorted(secrets)
    assert (b"x-a", b"b", False) in sent


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


@pytest.mark.parametrize("case", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_ends_its_stream(case: tuple[list[Field], bool]) -> None:
    fields, ended = case
    with pytest.raises(ViolationError) as caught:
        head(base=fields, ended=ended)
    assert caught.value.code == PROTOCOL_ERROR


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
