"""What a traced exchange notes, and what its replica is told."""

import itertools
from typing import Any

from tests.zerogate.http.dialogue import Sides, exchange_of, request, response
from zerogate.http.exchange import Exchange
from zerogate.http.trace import Trace
from zerogate.http.trace_context import read_context

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


class Traced(Sides):
    """Sides whose connection takes the fields as the pools do."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.sent: list[bytes] = []

    def take(self, exchange: Exchange, now_s: float) -> Any:
        return Asking(self.sent) if self.connected else None


class Asking:
    """A connection that asks for the fields and nothing else."""

    def __init__(self, sent: list[bytes]) -> None:
        self.sent = sent

    def send_head(self, exchange: Exchange) -> None:
        assert exchange.trace is not None
        self.sent.append(exchange.trace.sent(exchange))


def traced(sides: Sides, *, parent: str = "", ratio: float = 1.0) -> tuple[Exchange, Trace]:
    """An exchange with a trace whose ids count from 1."""
    numbers = itertools.count(1)
    head = request(traceparent=parent, accept="a") if parent else request(accept="a")
    exchange = exchange_of(sides, head, 1.0)
    exchange.trace = trace = Trace(read_context(head.lines), ratio, lambda bits: next(numbers))
    return exchange, trace


def test_the_replica_is_told_the_span_of_the_attempt_as_its_parent() -> None:
    sides = Traced()
    exchange, trace = traced(sides, parent=f"{PARENT}-01")
    exchange.dispatch(sides, 1.0)
    (attempt,) = trace.attempts
    own = b"00-0af7651916cd43dd8448eb211c80319c-%b-01" % attempt.span_id
    assert sides.sent == [b"accept: a\r\ntraceparent: %b\r\n" % own]
    assert attempt.span_id != trace.span_id
    assert trace.parent_id == b"b7ad6b7169203331"


def test_a_request_without_a_parent_begins_a_trace() -> None:
    sides = Traced()
    exchange, trace = traced(sides)
    exchange.dispatch(sides, 1.0)
    assert (trace.trace_id, trace.parent_id, trace.is_sampled) == (b"%032x" % 1, b"", True)
    assert b"traceparent: 00-%032x-" % 1 in sides.sent[0]


def test_a_parent_that_is_not_sampled_is_followed_and_nothing_is_noted() -> None:
    sides = Traced(connected=False)
    exchange, trace = traced(sides, parent=f"{PARENT}-00")
    exchange.hold(object(), deadline_s=60.0, now_s=1.0)
    exchange.dispatch(sides, 2.0)
    exchange.on_connect_failed("refused", 2.5)
    sides.connected = True
    exchange.dispatch(sides, 3.0)
    assert not trace.is_sampled
    assert (trace.holds, trace.attempts) == ([], [])
    assert sides.sent == [b"accept: a\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-%b-00\r\n" % trace.span_id]


def test_a_parent_decides_even_where_nothing_that_begins_here_is_recorded() -> None:
    _, trace = traced(Traced(), parent=f"{PARENT}-01", ratio=0.0)
    assert trace.is_sampled
    _, trace = traced(Traced(), ratio=0.0)
    assert (trace.is_sampled, trace.flags) == (False, 0)


def test_holds_and_attempts_are_noted_with_their_times() -> None:
    sides = Traced(connected=False)
    exchange, trace = traced(sides)
    exchange.hold(object(), deadline_s=60.0, now_s=1.0)
    exchange.dispatch(sides, 3.0)
    exchange.on_connect_failed("refused", 3.5)
    exchange.hold(object(), deadline_s=60.0, now_s=3.5)
    exchange.dispatch(sides, 4.0)
    exchange.on_connection(Asking(sides.sent), 4.2)  # type: ignore[arg-type]
    exchange.on_response_head(response(200, length=0), 5.0)
    assert trace.holds == [(1.0, 3.0), (3.5, 4.0)]
    first, second = trace.attempts
    assert (first.dispatched_s, first.sent_s, first.ended_s, first.cause) == (3.0, None, 3.5, "refused")
    assert (second.dispatched_s, second.sent_s, second.ended_s, second.cause) == (4.0, 4.2, None, "")


def test_a_request_that_is_sent_again_has_two_attempts() -> None:
    sides = Traced()
    exchange, trace = traced(sides)
    exchange.dispatch(sides, 1.0)
    exchange.on_upstream_lost("reset", 1.5)
    exchange.dispatch(sides, 2.0)
    assert [(one.sent_s, one.ended_s, one.cause) for one in trace.attempts] == [(1.0, 1.5, "reset"), (2.0, None, "")]
    assert len(set(sides.sent)) == 2


def test_a_client_that_leaves_while_there_is_no_connection_leaves_an_attempt_without_one() -> None:
    sides = Traced(connected=False)
    exchange, trace = traced(sides)
    exchange.dispatch(sides, 1.0)
    exchange.on_downstream_gone(1.5)
    trace.finish(exchange)
    trace.finish(exchange)
    assert [(one.dispatched_s, one.sent_s) for one in trace.attempts] == [(1.0, None)]
