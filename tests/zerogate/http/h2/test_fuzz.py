"""Bytes that nobody would write: a connection survives them, keeps its bounds, and passes on one meaning or none."""

from typing import Any, Final

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import examples
from tests.zerogate.http.h2.corpus import BASE, BODY
from tests.zerogate.http.h2.dialogue import GET, OK, POST, HeardStream, Talk
from zerogate.http.h2 import frames as f
from zerogate.http.h2.fields import request_head
from zerogate.http.h2.frames import ViolationError
from zerogate.http.h2.limits import Limits
from zerogate.http.heads import BadMessageError, Field
from zerogate.http.write_heads import request_bytes

pytestmark = pytest.mark.fuzz


class Recording(Talk):
    """The bytes that a peer would send, written down."""

    def send(self, data: bytes) -> None:
        self.sent = getattr(self, "sent", b"") + data
        super().send(data)


def _of_a_client() -> bytes:
    one = Recording()
    one.headers(1, POST, end=False)
    one.data(1, b"x" * 300)
    one.send(f.frame(f.DATA, f.PADDED, 1, b"\x03abc\0\0\0"))
    one.headers(3, GET)
    one.send(f.window_frame(0, 1000) + f.window_frame(1, 1000) + f.frame(f.PING, 0, 0, b"12345678"))
    one.send(f.header_frames(1, one.encoder.encode([(b"x-trailer", b"1")]), end=True))
    block = one.encoder.encode([*GET, (b"x-long", b"y" * 100)])
    one.send(f.frame(f.HEADERS, f.END_STREAM, 5, block[:20]) + f.frame(f.CONTINUATION, f.END_HEADERS, 5, block[20:]))
    one.send(f.reset_frame(5, f.CANCEL) + f.frame(f.PRIORITY, 0, 7, b"\0\0\0\7\x10") + f.settings_frame({3: 5, 4: 9}))
    one.headers(7, [*POST, (b"content-length", b"3")], end=False)
    one.data(7, b"abc", end=True)
    one.send(f.goaway_frame(0, f.NO_ERROR))
    assert one.connection.failure is None
    return one.sent


def _of_a_server() -> bytes:
    one = Recording(is_server=False)
    _open(one.connection)
    one.headers(1, [(b":status", b"103"), (b"link", b"</a>")], end=False)
    one.headers(1, [(b":status", b"200"), (b"content-length", b"3")], end=False)
    one.data(1, b"abc", end=True)
    one.headers(3, [(b":status", b"200")], end=False)
    one.data(3, b"x" * 300)
    one.headers(3, [(b"grpc-status", b"0")])
    one.send(f.reset_frame(5, f.REFUSED_STREAM) + f.settings_frame({3: 100}) + f.goaway_frame(5, f.NO_ERROR))
    assert one.connection.failure is None
    return one.sent


def _open(connection: Any) -> None:
    for end in (True, True, False, False):
        connection.open([(name, value, False) for name, value in GET], end=end)


SEEDS: Final = {True: _of_a_client(), False: _of_a_server()}

change = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 2000), st.integers(0, 255)),
    st.tuples(st.just("flip"), st.integers(0, 2000), st.integers(0, 7)),
    st.tuples(st.just("cut"), st.integers(0, 2000), st.integers(1, 60)),
    st.tuples(st.just("repeat"), st.integers(0, 2000), st.integers(1, 200)),
    st.tuples(st.just("insert"), st.integers(0, 2000), st.binary(min_size=1, max_size=20)),
)


def changed(data: bytes, changes: list[tuple[str, int, Any]]) -> bytes:
    for kind, place, what in changes:
        at = place % (len(data) + 1)
        if kind == "set":
            data = data[:at] + bytes((what,)) + data[at + 1 :]
        elif kind == "flip":
            data = data[:at] + bytes(byte ^ (1 << what) for byte in data[at : at + 1]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at] + data[at + what :]
        elif kind == "repeat":
            data = data[:at] + 3 * data[at : at + what] + data[at + what :]
        else:
            data = data[:at] + what + data[at:]
    return data


def heard(data: bytes, pieces: int, *, is_server: bool) -> Talk:
    """What comes of these bytes; heads are answered between the reads."""
    one = Talk(is_server=is_server, greet=False)
    if not is_server:
        _open(one.connection)
    step = max(1, len(data) // pieces)
    for at in range(0, len(data), step):
        one.connection.receive(data[at : at + step], one.now_s)
        one.connection.take(one.now_s)
        assert len(one.connection.streams) <= Limits().streams
        assert one.connection.queued_bytes <= 2 * 65536
    return one


@pytest.mark.parametrize("is_server", [True, False], ids=["as-a-server", "as-a-client"])
@settings(max_examples=examples(200), deadline=None)
@given(changes=st.lists(change, min_size=1, max_size=6), pieces=st.integers(1, 40))
def test_changed_bytes_raise_nothing_and_mean_the_same_however_they_are_cut(
    is_server: bool, changes: list[tuple[str, int, Any]], pieces: int
) -> None:
    data = changed(SEEDS[is_server], changes)
    whole, cut = heard(data, 1, is_server=is_server), heard(data, pieces, is_server=is_server)
    told = [line for line in whole.said if not line.startswith("owner: output")]
    assert told == [line for line in cut.said if not line.startswith("owner: output")]
    assert (whole.connection.failure is None) == (cut.connection.failure is None)
    if whole.connection.failure is not None:
        before = list(whole.said)
        whole.connection.receive(SEEDS[is_server], whole.now_s)
        assert whole.said == before
        whole.connection.close("gone")
        assert not whole.connection.streams


@settings(max_examples=examples(100), deadline=None)
@given(changes=st.lists(change, max_size=4), sizes=st.lists(st.integers(0, 40_000), min_size=1, max_size=4))
def test_answers_to_changed_bytes_keep_to_the_windows(changes: list[tuple[str, int, Any]], sizes: list[int]) -> None:
    one = Talk(greet=False)
    data = changed(SEEDS[True], changes)
    for at in range(0, len(data), 50):
        one.connection.receive(data[at : at + 50], one.now_s)
        for stream in list(one.connection.streams.values()):
            assert isinstance(stream, HeardStream)
            if stream.has_head and not stream.has_sent_end and stream.body_left != -1:
                one.connection.send_head(stream, OK)
                for size in sizes:
                    one.connection.send_data(stream, b"x" * size)
                one.connection.send_end(stream, [])
        while one.connection.has_output:
            one.connection.take(one.now_s)
        assert one.connection.send_window >= 0


name = st.one_of(
    st.sampled_from([
        b":method", b":path", b":scheme", b":authority", b":protocol", b"host", b"content-length", b"te", b"cookie",
        b"transfer-encoding", b"connection", b"x-a", b"expect", b"upgrade", b"x-forwarded-for", b"trailer",
    ]),
    st.binary(min_size=0, max_size=4),
    st.text(alphabet="x:\r\n \t\0A-", max_size=6).map(str.encode),
)  # fmt: skip
value = st.one_of(
    st.sampled_from(
        [b"", b"5", b"0", b"chunked", b"trailers", b"/a", b"*", b"http", b"chat", BODY, b"100-continue", b"a, b"]
    ),
    st.text(alphabet="a/:5\r\n \t\0,;", max_size=8).map(str.encode),
    st.binary(max_size=6),
)


@settings(max_examples=examples(500), deadline=None)
@given(
    more=st.lists(st.tuples(name, value), max_size=5),
    replaced=st.lists(st.tuples(st.integers(0, 3), value), max_size=2),
    ended=st.booleans(),
)
def test_any_fields_become_one_request_of_http_1_or_none(
    more: list[Field], replaced: list[tuple[int, bytes]], ended: bool
) -> None:
    fields = list(BASE)
    for at, text in replaced:
        fields[at] = (fields[at][0], text)
    try:
        head = request_head([(key, text, False) for key, text in (*fields, *more)], ended=ended)
    except (ViolationError, BadMessageError):
        return
    data = request_bytes(head, client=b"192.0.2.1")
    assert data.count(b"\r\n\r\n") == 1
    if head.upgrade is not None or (head.content_length or 0) > 99:
        return
    body = b"0\r\n\r\n" if head.chunked else b"x" * (head.content_length or 0)
    server = h11.Connection(h11.SERVER)
    server.receive_data(data + body)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (bytes(request.method), bytes(request.target)) == (head.method, head.target)
    events = [server.next_event()]
    while not isinstance(events[-1], h11.EndOfMessage):
        assert isinstance(events[-1], h11.Data), events
        events.append(server.next_event())
    assert server.trailing_data == (b"", False)
