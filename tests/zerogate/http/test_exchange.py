"""One request and its answer, as a dialogue between a client, a replica and the owner."""

from functools import partial
from typing import Any

import pytest

from tests.zerogate.http.dialogue import Connection, Sides, dispatched, exchange_of, request, response
from zerogate.http.deadlines import STALLED_S
from zerogate.http.exchange import Exchange
from zerogate.http.kept_body import REPLAY_BYTES
from zerogate.http.memory import BufferMemory
from zerogate.http.phases import ANSWERING, CONNECTING, ENDED, HELD, SENT, IllegalTransitionError
from zerogate.http.sides import RequestTerms


def test_a_warm_request_goes_through_without_waiting() -> None:
    sides = Sides()
    exchange = exchange_of(sides)
    exchange.on_request_end([], 0.0)
    exchange.dispatch(sides, 0.0)
    assert sides.hear() == ["pool: take", "replica: GET"]
    assert exchange.on_response_head(response(), 0.1)
    exchange.on_response_data(b"hello", 0.2)
    exchange.on_response_end([], 0.3)
    assert sides.hear() == ["client: 200 +body", "client: data hello", "client: end", "owner: served"]
    assert exchange.phase == ENDED


def test_a_held_request_keeps_its_body_and_says_how_long_it_waited() -> None:
    sides = Sides()
    exchange = exchange_of(sides, request("POST", body=6))
    exchange.is_cold = True
    exchange.hold(object(), deadline_s=60.0, now_s=0.0)
    exchange.on_request_data(b"abc", 0.1)
    exchange.on_request_data(b"def", 0.1)
    exchange.on_request_end([], 0.1)
    assert sides.hear() == []
    exchange.dispatch(sides, 2.0)
    assert sides.hear() == ["pool: take", "replica: POST", "replica: data abc", "replica: data def", "replica: end"]
    exchange.on_response_head(response(204), 2.1)
    assert sides.hear() == ["client: 204 Server-Timing: hold;dur=2000.0, start;dur=2500.0"]


def test_a_held_body_is_not_read_on_where_there_is_no_memory_for_bodies() -> None:
    sides = Sides()
    sides.memory = BufferMemory(800)
    exchange = exchange_of(sides, request("POST", body=2000))
    exchange.hold(object(), deadline_s=60.0, now_s=0.0, keep_bytes=10_000)
    exchange.on_request_data(bytes(600), 0.1)
    assert sides.hear() == []
    exchange.on_request_data(bytes(100), 0.1)
    assert sides.hear() == ["client: pause"]


def test_a_body_that_was_sent_is_not_kept_for_another_try_where_there_is_no_memory_for_bodies() -> None:
    sides = Sides()
    sides.memory = BufferMemory(800)
    exchange = dispatched(sides, exchange_of(sides, request("PUT", body=2000)))
    exchange.on_request_data(bytes(600), 0.1)
    assert sides.memory.used_bytes == 600
    exchange.on_request_data(bytes(100), 0.1)
    assert (exchange.chunks, sides.memory.used_bytes) == (None, 0)


def test_a_connection_that_arrives_after_the_client_has_gone_is_not_wanted() -> None:
    sides = Sides(connected=False)
    exchange = dispatched(sides, exchange_of(sides))
    wanted = [exchange.wants_connection]
    exchange.on_downstream_gone(1.5)
    assert [*wanted, exchange.wants_connection] == [True, False]
    assert sides.hear() == ["owner: abandoned"]


def test_a_failed_connect_is_unsent_whatever_the_method() -> None:
    sides = Sides(connected=False)
    exchange = dispatched(sides, exchange_of(sides, request("POST", body=3)))
    exchange.on_request_data(b"abc", 1.0)
    exchange.on_connect_failed("connection refused", 1.1)
    assert sides.hear() == ["owner: unsent (connection refused)"]
    sides.connected = True
    exchange.dispatch(sides, 1.2)
    assert sides.hear() == ["pool: take", "replica: POST", "client: resume", "replica: data abc"]


@pytest.mark.parametrize(
    ("method", "stale", "body", "again"),
    [
        pytest.param("GET", False, 0, True, id="GET"),
        pytest.param("POST", False, 3, False, id="POST"),
        pytest.param("POST", True, 3, True, id="POST-that-may-be-stale"),
        pytest.param("PUT", False, 3, True, id="PUT"),
        pytest.param("PUT", False, REPLAY_BYTES + 1, False, id="PUT-with-a-body-not-kept"),
    ],
)
def test_what_was_sent_and_not_answered_goes_out_again_only_where_that_is_safe(
    method: str, stale: bool, body: int, again: bool
) -> None:
    sides = Sides(terms=RequestTerms(retries_stale=stale))
    exchange = dispatched(sides, exchange_of(sides, request(method, body=body or None)))
    if body:
        exchange.on_request_data(b"x" * body, 1.0)
    exchange.on_request_end([], 1.0)
    sides.hear()
    exchange.on_upstream_lost("reset", 2.0)
    assert sides.hear() == (
        ["owner: unsent (reset)"] if again else ["client: refused 502 replica_lost", "owner: refused replica_lost"]
    )


def test_a_replica_that_dies_in_its_answer_cuts_it_so_that_the_client_can_tell() -> None:
    sides = Sides()
    exchange = dispatched(sides, exchange_of(sides))
    exchange.on_response_head(response(), 1.1)
    exchange.on_response_data(b"tok", 1.2)
    sides.hear()
    exchange.on_upstream_lost("reset", 1.3)
    assert sides.hear() == ["client: reset", "owner: cut replica_lost"]


def test_a_client_that_goes_away_closes_the_replicas_connection() -> None:
    sides = Sides()
    exchange = dispatched(sides, exchange_of(sides))
    exchange.on_downstream_gone(1.5)
    exchange.on_downstream_gone(1.6)
    assert sides.hear() == ["replica: abort", "owner: abandoned"]


def test_a_slow_client_stops_the_replica_and_a_slow_replica_stops_the_client() -> None:
    sides = Sides()
    exchange = dispatched(sides, exchange_of(sides, request("POST", chunked=True)))
    exchange.on_upstream_writable(False)
    exchange.on_upstream_writable(True)
    exchange.on_downstream_writable(False, 1.0)
    exchange.on_downstream_writable(True, 1.0)
    assert sides.hear() == ["client: pause", "client: resume", "replica: pause", "replica: resume"]


class TestTimers:
    def test_the_hold_ends_at_its_deadline(self) -> None:
        sides = Sides()
        exchange = exchange_of(sides)
        exchange.hold(object(), deadline_s=10.0, now_s=0.0)
        assert exchange.due(9.9) == 10.0
        assert exchange.due(10.0) is None
        assert sides.hear() == ["owner: hold timeout"]

    def test_no_connection_in_time_is_unsent(self) -> None:
        sides = Sides(connected=False)
        exchange = dispatched(sides, exchange_of(sides), now_s=1.0)
        assert exchange.due(5.9) == 6.0
        exchange.due(6.0)
        assert sides.hear() == ["owner: unsent (no connection within 5 s)"]

    def test_the_first_byte_is_waited_for_from_the_last_byte_of_the_request(self) -> None:
        sides = Sides()
        exchange = dispatched(sides, exchange_of(sides, request("POST", body=6)), now_s=0.0)
        exchange.on_request_data(b"abc", 25.0)
        exchange.on_request_data(b"def", 50.0)
        exchange.on_request_end([], 50.0)
        assert exchange.due(109.0) == 110.0
        sides.hear()
        exchange.due(110.0)
        assert sides.hear() == [
            "replica: abort", "client: refused 504 first_byte_timeout", "owner: refused first_byte_timeout",
        ]  # fmt: skip

    def test_a_stream_that_stays_silent_is_cut_but_not_while_the_client_does_not_read(self) -> None:
        sides = Sides()
        exchange = dispatched(sides, exchange_of(sides), now_s=0.0)
        exchange.on_response_head(response(), 0.0)
        exchange.on_downstream_writable(False, 1.0)
        assert exchange.due(100.0) == 130.0
        exchange.on_downstream_writable(True, 110.0)
        assert exchange.due(139.0) == 140.0
        sides.hear()
        exchange.due(140.0)
        assert sides.hear() == ["replica: abort", "client: reset", "owner: cut idle_timeout"]

    def test_silence_is_looked_for_in_time_although_the_first_byte_has_longer(self) -> None:
        sides = Sides()
        exchange = dispatched(sides, exchange_of(sides), now_s=0.0)
        assert sides.visit_s == 60.0
        exchange.on_response_head(response(), 2.0)
        assert sides.visit_s == 32.0

    def test_an_upload_that_stays_silent_is_looked_for_in_time_although_the_first_byte_has_longer(self) -> None:
        sides = Sides()
        exchange = dispatched(sides, exchange_of(sides, request("POST", body=6)), now_s=0.0)
        assert sides.visit_s == 30.0
        assert exchange.due(30.0) is None
        assert sides.hear()[-1] == "owner: refused idle_timeout"

    def test_the_total_runs_from_dispatch_not_from_the_hold(self) -> None:
        sides = Sides(terms=RequestTerms(total_s=20.0))
        exchange = exchange_of(sides)
        exchange.hold(object(), deadline_s=600.0, now_s=0.0)
        exchange.dispatch(sides, 500.0)
        exchange.on_response_head(response(), 501.0)
        assert exchange.due(519.0) == 520.0
        sides.hear()
        exchange.due(520.0)
        assert sides.hear() == ["replica: abort", "client: reset", "owner: cut total_timeout"]

    @pytest.mark.parametrize(
        ("phase", "is_stalled"),
        [(CONNECTING, False), (SENT, False), (SENT, True), (ANSWERING, False), (ANSWERING, True)],
        ids=["connecting", "sent", "sent, its client stalls", "answering", "answering, its client stalls"],
    )
    def test_the_total_is_looked_for_in_time_whatever_else_runs(self, phase: int, is_stalled: bool) -> None:
        sides = Sides(connected=phase >= SENT, terms=RequestTerms(connect_s=5, first_byte_s=60, idle_s=30, total_s=4))
        exchange = dispatched(sides, exchange_of(sides), now_s=1.0)
        if phase == ANSWERING:
            exchange.on_response_head(response(), 1.0)
        if is_stalled:
            exchange.on_downstream_writable(False, 1.5)
        assert sides.visit_s == 5.0
        assert exchange.due(2.0) == 5.0
        exchange.due(5.0)
        assert exchange.code == "total_timeout"

    def test_a_body_that_does_not_come_while_its_route_is_looked_for_ends_with_408(self) -> None:
        sides = Sides()
        exchange = Exchange(sides, request("POST", body=9), 0.0)
        assert exchange.due(299.0) == 300.0
        exchange.due(300.0)
        assert sides.hear() == ["client: refused 408 body_timeout"]


def in_phase(phase: int) -> Exchange:
    sides: Any = Sides(connected=phase >= SENT)
    exchange = exchange_of(sides)
    if phase == HELD:
        exchange.hold(object(), deadline_s=9.0, now_s=0.0)
    if phase >= CONNECTING:
        exchange.dispatch(sides, 0.0)
    if phase >= ANSWERING:
        exchange.on_response_head(response(), 0.0)
    if phase == ENDED:
        exchange.on_response_end([], 0.0)
    assert exchange.phase == phase
    return exchange


@pytest.mark.parametrize(
    ("phase", "event"),
    [
        pytest.param(ANSWERING, "dispatch", id="dispatched-while-answering"),
        pytest.param(ENDED, "dispatch", id="dispatched-after-the-end"),
        pytest.param(ENDED, "hold", id="held-after-the-end"),
        pytest.param(ANSWERING, "hold", id="held-while-answering"),
        pytest.param(HELD, "on_response_head", id="answered-while-held"),
        pytest.param(CONNECTING, "on_response_head", id="answered-before-it-was-sent"),
        pytest.param(HELD, "on_connection", id="connected-while-held"),
        pytest.param(ENDED, "refuse", id="refused-after-the-end"),
    ],
)
def test_an_illegal_transition_raises_and_changes_nothing(phase: int, event: str) -> None:
    exchange = in_phase(phase)
    arguments: dict[str, tuple[Any, ...]] = {
        "dispatch": (exchange.downstream, 1.0),
        "on_response_head": (response(), 1.0),
        "on_connection": (Connection([]), 1.0),
        "refuse": (None, 1.0),
    }
    act = partial(exchange.hold, object(), deadline_s=9.0, now_s=1.0)
    if event != "hold":
        act = partial(getattr(exchange, event), *arguments[event])
    with pytest.raises(IllegalTransitionError):
        act()
    assert exchange.phase == phase


def sent_by_a_way_that_may_refuse(body: bytes) -> tuple[Sides, Exchange]:
    """A POST whose body went to a replica that may still say that it did not begin."""
    sides = Sides()
    exchange = exchange_of(sides, request("POST", body=len(body)))
    exchange.on_request_data(body, 0.0)
    exchange.on_request_end([], 0.0)
    connection = Connection(sides.said)
    connection.may_refuse = True
    sides.connected = False
    dispatched(sides, exchange, 0.0)
    exchange.on_connection(connection, 0.1)
    sides.hear()
    return sides, exchange


def test_a_post_that_its_replica_refused_is_unsent_with_its_body() -> None:
    sides, exchange = sent_by_a_way_that_may_refuse(b"abc")
    exchange.on_refused("it is full", 0.2)
    assert sides.hear() == ["owner: unsent (it is full)"]
    assert b"".join(exchange.chunks or ()) == b"abc"


def test_a_refused_post_whose_body_is_not_kept_is_refused() -> None:
    sides, exchange = sent_by_a_way_that_may_refuse(b"a" * (REPLAY_BYTES + 1))
    exchange.on_refused("it is full", 0.2)
    assert sides.hear()[0].startswith("client: refused 502 replica_lost")
    assert sides.memory.used_bytes == 0


def test_a_post_is_not_repeated_where_the_replica_says_no_more_than_that_it_failed() -> None:
    sides, exchange = sent_by_a_way_that_may_refuse(b"abc")
    exchange.on_upstream_lost("it broke", 0.2)
    assert sides.hear()[0].startswith("client: refused 502 replica_lost")


def test_what_would_only_fail_again_is_not_repeated_whatever_its_method() -> None:
    sides = Sides()
    exchange = dispatched(sides, exchange_of(sides))
    exchange.on_upstream_lost("it says nonsense", 2.0, is_final=True)
    assert sides.hear()[0].startswith("client: refused 502 replica_lost")


def test_a_refusal_in_the_middle_of_an_answer_cuts_it() -> None:
    sides, exchange = sent_by_a_way_that_may_refuse(b"abc")
    exchange.on_response_head(response(), 0.2)
    sides.hear()
    exchange.on_refused("it leaves", 0.3)
    assert sides.hear() == ["client: reset", "owner: cut replica_lost"]


def test_a_replica_is_not_blamed_for_an_answer_that_is_not_read_because_its_client_takes_nothing() -> None:
    sides = Sides()
    exchange = exchange_of(sides)
    exchange.hold(object(), deadline_s=60.0, now_s=0.0)
    exchange.on_downstream_writable(False, 1.0)  # a comment of the hold was the last that it took
    exchange.dispatch(sides, 2.0)
    sides.hear()
    assert exchange.due(2.0 + sides.terms.first_byte_s) is not None
    exchange.on_downstream_writable(True, 100.0)
    assert sides.hear() == ["replica: resume"]
    assert exchange.due(101.0) == 100.0 + sides.terms.first_byte_s
    exchange.on_downstream_writable(False, 110.0)
    exchange.due(110.0 + STALLED_S)
    assert sides.hear()[-1] == "owner: refused client_stalled"


def test_a_client_is_not_read_on_where_what_was_kept_is_all_that_the_replica_takes() -> None:
    sides = Sides(connected=False)
    exchange = dispatched(sides, exchange_of(sides, request("POST", body=9)))
    exchange.on_request_data(b"abc", 1.0)

    class Full(Connection):
        def send_data(self, data: bytes) -> None:
            super().send_data(data)
            exchange.on_upstream_writable(False)

    exchange.on_connection(Full(sides.said), 1.0)
    assert sides.hear() == ["replica: POST", "client: resume", "replica: data abc", "client: pause"]


@pytest.mark.parametrize("body", [0, 3])
def test_a_client_that_stopped_taking_before_there_was_a_replica_pauses_it_at_once(body: int) -> None:
    sides = Sides()
    exchange = exchange_of(sides, request("POST", body=body) if body else None)
    exchange.hold(object(), deadline_s=60.0, now_s=0.0)
    if body:
        exchange.on_request_data(b"abc", 0.1)
        exchange.on_request_end([], 0.1)
    exchange.on_downstream_writable(False, 0.2)
    exchange.dispatch(sides, 1.0)
    assert sides.hear()[-1] == "replica: pause"
    exchange.on_downstream_writable(True, 2.0)
    assert sides.hear() == ["replica: resume"]


def test_a_client_that_takes_nothing_is_no_idle_replica_but_has_ten_minutes() -> None:
    sides = Sides(terms=RequestTerms(idle_s=30))
    exchange = dispatched(sides, exchange_of(sides))
    exchange.on_response_head(response(), 2.0)
    exchange.on_downstream_writable(False, 3.0)
    assert exchange.due(40.0) == 70.0
    assert exchange.due(3.0 + STALLED_S - 5) == 3.0 + STALLED_S
    exchange.on_downstream_writable(True, 600.0)
    assert exchange.due(601.0) == 630.0
    exchange.on_downstream_writable(False, 610.0)
    sides.hear()
    assert exchange.due(610.0 + STALLED_S) is None
    assert sides.hear() == ["replica: abort", "client: reset", "owner: cut client_stalled"]
