"""Answers the standard health service of gRPC in zerogate's own name, so that who asks wakes nothing. Pure.

`Check` says SERVING for what is there or can be woken, NOT_SERVING for what cannot start: as the health paths do over
HTTP, and like them without asking a replica, whatever the name of the service in the question. `Watch` is not
implemented, which its clients take for healthy (github.com/grpc/grpc, doc/health-checking.md): a stream that stays open
would keep a replica up. Called by the ingress.
"""

from typing import Final

from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.grpc import HEALTH_CHECK, HEALTH_NOT_SERVING, HEALTH_SERVING, HEALTH_WATCH
from zerogate.http.heads import RequestHead

_LONGEST_BYTES: Final = 4096
"""Of a question, which is the name of a service."""


def is_health_check(head: RequestHead) -> bool:
    """Whether a request of gRPC asks for health."""
    return head.target in (HEALTH_CHECK, HEALTH_WATCH)


def answer_health(exchange: Exchange, *, is_serving: bool, now_s: float) -> None:
    """Answer such a request once its question has come as a whole."""
    if exchange.head.target == HEALTH_WATCH:
        exchange.refuse(_NO_WATCH, now_s)
    elif exchange.is_request_done:
        exchange.answer_grpc(HEALTH_SERVING if is_serving else HEALTH_NOT_SERVING, now_s)
    else:
        exchange.read_body(_Question(exchange, is_serving=is_serving), now_s)


class _Question:
    """A question on its way; a `BodyReader` of its exchange."""

    __slots__ = ("_exchange", "_is_serving")

    def __init__(self, exchange: Exchange, *, is_serving: bool) -> None:
        self._exchange = exchange
        self._is_serving = is_serving

    def on_chunk(self, chunk: bytes, now_s: float) -> None:
        if self._exchange.buffered_bytes > _LONGEST_BYTES:
            self._exchange.refuse(_TOO_LARGE, now_s)

    def on_end(self, now_s: float) -> None:
        answer_health(self._exchange, is_serving=self._is_serving, now_s=now_s)


_NO_WATCH: Final = Refusal(
    status=501,
    code="health_watch",
    detail="A watch would keep the service from going to sleep. Ask with grpc.health.v1.Health/Check instead.",
    hopeless=True,
)
_TOO_LARGE: Final = Refusal(
    status=413,
    code="body_too_large",
    detail=f"The question for a service's health is larger than {_LONGEST_BYTES} bytes.",
    hopeless=True,
)
