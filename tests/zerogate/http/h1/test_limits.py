"""How much of a process one client may take: connections, and time for a head."""

import asyncio
from typing import Any, cast

import pytest

from tests.zerogate.http.h1.corpus import CHUNKED, GET, POST
from tests.zerogate.http.h1.reading import read
from zerogate.http import server as shared
from zerogate.http.exchange import Exchange
from zerogate.http.h1 import server as h1
from zerogate.http.h1.leaving import HEAD_GRACE_S
from zerogate.http.h1.server import ServerConnection
from zerogate.http.h2 import frames as f
from zerogate.http.h2.frames import PREFACE
from zerogate.http.heads import MAX_HEAD_BYTES, RequestHead
from zerogate.http.server import DRAIN_HEAD_S, HEAD_TIMEOUT_S, KEEP_ALIVE_S, MOST_HEARD, ConnectionLimits, Server


class Transport:
    """Keeps what is written; says where it comes from."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def write_eof(self) -> None: ...
    def set_protocol(self, protocol: Any) -> None: ...

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Any:
        return (self.client, 1) if name == "peername" else None


class Moments:
    """A sweep of one connection, and the clock that it goes by."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.due_s = 0.0

    def watch(self, item: Any, deadline_s: float) -> None:
        self.due_s = item.visit_s = deadline_s

    def forget(self, item: Any) -> None: ...

    def visit(self, connection: ServerConnection) -> None:
        """Let time pass to the next visit."""
        self.now_s = self.due_s
        again_s = connection.due(self.now_s)
        if again_s is not None:
            self.watch(connection, again_s)


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Moments:
    moments = Moments()
    monkeypatch.setattr(h1, "now", lambda: moments.now_s)
    monkeypatch.setattr(shared, "now", lambda: moments.now_s)
    return moments


def server(moments: Moments, limits: ConnectionLimits | None = None) -> Server:
    def place(exchange: Exchange, now_s: float) -> None: ...

    return Server(place, moments, limits=limits or ConnectionLimits())  # type: ignore[arg-type]


def connect(to: Server, client: str = "192.0.2.7") -> tuple[ServerConnection, Transport]:
    connection, transport = ServerConnection(to), Transport(client)
    connection.connection_made(transport)
    return connection, transport


def test_a_head_that_comes_a_byte_now_and_then_is_cut_soon_after_its_grace(moments: Moments) -> None:
    connection, transport = connect(server(moments))
    begun_s = moments.now_s
    connection.data_received(b"GET / HTTP/1.1\r\n")
    for second in range(1, 60):
        moments.now_s = begun_s + second
        if moments.now_s >= moments.due_s:
            moments.visit(connection)
        if transport.is_closed:
            break
        connection.data_received(b"X")
    assert HEAD_GRACE_S <= moments.now_s - begun_s <= HEAD_GRACE_S + 1


def test_a_large_head_on_a_slow_line_has_longer_but_not_for_ever(moments: Moments) -> None:
    connection, transport = connect(server(moments))
    begun_s = moments.now_s
    connection.data_received(b"GET / HTTP/1.1\r\nX-Large: ")
    while not transport.is_closed:
        connection.data_received(b"x" * 20_000)
        moments.visit(connection)
    assert moments.now_s - begun_s == HEAD_TIMEOUT_S


def test_a_head_that_begins_late_on_an_idle_connection_has_its_own_time(moments: Moments) -> None:
    connection, transport = connect(server(moments))
    moments.now_s += KEEP_ALIVE_S - 1
    begun_s = moments.now_s
    connection.data_received(b"GET / HTTP/1.1\r\n")
    moments.visit(connection)
    moments.visit(connection)
    assert HEAD_GRACE_S <= moments.now_s - begun_s <= HEAD_GRACE_S + 1
    assert transport.is_closed


@pytest.mark.parametrize(
    ("sent", "is_early"),
    [(b"GET / HTTP/1.1\r\nHost: a\r\n", True), (b"", False), (b"", True)],
    ids=["half a head", "nothing, made while it leaves", "nothing yet, made before"],
)
def test_a_process_that_leaves_waits_for_a_head_no_longer_than_a_moment(
    moments: Moments, sent: bytes, is_early: bool
) -> None:
    leaving = server(moments)
    begun_s = moments.now_s
    if is_early:
        connection, transport = connect(leaving)
        connection.data_received(sent)
        moments.now_s += 3
    leaving.drain()
    drained_s = moments.now_s
    if not is_early:
        connection, transport = connect(leaving)
    was_closed = transport.is_closed
    moments.visit(connection)
    assert (was_closed, transport.is_closed) == (False, True)
    assert moments.now_s == drained_s + DRAIN_HEAD_S < begun_s + HEAD_GRACE_S


def test_one_connection_too_many_is_told_so_and_closed_and_the_next_finds_the_place_of_one_that_left(
    moments: Moments,
) -> None:
    busy = server(moments, ConnectionLimits(total=2))
    first, _ = connect(busy, "192.0.2.1")
    connect(busy, "192.0.2.2")
    third, transport = connect(busy, "192.0.2.3")
    assert transport.written.startswith(b"HTTP/1.1 503 ")
    assert b"too_many_connections" in transport.written
    assert transport.is_closed
    third.connection_lost(None)
    first.connection_lost(None)
    _, transport = connect(busy, "192.0.2.4")
    assert not transport.is_closed
    assert (busy.accepted, busy.turned_away) == (4, 1)


def test_a_client_with_its_most_connections_does_not_keep_another_one_out(moments: Moments) -> None:
    fair = server(moments, ConnectionLimits(per_client=2))
    mine = [connect(fair, "192.0.2.1") for _ in range(3)]
    assert [transport.is_closed for _, transport in mine] == [False, False, True]
    _, transport = connect(fair, "192.0.2.2")
    assert not transport.is_closed
    for connection, _ in mine:
        connection.connection_lost(None)
    _, transport = connect(fair, "192.0.2.1")
    assert not transport.is_closed


@pytest.mark.parametrize("before", [GET, CHUNKED + b"0\r\n"], ids=["head", "trailers"])
def test_many_small_fields_are_refused_before_their_end_has_come(before: bytes) -> None:
    seen = read(before + b"a:\r\n" * 200)
    assert (seen.status, seen.meanings) == (431, [])


@pytest.mark.parametrize(("size", "status"), [(MAX_HEAD_BYTES - 1000, None), (MAX_HEAD_BYTES + 1000, 431)])
@pytest.mark.parametrize(
    "before",
    [
        pytest.param(GET + b"\r\n", id="a head"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", id="chunks"),
        pytest.param(POST + b"Content-Length: 70000\r\n\r\n" + b"y" * 70_000, id="a body"),
    ],
)
def test_a_head_may_be_as_large_behind_another_message_of_the_same_read(
    before: bytes, size: int, status: int | None
) -> None:
    seen = read(before + GET + b"X: " + b"x" * (size - len(GET)))
    assert (seen.status, len(seen.meanings)) == (status, 1)


def test_a_body_does_not_hide_how_much_came_of_the_head_behind_it() -> None:
    """Where the body has an empty line of its own, what is sure of the head is less than what came."""
    first = POST + b"Content-Length: 70000\r\n\r\n" + b"y" * 69_996 + b"\r\n\r\n" + GET + b"X: " + b"x" * 66_000
    seen = read(first + b"\r\n\r\n", size=len(first))
    assert (seen.status, len(seen.meanings)) == (431, 1)


PLAIN = GET + b"\r\n"
ASK = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"


class Crowded:
    """A server with its one place taken, which hands connections over to who asks for `x`."""

    def __init__(self, moments: Moments) -> None:
        self.placed: list[Exchange] = []
        self.handed_over = 0
        self.server = Server(
            lambda exchange, now_s: self.placed.append(exchange),
            cast(Any, moments), limits=ConnectionLimits(total=1, not_sent=True),
        )  # fmt: skip
        self.server.upgrades[b"x"] = self._take
        self.first, _ = connect(self.server)

    def _take(self, head: RequestHead) -> asyncio.Protocol:
        self.handed_over += 1
        return asyncio.Protocol()


async def test_where_connections_are_handed_over_one_too_many_may_still_ask_for_that(moments: Moments) -> None:
    it = Crowded(moments)
    connection, transport = connect(it.server)
    for piece in (ASK[:1], ASK[1:30], ASK[30:]):
        assert (transport.written, transport.is_closed) == (b"", False)
        connection.data_received(piece)
    assert (it.handed_over, it.placed, transport.written, transport.is_closed) == (1, [], b"", False)
    assert (len(it.server.connections), it.server.heard, it.server.turned_away) == (1, {}, 0)


@pytest.mark.parametrize("before", [b"", b"\r\n", b"\r\n\r\n"], ids=["at once", "behind a line", "behind two"])
@pytest.mark.parametrize("again", range(3), ids=["new", "seen", "known by heart"])
def test_any_other_request_of_one_too_many_is_its_last_and_was_not_sent(
    moments: Moments, again: int, before: bytes
) -> None:
    for _ in range(again):
        connect(server(moments))[0].data_received(PLAIN)
    it = Crowded(moments)
    connection, transport = connect(it.server)
    if before:
        connection.data_received(before)
    connection.data_received(PLAIN + PLAIN)
    connection.data_received(PLAIN)
    assert transport.written.count(b"HTTP/1.1 503 ") == 1
    assert b"zerogate-not-sent: 1" in transport.written
    assert b"too_many_connections" in transport.written
    assert it.placed == []
    connection.connection_lost(None)
    assert (it.server.turned_away, it.server.heard) == (1, {})


def test_one_that_was_too_many_has_the_place_that_is_free_when_its_request_comes(moments: Moments) -> None:
    it = Crowded(moments)
    connection, transport = connect(it.server)
    it.first.connection_lost(None)
    connection.data_received(PLAIN)
    assert (len(it.placed), transport.written) == (1, b"")
    late, told = connect(it.server)
    late.data_received(PLAIN)
    assert b"too_many_connections" in told.written, "the place is taken again"


def test_of_those_that_are_one_too_many_the_oldest_goes_for_a_later_one(moments: Moments) -> None:
    it = Crowded(moments)
    answered, answered_transport = connect(it.server)
    answered.data_received(PLAIN)
    silent = [connect(it.server) for _ in range(MOST_HEARD)]
    assert answered_transport.is_closed, "it was told, and had time to read it"
    assert answered_transport.written.count(b"HTTP/1.1 503 ") == 1
    assert not any(transport.is_closed for _, transport in silent)
    connection, _ = connect(it.server)
    assert [transport.is_closed for _, transport in silent] == [True] + [False] * (MOST_HEARD - 1)
    assert b"too_many_connections" in silent[0][1].written
    connection.data_received(ASK)
    assert it.handed_over == 1
    for one, _ in [(answered, None), *silent]:
        one.connection_lost(None)
    assert (it.server.turned_away, len(it.server.connections)) == (MOST_HEARD + 1, 1)


async def test_one_too_many_that_speaks_http_2_is_told_so_in_its_terms(moments: Moments) -> None:
    it = Crowded(moments)
    connection, transport = connect(it.server)
    connection.data_received(PREFACE + f.frame(f.SETTINGS, 0, 0, b""))
    goaway = transport.written.rindex(b"too many connections")
    assert int.from_bytes(transport.written[goaway - 4 : goaway], "big") == f.ENHANCE_YOUR_CALM
    assert len(it.server.heard) == 1, "until it is closed"
