"""What a client is told at the end, and what an answer that has begun comes to."""

import pytest

from tests.zerogate.http.dialogue import Sides, dispatched, exchange_of, request, response
from zerogate.errors import Refusal
from zerogate.http.sides import RequestTerms


def test_a_refusal_says_too_how_long_the_request_was_held() -> None:
    sides = Sides()
    exchange = exchange_of(sides)
    exchange.hold(object(), deadline_s=60.0, now_s=0.0)
    exchange.refuse(Refusal(status=503, code="start_failed", detail="It did not start."), 1.5)
    assert sides.hear()[0] == "client: refused 503 start_failed Server-Timing: hold;dur=1500.0"


@pytest.mark.parametrize("phase", ["routing", "held", "connecting", "sent"])
def test_a_body_over_its_limit_is_refused_as_long_as_no_answer_has_begun(phase: str) -> None:
    sides = Sides(connected=phase == "sent", terms=RequestTerms(body_limit_bytes=3))
    exchange = exchange_of(sides, request("POST", chunked=True))
    if phase == "held":
        exchange.hold(object(), deadline_s=60, now_s=0.0)
    elif phase != "routing":
        exchange.dispatch(sides, 0.0)
    exchange.on_request_data(b"abc", 1.0)
    sides.hear()
    exchange.on_request_data(b"d", 1.0)
    ending = ["client: refused 413 body_over_limit", "owner: refused body_over_limit"]
    if phase == "held":
        ending[0] += " Server-Timing: hold;dur=1000.0"
    assert sides.hear() == (["replica: abort", *ending] if phase == "sent" else ending)
    exchange.on_request_data(b"e", 2.0)
    assert sides.hear() == []
    assert sides.memory.used_bytes == 0


def test_a_body_over_its_limit_cuts_an_answer_that_has_begun() -> None:
    sides = Sides(terms=RequestTerms(body_limit_bytes=3))
    exchange = dispatched(sides, exchange_of(sides, request("POST", chunked=True)))
    exchange.on_response_head(response(), 1.0)
    sides.hear()
    exchange.on_request_data(b"abcd", 1.0)
    assert sides.hear() == ["replica: abort", "client: reset", "owner: cut body_over_limit"]
