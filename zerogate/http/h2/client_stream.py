"""One exchange on a shared connection to a replica: a stream of HTTP/2 that its exchange knows as its connection.

What the replica says that it did not look at (REFUSED_STREAM, streams beyond GOAWAY's last) is told as refused, and may
be sent again whatever its method; any other reset is an answer that will not come, and is not repeated. An answer
without one meaning is reset, whatever of it was passed on before is cut.
"""

from typing import Final, Protocol

from zerogate.clock import now
from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.h2 import frames as f
from zerogate.http.h2.connection import Connection
from zerogate.http.h2.hpack import HpackField
from zerogate.http.h2.replica_heads import answer_head, answer_trailers, trailer_fields
from zerogate.http.h2.streams import CLOSED, Stream
from zerogate.http.heads import BadMessageError, Field, has_no_body

_NO_FIELDS: Final[list[Field]] = []
_NO_WEBSOCKET: Final = Refusal(
    status=501,
    code="websocket_over_h2c",
    detail="The service is spoken to in HTTP/2, over which WebSockets are not available in this version.",
    hopeless=True,
)


class SharedConnection(Protocol):
    """What a stream needs of its connection. `state` is the state machine of both."""

    state: Connection

    def open(self, stream: "ClientStream", exchange: Exchange) -> None:
        """Begin the exchange on this stream."""

    def flush_later(self, exchange: Exchange) -> None:
        """Its client is written to once all of this read is looked at."""

    def on_refused(self) -> None:
        """The replica did not take a stream."""

    def on_stream_over(self) -> None:
        """One of its streams has ended."""


class ClientStream(Stream):
    """One exchange on a shared connection. Made before it is opened, which `send_head` does."""

    __slots__ = ("_connection", "_exchange")

    may_refuse = True

    def __init__(self, connection: SharedConnection) -> None:
        self._connection = connection
        self._exchange: Exchange | None = None

    # What the exchange asks for

    def send_head(self, exchange: Exchange) -> None:
        if exchange.head.websocket_key is not None:
            exchange.refuse(_NO_WEBSOCKET, now())
            return
        self._exchange = exchange
        self._connection.open(self, exchange)

    def send_data(self, data: bytes) -> None:
        if not self.is_over:
            self._connection.state.send_data(self, data)

    def send_end(self, trailers: list[Field]) -> None:
        if not self.is_over:
            self._connection.state.send_end(self, trailer_fields(trailers) if trailers else [])

    def send_whole(self, exchange: Exchange, body: bytes) -> None:
        self.send_head(exchange)
        self.send_data(body)
        self.send_end([])

    def pause(self) -> None:
        self._connection.state.pause(self)

    def resume(self) -> None:
        self._connection.state.resume(self)

    def finish(self) -> None:
        """As `abort`: there is no WebSocket here that could be finished."""
        self.abort()

    def abort(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._connection.state.reset(self, f.CANCEL)
            self._connection.on_stream_over()

    @property
    def is_over(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.state == CLOSED

    # What the connection tells

    def on_informational(self, fields: list[HpackField]) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        try:
            head = answer_head(fields)
            if head.status == 101:
                raise BadMessageError("the replica changed the protocol, which HTTP/2 does not know", 502)
        except BadMessageError as error:
            self._break(str(error))
            return
        exchange.on_informational(head.status, head.reason, head.lines)

    def on_head(self, fields: list[HpackField], ended: bool) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        method = exchange.head.method
        try:
            head = answer_head(fields, is_whole=ended and not _is_bare(fields, method))
        except BadMessageError as error:
            self._break(str(error))
            return
        self.body_left = 0 if has_no_body(head.status, method) else head.content_length
        exchange.on_response_head(head, self._connection.state.now_s, is_whole=ended)
        if ended:
            self._finish(exchange, _NO_FIELDS)
        else:
            self._connection.flush_later(exchange)

    def on_data(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.on_response_data(data, self._connection.state.now_s)
            self._connection.flush_later(exchange)

    def on_end(self, trailers: list[HpackField]) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        try:
            fields = answer_trailers(trailers) if trailers else _NO_FIELDS
        except BadMessageError as error:
            self._break(str(error))
            return
        self._finish(exchange, fields)

    def _finish(self, exchange: Exchange, trailers: list[Field]) -> None:
        """The answer is complete; what is left of the request is of no use any more."""
        self._exchange = None
        self._connection.state.reset(self, f.CANCEL)
        exchange.on_response_end(trailers, self._connection.state.now_s)
        self._connection.on_stream_over()

    def _break(self, cause: str) -> None:
        """What came has no meaning."""
        exchange, self._exchange = self._exchange, None
        self._connection.state.reset(self, f.PROTOCOL_ERROR)
        if exchange is not None:
            exchange.on_upstream_lost(cause, self._connection.state.now_s, is_final=True)
        self._connection.on_stream_over()

    def on_reset(self, code: int, reason: str, *, by_peer: bool) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if by_peer and code == f.REFUSED_STREAM:
            self._connection.on_refused()
            exchange.on_refused("it refused the stream", now())
        elif by_peer and code == f.CONNECT_ERROR:
            exchange.on_upstream_lost(reason, now())
        else:
            exchange.on_upstream_lost(reason, now(), is_final=True)
        self._connection.on_stream_over()

    def on_writable(self, writable: bool) -> None:
        if self._exchange is not None:
            self._exchange.on_upstream_writable(writable)


def _is_bare(fields: list[HpackField], method: bytes) -> bool:
    """Whether the answer to this method never has a body; its status is looked at again when it is parsed."""
    return method == b"HEAD" or (bool(fields) and fields[0][1] in (b"204", b"304"))
