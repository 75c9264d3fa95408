"""The access log: which requests are written, and what becomes of lines that nobody takes."""

import json
import logging
from typing import Any

import pytest

from tests.zerogate.http.dialogue import Sides, exchange_of, request, response
from zerogate.errors import Refusal
from zerogate.http.access_log import AT_ONCE, MOST_WAITING, SAMPLE, AccessLog
from zerogate.http.exchange import Exchange
from zerogate.http.trace import Trace
from zerogate.http.trace_context import Incoming


class Reader:
    """Takes `most` bytes of each write, or fails."""

    def __init__(self) -> None:
        self.taken = b""
        self.most: int | None = None
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.failure is not None:
            raise self.failure
        piece = data[: self.most]
        self.taken += piece
        return len(piece)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.taken.splitlines()]


def served() -> Exchange:
    sides = Sides()
    exchange = exchange_of(sides, request("POST", body=2), 1.0)
    exchange.hold(object(), deadline_s=60.0, now_s=1.0)
    exchange.on_request_data(b"hi", 1.0)
    exchange.on_request_end([], 1.0)
    exchange.dispatch(sides, 3.0)
    exchange.on_response_head(response(201), 3.5)
    exchange.on_response_data(b"hello", 3.5)
    exchange.on_response_end([], 4.0)
    return exchange


def refused() -> Exchange:
    exchange = exchange_of(Sides(), request("GET"), 1.0)
    exchange.refuse(Refusal(status=429, code="queue_full", detail="…"), 1.0)
    return exchange


def test_a_line_says_who_asked_for_what_how_it_ended_and_how_long_each_part_took() -> None:
    reader = Reader()
    log = AccessLog("on", reader.write)
    log.add("chat", served())
    log.flush()
    (line,) = reader.lines()
    assert line.pop("at") > 0
    assert line == {
        "service": "chat", "client": "192.0.2.1", "method": "POST", "path": "/v1/x", "status": 201,
        "result": "served", "replica": "chat-1", "total_s": 3.0, "hold_s": 2.0, "first_byte_s": 2.5,
        "bytes_in": 2, "bytes_out": 5,
    }  # fmt: skip


def test_a_line_says_how_often_a_request_was_sent_where_that_is_more_than_once() -> None:
    reader = Reader()
    log = AccessLog("on", reader.write)
    exchange = exchange_of(sides := Sides(), request("GET"), 1.0)
    exchange.dispatch(sides, 1.0)
    exchange.on_upstream_lost("reset", 1.0)
    exchange.dispatch(sides, 1.0)
    exchange.on_response(response(length=0), b"", 1.0)
    log.add("chat", exchange)
    log.flush()
    assert reader.lines()[0]["attempts"] == 2


def test_switched_off_it_writes_nothing() -> None:
    reader = Reader()
    log = AccessLog("off", reader.write)
    log.add("chat", refused())
    log.flush()
    assert reader.taken == b""


def test_a_sample_has_every_request_that_was_not_served_and_few_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader()
    log = AccessLog("sampled", reader.write)
    drawn = iter(range(SAMPLE))
    monkeypatch.setattr("zerogate.http.access_log.random.randrange", lambda _: next(drawn))
    for _ in range(SAMPLE):
        log.add("chat", served())
    log.add("chat", refused())
    log.flush()
    assert [line["result"] for line in reader.lines()] == ["served", "refused"]


def test_what_a_slow_reader_does_not_take_goes_on_where_it_stopped() -> None:
    reader = Reader()
    log = AccessLog("on", reader.write)
    log.add("chat", refused())
    reader.most = 10
    log.flush()
    assert len(reader.taken) == 10
    log.add("chat", served())
    reader.most = None
    log.flush()
    assert [line["result"] for line in reader.lines()] == ["refused", "served"]


def test_lines_for_a_reader_that_takes_nothing_are_bounded_and_counted() -> None:
    reader = Reader()
    reader.most = 0
    log = AccessLog("on", reader.write)
    exchange = refused()
    for _ in range(MOST_WAITING + 3):
        log.add("chat", exchange)
    assert log.dropped == 3


def test_a_reader_that_is_gone_is_said_once_and_costs_only_the_lines(caplog: pytest.LogCaptureFixture) -> None:
    reader = Reader()
    reader.failure = BrokenPipeError(32, "Broken pipe")
    log = AccessLog("on", reader.write)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            log.add("chat", refused())
            log.flush()
    assert log.dropped == 2
    assert caplog.messages == ["the access log cannot be written: Broken pipe"]
    reader.failure = None
    log.add("chat", refused())
    log.flush()
    assert len(reader.lines()) == 1


def test_a_process_that_leaves_writes_all_that_waits() -> None:
    reader = Reader()
    log = AccessLog("on", reader.write)
    for _ in range(3 * AT_ONCE):
        log.add("chat", refused())
    log.finish()
    assert (len(reader.lines()), log.dropped) == (3 * AT_ONCE, 0)


def test_what_nobody_takes_when_it_leaves_is_counted() -> None:
    reader = Reader()
    reader.most = 0
    log = AccessLog("on", reader.write)
    for _ in range(3 * AT_ONCE):
        log.add("chat", refused())
    log.finish()
    assert (log.waiting, log.dropped) == (0, 3 * AT_ONCE)


def test_the_line_of_a_traced_request_names_its_trace() -> None:
    reader = Reader()
    log = AccessLog("on", reader.write)
    exchange = served()
    exchange.trace = Trace(Incoming(b""), 1.0, lambda bits: 7)
    log.add("chat", exchange)
    log.finish()
    assert reader.lines()[0]["trace_id"] == "7".rjust(32, "0")
