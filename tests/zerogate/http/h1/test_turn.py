"""Turns on a connection to a replica: the table, and any order of bytes, ends, pauses and timers.

One end for each request, a connection that is carried, kept or closed and never two of them, no byte leaked.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fuzz import examples
from tests.zerogate.http.dialogue import request
from tests.zerogate.http.held_to import HeldTo
from tests.zerogate.http.test_exchange_machine import Client
from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.gate import Gate
from zerogate.http.exchange import Exchange
from zerogate.http.h1 import turn_states
from zerogate.http.h1.turn import Turns
from zerogate.http.h1.turn_states import (
    BODY,
    CLOSE,
    CLOSED,
    END_OF_FILE,
    EVENTS,
    IDLE,
    NEXT,
    READ_OVER,
    SPENT,
    STATES,
    IllegalTransitionError,
)
from zerogate.http.memory import BufferMemory
from zerogate.http.phases import ENDED as OVER
from zerogate.http.phases import SENT
from zerogate.http.sides import RequestTerms

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANSWERS = {
    "counted": OK,
    "empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "chunked": CHUNKED + b"2\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
    "without an end": CHUNKED + b"2\r\nok\r\n",
    "another chunk": b"2\r\nok\r\n",
    "until the close": b"HTTP/1.1 200 OK\r\n\r\nok",
    "the last one": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a hint before": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
    "half": OK[:30],
    "two": OK + OK,
    "turned away": b"HTTP/1.1 503 No\r\nZerogate-Not-Sent: 1\r\nContent-Length: 2\r\n\r\nno",
    "turned away and broken": b"HTTP/1.1 503 No\r\nZerogate-Not-Sent: 1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a switch nobody asked for": b"HTTP/1.1 101 What\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nx",
    "a bad chunk": CHUNKED + b"2\r\nokk\r\n",
    "another version": OK.replace(b"1.1", b"2.0"),
    "garbage": b"\x00\x01",
}
LEFT_BYTES = 70_000
"""What a replica that takes no more has left of what was written before."""
NOT_SERVED = Refusal(status=503, code="x", detail="x")


class Transport:
    """Writes down what becomes of it, and counts what waits for a replica that takes no more."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False
        self.is_reading = True
        self.takes = True
        self.waiting_bytes = 0
        self.high: int | None = None

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.written += data
        if not self.takes:
            self.waiting_bytes += len(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def set_write_buffer_limits(self, high: int | None = None) -> None:
        assert high != self.high
        self.high = high

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True


class Watched(Turns):
    """Holds each change of its state to the table, also those that are made in line."""

    __slots__ = ("_state",)

    state = HeldTo("_state", {before: {before, *row.values()} for before, row in NEXT.items()}, STATES)


class Pool:
    """Keeps at most one connection, and is what an exchange is dispatched to."""

    service = "x"
    id = "x-1"
    start_s = 1.0
    rests_until_s = 0.0
    heard_s = 0.0
    may_turn_away = True

    def __init__(self) -> None:
        self.gate = Gate(limit=0, release_limit=1)
        self.pool = self
        self.idle: list[Turns] = []
        self.lost: list[Turns] = []
        self.made: list[Turns] = []

    def take(self, exchange: Exchange, now_s: float) -> Turns:
        if self.idle:
            return self.idle.pop()
        turns = Watched(self)
        turns._transport = Transport()
        self.made.append(turns)
        return turns

    def give_back(self, connection: Turns, now_s: float) -> None:
        assert connection.state in (IDLE, SPENT)
        assert connection not in self.idle
        self.idle.append(connection)

    def on_lost(self, connection: Turns) -> None:
        assert connection not in self.lost, "it is lost once"
        self.lost.append(connection)
        if connection in self.idle:
            self.idle.remove(connection)

    def request_bytes(self, exchange: Exchange) -> bytes:
        return b"%b / HTTP/1.1\r\n\r\n" % exchange.head.method


class SlowClient(Client):
    """May have enough in the midst of what one read of the replica brings, as a transport says within a write."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = BufferMemory(limit_bytes=LEFT_BYTES)
        self.exchange: Exchange | None = None
        self.fills = False

    def send_data(self, data: bytes) -> None:
        super().send_data(data)
        if self.fills and self.exchange is not None:
            self.exchange.on_downstream_writable(False, 0.0)


class TurnMachine(RuleBasedStateMachine):
    """A replica that says anything, a client that does anything, and the clock."""

    @initialize()
    def begin(self) -> None:
        self.pool = Pool()
        self.terms = RequestTerms(connect_s=5, first_byte_s=60, idle_s=30, total_s=200)
        self.now_s = 0.0
        self.coming = b""
        self.exchange: Exchange | None = None
        self.all: list[tuple[Exchange, SlowClient]] = []
        self.ends: list[Exchange] = []
        self.waits = 0

    # the owner

    def on_unsent(self, exchange: Exchange, cause: str, now_s: float) -> None:
        exchange.upstream = None
        if exchange.attempts > 2:
            exchange.refuse(NOT_SERVED, now_s)
        else:
            exchange.dispatch(self.pool, now_s)

    def on_turned_away(self, exchange: Exchange, now_s: float) -> None:
        self.on_unsent(exchange, "turned away", now_s)

    def on_hold_timeout(self, exchange: Exchange, now_s: float) -> None:
        raise AssertionError("nothing is held here")

    on_tunnel = on_quiet = on_roused = on_hold_timeout

    def on_ended(self, exchange: Exchange, now_s: float) -> None:
        self.ends.append(exchange)
        if self.waits:
            self.waits -= 1
            self._ask("GET", None, chunked=False)

    def _ask(self, method: str, size: int | None, *, chunked: bool) -> None:
        client = SlowClient()
        head = request(method, body=None if chunked else size, chunked=chunked)
        self.exchange = client.exchange = exchange = Exchange(client, head, self.now_s)
        self.all.append((exchange, client))
        exchange.give_to(self)
        if not head.has_body:
            exchange.on_request_end([], self.now_s)
        exchange.dispatch(self.pool, self.now_s)

    @property
    def turns(self) -> Turns | None:
        """The connection that bytes may come on: the one made last, while it is not closed."""
        if not self.pool.made or self.pool.made[-1].state == CLOSED:
            return None
        return self.pool.made[-1]

    def _has_room(self) -> bool:
        return self.exchange is None or self.exchange.phase == OVER

    @precondition(_has_room)
    @rule(
        method=st.sampled_from(["GET", "POST", "HEAD"]), size=st.sampled_from([None, 3]), chunked=st.booleans(),
        another_waits=st.booleans(),
    )  # fmt: skip
    def asks(self, method: str, size: int | None, *, chunked: bool, another_waits: bool) -> None:
        self.coming = b""
        self.waits = int(another_waits)
        self._ask(method, size, chunked=chunked and size is not None)

    # the client

    @precondition(lambda self: self.exchange is not None and not self.exchange.is_request_done)
    @rule(ends=st.booleans())
    def client_sends(self, *, ends: bool) -> None:
        assert self.exchange is not None
        if not ends or self.exchange.head.content_length == 3:
            self.exchange.on_request_data(b"abc", self.now_s)
        if ends or self.exchange.head.content_length == 3:
            self.exchange.on_request_end([], self.now_s)

    @precondition(lambda self: self.exchange is not None and self.exchange.phase != OVER)
    @rule(does=st.sampled_from(["stalls", "fills", "fills", "takes", "leaves"]))
    def client_does(self, does: str) -> None:
        assert self.exchange is not None
        if does == "leaves":
            self.exchange.on_downstream_gone(self.now_s)
        elif does == "fills":
            self.all[-1][1].fills = True
        else:
            self.exchange.on_downstream_writable(does == "takes", self.now_s)

    # the replica

    @precondition(lambda self: not self.coming)
    @rule(answer=st.sampled_from(sorted(ANSWERS)))
    def answers(self, answer: str) -> None:
        self.coming = ANSWERS[answer]

    @precondition(lambda self: self.coming and self.turns is not None)
    @rule(size=st.sampled_from([1, 5, 40, 1000, 1000]))
    def bytes_come(self, size: int) -> None:
        data, self.coming = self.coming[:size], self.coming[size:]
        turns = self.turns
        assert turns is not None
        if turns._transport.is_reading:
            turns.take(data, self.now_s)
        if turns.state == CLOSED:
            self.coming = b""

    @precondition(lambda self: self.turns is not None)
    @rule(how=st.sampled_from(["ends its side", "ends", "breaks", "takes no more", "takes more"]))
    def replica_does(self, how: str) -> None:
        turns = self.turns
        assert turns is not None
        if how.startswith("takes"):
            if turns._exchange is None:
                return  # nothing was written that it could leave
            transport = turns._transport
            transport.takes = how == "takes more"
            transport.waiting_bytes = 0 if transport.takes else LEFT_BYTES
            turns.on_writable(transport.takes)
            return
        if how == "ends its side":
            turns.on_end_of_file()
        turns.on_lost(OSError("reset") if how == "breaks" else None, self.now_s)
        turns._transport.is_closed = True
        self.coming = b""

    @precondition(lambda self: self.exchange is not None)
    @rule(seconds=st.sampled_from([1.0, 31.0, 61.0, 601.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        assert self.exchange is not None
        if self.exchange.phase != OVER:
            self.exchange.due(self.now_s)

    # what holds at any time

    @invariant()
    def each_request_ends_at_most_once_and_only_the_last_goes_on(self) -> None:
        assert len(self.ends) == len(set(map(id, self.ends)))
        open_ones = [exchange for exchange, _ in self.all if exchange.phase != OVER]
        assert len(self.all) == len(self.ends) + len(open_ones)
        assert open_ones in ([], [self.exchange])

    @invariant()
    def the_client_saw_what_the_result_says(self) -> None:
        said = {Result.SERVED: "done", Result.REFUSED: "done", Result.CUT: "reset"}
        for exchange, client in self.all:
            assert exchange.result not in said or client.state == said[exchange.result]

    @invariant()
    def a_connection_is_carried_or_kept_or_closed(self) -> None:
        for turns in self.pool.made:
            is_carried = turns._exchange is not None
            is_kept = turns in self.pool.idle
            is_closed = turns.state == CLOSED
            assert is_carried + is_kept + is_closed == 1
            assert is_closed == (turns in self.pool.lost)
            assert not is_closed or turns._transport.is_closed
            assert not is_kept or (turns.state == IDLE and turns._transport.is_reading)

    @invariant()
    def whoever_waits_for_an_answer_has_a_connection(self) -> None:
        exchange = self.exchange
        if exchange is not None and exchange.phase != OVER:
            turns = self.pool.made[-1]
            assert exchange.connection is turns
            assert turns._exchange is not None

    @invariant()
    def nothing_is_kept_of_a_request_that_is_over(self) -> None:
        for exchange, client in self.all:
            if exchange.phase == OVER:
                assert exchange.connection is None
                assert not exchange.buffered_bytes
            assert client.memory.body_bytes == exchange.buffered_bytes

    @invariant()
    def what_waits_for_the_replica_counts_once_and_until_it_is_taken_or_lost(self) -> None:
        for exchange, client in self.all:
            connection = exchange.connection
            waiting_bytes = 0
            if isinstance(connection, Turns) and connection.is_full and exchange.chunks is None:
                waiting_bytes = connection._transport.waiting_bytes
            assert client.memory.upload_bytes == waiting_bytes
            assert client.memory.used_bytes == exchange.buffered_bytes + waiting_bytes


TurnMachine.TestCase.settings = settings(max_examples=examples(250), stateful_step_count=25, deadline=None)
TestAnyOrder = pytest.mark.fuzz(TurnMachine.TestCase)


def started(method: str = "GET", *, body: int | None = None) -> tuple[Turns, TurnMachine]:
    """A connection on which a request was begun."""
    machine = TurnMachine()
    machine.begin()
    machine._ask(method, body, chunked=False)
    assert machine.turns is not None
    return machine.turns, machine


@pytest.mark.parametrize("state", range(len(STATES)), ids=STATES)
def test_every_state_can_be_left_for_closed_and_only_closed_is_for_ever(state: int) -> None:
    assert NEXT[state][CLOSE] == CLOSED
    goes_on = {after for event, after in NEXT[state].items() if event not in (CLOSE, READ_OVER, END_OF_FILE)}
    assert bool(goes_on) == (state not in (CLOSED, turn_states.TUNNEL, turn_states.EARLY, turn_states.ENDED,
                                           turn_states.UNTIL_CLOSE))  # fmt: skip


def test_every_state_is_reached_from_idle() -> None:
    reached = {IDLE}
    for _ in STATES:
        reached |= {after for state in sorted(reached) for after in NEXT[state].values()}
    assert reached == set(range(len(STATES))) == set(NEXT)


@pytest.mark.parametrize("event", range(len(EVENTS)), ids=EVENTS)
@pytest.mark.parametrize("state", range(len(STATES)), ids=STATES)
def test_an_illegal_transition_raises_and_changes_nothing(state: int, event: int) -> None:
    turns = Turns(Pool())
    turns.state = state
    if event in NEXT[state]:
        turns._step(event)
        assert turns.state == NEXT[state][event]
    else:
        with pytest.raises(IllegalTransitionError, match=STATES[state].replace("(", ".")):
            turns._step(event)
        assert turns.state == state


KEPT = ["counted", "empty", "chunked", "no content", "a hint before"]


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("answer", [name for name in ANSWERS if "turned away" not in name])
def test_a_connection_is_kept_behind_a_whole_answer_with_an_end_of_its_own_and_nothing_else(
    answer: str, size: int
) -> None:
    turns, machine = started("POST", body=0)
    data = ANSWERS[answer]
    for at in range(0, len(data), size):
        turns.take(data[at : at + size], 0.0)
    assert bool(machine.pool.idle) == (answer in KEPT)
    assert machine.all[0][0].result is not Result.SERVED or answer in [*KEPT, "two", "the last one"]


def test_a_connection_that_carries_a_request_does_not_take_another() -> None:
    turns, machine = started()
    written = turns._transport.written
    with pytest.raises(IllegalTransitionError):
        turns.send_head(Exchange(Client(), request(), 0.0))
    assert turns._exchange is machine.exchange
    assert turns._transport.written == written


def test_a_request_ends_once() -> None:
    turns, machine = started("POST", body=3)
    assert machine.exchange is not None
    machine.exchange.on_request_data(b"abc", 0.0)
    machine.exchange.on_request_end([], 0.0)
    written = turns._transport.written
    with pytest.raises(IllegalTransitionError):
        turns.send_end([])
    assert turns._transport.written == written


def test_the_next_request_may_be_asked_while_the_last_answer_is_read_and_what_lies_behind_is_not_its_answer() -> None:
    turns, machine = started()
    machine.waits = 1
    turns.take(ANSWERS["chunked"] + OK, 0.0)
    first, second = (exchange for exchange, _ in machine.all)
    assert first.result is Result.SERVED
    assert turns.state == CLOSED
    assert second.attempts == 2, "it may be repeated: asked again, elsewhere"
    assert second.phase == SENT


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_refusal_of_a_sidecar_leaves_the_connection_as_good_as_before(method: str) -> None:
    turns, machine = started(method)
    answer = ANSWERS["turned away"]
    turns.take(answer if method == "GET" else answer[:-2], 0.0)
    assert machine.pool.made == [turns]
    assert machine.exchange is not None
    assert machine.exchange.attempts == 2
    assert machine.exchange.connection is turns


def test_a_refusal_of_a_sidecar_counts_whatever_becomes_of_its_words() -> None:
    turns, machine = started("POST", body=0)
    turns.take(ANSWERS["turned away and broken"], 0.0)
    assert turns.state == CLOSED
    assert machine.exchange is not None
    assert machine.exchange.attempts == 2


def test_an_answer_before_its_request_is_complete_closes_the_connection() -> None:
    turns, machine = started("POST", body=3)
    turns.take(ANSWERS["chunked"], 0.0)
    assert machine.all[0][0].result is Result.SERVED
    assert turns.state == CLOSED
    assert not machine.pool.idle


def test_a_body_until_the_close_is_whole_only_after_the_replicas_own_end() -> None:
    for ends, result in ((True, Result.SERVED), (False, Result.CUT)):
        turns, machine = started()
        turns.take(ANSWERS["until the close"], 0.0)
        if ends:
            turns.on_end_of_file()
        turns.on_lost(None, 0.0)
        assert machine.all[0][0].result is result


def test_reads_of_a_body_are_told_at_once() -> None:
    turns, machine = started()
    turns.take(CHUNKED + b"2\r\nok\r\n", 0.0)
    assert turns.state == BODY
    assert machine.all[0][0].bytes_out == 2


def test_a_client_that_has_enough_in_the_last_read_of_its_answer_does_not_leave_the_connection_paused() -> None:
    turns, machine = started()
    machine.all[0][1].fills = True
    turns.take(ANSWERS["chunked"], 0.0)
    assert machine.pool.idle == [turns]
    assert turns._transport.is_reading


@pytest.mark.parametrize("answer", ["counted", "chunked"])
def test_an_answer_before_its_replica_took_the_whole_request_closes_the_connection(answer: str) -> None:
    turns, machine = started("POST", body=3)
    exchange = machine.all[0][0]
    exchange.on_request_data(b"abc", 0.0)
    exchange.on_request_end([], 0.0)
    turns.on_writable(False)
    turns.take(ANSWERS[answer], 0.0)
    assert exchange.result is Result.SERVED
    assert turns.state == CLOSED
    assert not machine.pool.idle


@pytest.mark.parametrize("answer", ["garbage", "another version", "a switch nobody asked for"])
def test_an_answer_without_a_meaning_is_not_asked_for_again(answer: str) -> None:
    turns, machine = started()
    exchange = machine.all[0][0]
    turns.take(ANSWERS[answer], 0.0)
    assert (exchange.attempts, exchange.code) == (1, "replica_lost")
