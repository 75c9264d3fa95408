"""Refusals as answers: both shapes, and the headers that clients act on."""

import json
from importlib import import_module
from typing import Any

import pytest

from tests.extras import extra
from zerogate.errors import Refusal
from zerogate.http.answers import Answer, render


def refusal(status: int = 503, **fields: Any) -> Refusal:
    return Refusal(status=status, **{"code": "queue_full", "detail": "The queue of chat is full.", **fields})


def header(answer: Answer, name: bytes) -> bytes | None:
    values = [value for key, value in answer.headers if key == name]
    assert len(values) <= 1
    return values[0] if values else None


def test_a_problem_says_what_happened_in_rfc_9457_s_terms() -> None:
    answer = render(refusal(429), openai_shape=False)
    assert header(answer, b"content-type") == b"application/problem+json"
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "The queue of chat is full.",
        "code": "queue_full",
    }


@pytest.mark.parametrize(
    ("status", "code", "kind", "param"),
    [
        (404, "model_not_found", "invalid_request_error", "model"),
        (400, "body_malformed", "invalid_request_error", None),
        (429, "queue_full", "rate_limit_error", None),
        (503, "hold_timeout", "server_error", None),
        (504, "first_byte_timeout", "server_error", None),
    ],
)
def test_openai_clients_get_their_own_shape(status: int, code: str, kind: str, param: str | None) -> None:
    answer = render(refusal(status, code=code), openai_shape=True)
    assert header(answer, b"content-type") == b"application/json"
    error = {"message": "The queue of chat is full.", "type": kind, "param": param, "code": code}
    assert json.loads(answer.body) == {"error": error}


@pytest.mark.parametrize(
    ("status", "retry_after_s", "wanted"),
    [
        (429, None, b"1"),
        (503, None, b"1"),
        (503, 0.0, b"1"),
        (503, -5.0, b"1"),
        (503, 2.0, b"2"),
        (503, 2.001, b"3"),
        (503, float("nan"), b"1"),
        (503, float("inf"), b"86400"),
        (504, None, None),
        (413, 7.5, b"8"),
    ],
)
def test_retry_after_is_whole_seconds_rounded_up(status: int, retry_after_s: float | None, wanted: bytes) -> None:
    assert header(render(refusal(status, retry_after_s=retry_after_s), openai_shape=True), b"retry-after") == wanted


@pytest.mark.parametrize(("hopeless", "wanted"), [(True, b"false"), (False, None)])
def test_what_is_hopeless_is_not_to_be_tried_again(hopeless: bool, wanted: bytes | None) -> None:
    assert header(render(refusal(hopeless=hopeless), openai_shape=True), b"x-should-retry") == wanted


def test_further_headers_are_kept() -> None:
    answer = render(refusal(405), openai_shape=False, headers=((b"allow", b"GET, HEAD"),))
    assert header(answer, b"allow") == b"GET, HEAD"


def test_an_unknown_status_has_a_title_all_the_same() -> None:
    assert json.loads(render(refusal(599), openai_shape=False).body)["title"] == "Error"


@pytest.mark.parametrize("openai_shape", [True, False])
def test_any_detail_becomes_valid_json_of_bounded_length(openai_shape: bool) -> None:
    answer = render(refusal(detail='half a pair \ud800 "quoted"\r\n\0' + "x" * 100_000), openai_shape=openai_shape)
    json.loads(answer.body)
    assert len(answer.body) < 10_000


def test_the_openai_client_raises_its_own_error_with_our_sentence() -> None:
    openai = extra("openai")
    http = import_module(openai.DefaultHttpxClient.__base__.__module__)
    answer = render(refusal(404, code="model_not_found", detail="The model x does not exist."), openai_shape=True)
    transport = http.MockTransport(lambda _: http.Response(answer.status, headers=answer.headers, content=answer.body))
    with http.Client(transport=transport) as inner:
        client = openai.OpenAI(api_key="k", base_url="http://x/v1", http_client=inner, max_retries=0)
        with pytest.raises(openai.NotFoundError, match="The model x does not exist") as caught:
            client.models.retrieve("x")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(("not_sent", "wanted"), [(True, b"1"), (False, None)])
def test_only_what_no_replica_saw_is_marked_as_not_sent(not_sent: bool, wanted: bytes | None) -> None:
    assert header(render(refusal(503, not_sent=not_sent), openai_shape=False), b"zerogate-not-sent") == wanted
