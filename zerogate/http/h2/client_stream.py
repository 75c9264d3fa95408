"""One exchange on a shared connection to a replica: a stream of HTTP/2 that its exchange knows as its connection.

What the replica says that it did not look at (REFUSED_STREAM, streams beyond GOAWAY's last) is told as refused, and may
be sent again whatever its method; any other reset is an answer that will not come, and is not repeated. An answer
without one meaning is reset, whatever of it was passed on before is cut.

A WebSocket is an extended CONNECT here (RFC 8441): a 2xx opens it, DATA are its bytes, the stream's ends are those of
its connection. Behind its Close a replica ends the stream, and is reset where it does not: hypercorn forgets a stream
with its Close, and fails with the whole connection when an end comes behind it.
"""

from typing import Final, Protocol

from zerogate.clock import now
from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.h2 import frames as f
from zerogate.http.h2.connection import Connection
from zerogate.http.h2.hpack import HpackField
from zerogate.http.h2.replica_heads import acceptance, answer_head, answer_trailers, trailer_fields
from zerogate.http.h2.streams import CLOSED, HALF_REMOTE, Stream
from zerogate.http.heads import MAX_HEAD_BYTES, BadMessageError, Field, ResponseHead, has_no_body
from zerogate.http.memory import BufferMemory
from zerogate.http.tunnel import Tunnel

_NO_FIELDS: Final[list[Field]] = []
_NO_WEBSOCKET: Final = Refusal(
    status=501,
    code="websocket_over_h2c",
    detail="The service is spoken to in HTTP/2, and its replica does not take WebSockets over it "
    "(no SETTINGS_ENABLE_CONNECT_PROTOCOL, RFC 8441).",
    hopeless=True,
)


class SharedConnection(Protocol):
    """What a stream needs of its connection. `state` is the state machine of both."""

    state: Connection

    is_tight: bool
    """Hardly anything may wait."""

    def open(self, stream: "ClientStream", exchange: Exchange) -> None:
        """Begin the exchange on this stream."""

    def tighten(self, is_tight: bool) -> None:
        """Let less, or as much as usual, of the requests wait."""

    def flush_later(self, exchange: Exchange) -> None:
        """Its client is written to once all of this read is looked at."""

    def end_soon(self, stream: "ClientStream") -> None:
        """Our end of the stream is given: call its `give_up` after a while."""

    def on_refused(self) -> None:
        """The replica did not take a stream."""

    def on_stream_over(self) -> None:
        """One of its streams has ended."""


class ClientStream(Stream):
    """One exchange on a shared connection. Made before it is opened, which `send_head` does."""

    __slots__ = (
        "_connection", "_exchange", "_interim_bytes", "_is_finishing", "_memory", "_tunnel",
    )  # fmt: skip

    may_refuse = True

    def __init__(self, connection: SharedConnection) -> None:
        self._connection = connection
        self._exchange: Exchange | None = None
        self._interim_bytes = 0
        """Of informational answers: no window holds them back, so together they are no longer than a head may be."""
        self._tunnel: Tunnel | None = None
        self._memory: BufferMemory | None = None
        """Where its queue counts: its exchange may be gone before that is."""
        self._is_finishing = False
        """A WebSocket that is closed: only the replica's end of the stream is still to come."""

    # What the exchange asks for

    def send_head(self, exchange: Exchange) -> None:
        if exchange.head.websocket_key is not None and not self._connection.state.peer_connect_protocol:
            exchange.refuse(_NO_WEBSOCKET, now())
            return
        self._exchange = exchange
        self._connection.open(self, exchange)

    def send_data(self, data: bytes) -> None:
        if self.is_over:
            return
        connection, exchange = self._connection, self._exchange
        if exchange is not None and exchange.downstream.memory.is_short is not connection.is_tight:
            connection.tighten(not connection.is_tight)
        connection.state.send_data(self, data)

    @property
    def is_full(self) -> bool:
        """Whether the replica's windows, or its transport, have not let out all that was sent."""
        return self.queued_bytes > 0

    def count_waiting(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            self._memory = exchange.downstream.memory
        if self._memory is None:
            return
        counts = exchange is None or exchange.chunks is None
        self.counted_bytes = self._memory.recount_upload(self.counted_bytes, self.queued_bytes if counts else 0)

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
        if self._tunnel is None:
            self.abort()
            return
        _, replicas_code = self._tunnel.close_codes
        self._exchange = self._tunnel = None
        state = self._connection.state
        if not self.has_sent_end and (self.state == HALF_REMOTE or replicas_code is None):
            state.send_end(self, [])  # otherwise the replica ends first, as a server does (RFC 6455 section 7.1.1)
        if self.is_over:
            self._connection.on_stream_over()
            return
        self._is_finishing = True
        state.resume(self)  # its end lies behind what is dropped
        self._connection.end_soon(self)

    def give_up(self) -> None:
        """The replica has had its time to end the stream."""
        if self._is_finishing:
            self._is_finishing = False
            self._connection.state.reset(self, f.CANCEL)
            self._connection.on_stream_over()

    def _on_finished(self) -> None:
        if self._is_finishing:
            self._is_finishing = False
            if not self.has_sent_end:
                self._connection.state.send_end(self, [])
            self._connection.on_stream_over()

    def abort(self) -> None:
        exchange, self._exchange = self._exchange, None
        self._tunnel = None
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
            self._interim_bytes += len(head.lines)
            if self._interim_bytes > MAX_HEAD_BYTES:
                raise BadMessageError(f"the informational answers are larger than {MAX_HEAD_BYTES} bytes", 502)
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
        if exchange.head.websocket_key is not None and 200 <= head.status < 300:
            self._open_tunnel(exchange, head, exchange.head.websocket_key, ended)
            return
        self.body_left = 0 if has_no_body(head.status, method) else head.content_length
        exchange.on_response_head(head, self._connection.state.now_s, is_whole=ended)
        if ended:
            self._finish(exchange, _NO_FIELDS)
        else:
            self._connection.flush_later(exchange)

    def _open_tunnel(self, exchange: Exchange, head: ResponseHead, key: bytes, ended: bool) -> None:
        """The replica has taken the WebSocket; what it says is told as the 101 that answers the client's key."""
        now_s = self._connection.state.now_s
        if ended:
            exchange.on_bad_switch("it ended the stream that it had accepted", now_s)
            return
        self._tunnel = exchange.on_switched(acceptance(head, key), now_s)

    def on_data(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.on_replica_data(data, self._connection.state.now_s)
            return
        exchange = self._exchange
        if exchange is not None:
            exchange.on_response_data(data, self._connection.state.now_s)
            self._connection.flush_later(exchange)

    def on_end(self, trailers: list[HpackField]) -> None:
        if self._tunnel is not None:
            self._tunnel.on_replica_lost(self._connection.state.now_s)
            return
        exchange = self._exchange
        if exchange is None:
            self._on_finished()
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
        self._tunnel = None
        if exchange is None:
            self._on_finished()
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
