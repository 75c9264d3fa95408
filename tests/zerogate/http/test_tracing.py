"""What becomes of traced requests until somebody exports them."""

from typing import Any

import pytest

from tests.zerogate.http.dialogue import Sides, exchange_of, request, response
from zerogate.counters import Result, ServiceCounters
from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.trace import Trace
from zerogate.http.traced import Traced, route_of, traced
from zerogate.http.tracing import MOST_WAITING, Tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class World:
    """A service `chat`, and requests that are served after a hold unless they are refused."""

    def __init__(self, ratio: float = 1.0) -> None:
        self.counters = ServiceCounters()
        self.placed: list[Exchange] = []
        self.tracing = Tracing(
            lambda exchange, now_s: self.placed.append(exchange),
            {"chat": self.counters}.get,
            ratio=ratio,
        )

    def place(self, **fields: Any) -> tuple[Exchange, Sides]:
        sides = Sides()
        exchange = exchange_of(sides, request(**fields), 1.0)
        self.tracing.place(exchange, 1.0)
        return exchange, sides

    def serve(self, **fields: Any) -> Exchange:
        exchange, sides = self.place(**fields)
        exchange.hold(object(), deadline_s=60.0, now_s=1.0)
        exchange.dispatch(sides, 3.0)
        exchange.on_response_head(response(200, length=0), 3.25)
        exchange.on_response_end([], 4.0)
        return exchange

    def refuse(self, **fields: Any) -> Exchange:
        exchange, _ = self.place(**fields)
        exchange.refuse(Refusal(status=404, code="no_route", detail="…"), 1.0)
        return exchange

    def dropped(self) -> int:
        return self.tracing.fates["dropped"]


def test_a_request_has_its_trace_before_it_is_placed() -> None:
    world = World()
    exchange, _ = world.place(traceparent=PARENT)
    assert world.placed == [exchange]
    assert exchange.trace is not None
    assert exchange.trace.parent_id == b"b7ad6b7169203331"


def test_what_has_ended_waits_as_a_record_that_keeps_no_exchange() -> None:
    world = World()
    world.tracing.configure(1.0, {"chat": "/v1"})
    exchange = world.serve(traceparent=PARENT)
    world.tracing.note("chat", exchange)
    assert exchange.trace is None
    (record,) = world.tracing.take(10)
    assert (record.service, record.route, record.status, record.result) == ("chat", "/v1/*", 200, Result.SERVED)
    assert (record.received_s, record.placed_s, record.ended_s) == (1.0, 1.0, 4.0)
    assert record.holds == ((1.0, 3.0),)
    assert [(one.replica, one.dispatched_s, one.ended_s) for one in record.tries] == [("chat-1", 3.0, 4.0)]
    assert world.tracing.take(10) == []


def test_what_is_not_sampled_is_not_kept() -> None:
    world = World(ratio=0.0)
    world.tracing.note("chat", world.serve())
    world.tracing.note("chat", world.serve(traceparent=PARENT[:-2] + "00"))
    assert world.tracing.take(10) == []
    assert world.counters.hold.exemplars is None


def test_a_changed_share_holds_for_the_next_request() -> None:
    world = World()
    world.tracing.configure(0.0, {})
    world.tracing.note("chat", world.serve())
    assert world.tracing.take(10) == []


def test_what_zerogate_answers_itself_is_nobody_s_trace_and_what_no_service_takes_is() -> None:
    world = World()
    own, _ = world.place()
    own.answer(200, (), b"{}", 1.0)
    world.tracing.note("", own)
    assert world.tracing.take(10) == []
    world.tracing.note("", world.refuse())
    (record,) = world.tracing.take(10)
    assert (record.service, record.code, record.route) == ("", "no_route", "")


def test_requests_that_were_not_begun_here_are_left_alone() -> None:
    world = World()
    exchange = exchange_of(Sides(), request(), 1.0)
    exchange.on_downstream_gone(2.0)
    world.tracing.note("chat", exchange)
    assert world.tracing.take(10) == []


def test_beyond_the_bound_they_are_dropped_and_counted_and_the_oldest_stay() -> None:
    world = World()
    for _ in range(MOST_WAITING + 3):
        world.tracing.note("", world.refuse())
    assert world.dropped() == 3
    assert len(world.tracing.take(MOST_WAITING * 2)) == MOST_WAITING
    world.tracing.note("", world.refuse())
    assert (world.dropped(), len(world.tracing.take(10))) == (3, 1)


def test_histograms_get_the_trace_as_an_example_of_what_they_have_counted() -> None:
    world = World()
    world.tracing.note("chat", world.serve(traceparent=PARENT))
    counters = world.counters
    found = {}
    for name in ("hold", "first_byte", "request"):
        examples = getattr(counters, name).exemplars
        (found[name],) = ((one.trace_id, one.value) for one in examples.values())
    trace_id = PARENT[3:35]
    assert found == {"hold": (trace_id, 2.0), "first_byte": (trace_id, 0.25), "request": (trace_id, 3.0)}


def test_a_service_that_is_gone_has_no_histograms() -> None:
    world = World()
    world.tracing.note("removed", world.serve())
    assert len(world.tracing.take(10)) == 1


@pytest.mark.parametrize(
    ("target", "prefix", "route"),
    [
        (b"/v1/chat/completions?x=1", None, "/v1/chat/completions"),
        (b"/v1/chat/completions", "/chat", "/v1/chat/completions"),
        (b"/asr/x/y", "/asr", "/asr/*"),
        (b"/asr/x/y", "/asr/", "/asr/*"),
        (b"/x", "/", ""),
        (b"/x", None, ""),
        (b"/v1/unheard-of", None, ""),
    ],
)
def test_a_route_is_one_of_a_few_whatever_is_asked_for(target: bytes, prefix: str | None, route: str) -> None:
    assert route_of(target, prefix) == route


def test_a_request_that_ends_before_it_has_a_connection_has_an_attempt_without_one() -> None:
    sides = Sides(connected=False)
    world = World()
    exchange = exchange_of(sides, request(), 1.0)
    world.tracing.place(exchange, 1.0)
    exchange.dispatch(sides, 1.5)
    exchange.on_downstream_gone(2.0)
    assert isinstance(exchange.trace, Trace)
    record: Traced = traced("chat", "", exchange, exchange.trace, 100.0)
    (tried,) = record.tries
    assert (tried.sent_s, tried.ended_s, record.placed_s) == (None, 2.0, 1.5)
