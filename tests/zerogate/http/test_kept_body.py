"""A request's body while there is nowhere to send it."""

from tests.zerogate.http.dialogue import Sides, exchange_of, request
from zerogate.http.record import BUFFER_BYTES


def test_a_body_without_a_place_to_go_stops_the_client_at_the_mark() -> None:
    sides = Sides()
    exchange = exchange_of(sides, request("POST", chunked=True))
    exchange.hold(object(), deadline_s=60.0, now_s=0.0)
    exchange.on_request_data(b"x" * BUFFER_BYTES, 0.1)
    assert "client: pause" in sides.hear()
    exchange.dispatch(sides, 1.0)
    assert "client: resume" in sides.hear()
    assert sides.memory.used_bytes == 0


def test_a_held_upload_pauses_early_where_the_memory_for_bodies_is_full() -> None:
    sides = Sides()
    sides.memory.limit_bytes = 10
    exchange = exchange_of(sides, request("POST", body=1000))
    exchange.hold(object(), deadline_s=60.0, now_s=0.0, keep_bytes=1000)
    exchange.on_request_data(b"12345", 0.1)
    assert sides.hear() == []
    exchange.on_request_data(b"67890", 0.1)
    assert sides.hear() == ["client: pause"]
