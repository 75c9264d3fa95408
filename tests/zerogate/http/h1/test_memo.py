"""A head that is known means what it meant when it was parsed: with the memo and without, the same bytes go out."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from activator.hold import Hold
from tests.fuzz import examples
from zerogate.clock import now
from zerogate.gate import Gate
from zerogate.http.exchange import Exchange
from zerogate.http.h1 import answer_reader, server
from zerogate.http.h1 import turn as turns
from zerogate.http.h1.client import ClientConnection
from zerogate.http.h1.memo import KEPT_BYTES, KEPT_HEADS, SEEN_HEADS, HeadMemo, is_one_head
from zerogate.http.h1.server import ServerConnection
from zerogate.http.server import Server
from zerogate.http.upstream import Pool, Upstream
from zerogate.policy import Policy
from zerogate.runtime.interface import Address

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REQUESTS = [
    GET,
    b"GET /b HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"\r\n" + GET,
    b"GE",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
]
ANSWERS = [
    OK,
    b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\n12345",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
    OK + b"HTTP/1.1 2",
    OK + OK,
    b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
]


class Transport:
    """Writes down what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = write_eof = close

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.is_closed

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.7", 1) if name == "peername" else None


class NoSweep:
    """Nobody's time passes."""

    def watch(self, item: Any, deadline_s: float) -> None: ...
    def forget(self, item: Any) -> None: ...


class NoNursery:
    """Begins nothing."""

    def start(self, work: Coroutine[Any, Any, Any], *, name: str) -> None:
        work.close()


class Connected(Pool):
    """A pool whose new connections are there at once."""

    def __init__(self) -> None:
        super().__init__(Address("192.0.2.9", 80), NoSweep(), NoNursery())  # type: ignore[arg-type]
        self.connections: list[tuple[ClientConnection, Transport]] = []

    def take(self, exchange: Exchange, now_s: float) -> ClientConnection | None:
        if (idle := self._find(exchange, now_s)) is not None:
            return idle
        self.connections.append((ClientConnection(self), Transport()))
        connection, transport = self.connections[-1]
        connection.connection_made(transport)
        return connection


class Box:
    """One client, one replica, and the engine between them without sockets."""

    def __init__(self, *, limit: int = 0) -> None:
        self.later: list[Callable[[], None]] = []
        hold = Hold("x", Policy(), self, choose=random.Random(1).randrange, call_later=self.call_later, clock=now)
        self.pool = Connected()
        gate = Gate(limit=limit, release_limit=8)
        hold.add(Upstream(service="x", id="x-1", gate=gate, pool=self.pool), now())
        self.ended: list[str] = []
        self.server = Server(hold.place, NoSweep())  # type: ignore[arg-type]
        self.client, self.transport = self.connect()

    def connect(self) -> tuple[ServerConnection, Transport]:
        connection, transport = ServerConnection(self.server), Transport()
        connection.connection_made(transport)
        return connection, transport

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        self.later.append(call)

    def end_pauses(self) -> None:
        later, self.later = self.later, []
        for call in later:
            call()

    def on_wake(self, service: str) -> None: ...
    def on_activity(self, service: str) -> None: ...
    def on_idle(self, replica_id: str) -> None: ...

    def on_exchange_ended(self, service: str, exchange: Exchange) -> None:
        self.ended.append(f"{exchange.result} {exchange.status} {exchange.bytes_in} {exchange.bytes_out}")

    def answer(self, reads: Sequence[bytes]) -> None:
        """The replica says this on the connection that it was asked on last."""
        for data in reads:
            busy = [one for one in self.pool.connections if one[0]._exchange is not None and not one[1].is_closed]
            if busy:
                busy[-1][0].data_received(data)

    def transcript(self) -> list[object]:
        sides = [(bytes(transport.written), transport.is_closed) for _, transport in self.pool.connections]
        return [bytes(self.transport.written), self.transport.is_closed, self.ended, sides, len(self.pool._idle)]


def reads_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The bytes in pieces, as reads bring them."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [piece for begin, end in pairwise(edges) if (piece := data[begin:end])]


async def play(turns: Sequence[tuple[list[int], int, list[int]]]) -> list[object]:
    """Requests and answers in turns on one connection; what each side got."""
    box = Box()
    for requests, answer, cuts in turns:
        for data in reads_of(b"".join(REQUESTS[number] for number in requests), cuts):
            if not box.transport.is_closed:
                box.client.data_received(data)
        box.answer(reads_of(ANSWERS[answer], cuts))
        await asyncio.sleep(0)
    return box.transcript()


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    for memo in (answer_reader.HEADS, server._HEADS):
        memo.known.clear()
        memo._seen.clear()


numbers = st.integers(0, len(REQUESTS) - 1)
turn = st.tuples(
    st.lists(numbers, min_size=1, max_size=3),
    st.integers(0, len(ANSWERS) - 1),
    st.lists(st.integers(0, 200), max_size=3),
)


@pytest.mark.may_block("a collection of garbage among the examples")
@settings(deadline=None, max_examples=examples(200))
@given(st.lists(turn, min_size=1, max_size=4))
@example([([0], 0, []), ([0], 9, []), ([0], 0, [])])
@example([([2, 0], 1, [48]), ([2], 1, [49])])
@example([([0], 9, [39]), ([0], 0, [])])
@example([([2], 4, []), ([2], 0, [])])
def test_known_heads_change_nothing_that_either_side_sees(script: list[tuple[list[int], int, list[int]]]) -> None:
    forget()
    with asyncio.Runner() as runner:
        with pytest.MonkeyPatch.context() as without:
            without.setattr(server, "KEPT_BYTES", 0)
            without.setattr(turns, "KEPT_BYTES", 0)
            expected = runner.run(play(script))
        assert not server._KNOWN
        for _ in range(3):
            assert runner.run(play(script)) == expected


async def test_a_head_is_known_from_its_third_coming_on() -> None:
    for coming in range(3):
        assert len(server._KNOWN) == len(answer_reader.HEADS.known) == (coming > 1)
        await play([([0], 0, [])])


@pytest.mark.parametrize("request_", [5, 8, 9, 11, 12, 13, 14, 15])
async def test_what_its_parser_has_to_follow_is_never_known(request_: int) -> None:
    for _ in range(4):
        await play([([request_], 3, [])])
    assert not server._KNOWN
    assert not answer_reader.HEADS.known


def test_two_clients_share_a_head_and_not_an_address() -> None:
    first, second = Box(), Box()
    second.client.peer = b"203.0.113.5"
    for _ in range(4):
        for box, address in ((first, b"192.0.2.7"), (second, b"203.0.113.5")):
            box.client.data_received(GET)
            sent = box.pool.connections[0][1].written
            assert sent.count(b"X-Forwarded-For: %b\r\n" % address) == sent.count(b"GET")
            box.answer([OK])


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("beyond", [OK.replace(b"ok", b"no"), OK[:20]], ids=["an-answer", "half-a-head"])
def test_bytes_beyond_an_answer_are_not_the_next_ones_even_where_the_next_is_sent_at_once(
    before: int, beyond: bytes
) -> None:
    box = Box(limit=1)
    for _ in range(before):
        box.client.data_received(GET)
        box.answer([OK])
    other, transport = box.connect()
    box.client.data_received(GET)
    other.data_received(GET)
    box.answer([OK + beyond])
    assert box.transport.written.count(b"ok") == before + 1
    assert not transport.written
    box.end_pauses()
    box.answer([OK])
    assert transport.written.endswith(b"ok")


def test_a_final_answer_in_the_same_read_is_not_what_the_informational_one_before_it_means() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"  # as many fields as the answer behind it
    box = Box()
    for _ in range(3):
        box.client.data_received(GET)
        box.answer([hint + OK])
    box.client.data_received(GET)
    box.answer([hint, OK])
    assert box.transport.written == 4 * (hint + OK)


@pytest.mark.parametrize("beyond", [b"xx", b"2\r\nxx\r\n0\r\n\r\n", OK], ids=["body", "chunks", "answer"])
@pytest.mark.parametrize("length", [b"Content-Length: 0", b"Content-Length: 2", b"Transfer-Encoding: chunked"])
def test_a_body_behind_the_answer_to_a_head_is_not_the_answer_to_whoever_is_next(length: bytes, beyond: bytes) -> None:
    box = Box(limit=1)
    other, transport = box.connect()
    box.client.data_received(REQUESTS[6])
    other.data_received(GET)
    box.answer([b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n" + beyond])
    assert box.ended == ["served 200 0 0"]
    assert box.transport.written.endswith(b"\r\n\r\n")
    assert not transport.written
    box.answer([OK])
    assert transport.written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert transport.written.endswith(b"\r\n\r\nok")


def test_the_memo_is_bounded_whatever_is_sent() -> None:
    memo: HeadMemo[str] = HeadMemo()
    for number in range(10 * KEPT_HEADS):
        raw = b"%d" % number
        assert not memo.comes_again(raw)
        memo.keep(raw, "head")
        assert len(memo.known) <= KEPT_HEADS
        assert len(memo._seen) <= SEEN_HEADS
    long = GET.replace(b"Host", b"X: %b\r\nHost" % (b"x" * KEPT_BYTES))
    box = Box()
    for _ in range(4):
        box.client.data_received(long)
        box.answer([OK])
    assert len(box.ended) == 4
    assert not server._KNOWN


@pytest.mark.parametrize(
    ("raw", "fields", "is_one"),
    [
        pytest.param(GET, 1, True, id="one-head"),
        pytest.param(GET + GET, 1, False, id="two-heads"),
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\r\n\r\n", 1, False, id="one-that-ended-early"),
        pytest.param(b"\r\n" + GET, 1, False, id="an-empty-line-before"),
    ],
)
def test_a_head_is_only_one_with_a_line_for_each_field(raw: bytes, fields: int, is_one: bool) -> None:
    assert is_one_head(raw, fields) is is_one
