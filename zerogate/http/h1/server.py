"""The client's side of HTTP/1.1: bytes of a connection become exchanges, exchanges become bytes.

One `ServerConnection` per client connection. Here is what its bytes are: heads, bodies, somebody else's protocol. What
goes out is `answering`, whose turn it is `pipelining`, when nothing is read `pausing`, how it ends `leaving`. What a
request is for is decided by `place`, which the composition gives.
"""

import asyncio
from typing import Any, Final

from zerogate.clock import now
from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.h1 import peer
from zerogate.http.h1.connection_states import (
    BEGIN,
    CLOSING,
    HEAR,
    HEARD,
    LOSE,
    NEW,
    OPEN,
    SWITCH,
    TUNNEL,
)
from zerogate.http.h1.leaving import HEAD_GRACE_S
from zerogate.http.h1.memo import END_BYTES, HEAD_END, KEPT_BYTES, LINE_FEED, HeadMemo, is_one_head
from zerogate.http.h1.pipelining import Pipelining
from zerogate.http.h1.reader import NO_FIELDS, RequestReader
from zerogate.http.h1.tunnel_ends import ClientEnd
from zerogate.http.h2.frames import PREFACE_LINE
from zerogate.http.heads import BadMessageError, Field, RequestHead, ResponseHead
from zerogate.http.phases import ANSWERING
from zerogate.http.server import HEAD_TIMEOUT_S, Server
from zerogate.http.sides import PLAIN, Arrival
from zerogate.http.tunnel import Tunnel

WHOLE_BYTES: Final = 32 * 1024
"""A body of at most this size that came with its head is taken at once; far below what pauses a client."""

_HEADS: Final[HeadMemo[RequestHead]] = HeadMemo()
"""Requests without a body or with a counted one. One for all connections: it is a memo of a pure function."""
_KNOWN: Final = _HEADS.known


class ServerConnection(Pipelining, asyncio.Protocol):
    """See the module's text."""

    __slots__ = (
        "_body_left", "_early", "_heir", "_receiving", "arrival", "peer",
    )  # fmt: skip

    def __init__(self, server: Server, *, arrival: Arrival = PLAIN, peer: bytes = b"") -> None:
        """`peer`: the client's address where it is not the transport's."""
        super().__init__(server)
        self._reader = RequestReader(self)
        self.arrival = arrival
        self.peer = peer
        """The client's address, as text."""
        self._receiving: Exchange | None = None
        self._body_left = 0
        """Bytes of a body that is counted: its head was known, and the reader has seen nothing of the message."""
        self._early = b""
        """What came before it was clear that this is HTTP/1.1."""
        self._heir: asyncio.Protocol | None = None
        """Who has the connection from now on, until the read is over that brought its request."""

    # The transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if transport.get_extra_info("ssl_object") is not None:
            self._step(BEGIN)  # over TLS the version is ALPN's to choose (RFC 9113 section 3.2)
        self.peer = self.peer or peer.address(transport)
        self._idle_since_s = self._made_s = now()
        refusal = self._server.enter(self, self.peer)
        if refusal is not None:
            self.turn_away(refusal)
            return
        self._server.sweep.watch(self, self._request_by_s())

    def connection_lost(self, exc: Exception | None) -> None:
        self._step(LOSE)
        self._forget_gone()
        self._count_kept(0)
        self._count_begun(0)
        self._server.leave(self, self.peer)
        self._server.sweep.forget(self)
        waiting, self._pipelined = self._pipelined, None
        self._receiving = None
        if self._current is not None:
            self._current.on_downstream_gone(now())
        for exchange in waiting or ():
            exchange.on_downstream_gone(now())  # what it kept of a body counts against the process until it ends
        self._reader.close()

    def data_received(self, data: bytes) -> None:
        if self.state != OPEN:
            data = self._read_unopened(data)
            if not data:
                return
        self._now_s = now_s = now()
        if self._body_left:
            data = self._take_body(data)
            if not data or self.state >= CLOSING:
                return
        if self._current is None and self._reader.is_between and not self._is_blocked:
            if data[-1] == LINE_FEED and len(data) <= KEPT_BYTES:
                head = _KNOWN.get(data)
                if head is not None and not head.has_body:  # the usual GET: one read, one head, no search for its end
                    self._current = exchange = Exchange(self, head, now_s)
                    self._server.place(exchange, now_s)
                    return
            end = data.find(HEAD_END) + END_BYTES
            if END_BYTES <= end <= KEPT_BYTES:
                raw = data[:end]
                head = _KNOWN.get(raw)
                if head is not None:
                    self._current = exchange = Exchange(self, head, now_s)
                    if head.has_body:
                        size = head.content_length or 0
                        if size <= WHOLE_BYTES and len(data) - end >= size and not head.expects_continue:
                            # the body first: then head and body go out in one write, and its model is read in one go
                            exchange.on_request_data(data[end : end + size], now_s)
                            exchange.on_request_end(NO_FIELDS, now_s)
                            end += size
                        else:
                            self._receiving = exchange
                            self._body_left = size
                    self._server.place(exchange, now_s)
                    if len(data) > end:
                        self._go_on(data[end:])
                    return
                if _HEADS.comes_again(raw):
                    if self._learn(raw) and len(data) > end:
                        self._go_on(data[end:])
                    return
        self._feed(data)

    def _read_unopened(self, data: bytes) -> bytes:
        """What comes where requests are not read, or not yet; returns what is to be read as such."""
        if self.state == NEW:
            data = self._first(data)
        if self.state == HEARD:
            self._now_s = now()
            if data:
                self._feed(data)  # not by the memo: it asks nobody whether there is a place
            return b""
        return data if self.state == OPEN else self._drop(data)

    def _first(self, data: bytes) -> bytes:
        """The first bytes, to be read here; none where they are the preface of HTTP/2, or may still become it."""
        data = self._early + data
        if not data.startswith(PREFACE_LINE):
            if PREFACE_LINE.startswith(data):
                self._early = data
                return b""
            self._early = b""
            self._step(HEAR if self in self._server.heard else BEGIN)
            return data
        self._step(LOSE)
        self._server.sweep.forget(self)
        self._reader.close()
        # 1.5 MiB that hardly any sidecar needs; a gateway has loaded it for its TLS port
        from zerogate.http.h2.server import ServerConnection as Http2Connection

        Http2Connection(self._server, arrival=self.arrival, peer=self.peer).take_over(self, self._transport, data)
        return b""

    def _learn(self, raw: bytes) -> bool:
        """Parse a head that is not known, on its own, and keep what it means. Returns whether it is a head."""
        is_valid = self._feed(raw)
        exchange = self._current
        if exchange is not None and exchange.head.can_be_kept and is_one_head(raw, exchange.head.field_count):
            _HEADS.keep(raw, exchange.head)
        return is_valid

    def _go_on(self, data: bytes) -> None:
        """What lies behind a head in the same read."""
        if self._body_left:
            data = self._take_body(data)
        if data and (self._heir is not None or self.state < CLOSING):
            self._feed(data)

    def _take_body(self, data: bytes) -> bytes:
        """Give the exchange what belongs to its counted body; returns what lies behind."""
        exchange = self._receiving
        left = self._body_left
        self._body_left = max(0, left - len(data))
        if exchange is not None:
            exchange.on_request_data(data[:left], self._now_s)
            if not self._body_left:
                self._receiving = None
                exchange.on_request_end(NO_FIELDS, self._now_s)
        return data[left:]

    def _feed(self, data: bytes) -> bool:
        """Let the reader read; returns whether it found nothing wrong."""
        if self._last_word is not None:
            return False  # over TLS what was received already comes although nothing is read
        reader = self._reader
        try:
            reader.feed(data)
        except BadMessageError as bad:
            if self.state < CLOSING:
                self._refuse_message(bad.status, str(bad))
            reader.stop()
            self._look_ahead(reader)
            return False
        if self._heir is not None and (early := reader.take_early()):
            self._heir.data_received(early)
        if reader.head_bytes or self._begun_bytes or self._pipelined:
            self._look_ahead(reader)
        return True

    def _look_ahead(self, reader: RequestReader) -> None:
        """Count what has come and is not a whole request, or has no turn yet; without room it is let go of."""
        self._count_begun(reader.begun_bytes + self._ahead_bytes)
        if reader.in_head and self.visit_s > self._now_s + HEAD_TIMEOUT_S:
            self._server.sweep.watch(self, self._now_s + HEAD_GRACE_S)
        if (reader.in_head or self._pipelined) and self.memory.is_out_of_heads and self.state < CLOSING:
            self._server.bad_requests += 1
            self._drop_ahead(self._server.no_room())

    def eof_received(self) -> None:
        """The client has ended its side, which is how one that has gone looks: only an answer that is complete is still
        sent. The transport by itself would wait until all that was written is taken, which may be never."""
        if self._current is not None:
            self._transport.abort()
        elif self.state < CLOSING:
            self._shut()

    # What the reader tells

    def on_begin(self) -> None:
        self._idle_since_s = self._now_s

    def on_head(self, head: RequestHead) -> None:
        if self.state >= CLOSING:
            raise BadMessageError("a request after the last one of its connection")
        if head.upgrade is not None and self._is_handed_over(head):
            return
        if self.state == HEARD and not self._has_place():
            return
        exchange = Exchange(self, head, self._now_s)
        if self._current is not None or self._is_blocked:
            self._queue(exchange)
            self._receiving = exchange
        else:
            self._current = self._receiving = exchange
            self._server.place(exchange, self._now_s)

    def _has_place(self) -> bool:
        """Whether one that was too many is none any more; if it still is, that was its only request."""
        refusal = self._server.judge(self)
        if refusal is None:
            self._step(BEGIN)
            return True
        self._say_last_word(refusal)
        return False

    def _is_handed_over(self, head: RequestHead) -> bool:
        """Whether the connection belongs to another protocol now, which was asked for with nothing else under way."""
        make = self._server.upgrades.get(head.upgrade or b"")
        may_have = head.wants_upgrade and not head.http_1_0 and not head.has_body and self._current is None
        protocol = make(head) if make is not None and may_have else None
        if protocol is None:
            return False
        self._step(LOSE)
        self._heir = protocol
        self._reader.ends_here()
        self._server.hand_over(self, self.peer)
        self._server.sweep.forget(self)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        asyncio.get_running_loop().call_soon(self._forget_heir)  # not now: the reader is reading
        return True

    def _forget_heir(self) -> None:
        self._heir = None
        self._reader.close()

    def on_body(self, data: bytes) -> None:
        if self._receiving is not None:
            self._receiving.on_request_data(data, self._now_s)

    def on_end(self, trailers: list[Field]) -> None:
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            exchange.on_request_end(trailers, self._now_s)

    def on_flood(self) -> None:
        self._transport.abort()

    def _refuse_message(self, status: int, detail: str) -> None:
        """The bytes have no single meaning: say so and close, after what was asked before is answered."""
        self._server.bad_requests += 1
        refusal = Refusal(status=status, code="bad_request", detail=detail[0].upper() + detail[1:] + ".", hopeless=True)
        exchange, self._receiving = self._receiving, None
        if exchange is None or exchange is not self._current:
            if exchange is not None:
                self._unqueue(exchange)
            self._say_at_the_end(refusal)
        elif exchange.phase < ANSWERING:
            exchange.refuse(refusal, self._now_s)
        else:
            exchange.break_off(refusal.code, self._now_s)  # nothing can be said any more

    # What an exchange asks for

    def watch(self, deadline_s: float) -> None:
        self._server.sweep.watch(self, deadline_s)

    @property
    def tunnel_side(self) -> "ServerConnection":
        return self

    def send_switch(self, head: ResponseHead, tunnel: Tunnel, *, extra: bytes) -> None:
        exchange, transport = self._current, self._transport
        assert exchange is not None
        transport.write(
            b"HTTP/1.1 101 %b\r\n%bConnection: Upgrade\r\nUpgrade: websocket\r\n%b\r\n"
            % (head.reason, head.lines, extra)
        )
        self._step(SWITCH)
        transport.set_protocol(ClientEnd(self, tunnel, transport))
        peer.watch_line(transport)
        if early := self._reader.take_early():
            self._count_begun(0)
            tunnel.on_client_data(early, now())
        if self._server.is_draining:
            exchange.leave_tunnel(now())

    def send_frames(self, data: bytes) -> None:
        self._transport.write(data)

    def end_tunnel(self, *, lingers: bool) -> None:
        if self.state != TUNNEL:
            return
        self._transport.set_protocol(self)
        if lingers:
            self._start_linger()
        else:
            self._shut()
