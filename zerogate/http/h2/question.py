"""The question of a probe over HTTP/2: GET, or the health service of gRPC where its path is asked for. Pure.

A connection is for one question: nothing has to be acknowledged on it, and the next one finds out whether the server
still takes connections. Of the health service every answer is ready but NOT_SERVING and its like: a server without it,
or one that does not know the empty name, is a server that takes calls.
"""

from typing import Final

from zerogate.http.grpc import HEALTH_ASKED, HEALTH_CHECK, NOT_FOUND, OK, UNIMPLEMENTED, is_serving
from zerogate.http.h2 import frames as f
from zerogate.http.h2.connection import Connection
from zerogate.http.h2.frames import ViolationError
from zerogate.http.h2.hpack import HpackField
from zerogate.http.h2.limits import Limits
from zerogate.http.h2.streams import Stream
from zerogate.http.question import Answered, UnreadableError
from zerogate.runtime.interface import Address

_LIMITS: Final = Limits()
_LONGEST_BYTES: Final = 64
"""Of an answer of the health service: seven are usual."""
_ALIVE: Final = frozenset({NOT_FOUND, UNIMPLEMENTED})


class Http2Question:
    """See the module's text. Over GET any answer with a status below `ready_below` is ready."""

    def __init__(self, address: Address, path: str, *, ready_below: int) -> None:
        self._address = b"localhost" if address.path else str(address).encode()
        self._path = path.encode("latin-1")
        self._ready_below = ready_below
        self.data = Http2Reader(self._fields, lambda *_: None, ready_below).first_bytes

    @property
    def _fields(self) -> list[HpackField]:
        is_health = self._path == HEALTH_CHECK
        fields = [
            (b":method", b"POST" if is_health else b"GET", False),
            (b":scheme", b"http", False),
            (b":authority", self._address, False),
            (b":path", self._path, False),
            (b"user-agent", b"zerogate-probe", False),
        ]
        if is_health:
            fields += [(b"content-type", b"application/grpc", False), (b"te", b"trailers", False)]
        return fields

    def reader(self, answered: Answered) -> "Http2Reader":
        return Http2Reader(self._fields, answered, self._ready_below)


class Http2Reader:
    """One connection with one stream, whose question is made with it."""

    can_reuse = False

    def __init__(self, fields: list[HpackField], answered: Answered, ready_below: int) -> None:
        self._answered = answered
        self._ready_below = ready_below
        self._is_health = fields[0][1] == b"POST"
        self._state = Connection(self, self._make, is_server=False, limits=_LIMITS, now_s=0.0)
        stream = self._state.open(fields, end=not self._is_health)
        if self._is_health:
            self._state.send_data(stream, HEALTH_ASKED)
            self._state.send_end(stream, [])
        self.first_bytes = self._state.take(0.0)

    def _make(self, id: int, receive_window: int, send_window: int) -> Stream:  # noqa: A002
        return _Asked(self, id, receive_window, send_window)

    def feed(self, piece: bytes) -> None:
        self._state.receive(piece, 0.0)
        if self._state.failure is not None:
            raise UnreadableError(f"it does not speak HTTP/2 without TLS: {self._state.failure.reason}")

    def on_answer(self, fields: dict[bytes, bytes], body: bytes) -> None:
        """The whole of an answer; or its head alone, where that is enough."""
        status = fields.get(b":status", b"")
        if not status.isdigit() or int(status) >= self._ready_below:
            self._answered(False, f"it answers {status.decode('ascii', 'replace') or 'without a status'}")
        elif not self._is_health or b"grpc-status" not in fields:
            self._answered(True, f"it answers {status.decode()}")
        else:
            self._on_health(fields[b"grpc-status"], body)

    def _on_health(self, grpc_status: bytes, body: bytes) -> None:
        code = int(grpc_status) if grpc_status.isdigit() else -1
        if code == OK:
            serves = is_serving(body)
            self._answered(serves, f"its health service says {'SERVING' if serves else 'NOT_SERVING'}")
        else:
            self._answered(code in _ALIVE, f"its health service answers with grpc-status {code}")

    def on_broken(self, why: str) -> None:
        """There is no answer on this stream."""
        hint = "" if self._is_health else " (a server of gRPC has no such path: leave ready-path out)"
        self._answered(False, f"it reset the question: {why}{hint}")

    # Sink of the connection: nothing is sent but the question

    def on_output(self) -> None: ...
    def on_settings(self) -> None: ...
    def on_pong(self, payload: bytes) -> None: ...
    def on_failed(self, error: ViolationError) -> None: ...
    def on_goaway(self, last_stream: int, code: int, reason: bytes) -> None:
        """It leaves. The question may still be answered; where it is not, its stream was told."""


class _Asked(Stream):
    """The one stream."""

    __slots__ = ("_body", "_fields", "_reader")

    def __init__(self, reader: Http2Reader, id: int, receive_window: int, send_window: int) -> None:  # noqa: A002
        super().__init__(id, receive_window=receive_window, send_window=send_window)
        self._reader = reader
        self._fields: dict[bytes, bytes] = {}
        self._body = b""

    def on_head(self, fields: list[HpackField], ended: bool) -> None:
        self._fields = {name: value for name, value, _ in fields}
        if ended or self._fields.get(b"content-type", b"")[:16] != b"application/grpc":
            # an endless body must not delay the news
            self._reader.on_answer(self._fields, b"")

    def on_data(self, data: bytes) -> None:
        self._body = (self._body + data)[:_LONGEST_BYTES]

    def on_end(self, trailers: list[HpackField]) -> None:
        if self._fields.get(b"content-type", b"")[:16] == b"application/grpc":
            self._reader.on_answer({**self._fields, **{name: value for name, value, _ in trailers}}, self._body)

    def on_reset(self, code: int, reason: str, *, by_peer: bool) -> None:
        if by_peer:
            self._reader.on_broken(f.error_name(code))
