"""The client's side of HTTP/1.1: bytes of a connection become exchanges, exchanges become bytes.

One `ServerConnection` per client connection. It owns framing, keep-alive, pipelining (answered in order: one exchange
runs, what was read beyond it waits parsed, and no more is read), and the end of the connection. What a request is for
is decided by `place`, which the composition gives. No request is begun while the client does not take the answers
before it: they would pile up, whatever each of them does about its own.
"""

import asyncio
from collections import deque
from typing import Any, Final

from zerogate.clock import now
from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.http.answers import render
from zerogate.http.exchange import Exchange
from zerogate.http.h1 import peer
from zerogate.http.h1.answer import UNTIL_CLOSE, own_answer
from zerogate.http.h1.answering import Answering
from zerogate.http.h1.connection_states import (
    BEGIN,
    CLOSE,
    CLOSING,
    LINGER,
    LOSE,
    NEW,
    OPEN,
    SWITCH,
    TUNNEL,
    next_state,
)
from zerogate.http.h1.linger import STALLED_S, Linger
from zerogate.http.h1.memo import HEAD_END, KEPT_BYTES, HeadMemo, is_one_head
from zerogate.http.h1.reader import NO_FIELDS, RequestReader
from zerogate.http.h1.tunnel_ends import ClientEnd
from zerogate.http.h2.frames import PREFACE_LINE
from zerogate.http.heads import BadMessageError, Field, RequestHead, ResponseHead
from zerogate.http.phases import ANSWERING
from zerogate.http.server import DRAIN_HEAD_S, Server
from zerogate.http.sides import PLAIN, Arrival
from zerogate.http.sweep import NEVER
from zerogate.http.tunnel import Tunnel

HEAD_TIMEOUT_S: Final = 30.0
"""For a whole head; nginx allows 60 s, Go's servers none."""
HEAD_GRACE_S: Final = 10.0
HEAD_BYTES_PER_S: Final = 500
"""After its grace a head has to have come at this rate (Apache's MinRate): a connection is not held open for a byte now
and then."""
KEEP_ALIVE_S: Final = 75.0
"""nginx's default; longer than the 60 s of the usual cloud balancer, which must close first."""
PAUSED_S: Final = 0.05
"""A connection that is not read for longer is watched for its client's end; most pauses are over before."""
WHOLE_BYTES: Final = 32 * 1024
"""A body of at most this size that came with its head is taken at once; far below what pauses a client."""
MAX_PIPELINED: Final = 128
"""Requests parsed ahead on one connection; real clients do not pipeline."""

_HEADS: Final[HeadMemo[RequestHead]] = HeadMemo()
"""Requests without a body or with a counted one. One for all connections: it is a memo of a pure function."""
_KNOWN: Final = _HEADS.known

_PAUSED_BODY: Final = 1
_PAUSED_PIPELINE: Final = 2
_PAUSED_OUTPUT: Final = 4


class ServerConnection(Answering, asyncio.Protocol):
    """See the module's text."""

    __slots__ = (
        "_body_left", "_early", "_gone_watch", "_heir", "_idle_since_s", "_is_blocked", "_kept_bytes", "_last_word",
        "_linger", "_made_s", "_now_s", "_paused", "_pipelined", "_reader", "_receiving", "_unsent_bytes", "arrival",
        "memory", "peer", "state", "tick", "visit_s",
    )  # fmt: skip

    def __init__(self, server: Server, *, arrival: Arrival = PLAIN, peer: bytes = b"") -> None:
        """`peer`: the client's address where it is not the transport's."""
        super().__init__(server)
        self.state = NEW
        self.memory = server.memory
        self.tick = 0
        self.visit_s = NEVER
        self._reader = RequestReader(self)
        self.arrival = arrival
        self.peer = peer
        """The client's address, as text."""
        self._receiving: Exchange | None = None
        self._pipelined: deque[Exchange] | None = None
        self._body_left = 0
        """Bytes of a body that is counted: its head was known, and the reader has seen nothing of the message."""
        self._early = b""
        """What came before it was clear that this is HTTP/1.1."""
        self._last_word: Refusal | None = None
        self._paused = 0
        self._is_blocked = False
        """The client does not take what it is sent."""
        self._kept_bytes = 0
        """What it counts for in the memory because of that."""
        self._unsent_bytes = 0
        """What the client had not taken at the last look, of a connection that is being closed."""
        self._gone_watch: int | None = None
        """The descriptor by which the client's end is watched for."""
        self._linger: Linger | None = None
        self._heir: asyncio.Protocol | None = None
        """Who has the connection from now on, until the read is over that brought its request."""
        self._now_s = 0.0
        self._idle_since_s = self._made_s = 0.0

    def _step(self, event: int) -> None:
        self.state = next_state(self.state, event)

    # The transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if transport.get_extra_info("ssl_object") is not None:
            self._step(BEGIN)  # over TLS the version is ALPN's to choose (RFC 9113 section 3.2)
        self.peer = self.peer or peer.address(transport)
        self._idle_since_s = self._made_s = now()
        refusal = self._server.enter(self, self.peer)
        if refusal is not None:
            self._say(refusal)
            self._transport.close()
            return
        self._server.sweep.watch(self, self._request_by_s())

    def connection_lost(self, exc: Exception | None) -> None:
        self._step(LOSE)
        self._forget_gone()
        self._count_kept(0)
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
            data = self._first(data) if self.state == NEW else self._drop(data)
            if not data:
                return
        self._now_s = now_s = now()
        if self._body_left:
            data = self._take_body(data)
            if not data or self.state >= CLOSING:
                return
        if self._current is None and self._reader.is_between and not self._is_blocked:
            end = data.find(HEAD_END) + len(HEAD_END)
            if len(HEAD_END) <= end <= KEPT_BYTES:
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

    def _first(self, data: bytes) -> bytes:
        """The first bytes, to be read here; none where they are the preface of HTTP/2, or may still become it."""
        data = self._early + data
        if not data.startswith(PREFACE_LINE):
            if PREFACE_LINE.startswith(data):
                self._early = data
                return b""
            self._early = b""
            self._step(BEGIN)
            return data
        self._step(LOSE)
        self._server.sweep.forget(self)
        self._reader.close()
        # 1.5 MiB that hardly any sidecar needs; a gateway has loaded it for its TLS port
        from zerogate.http.h2.server import ServerConnection as Http2Connection

        Http2Connection(self._server, arrival=self.arrival, peer=self.peer).take_over(self, self._transport, data)
        return b""

    def _drop(self, data: bytes) -> bytes:
        """Nothing is read any more; returns what is left of it."""
        if self._linger is not None:
            self._linger.take(len(data))
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
        try:
            self._reader.feed(data)
        except BadMessageError as bad:
            if self.state < CLOSING:
                self._refuse_message(bad.status, str(bad))
            return False
        if self._heir is not None and (early := self._reader.take_early()):
            self._heir.data_received(early)
        if self._reader.in_head and self.visit_s > self._now_s + HEAD_TIMEOUT_S:
            self._server.sweep.watch(self, self._now_s + HEAD_GRACE_S)
        return True

    def eof_received(self) -> None:
        """The client has ended its side, which is how one that has gone looks: only an answer that is complete is still
        sent. The transport by itself would wait until all that was written is taken, which may be never."""
        if self._current is not None:
            self._transport.abort()
        elif self.state < CLOSING:
            self._shut()

    def pause_writing(self) -> None:
        self._is_blocked = True
        self._count_kept(self.buffered_bytes)
        if self._current is not None:
            self._current.on_downstream_writable(False, now())

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._count_kept(0)
        if self._current is not None:
            self._current.on_downstream_writable(True, now())
        elif self.state < CLOSING:
            self._go_further()

    def _count_kept(self, size: int) -> None:
        before, self._kept_bytes = self._kept_bytes, size
        if before:
            self.memory.drop_answer(before)
        if size:
            self.memory.keep_answer(size)

    def squeeze(self, is_short: bool) -> None:
        """Let less, or as much as usual, of an answer wait."""
        self._transport.set_write_buffer_limits(high=0 if is_short else None)

    # What the reader tells

    def on_begin(self) -> None:
        self._idle_since_s = self._now_s

    def on_head(self, head: RequestHead) -> None:
        if self.state >= CLOSING:
            raise BadMessageError("a request after the last one of its connection")
        if head.upgrade is not None and self._is_handed_over(head):
            return
        exchange = Exchange(self, head, self._now_s)
        if self._current is not None or self._is_blocked:
            self._queue(exchange)
            self._receiving = exchange
        else:
            self._current = self._receiving = exchange
            self._server.place(exchange, self._now_s)

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
        self._server.leave(self, self.peer)
        self._server.sweep.forget(self)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        asyncio.get_running_loop().call_soon(self._forget_heir)  # not now: the reader is reading
        return True

    def _forget_heir(self) -> None:
        self._heir = None
        self._reader.close()

    def _queue(self, exchange: Exchange) -> None:
        if self._pipelined is None:
            self._pipelined = deque()
        if len(self._pipelined) >= MAX_PIPELINED:
            raise BadMessageError(f"more than {MAX_PIPELINED} requests were pipelined", 429)
        self._pipelined.append(exchange)
        self._pause(_PAUSED_PIPELINE)

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
        if exchange is not None and exchange is self._current and exchange.phase < ANSWERING:
            exchange.refuse(refusal, self._now_s)
        elif exchange is not None:
            # in the middle of a body whose answer has begun or is not at its turn: nothing can be said in order
            self.reset()
        elif self._current is not None:
            self._last_word = refusal
            self._pause(_PAUSED_PIPELINE)
        else:
            self._say_last_word(refusal)

    def _say_last_word(self, refusal: Refusal) -> None:
        self._say(refusal)
        self._start_linger()

    def _say(self, refusal: Refusal) -> None:
        """Answer outside of any request, as the last thing on this connection."""
        answer = render(refusal, openai_shape=False)
        self._step(CLOSE)
        self._transport.write(own_answer(answer.status, answer.headers, answer.body, b"GET", close=True))

    # What an exchange asks for

    def watch(self, deadline_s: float) -> None:
        self._server.sweep.watch(self, deadline_s)

    def pause_body(self) -> None:
        self._pause(_PAUSED_BODY)

    def resume_body(self) -> None:
        self._resume(_PAUSED_BODY)

    def reset(self) -> None:
        """Close without the end of the answer; with a reset where only the close itself would mark the end."""
        self.flush()
        self._step(CLOSE)
        if self._ending == UNTIL_CLOSE:
            peer.reset(self._transport)
        else:
            self._shut()

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

    def on_ended(self, exchange: Exchange) -> None:
        """The exchange is over: the next pipelined one, the next request, or the end of the connection."""
        self._current = None
        if exchange.result is Result.ABANDONED or exchange.result is Result.CUT or self.state >= CLOSING:
            self._step(CLOSE)
            if exchange.result is Result.ABANDONED:
                self._transport.close()
            return
        if not exchange.is_request_done and not self._can_skip_body(exchange):
            self._start_linger()
            return
        if self._ending == UNTIL_CLOSE or self._server.answers_are_last or not exchange.head.keep_alive:
            self._shut()
            return
        self._idle_since_s = self._now_s
        if self._is_blocked:
            self._pause(_PAUSED_OUTPUT)
        elif self._pipelined or self._paused or self._last_word is not None:
            self._go_further()

    def _go_further(self) -> None:
        """The next pipelined request, the last word, or more to read."""
        if self._pipelined:
            asyncio.get_running_loop().call_soon(self._next)
        elif self._last_word is not None:
            self._say_last_word(self._last_word)
        elif self._paused:
            self._resume(_PAUSED_BODY | _PAUSED_PIPELINE | _PAUSED_OUTPUT)

    def _next(self) -> None:
        if self._current is None and self._pipelined and self.state < CLOSING and not self._is_blocked:
            self._now_s = now()
            exchange = self._current = self._pipelined.popleft()
            if not self._pipelined:
                self._resume(_PAUSED_PIPELINE | _PAUSED_OUTPUT)
            self._server.place(exchange, self._now_s)

    # Reading, idling, leaving

    def _pause(self, reason: int) -> None:
        if not self._paused and self.state < CLOSING:
            self._transport.pause_reading()
            self._server.sweep.watch(self, now() + PAUSED_S)
        self._paused |= reason

    def _resume(self, reason: int) -> None:
        if self._paused:
            self._paused &= ~reason
            if not self._paused and self.state < CLOSING:
                self._transport.resume_reading()
                self._forget_gone()

    def _watch_gone(self) -> None:
        """Be told of the client's end although nothing is read."""
        self._gone_watch = self._server.gone.watch(self._transport, self._on_gone)

    def _forget_gone(self) -> None:
        if self._gone_watch is not None:
            self._server.gone.forget(self._gone_watch, self._on_gone)
            self._gone_watch = None

    def _on_gone(self) -> None:
        self._transport.abort()

    def abort(self) -> None:
        """Cut whatever is on its way."""
        self._step(CLOSE)
        self._transport.abort()

    def close_if_idle(self) -> None:
        """Close unless a request is being read or answered; one that is read has until `Server.heads_until_s`, the
        first one of a connection too, which nobody makes for nothing, and a WebSocket is told to leave."""
        if self._current is not None:
            self._current.leave_tunnel(now())
        elif not self._pipelined:
            if self._reader.in_head or self._idle_since_s == self._made_s:
                self._server.sweep.watch(self, self._request_by_s())
                return
            self._shut()

    def _shut(self) -> None:
        """Close behind what was written, if the client goes on taking it."""
        self._step(CLOSE)
        self._transport.close()
        self._unsent_bytes = self.buffered_bytes
        if self._unsent_bytes:
            self._server.sweep.watch(self, now() + STALLED_S)

    def _due_shut(self, now_s: float) -> float | None:
        before, self._unsent_bytes = self._unsent_bytes, self.buffered_bytes
        if self._unsent_bytes < before:
            return now_s + STALLED_S
        self._transport.abort()
        return None

    def _start_linger(self) -> None:
        if self._paused:
            self._paused = 0
            self._transport.resume_reading()
            self._forget_gone()
        self._step(LINGER)
        self._linger = Linger(self._transport, now())
        self._server.sweep.watch(self, self._linger.until_s)

    def due(self, now_s: float) -> float | None:
        """The sweep's visit: timers of the exchange, or of the connection itself."""
        exchange = self._current
        if exchange is not None:
            if self._paused and self._gone_watch is None:
                self._watch_gone()
            deadline_s = exchange.due(now_s)
            return deadline_s if deadline_s is not None or self._current is not None else now_s + KEEP_ALIVE_S
        if self._linger is not None:
            return self._linger.due(now_s)
        if self.state >= CLOSING:
            return self._due_shut(now_s) if self._unsent_bytes else None
        deadline_s = self._request_by_s()
        if now_s >= deadline_s:
            self._shut()
            return now_s + STALLED_S if self._unsent_bytes else None
        return deadline_s

    def _request_by_s(self) -> float:
        """When the head of the next request has to be there."""
        deadline_s = self._idle_since_s + (self._head_time_s() if self._reader.in_head else KEEP_ALIVE_S)
        if not self._server.is_draining:
            return deadline_s
        return min(deadline_s, max(self._idle_since_s + DRAIN_HEAD_S, self._server.heads_until_s))

    def _head_time_s(self) -> float:
        """How long the head that is coming may take, by what has come of it."""
        return min(HEAD_TIMEOUT_S, HEAD_GRACE_S + self._reader.head_bytes / HEAD_BYTES_PER_S)

    @property
    def is_reading_head(self) -> bool:
        """Whether a head has begun to come and is not complete."""
        return self._reader.in_head

    @property
    def buffered_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""
        return int(self._transport.get_write_buffer_size())
