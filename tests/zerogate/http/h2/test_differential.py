"""The same bytes to our connection and to the library `h2`, in both roles and cut anywhere: the same events."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import examples
from tests.zerogate.http.h2.dialogue import GET, OK, POST, HeardStream
from zerogate.http.h2 import frames as f
from zerogate.http.h2.connection import Connection
from zerogate.http.h2.limits import Limits

Event = tuple[Any, ...]
LAST: list[tuple[bytes, bytes]] = [(b"checksum", b"1")]


class Ours:
    """Our connection; what it tells as tuples, data joined."""

    def __init__(self, *, is_server: bool) -> None:
        self.events: list[Event] = []
        self.connection = Connection(
            self, self._make, is_server=is_server, limits=Limits(), now_s=0.0
        )  # fmt: skip

    def _make(self, id: int, receive_window: int, send_window: int) -> "Told":  # noqa: A002
        return Told(self, id, receive_window, send_window)

    def add(self, kind: str, stream: int, what: Any = None) -> None:
        if kind == "data" and self.events and self.events[-1][:2] == (kind, stream):
            what = self.events.pop()[2] + what
        self.events.append((kind, stream, what))

    def on_output(self) -> None: ...
    def on_settings(self) -> None: ...
    def on_pong(self, payload: bytes) -> None: ...
    def on_goaway(self, last_stream: int, code: int, reason: bytes) -> None: ...

    def on_failed(self, error: Exception) -> None:
        self.add("failed", 0)


class Told(HeardStream):
    __slots__ = ("ours",)

    def __init__(self, ours: Ours, id: int, receive_window: int, send_window: int) -> None:  # noqa: A002
        super().__init__([], id, receive_window, send_window)
        self.ours = ours

    def on_head(self, fields: Any, ended: bool) -> None:
        super().on_head(fields, ended)
        self.ours.add("head", self.id, [(bytes(name), bytes(value)) for name, value, _ in fields])
        if ended:
            self.ours.add("end", self.id)

    def on_informational(self, fields: Any) -> None:
        self.ours.add("informational", self.id, [(name, value) for name, value, _ in fields])

    def on_data(self, data: bytes) -> None:
        self.ours.add("data", self.id, data)

    def on_end(self, trailers: Any) -> None:
        if trailers:
            self.ours.add("trailers", self.id, [(name, value) for name, value, _ in trailers])
        self.ours.add("end", self.id)

    def on_reset(self, code: int, reason: str, *, by_peer: bool) -> None:
        self.ours.add("reset", self.id, code if by_peer else None)


class Theirs(Ours):
    """The library, told the same way."""

    def __init__(self, *, is_server: bool) -> None:
        self.events = []
        configuration = h2.config.H2Configuration(client_side=not is_server, header_encoding=None)
        self.library = h2.connection.H2Connection(configuration)
        self.library.initiate_connection()
        self.library.max_inbound_frame_size = f.FRAME_BYTES

    def receive(self, data: bytes) -> None:
        for event in self.library.receive_data(data):
            self._take(event)

    def _take(self, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived | h2.events.ResponseReceived):
            self.add("head", event.stream_id, [tuple(field) for field in event.headers or ()])
        elif isinstance(event, h2.events.InformationalResponseReceived):
            self.add("informational", event.stream_id, [tuple(field) for field in event.headers or ()])
        elif isinstance(event, h2.events.DataReceived):
            if event.data:
                self.add("data", event.stream_id, event.data)
            self.library.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self.add("trailers", event.stream_id, [tuple(field) for field in event.headers or ()])
        elif isinstance(event, h2.events.StreamEnded):
            self.add("end", event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.add("reset", event.stream_id, event.error_code if event.remote_reset else None)


def peer(*, is_server: bool) -> h2.connection.H2Connection:
    """The library as the one who sends, without a doubt of its own about what it is made to send."""
    configuration = h2.config.H2Configuration(
        client_side=not is_server, header_encoding=None, validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )  # fmt: skip
    connection = h2.connection.H2Connection(configuration)
    connection.initiate_connection()
    return connection


requests = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from([b"x-a", b"x-b", b"accept"]), st.binary(max_size=40).map(bytes.hex))),
        st.lists(st.binary(min_size=1, max_size=20_000), max_size=3),
        st.sampled_from(["end", "trailers", "reset", "open"]),
        st.integers(0, 30),
    ),
    min_size=1,
    max_size=6,
)


def script(is_server: bool, plan: Any) -> bytes:
    """What a peer in the role of `is_server` sends by the plan."""
    sender = peer(is_server=is_server)
    if is_server:
        other = peer(is_server=False)
        for number in range(len(plan)):
            other.send_headers(1 + 2 * number, GET, end_stream=True)
        sender.receive_data(other.data_to_send())
    for number, (fields, body, ending, padding) in enumerate(plan):
        stream = 1 + 2 * number
        if is_server and padding % 2:
            sender.send_headers(stream, [(b":status", b"103"), (b"link", b"x")])
        first = [(b":status", b"200")] if is_server else POST
        sender.send_headers(stream, [*first, *[(name, value.encode()) for name, value in fields]])
        for piece in body:
            for at in range(0, len(piece), 16_000):
                part = piece[at : at + 16_000]
                if len(part) + padding + 1 > sender.local_flow_control_window(stream):
                    break
                sender.send_data(stream, part, pad_length=padding or None)
        if ending == "trailers":
            sender.send_headers(stream, LAST, end_stream=True)
        elif ending == "end":
            sender.end_stream(stream)
        elif ending == "reset":
            sender.reset_stream(stream, f.CANCEL)
    return sender.data_to_send()


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({place % (len(data) + 1) for place in at} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(places)]


@pytest.mark.parametrize("is_server", [True, False], ids=["as a server", "as a client"])
@settings(max_examples=examples(60), deadline=None)
@given(plan=requests, at=st.lists(st.integers(0, 10_000_000), max_size=12))
def test_any_cut_of_a_valid_dialogue_gives_the_events_of_the_library(is_server: bool, plan: Any, at: list[int]) -> None:
    data = script(not is_server, plan)
    ours, theirs = Ours(is_server=is_server), Theirs(is_server=is_server)
    if not is_server:
        for number in range(len(plan)):
            ours.connection.open([(name, value, False) for name, value in GET], end=True)
            theirs.library.send_headers(1 + 2 * number, GET, end_stream=True)
    theirs.receive(data)
    for piece in cut(data, at):
        ours.connection.receive(piece, 0.0)
    assert ours.events == theirs.events
    assert ours.connection.failure is None


frame_soup = st.lists(
    st.builds(
        f.frame,
        st.integers(0, 10),
        st.sampled_from([0, 1, 4, 5, 8, 9, 0x20, 0x25]),
        st.sampled_from([0, 1, 1, 3, 3, 5, 2]),
        st.one_of(
            st.sampled_from([b"\x82\x86\x84\x41\x01a", b"\x82", b"", b"\0\0\0\1", b"\0\0\0\0", b"\0" * 8, b"\0" * 6]),
            st.binary(max_size=12),
        ),
    ),
    max_size=25,
)


@settings(max_examples=examples(300), deadline=None)
@given(frames=frame_soup, at=st.lists(st.integers(0, 100_000), max_size=10))
def test_any_cut_of_any_frames_gives_the_same_events_and_the_same_bytes(frames: list[bytes], at: list[int]) -> None:
    data = f.PREFACE + f.settings_frame({}) + b"".join(frames)
    outcomes = []
    for pieces in ([data], cut(data, at)):
        ours = Ours(is_server=True)
        for piece in pieces:
            ours.connection.receive(piece, 0.0)
        outcomes.append((ours.events, ours.connection.take(0.0)))
    assert outcomes[0] == outcomes[1]


WINDOWS = st.tuples(st.integers(1, 40_000), st.integers(1, 40_000))
"""By how much the peer opens a stream's window, and the connection's."""


@settings(max_examples=examples(100), deadline=None)
@given(sizes=st.lists(st.integers(0, 30_000) | st.just(30_000), max_size=10), windows=st.lists(WINDOWS, max_size=8))
def test_the_library_takes_all_that_we_send_within_its_windows(
    sizes: list[int], windows: list[tuple[int, int]]
) -> None:
    ours, library = Ours(is_server=True), peer(is_server=False)
    library.send_headers(1, GET, end_stream=True)
    ours.connection.receive(library.data_to_send(), 0.0)
    stream = ours.connection.streams[1]
    ours.connection.send_head(stream, OK)
    for size in sizes:
        ours.connection.send_data(stream, b"x" * size)
    ours.connection.send_end(stream, [])
    got = 0
    exchange: Callable[[], int] = lambda: sum(  # noqa: E731
        len(event.data or b"")
        for event in library.receive_data(take(ours))
        if isinstance(event, h2.events.DataReceived)
    )
    got += exchange()
    for of_stream, of_connection in windows:
        if 1 not in ours.connection.streams:
            break
        library.increment_flow_control_window(of_stream, 1)
        library.increment_flow_control_window(of_connection)
        ours.connection.receive(library.data_to_send(), 0.0)
        got += exchange()
    allowed = min(sum(one[0] for one in windows), sum(one[1] for one in windows))
    assert got == min(sum(sizes), f.DEFAULT_WINDOW + allowed)
    assert (1 in ours.connection.streams) == (got < sum(sizes))


def take(ours: Ours) -> bytes:
    pieces = []
    while ours.connection.has_output:
        pieces.append(ours.connection.take(0.0))
    return b"".join(pieces)
