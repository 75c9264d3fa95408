"""A client's connection in any order of bytes, answers, pauses, timers and ends.

Requests are placed one at a time and in the order in which they came, whatever else the client sends; each ends once;
a client that takes what it is sent waits for nothing that was asked and answered; what was read ahead counts, or is let
go of where there is no room; nothing is left of a lost connection.
"""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fuzz import examples
from tests.zerogate.http.dialogue import response
from tests.zerogate.http.held_to import HeldTo
from tests.zerogate.http.test_exchange_machine import Connection, Replica
from zerogate.errors import Refusal
from zerogate.http import server as shared
from zerogate.http.account import HEAD_OVERHEAD_BYTES
from zerogate.http.exchange import Exchange
from zerogate.http.h1 import leaving, pausing, pipelining
from zerogate.http.h1 import server as h1
from zerogate.http.h1.connection_states import CLOSING, NEXT, STATES
from zerogate.http.h1.memo import HeadMemo
from zerogate.http.h1.server import ServerConnection
from zerogate.http.heads import RequestHead
from zerogate.http.memory import BUFFER_MEMORY_BYTES
from zerogate.http.phases import ANSWERING, ENDED, HELD, SENT
from zerogate.http.server import Server
from zerogate.http.sides import DEFAULT_TERMS

BODY = b"x" * 300
LARGE = b"y" * 400_000
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS: dict[str, tuple[bytes, bytes, bytes]] = {
    "get": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET", b""),
    "head": (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", b"HEAD", b""),
    "counted": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\n\r\n" + BODY, b"POST", BODY),
    "large": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n" + LARGE, b"POST", LARGE),
    "chunked": (CHUNKED + b"12c\r\n" + BODY + b"\r\n0\r\nX: 1\r\n\r\n", b"POST", BODY),
    "expecting": (
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 300\r\n\r\n" + BODY, b"POST", BODY
    ),
    "a long head": (b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"z" * 20_000), b"GET", b""),
    "an offer": (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", b"GET", b""),
    "the last one": (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"GET", b""),
    "old": (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", b"GET", b""),
    "old and staying": (b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", b"GET", b""),
}  # fmt: skip
"""Bytes, method and body."""
NONSENSE = {"no request": b"\x00\r\n\r\n", "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"}
BAD_BODY = CHUNKED + b"5\r\nhello\r\nno size\r\n"
REFUSAL = Refusal(status=503, code="x", detail="x")


class Transport:
    """A socket whose other end takes what it is sent, or for a while does not."""

    def __init__(self) -> None:
        self.written = b""
        self.waiting_bytes = 0
        self.is_reading = True
        self.is_full = False
        self.is_closed = False
        """It was told to close; it is lost once what waits is taken."""
        self.is_cut = False

    def write(self, data: bytes) -> None:
        if self.is_cut:
            return
        assert not self.is_closed, "written behind the end"
        self.written += data
        if self.is_full:
            self.waiting_bytes += len(data)

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_cut = True

    def write_eof(self) -> None: ...

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else None


class Watched(ServerConnection):
    """Holds each change of its state to the table."""

    __slots__ = ("_state",)

    state = HeldTo("_state", {before: row.values() for before, row in NEXT.items()}, STATES)


class ServerMachine(RuleBasedStateMachine):
    """Client, owner, replica, loop and clock."""

    terms = DEFAULT_TERMS

    @initialize()
    def begin(self) -> None:
        self.now_s = 1000.0
        self.patches = pytest.MonkeyPatch()
        for module in (shared, h1, pausing, pipelining, leaving):
            self.patches.setattr(module, "now", lambda: self.now_s)
        memo: HeadMemo[RequestHead] = HeadMemo()
        self.patches.setattr(h1, "_HEADS", memo)  # what one run has learned would change the next
        self.patches.setattr(h1, "_KNOWN", memo.known)
        self.soon: list[Any] = []
        loop = SimpleNamespace(call_soon=lambda call, *with_: self.soon.append(lambda: call(*with_)))
        self.patches.setattr(pipelining, "asyncio", SimpleNamespace(get_running_loop=lambda: loop))
        self.due_s: float | None = None
        self.coming = b""
        self.asked: list[tuple[bytes, bytes]] = []
        self.is_nonsense = False
        """What was sent last has no meaning: nothing behind it is a request."""
        self.placed: list[Exchange] = []
        self.ends: list[Exchange] = []
        self.at_once = ""
        self.is_lost = False
        self.connections: list[Connection] = []
        self.server = Server(self.place, self)  # type: ignore[arg-type]
        self.transport = Transport()
        self.connection = Watched(self.server)
        self.connection.connection_made(self.transport)

    # the sweep

    def watch(self, item: Any, deadline_s: float) -> None:
        if item.visit_s > deadline_s or self.due_s is None:
            self.due_s = item.visit_s = deadline_s

    def forget(self, item: Any) -> None:
        self.due_s, item.visit_s = None, float("inf")

    # the owner

    def place(self, exchange: Exchange, now_s: float) -> None:
        assert all(one.phase == ENDED for one in self.placed), "one at a time"
        method, _ = self.asked[len(self.placed)]
        assert exchange.head.method == method, "in their order"
        self.placed.append(exchange)
        exchange.give_to(self)
        if self.at_once == "refuse":
            exchange.refuse(REFUSAL, now_s)
        elif self.at_once == "say":
            exchange.answer(200, (), b"said", now_s)
        elif self.at_once == "send":
            self._dispatch()
        else:
            exchange.hold(object(), deadline_s=now_s + 540, now_s=now_s)

    def on_unsent(self, exchange: Exchange, cause: str, now_s: float) -> None:
        exchange.refuse(REFUSAL, now_s)

    def on_turned_away(self, exchange: Exchange, now_s: float) -> None:
        raise AssertionError("there is no sidecar")

    def on_hold_timeout(self, exchange: Exchange, now_s: float) -> None:
        exchange.refuse(REFUSAL, now_s)

    def on_tunnel(self, exchange: Exchange, now_s: float) -> None:
        raise AssertionError("nobody asked for a WebSocket")

    on_quiet = on_roused = on_tunnel

    def on_ended(self, exchange: Exchange, now_s: float) -> None:
        self.ends.append(exchange)

    @property
    def current(self) -> Exchange | None:
        """The one that was placed and has not ended."""
        return self.placed[-1] if self.placed and self.placed[-1].phase != ENDED else None

    def _in(self, *phases: int) -> bool:
        return self.current is not None and self.current.phase in phases

    def _dispatch(self) -> None:
        self.placed[-1].dispatch(Replica(self.connections, at_once=True, may_turn_away=False), self.now_s)

    @rule(what=st.sampled_from(["hold", "refuse", "say", "send"]))
    def the_owner_will(self, what: str) -> None:
        self.at_once = what

    @precondition(lambda self: self._in(HELD))
    @rule(sends=st.booleans())
    def it_is_let_in(self, *, sends: bool) -> None:
        if sends:
            self._dispatch()
        else:
            self.placed[-1].refuse(REFUSAL, self.now_s)

    # the replica

    def _over(self) -> None:
        connection = self.placed[-1].connection
        assert isinstance(connection, Connection)
        connection.state = "over"

    @precondition(lambda self: self._in(SENT))
    @rule(status=st.sampled_from([200, 204]), length=st.sampled_from([None, 2]))
    def answers(self, status: int, length: int | None) -> None:
        if not self.placed[-1].on_response_head(response(status, length=length), self.now_s):
            self._over()
            self.placed[-1].on_response_end([], self.now_s)

    @precondition(lambda self: self._in(ANSWERING))
    @rule(ends=st.sampled_from(["not", "well", "lost"]))
    def goes_on(self, ends: str) -> None:
        exchange = self.placed[-1]
        if ends == "lost":
            self._over()
            exchange.on_upstream_lost("closed", self.now_s)
            return
        exchange.on_response_data(b"ok", self.now_s)
        exchange.downstream.flush()
        if ends == "well":
            self._over()
            exchange.on_response_end([], self.now_s)

    # the client

    @precondition(lambda self: not self.is_nonsense and len(self.coming) < 10_000)
    @rule(kind=st.sampled_from([*REQUESTS, *REQUESTS, *NONSENSE, "a bad body"]))
    def client_asks(self, kind: str) -> None:
        if kind in REQUESTS:
            data, method, body = REQUESTS[kind]
            self.asked.append((method, body))
        else:
            data = NONSENSE.get(kind, BAD_BODY)
            self.is_nonsense = True
            if kind not in NONSENSE:
                self.asked.append((b"POST", b""))
        self.coming += data

    @precondition(lambda self: self.coming and not self.is_lost and self.transport.is_reading)
    @rule(size=st.sampled_from([1, 30, 1000, 65_536, 1 << 18]), over_tls=st.booleans())
    def client_sends(self, size: int, *, over_tls: bool = False) -> None:
        """TLS hands on all of what was received, in two pieces here, whether or not it is still read."""
        data, self.coming = self.coming[:size], self.coming[size:]
        half = len(data) // 2 if over_tls else 0
        for piece in (data[:half], data[half:]):
            if piece and not self.transport.is_closed:
                self.connection.data_received(piece)
                if self.server.memory.is_out_of_heads and self.connection.state < CLOSING:
                    assert not self.connection._reader.in_head
                    assert not self.connection._pipelined

    @precondition(lambda self: not self.is_lost and not self.transport.is_full and not self.transport.is_closed)
    @rule()
    def client_takes_nothing(self) -> None:
        self.transport.is_full = True
        self.connection.pause_writing()

    @precondition(lambda self: not self.is_lost and self.transport.is_full)
    @rule()
    def client_takes_all(self) -> None:
        self.transport.is_full = False
        self.transport.waiting_bytes = 0
        self.connection.resume_writing()

    @precondition(lambda self: not self.is_lost and self.transport.is_reading)
    @rule(dice=st.integers(1, 10))
    def client_ends_its_side(self, dice: int) -> None:
        if dice == 1 and not self.transport.is_closed:
            self.connection.eof_received()

    @precondition(lambda self: not self.is_lost)
    @rule(dice=st.integers(1, 15))
    def client_leaves(self, dice: int) -> None:
        if dice == 1:
            self._lose()

    def _lose(self) -> None:
        self.transport.is_closed = self.is_lost = True
        self.connection.connection_lost(None)

    # the process

    @rule(dice=st.integers(1, 15))
    def the_process_leaves(self, dice: int) -> None:
        if dice == 1:
            self.server.drain()

    @rule()
    def the_loop_turns(self) -> None:
        soon, self.soon = self.soon, []
        for call in soon:
            call()
        if self.transport.is_closed and not self.is_lost and (self.transport.is_cut or not self.transport.is_full):
            self._lose()

    @rule(seconds=st.sampled_from([0.1, 3.0, 20.0, 80.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        if self.due_s is not None and self.due_s <= self.now_s and not self.is_lost:
            self.forget(self.connection)
            again_s = self.connection.due(self.now_s)
            if again_s is not None:
                self.watch(self.connection, again_s)

    @rule(dice=st.integers(1, 10))
    def memory_is_used_up(self, dice: int) -> None:
        self.server.memory.limit_bytes = 100 if dice == 1 else BUFFER_MEMORY_BYTES

    # what holds at any time

    @invariant()
    def what_was_read_ahead_counts(self) -> None:
        reader, ahead = self.connection._reader, self.connection._pipelined or ()
        size = sum(HEAD_OVERHEAD_BYTES + len(one.head.lines) + len(one.head.target) for one in ahead)
        if not self.is_lost:
            assert self.server.memory.head_bytes == size + reader.begun_bytes

    def teardown(self) -> None:
        if not hasattr(self, "connection"):
            return
        try:
            self._let_go()
            if not self.is_lost and self.connection.state < CLOSING:
                whole = [len(body) for _, body in self.asked]
                assert not self.coming
                assert [one.bytes_in for one in self.placed] == whole
                assert self.current is None
            if not self.is_lost:
                self._lose()
            assert self.server.memory.used_bytes == 0
            assert not self.server.connections
            assert all(one.phase == ENDED for one in self.placed)
            assert all(one.is_free for one in self.connections)
        finally:
            self.patches.undo()

    def _let_go(self) -> None:
        """The client takes and sends all, and everything is answered: so long as something still happens."""
        self.at_once = "send"
        for _ in range(2000):
            if self.is_lost:
                return
            if self.transport.is_full:
                self.client_takes_all()
            if self._in(HELD):
                self._dispatch()
            if self._in(SENT) and self.placed[-1].is_request_done:
                self.answers(200, 2)
            if self._in(ANSWERING) and self.placed[-1].is_request_done:
                self.goes_on("well")
            if self.coming and self.transport.is_reading:
                self.client_sends(65_536)
            elif not self.soon and not self.transport.is_closed and self.current is None:
                return
            self.the_loop_turns()
        raise AssertionError("it comes to no end")


ServerMachine.TestCase.settings = settings(max_examples=examples(250), stateful_step_count=40, deadline=None)
TestAnyOrder = pytest.mark.fuzz(ServerMachine.TestCase)
