"""A client that waits for a stream while its model starts, as a dialogue: what it hears meanwhile, and how it ends."""

import json

import pytest

from tests.zerogate.http.dialogue import Sides, exchange_of, request
from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.heads import RequestHead, ResponseHead
from zerogate.http.heartbeat import ERROR_BYTES, PEEKED_BYTES
from zerogate.http.parse_heads import parse_response
from zerogate.http.phases import HELD
from zerogate.http.sides import RequestTerms

CHAT = b'{"model": "m", "messages": [{"role": "user", "content": "\\"stream\\": false"}], "stream": true}'
WEBSOCKET = request("GET", accept="text/event-stream")
WEBSOCKET.websocket_key = b"dGhlIHNhbXBsZSBub25jZQ=="
REFUSAL = Refusal(status=503, code="start_failed", detail="It did not start.")


def answer(status: int = 200, content_type: str = "text/event-stream; charset=utf-8", **fields: str) -> ResponseHead:
    lines = [(b"Transfer-Encoding", b"chunked"), (b"Content-Type", content_type.encode())]
    lines += [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return parse_response(status, b"", "1.1", lines, keep_alive=True)


def held(sides: Sides, body: bytes = CHAT, head: RequestHead | None = None, *, beat_s: float | None = 15.0) -> Exchange:
    sides.terms = RequestTerms(heartbeat_s=beat_s)
    exchange = exchange_of(sides, head or request("POST", body=len(body), content_type="application/json"))
    exchange.give_to(sides)
    exchange.hold(object(), deadline_s=540.0, now_s=0.0)
    if body:
        exchange.on_request_data(body, 0.0)
    exchange.on_request_end([], 0.0)
    sides.hear()
    return exchange


def test_a_held_stream_hears_a_comment_at_each_beat_and_then_the_models_own_events() -> None:
    sides = Sides()
    exchange = held(sides)
    assert exchange.due(14.9) == 15.0
    assert sides.hear() == []
    assert exchange.due(15.0) == 30.0
    assert sides.hear() == ["client: 200 +body", "client: data : held\n\n"]
    assert exchange.due(30.1) == 45.1
    assert sides.hear() == ["client: data : held\n\n"]
    exchange.dispatch(sides, 31.0)
    exchange.on_response_head(answer(), 31.1)
    exchange.on_response_data(b"data: 1\n\n", 31.2)
    exchange.on_response_end([], 31.3)
    assert [line for line in sides.hear() if line.startswith("client")] == ["client: data data: 1\n\n", "client: end"]


def test_a_start_that_fails_after_the_first_comment_is_told_as_an_event() -> None:
    sides = Sides()
    exchange = held(sides)
    exchange.due(15.0)
    sides.hear()
    exchange.refuse(REFUSAL, 20.0)
    event, end, owner = sides.hear()
    first, data = event.removeprefix("client: data ").rstrip("\n").split("\n")
    assert first == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["message"] == "It did not start."
    assert (end, owner) == ("client: end", "owner: refused start_failed")


def test_a_start_that_fails_before_the_first_comment_keeps_its_status() -> None:
    sides = Sides()
    held(sides).refuse(REFUSAL, 14.0)
    assert sides.hear()[0].startswith("client: refused 503 start_failed")


@pytest.mark.parametrize(
    "head",
    [
        answer(400, "application/json"),
        answer(503),
        answer(200, "application/json"),
        answer(200, content_encoding="gzip"),
    ],
    ids=["an-error", "an-error-as-a-stream", "not-a-stream", "compressed"],
)
def test_an_answer_that_is_not_the_stream_which_was_begun_arrives_as_an_error_event(head: ResponseHead) -> None:
    sides = Sides()
    exchange = held(sides)
    exchange.due(15.0)
    exchange.dispatch(sides, 16.0)
    sides.hear()
    exchange.on_response_head(head, 17.0)
    exchange.on_response_data(b'{"error":\n', 17.0)
    exchange.on_response_data(b'"bad"}' + b" " * ERROR_BYTES, 17.0)
    exchange.on_response_end([], 17.0)
    said = [line for line in sides.hear() if line.startswith("client")]
    assert said[0].startswith('client: data event: error\ndata: {"error":\ndata: "bad"}')
    assert len(said[0]) < ERROR_BYTES + 100
    assert said[1:] == ["client: end"]


@pytest.mark.parametrize(
    ("head", "heard"),
    [
        (answer(), ["client: data data: 1\n\n", "client: end"]),
        (answer(503), ["client: data event: error\ndata: data: 1\ndata: \n\n", "client: end"]),
    ],
    ids=["the stream", "an error"],
)
def test_an_answer_that_comes_as_a_whole_behind_comments_is_told_as_in_pieces(
    head: ResponseHead, heard: list[str]
) -> None:
    sides = Sides()
    exchange = held(sides)
    exchange.due(15.0)
    exchange.dispatch(sides, 16.0)
    sides.hear()
    exchange.on_response(head, b"data: 1\n\n", 17.0)
    assert [line for line in sides.hear() if line.startswith("client")] == heard


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (b'{"model": "m"}', None),
        (b'{"stream": false}', None),
        (b'{"stream": "true"}', None),
        (b'{"stream": true', None),
        (b'{"stream": "\xff"}', None),
        (b'{"stream": ' + b"[" * 5000, None),
        (CHAT, request("POST", body=len(CHAT), content_type="text/plain")),
        (CHAT, request("POST", body=len(CHAT), content_type="application/json", content_encoding="gzip")),
        (b'{"stream": true, "x": "%b"}' % (b"x" * PEEKED_BYTES), None),
        (b"", request("GET", accept="text/html")),
        (b"", WEBSOCKET),
    ],
    ids=[
        "none",
        "false",
        "a-string",
        "broken",
        "no-text",
        "deep",
        "not-json",
        "compressed",
        "large",
        "a-page",
        "a-websocket",
    ],
)
def test_who_does_not_ask_for_a_stream_waits_in_silence(body: bytes, head: RequestHead | None) -> None:
    sides = Sides()
    exchange = held(sides, body, head)
    assert exchange.due(15.0) == 540.0
    assert sides.hear() == []


def test_an_event_source_asks_by_its_accept() -> None:
    sides = Sides()
    exchange = held(sides, b"", request("GET", accept="text/event-stream"))
    exchange.due(15.0)
    assert sides.hear()[0] == "client: 200 +body"


def test_nothing_is_said_unless_the_policy_asks_for_it() -> None:
    sides = Sides()
    exchange = held(sides, beat_s=None)
    assert exchange.due(15.0) == 540.0
    assert sides.hear() == []


def test_a_request_that_has_not_come_whole_is_asked_again_later() -> None:
    sides = Sides()
    sides.terms = RequestTerms(heartbeat_s=15.0)
    exchange = exchange_of(sides, request("POST", body=len(CHAT), content_type="application/json"))
    exchange.give_to(sides)
    exchange.hold(object(), deadline_s=540.0, now_s=0.0)
    assert exchange.due(15.0) == 30.0
    exchange.on_request_data(CHAT, 16.0)
    exchange.on_request_end([], 16.0)
    sides.hear()
    exchange.due(30.0)
    assert sides.hear()[0] == "client: 200 +body"
    assert exchange.phase == HELD


def test_an_answer_without_a_body_gets_no_comments() -> None:
    sides = Sides()
    exchange = held(sides, b"", request("HEAD", accept="text/event-stream"))
    exchange.due(15.0)
    assert sides.hear() == []
    exchange.dispatch(sides, 31.0)
    exchange.on_response_head(answer(), 31.1)
    exchange.on_response_end([], 31.1)
    assert [line.partition(" Server")[0] for line in sides.hear()][2:4] == ["client: 200", "client: end"]
