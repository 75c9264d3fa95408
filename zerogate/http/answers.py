"""A refusal as an HTTP answer: the one table that maps our errors to bytes. Pure.

Problem details (RFC 9457) for everybody, the shape of OpenAI's API where its clients are asking, so that they show the
sentence instead of "unknown error"; clients of gRPC read nothing but `grpc-status` and `grpc-message`. Used by the
downstream sides of gateway, activator and queueproxy.
"""

import math
from http import HTTPStatus
from typing import Final

import msgspec

from zerogate.errors import Refusal
from zerogate.http.grpc import encode_message, status_for
from zerogate.http.heads import RequestHead
from zerogate.names import NOT_SENT

Headers = tuple[tuple[bytes, bytes], ...]

_WEBSOCKET_13: Final = ((b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"sec-websocket-version", b"13"))
"""What a client has to speak instead (RFC 9110 section 15.5.22, RFC 6455 section 4.4)."""
_WAIT_STATUSES: Final = (429, 503)
_RETRY_AFTER_S: Final = 1
"""Where the refusal does not know better: one readiness probe and a dispatch fit into it."""
_RETRY_AFTER_LIMIT_S: Final = 86_400
_DETAIL_LIMIT_CHARACTERS: Final = 8192
"""Room for the last lines that a failed start printed."""
_ABOUT_THE_MODEL: Final = ("model_not_found", "model_required", "model_invalid")
"""Codes whose cause is the request's `model`: OpenAI's `param`."""


class Answer(msgspec.Struct, frozen=True):
    """An answer but for its framing: the engine adds Content-Length, Connection and Date. Names in lower case."""

    status: int
    headers: Headers
    body: bytes


def render_for(refusal: Refusal, head: RequestHead) -> Answer:
    """The refusal in the shape that whoever sent this request reads."""
    if head.is_grpc:
        return render_grpc(refusal, head.content_type or b"")
    return render(refusal, openai_shape=head.target.startswith(b"/v1/"))


def render_grpc(refusal: Refusal, content_type: bytes) -> Answer:
    """The refusal to a client of gRPC: an answer of trailers only, which is a head and nothing else.

    `grpc-retry-pushback-ms` is its Retry-After (gRFC A6); a negative one says not to try again.
    """
    own: list[tuple[bytes, bytes]] = [
        (b"content-type", content_type.partition(b";")[0].strip()),
        (b"grpc-status", b"%d" % status_for(refusal.status)),
        (b"grpc-message", encode_message(refusal.detail)),
    ]
    if refusal.hopeless:
        own.append((b"grpc-retry-pushback-ms", b"-1"))
    elif refusal.status in _WAIT_STATUSES or refusal.retry_after_s is not None:
        own.append((b"grpc-retry-pushback-ms", b"%d" % (1000 * _whole_seconds(refusal.retry_after_s))))
    if refusal.not_sent:
        own.append((NOT_SENT, b"1"))
    return Answer(200, tuple(own), b"")


def render(refusal: Refusal, *, openai_shape: bool, headers: Headers = ()) -> Answer:
    """The refusal as an answer. `headers`: further ones, such as Allow with a 405.

    Every 429 and 503 has a Retry-After in whole seconds, rounded up, because clients of the OpenAI SDK wait as long as
    it says; `x-should-retry: false` keeps them from trying again where that is hopeless.
    """
    own: list[tuple[bytes, bytes]] = [
        (b"content-type", b"application/json" if openai_shape else b"application/problem+json"),
        (b"cache-control", b"no-store"),
    ]
    if refusal.status in _WAIT_STATUSES or refusal.retry_after_s is not None:
        own.append((b"retry-after", b"%d" % _whole_seconds(refusal.retry_after_s)))
    if refusal.status == HTTPStatus.UPGRADE_REQUIRED:
        own.extend(_WEBSOCKET_13)
    if refusal.hopeless:
        own.append((b"x-should-retry", b"false"))
    if refusal.not_sent:
        own.append((NOT_SENT, b"1"))
    shape = _openai_error(refusal) if openai_shape else _problem(refusal)
    return Answer(refusal.status, (*own, *headers), msgspec.json.encode(shape))


def _whole_seconds(retry_after_s: float | None) -> int:
    if retry_after_s is None or math.isnan(retry_after_s):
        return _RETRY_AFTER_S
    return math.ceil(min(max(retry_after_s, 1.0), _RETRY_AFTER_LIMIT_S))


def _problem(refusal: Refusal) -> dict[str, str | int]:
    """RFC 9457: with the type about:blank the title is the status's own phrase."""
    return {
        "type": "about:blank",
        "title": _phrase(refusal.status),
        "status": refusal.status,
        "detail": _detail(refusal),
        "code": refusal.code,
    }


def _openai_error(refusal: Refusal) -> dict[str, dict[str, str | None]]:
    return {
        "error": {
            "message": _detail(refusal),
            "type": _openai_type(refusal.status),
            "param": "model" if refusal.code in _ABOUT_THE_MODEL else None,
            "code": refusal.code,
        }
    }


def _openai_type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _detail(refusal: Refusal) -> str:
    """The sentence, bounded, and fit for UTF-8: half a surrogate pair can come out of a client's JSON."""
    detail = refusal.detail
    if len(detail) > _DETAIL_LIMIT_CHARACTERS:
        detail = f"{detail[:_DETAIL_LIMIT_CHARACTERS]}…"
    return detail.encode("utf-8", "replace").decode()
