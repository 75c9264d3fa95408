"""Any order of events: one end for each request, both sides told in an order that means something, no byte leaked."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fuzz import examples
from tests.zerogate.http.dialogue import request, response
from tests.zerogate.http.held_to import HeldTo
from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.gate import Gate
from zerogate.http.exchange import Exchange
from zerogate.http.heads import Field, RequestHead, ResponseHead
from zerogate.http.memory import BufferMemory
from zerogate.http.phases import ANSWERING, CONNECTING, ENDED, HELD, NEXT, PHASES, ROUTING, SENT
from zerogate.http.sides import PLAIN, RequestTerms, TunnelClient

REFUSAL = Refusal(status=503, code="x", detail="x")


class Client:
    """Takes an answer only in the order that HTTP knows."""

    def __init__(self) -> None:
        self.memory = BufferMemory()
        self.visit_s = 0.0
        self.peer = b"192.0.2.1"
        self.http_version = "1.1"
        self.arrival = PLAIN
        self.state = "waiting"
        self.ends = 0

    def send_informational(self, status: int, reason: bytes, lines: bytes) -> None:
        assert self.state == "waiting"

    def send_head(self, head: ResponseHead, *, extra: bytes, has_body: bool) -> None:
        assert self.state == "waiting"
        self.state = "body"

    def send_data(self, data: bytes) -> None:
        assert self.state == "body"

    takes_chunks = True

    def send_chunks(self, chunks: bytes) -> None:
        assert self.state == "body"

    def send_end(self, trailers: list[Field]) -> None:
        assert self.state == "body"
        self.state = "done"

    def send_whole(self, head: ResponseHead, body: bytes, extra: bytes) -> None:
        assert self.state == "waiting"
        self.state = "done"

    def flush(self) -> None: ...

    def send_refusal(self, refusal: Refusal, *, extra: bytes) -> None:
        assert self.state == "waiting"
        self.state = "done"

    def send_answer(self, status: int, headers: tuple[Field, ...], body: bytes) -> None:
        assert self.state == "waiting"
        self.state = "done"

    def reset(self) -> None:
        assert self.state == "body"
        self.state = "reset"

    @property
    def tunnel_side(self) -> TunnelClient:
        raise AssertionError("nobody asked for a WebSocket")

    def pause_body(self) -> None: ...
    def resume_body(self) -> None: ...
    def watch(self, deadline_s: float) -> None: ...

    def on_ended(self, exchange: Exchange) -> None:
        self.ends += 1


class Connection:
    """Takes a request only in the order that HTTP knows."""

    may_refuse = False
    is_full = False

    def __init__(self) -> None:
        self.state = "new"
        self.body = b""

    def send_head(self, exchange: Exchange) -> None:
        assert self.state == "new"
        self.state = "open"

    def send_data(self, data: bytes) -> None:
        assert self.state == "open"
        self.body += data

    def send_end(self, trailers: list[Field]) -> None:
        assert self.state == "open"
        self.state = "sent"

    def send_whole(self, exchange: Exchange, body: bytes) -> None:
        self.send_head(exchange)
        self.send_data(body)
        self.send_end([])

    def count_waiting(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...

    def finish(self) -> None:
        raise AssertionError("nobody asked for a WebSocket")

    def abort(self) -> None:
        assert self.state in ("open", "sent")
        self.state = "aborted"

    @property
    def is_free(self) -> bool:
        """Whether nobody waits for anything on it."""
        return self.state in ("new", "aborted", "over")


class Replica:
    """A destination whose pool has a connection at once, or later; a sidecar may turn its requests away."""

    service = "x"
    id = "x-1"
    start_s = 1.0
    rests_until_s = 0.0

    def __init__(self, connections: list[Connection], *, at_once: bool, may_turn_away: bool) -> None:
        self.gate = Gate(limit=0, release_limit=1)
        self.may_turn_away = may_turn_away
        self.pool = self
        self.connections = connections
        self.at_once = at_once

    def take(self, exchange: Exchange, now_s: float) -> Any:
        if not self.at_once:
            return None
        self.connections.append(Connection())
        return self.connections[-1]


class Watched(Exchange):
    """Holds each change of its phase to the table, also those that are made in line."""

    __slots__ = ("_phase",)

    phase = HeldTo("_phase", dict(enumerate(NEXT)), PHASES)


class ExchangeMachine(RuleBasedStateMachine):
    """The owner, the client, the replica and the clock, in any order."""

    @initialize(
        method=st.sampled_from(["GET", "POST", "HEAD"]),
        size=st.sampled_from([None, 0, 6, 200_000]),
        chunked=st.booleans(),
        stale=st.booleans(),
        beat=st.booleans(),
        expects=st.booleans(),
        sidecar=st.booleans(),
        begins=st.sampled_from([ROUTING, HELD, CONNECTING, SENT, ANSWERING]),
    )
    def begin(
        self,
        method: str,
        size: int | None,
        begins: int,
        *,
        chunked: bool,
        stale: bool,
        beat: bool,
        expects: bool,
        sidecar: bool,
    ) -> None:
        """A new exchange, and for some the first steps too: random steps alone seldom come far."""
        fields = {"expect": "100-continue"} if expects else {}
        is_chunked = chunked and size is not None
        head: RequestHead = request(
            method, body=None if is_chunked else size, chunked=is_chunked, accept="text/event-stream", **fields
        )
        self.terms = RequestTerms(
            connect_s=5, first_byte_s=60, idle_s=30, total_s=200, retries_stale=stale, heartbeat_s=15 if beat else None
        )
        self.client = Client()
        self.now_s = 0.0
        self.left = (size or 0) if head.has_body else 0
        self.sent = b""
        self.owner_ends = 0
        self.unsent = 0
        self.sidecar = sidecar
        self.connections: list[Connection] = []
        self.exchange: Exchange = Watched(self.client, head, 0.0)
        self.exchange.give_to(self)
        if not head.has_body:
            self.exchange.on_request_end([], 0.0)
        if begins == HELD:
            self.hold()
        elif begins > HELD:
            self._dispatch(at_once=begins > CONNECTING)
        if begins == ANSWERING:
            self.answers(200)

    # the owner

    def on_unsent(self, exchange: Exchange, cause: str, now_s: float) -> None:
        self.unsent += 1
        exchange.upstream = None
        if self.unsent > 3:
            exchange.refuse(REFUSAL, now_s)
        elif self.unsent % 2:
            exchange.hold(object(), deadline_s=now_s + 540, now_s=now_s)
        else:
            self._dispatch(at_once=True)

    def on_turned_away(self, exchange: Exchange, now_s: float) -> None:
        self.on_unsent(exchange, "turned away", now_s)

    def on_hold_timeout(self, exchange: Exchange, now_s: float) -> None:
        exchange.refuse(REFUSAL, now_s)

    def on_tunnel(self, exchange: Exchange, now_s: float) -> None:
        raise AssertionError("nobody asked for a WebSocket")

    on_quiet = on_roused = on_tunnel

    def on_ended(self, exchange: Exchange, now_s: float) -> None:
        self.owner_ends += 1

    def _dispatch(self, *, at_once: bool) -> None:
        replica = Replica(self.connections, at_once=at_once, may_turn_away=self.sidecar)
        self.exchange.dispatch(replica, self.now_s)

    def _in(self, *phases: int) -> bool:
        return self.exchange.phase in phases

    @precondition(lambda self: self._in(ROUTING))
    @rule()
    def hold(self) -> None:
        self.exchange.hold(object(), deadline_s=self.now_s + 540, now_s=self.now_s)

    @precondition(lambda self: self._in(ROUTING, HELD))
    @rule(at_once=st.booleans())
    def dispatch(self, *, at_once: bool) -> None:
        self._dispatch(at_once=at_once)

    @precondition(lambda self: self._in(ROUTING, HELD))
    @rule(dice=st.integers(1, 4))
    def refuse(self, dice: int) -> None:
        if dice == 1:
            self.exchange.refuse(REFUSAL, self.now_s)

    # the client

    @precondition(lambda self: not self.exchange.is_request_done)
    @rule(size=st.sampled_from([1, 5, 70_000]))
    def client_sends(self, size: int) -> None:
        size = min(size, self.left)
        self.left -= size
        if size:
            data = bytes([len(self.sent) % 251]) * size
            self.sent += data
            self.exchange.on_request_data(data, self.now_s)
        if not self.left and not self.exchange.is_request_done:
            self.exchange.on_request_end([], self.now_s)

    @rule(dice=st.integers(1, 12))
    def client_leaves(self, dice: int) -> None:
        """Now and then only: most runs should come to the later phases."""
        if dice == 1:
            self.exchange.on_downstream_gone(self.now_s)

    @rule(writable=st.booleans())
    def client_takes(self, *, writable: bool) -> None:
        if not self._in(ENDED):
            self.exchange.on_downstream_writable(writable, self.now_s)

    # the replica

    @property
    def connection(self) -> Connection | None:
        connection = self.exchange.connection
        assert connection is None or isinstance(connection, Connection)
        return connection

    def _over(self) -> None:
        """The connection's own side is done with the exchange."""
        assert self.connection is not None
        self.connection.state = "over"

    @precondition(lambda self: self._in(CONNECTING))
    @rule(works=st.booleans())
    def connects(self, *, works: bool) -> None:
        if works:
            self.connections.append(Connection())
            self.exchange.on_connection(self.connections[-1], self.now_s)
        else:
            self.exchange.on_connect_failed("refused", self.now_s)

    @precondition(lambda self: self._in(SENT))
    @rule(status=st.sampled_from([200, 204, 500]))
    def answers(self, status: int) -> None:
        if not self.exchange.on_response_head(response(status), self.now_s):
            self._over()
            self.exchange.on_response_end([], self.now_s)

    @precondition(lambda self: self._in(SENT) and self.exchange.is_request_done)
    @rule()
    def answers_whole(self) -> None:
        self._over()
        self.exchange.on_response(response(200, length=2), b"ok", self.now_s)

    @precondition(lambda self: self._in(SENT))
    @rule()
    def informs(self) -> None:
        self.exchange.on_informational(103, b"Early Hints", b"")

    @precondition(lambda self: self._in(SENT) and self.sidecar)
    @rule()
    def lets_it_in(self) -> None:
        self.exchange.on_informational(100, b"Continue", b"")

    @precondition(lambda self: self._in(SENT) and self.sidecar)
    @rule()
    def turns_away(self) -> None:
        self._over()
        self.exchange.on_turned_away(self.now_s)

    @precondition(lambda self: self._in(ANSWERING))
    @rule(ends=st.booleans())
    def goes_on(self, *, ends: bool) -> None:
        self.exchange.on_response_data(b"x", self.now_s)
        if ends:
            self._over()
            self.exchange.on_response_end([], self.now_s)

    @precondition(lambda self: self.exchange.connection is not None)
    @rule(dice=st.integers(1, 4))
    def is_lost(self, dice: int) -> None:
        if dice == 1:
            self._over()
            self.exchange.on_upstream_lost("closed", self.now_s)

    # the clock

    @rule(seconds=st.sampled_from([0.05, 1.0, 6.0, 15.0, 31.0, 61.0, 600.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        next_s = self.exchange.due(self.now_s)
        assert next_s is None or next_s > self.now_s

    # what holds at any time

    @invariant()
    def it_ends_once_and_everybody_is_told(self) -> None:
        exchange = self.exchange
        ended = int(exchange.phase == ENDED)
        assert (self.client.ends, self.owner_ends, int(exchange.result is not None)) == (ended, ended, ended)

    @invariant()
    def the_client_saw_what_the_result_says(self) -> None:
        said = {None: None, Result.SERVED: "done", Result.REFUSED: "done", Result.CUT: "reset", Result.ABANDONED: None}
        state = said[self.exchange.result]
        assert state is None or self.client.state == state

    @invariant()
    def kept_bytes_are_counted_and_given_back(self) -> None:
        exchange = self.exchange
        assert exchange.downstream.memory.used_bytes == exchange.buffered_bytes
        assert exchange.buffered_bytes == sum(map(len, exchange.chunks or ()))
        assert exchange.phase != ENDED or not exchange.buffered_bytes

    @invariant()
    def the_replica_got_the_bytes_in_their_order(self) -> None:
        connection = self.connection
        if connection is not None and self._in(SENT, ANSWERING):
            assert connection.body == self.sent

    @invariant()
    def a_connection_that_is_not_its_own_any_more_knows_it(self) -> None:
        assert all(one.is_free for one in self.connections if one is not self.connection)

    @invariant()
    def nothing_is_left_of_an_ended_one(self) -> None:
        if self._in(ENDED):
            assert self.exchange.connection is None
            assert self.exchange.reader is None


ExchangeMachine.TestCase.settings = settings(max_examples=examples(250), stateful_step_count=25, deadline=None)
TestAnyOrder = pytest.mark.fuzz(ExchangeMachine.TestCase)
