"""What a held request counts for."""

import pytest

from tests.zerogate.http.dialogue import Sides, exchange_of, request
from zerogate.http.account import HEAD_OVERHEAD_BYTES, KEEP_BYTES, held_bytes
from zerogate.http.heads import RequestHead
from zerogate.http.record import BUFFER_BYTES

LINES = len(b"X: " + b"y" * 60_000 + b"\r\n")


def websocket() -> RequestHead:
    head = request()
    head.websocket_key = b"dGhlIHNhbXBsZSBub25jZQ=="
    return head


@pytest.mark.parametrize(
    ("head", "more_bytes"),
    [
        (request(), 0),
        (request(X="y" * 60_000), LINES),
        (request("POST", body=5000), 5000),
        (request("POST", body=KEEP_BYTES + 1), BUFFER_BYTES),
        (request("POST", chunked=True), BUFFER_BYTES),
        (websocket(), BUFFER_BYTES),
    ],
    ids=["small", "with a long head", "whose body is kept", "whose body is long", "of unknown length", "WebSocket"],
)
def test_a_held_request_counts_with_its_head_and_what_may_come_of_its_body(head: RequestHead, more_bytes: int) -> None:
    assert held_bytes(exchange_of(Sides(), head)) == HEAD_OVERHEAD_BYTES + more_bytes


def test_a_body_that_has_come_counts_with_its_length() -> None:
    exchange = exchange_of(Sides(), request("POST", chunked=True))
    exchange.on_request_data(b"x" * 3000, 0.0)
    exchange.on_request_end([], 0.0)
    assert held_bytes(exchange) == HEAD_OVERHEAD_BYTES + 3000
