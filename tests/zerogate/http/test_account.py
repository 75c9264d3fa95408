"""What a held request counts for, and what one that is over is counted as."""

import pytest

from tests.zerogate.http.dialogue import Sides, exchange_of, request, response
from zerogate.counters import Histogram, ServiceCounters
from zerogate.errors import Refusal
from zerogate.http.account import HEAD_OVERHEAD_BYTES, KEEP_BYTES, count, held_bytes
from zerogate.http.exchange import Exchange
from zerogate.http.heads import RequestHead
from zerogate.http.record import BUFFER_BYTES
from zerogate.http.tunnel import Tunnel
from zerogate.meter import Meter

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


def over(how: str) -> Exchange:
    """Came at 1, was held until 3, had the head of its answer at 3.5, ended at 6; as far as it came."""
    sides = Sides(connected=how != "abandoned")
    exchange = exchange_of(sides, request("POST", body=4), 1.0)
    exchange.on_request_data(b"body", 1.0)
    exchange.on_request_end([], 1.0)
    exchange.hold(object(), deadline_s=60.0, now_s=1.0)
    if how == "refused":
        exchange.refuse(Refusal(status=503, code="hold_timeout", detail="..."), 6.0)
        return exchange
    exchange.dispatch(sides, 3.0)
    if how == "abandoned":
        exchange.on_downstream_gone(6.0)
        return exchange
    exchange.on_response_head(response(201), 3.5)
    exchange.on_response_data(b"hello", 4.0)
    if how == "cut":
        exchange.on_upstream_lost("reset", 6.0)
    else:
        exchange.on_response_end([], 6.0)
    return exchange


def observed(histogram: Histogram) -> list[float]:
    """Its only value, or none."""
    assert sum(histogram.counts) <= 1
    return [histogram.total] if sum(histogram.counts) else []


@pytest.mark.parametrize(
    ("how", "first_byte", "whole", "ends"),
    [
        ("served", [0.5], [5.0], (1, 0, 0, {})),
        ("cut", [0.5], [], (0, 1, 0, {})),
        ("abandoned", [], [], (0, 0, 1, {})),
        ("refused", [], [], (0, 0, 0, {"hold_timeout": 1})),
    ],
    ids=["served", "cut", "abandoned", "refused"],
)
def test_rate_errors_and_durations_are_counted_once_by_how_it_ended(
    how: str, first_byte: list[float], whole: list[float], ends: tuple[int, int, int, dict[str, int]]
) -> None:
    counters, meter = ServiceCounters(), Meter()
    count(over(how), meter, counters)
    assert (counters.served, counters.cut, counters.abandoned, counters.refused_by_code) == ends
    assert observed(counters.hold) == [5.0 if how == "refused" else 2.0]
    assert (observed(counters.first_byte), observed(counters.request)) == (first_byte, whole)
    assert counters.status_classes == [0, 0, int(how == "served"), 0, 0, 0]
    assert (meter.bytes_in, meter.bytes_out) == (4, 5 if first_byte else 0)


def test_a_websocket_is_served_and_its_life_is_no_duration_of_a_request() -> None:
    counters, exchange = ServiceCounters(), over("served")
    exchange.tunnel = Tunnel(
        exchange, b"dGhlIHNhbXBsZSBub25jZQ==", 3.5, write_to_client=print, write_to_replica=print
    )  # fmt: skip
    count(exchange, Meter(), counters)
    assert (counters.served, observed(counters.request), observed(counters.first_byte)) == (1, [], [0.5])
