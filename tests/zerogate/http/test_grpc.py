"""Deadlines, refusals and health of gRPC."""

from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.zerogate.http.dialogue import Sides, exchange_of, response
from zerogate.errors import Refusal
from zerogate.http.answers import render_for
from zerogate.http.grpc import (
    HEALTH_NOT_SERVING,
    HEALTH_SERVING,
    MessageFollower,
    encode_message,
    format_timeout,
    is_grpc,
    is_serving,
    message,
    parse_timeout,
)
from zerogate.http.heads import BadMessageError, Field, RequestHead
from zerogate.http.parse_heads import parse_request
from zerogate.http.write_heads import request_bytes


def head_of(*fields: Field, content_type: bytes = b"application/grpc", target: bytes = b"/p.S/M") -> RequestHead:
    all_fields = [(b"Host", b"chat"), (b"Content-Type", content_type), (b"te", b"trailers"), *fields]
    return parse_request(
        b"POST", target, "1.1", [*all_fields, (b"Transfer-Encoding", b"chunked")], keep_alive=True
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"30S", 30),
        (b"150m", 0.15),
        (b"5u", 5e-6),
        (b"7n", 7e-9),
        (b"99999999S", 99999999),
    ],
)
def test_a_timeout_has_up_to_eight_digits_and_a_unit(value: bytes, seconds: float) -> None:
    assert parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"S", b"1", b"100000000S", b"-1S", b"1.5S", b"1s", b"1 S", b"1S ", b"+1S"])
def test_anything_else_is_no_timeout(value: bytes) -> None:
    assert parse_timeout(value) is None


@given(st.floats(min_value=0, max_value=99_999_999 * 3600))
def test_a_timeout_that_is_passed_on_is_never_longer_but_by_its_least_unit(seconds: float) -> None:
    again = parse_timeout(format_timeout(seconds))
    assert again is not None
    assert again <= max(seconds, 1e-6) * (1 + 1e-9)
    assert again >= seconds * 0.99 - 1e-6 or seconds > 99_999_999


@pytest.mark.parametrize(
    ("content_type", "wanted"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"Application/GRPC; x=y", True),
        (b"application/grpc-web-text", True),
        (b"application/json", False),
        (None, False),
    ],
)
def test_requests_of_grpc_are_known_by_their_content_type(content_type: bytes | None, wanted: bool) -> None:
    assert is_grpc(content_type) is wanted


def test_the_deadline_leaves_the_fields_and_goes_on_with_what_is_left_of_it() -> None:
    head = head_of((b"Grpc-Timeout", b"2S"), (b"x-grpc-timeout", b"7S"))
    assert head.timeout_s == 2.0
    sent = request_bytes(head, client=b"192.0.2.1", left_s=1.5)
    assert b"\r\ngrpc-timeout: 1500000u\r\n" in sent
    assert sent.lower().count(b"\r\ngrpc-timeout:") == 1
    assert b"x-grpc-timeout: 7S\r\n" in sent


@pytest.mark.parametrize("fields", [[(b"grpc-timeout", b"soon")], [(b"grpc-timeout", b"1S"), (b"grpc-timeout", b"1S")]])
def test_a_deadline_without_one_meaning_is_refused(fields: list[Field]) -> None:
    with pytest.raises(BadMessageError, match="grpc-timeout"):
        head_of(*fields)


def test_what_is_not_grpc_may_call_its_fields_as_it_likes() -> None:
    head = head_of((b"grpc-timeout", b"soon"), content_type=b"text/plain")
    assert head.timeout_s is None
    assert head.field(b"grpc-timeout") == b"soon"


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (400, 13), (401, 16), (403, 7), (404, 12), (405, 12), (413, 8), (417, 2), (429, 8), (431, 8), (500, 2),
        (501, 12), (502, 14), (503, 14), (504, 4),
    ],
)  # fmt: skip
def test_a_refusal_is_an_answer_of_trailers_only(status: int, wanted: int) -> None:
    answer = render_for(Refusal(status=status, code="x", detail="100 % of chät\r\nis full."), head_of())
    fields = dict(answer.headers)
    assert (answer.status, answer.body) == (200, b"")
    assert fields[b"content-type"] == b"application/grpc"
    assert fields[b"grpc-status"] == b"%d" % wanted
    assert fields[b"grpc-message"] == b"100 %25 of ch%C3%A4t%0D%0Ais full."


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"status": 429, "retry_after_s": 2.5}, b"3000"),
        ({"status": 503}, b"1000"),
        ({"status": 503, "hopeless": True}, b"-1"),
        ({"status": 504}, None),
    ],
)
def test_a_client_of_grpc_is_told_when_to_try_again(more: dict[str, Any], wanted: bytes | None) -> None:
    answer = render_for(Refusal(**{"code": "x", "detail": "y", **more}), head_of())
    assert dict(answer.headers).get(b"grpc-retry-pushback-ms") == wanted


def test_grpc_web_gets_its_own_content_type_back() -> None:
    head = head_of(content_type=b"application/grpc-web+proto; charset=x")
    answer = render_for(Refusal(status=404, code="x", detail="y"), head)
    assert dict(answer.headers)[b"content-type"] == b"application/grpc-web+proto"


@given(st.text())
def test_any_sentence_becomes_a_field_and_a_sentence_again(text: str) -> None:
    encoded = encode_message(text)
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    decoded = unquote_to_bytes(encoded).decode()
    assert decoded == text.encode("utf-8", "replace").decode() or decoded.endswith("…")


def test_a_long_message_is_cut_between_signs() -> None:
    assert unquote_to_bytes(encode_message("ä" * 5000)).decode().endswith("ä…")


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (HEALTH_SERVING, True),
        (HEALTH_NOT_SERVING, False),
        (b"", False),
        (b"\0\0\0\0\0", False),
        (b"\1\0\0\0\2\x08\x01", False),
    ],
)
def test_only_serving_is_serving(body: bytes, wanted: bool) -> None:
    assert is_serving(body) is wanted


def held(timeout: bytes) -> tuple[Sides, Any]:
    sides = Sides()
    exchange = exchange_of(sides, head_of((b"grpc-timeout", timeout)), 10.0)
    exchange.hold("ticket", deadline_s=70.0, now_s=10.0)
    return sides, exchange


def test_a_held_request_is_refused_at_its_own_deadline() -> None:
    sides, exchange = held(b"2S")
    assert sides.visit_s == 12.0
    assert exchange.due(11.9) == 12.0
    assert exchange.due(12.0) is None
    assert sides.hear()[0].startswith("client: refused 504 deadline_exceeded")
    assert exchange.code == "deadline_exceeded"


def test_a_deadline_after_the_hold_changes_nothing_about_the_hold() -> None:
    sides, exchange = held(b"2H")
    assert exchange.due(69.0) == 70.0
    exchange.due(70.0)
    assert sides.hear() == ["owner: hold timeout"]


def test_what_is_passed_on_is_less_by_the_time_held() -> None:
    sides, exchange = held(b"5S")
    upstream: Any = sides
    exchange.dispatch(upstream, 13.0)
    assert exchange.left_s == pytest.approx(2.0)


@pytest.mark.parametrize("is_answering", [False, True])
def test_a_request_on_its_replica_ends_at_its_deadline(is_answering: bool) -> None:
    sides = Sides()
    exchange = exchange_of(sides, head_of((b"grpc-timeout", b"2S")), 10.0)
    upstream: Any = sides
    exchange.dispatch(upstream, 10.0)
    exchange.on_request_end([], 10.0)
    if is_answering:
        exchange.on_response_head(response(), 11.0)
    assert exchange.due(11.5) == 12.0
    sides.hear()
    exchange.due(12.0)
    said = sides.hear()
    assert said[0] == "replica: abort"
    assert said[1].startswith("client: reset" if is_answering else "client: refused 504 deadline_exceeded")


@given(st.lists(st.binary(max_size=300), max_size=4), st.data())
def test_messages_are_followed_however_their_bytes_are_cut(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(message(one) for one in messages)
    ends = {0}
    for one in messages:
        ends.add(max(ends) + 5 + len(one))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)))) | {len(stream)})
    follower, at = MessageFollower(), 0
    for cut in cuts:
        follower.feed(stream[at:cut])
        at = cut
        assert follower.is_at_boundary is (at in ends)
