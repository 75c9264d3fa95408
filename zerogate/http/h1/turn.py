"""Turns on a connection to a replica: one request and its answer after the other. Pure.

An exchange that is given the connection asks (`asking`); bytes, their end and the loss of the connection come in as
method calls, and what they mean goes out as calls on the exchange, on the transport and on the pool. It never waits.
Any doubt about where an answer ends closes the connection instead of giving it back.

The states of a turn and what may follow what stand in `turn_states`. Bytes that come when nothing was asked, or in the
read that brought the end of the answer before, are nobody's: they close the connection too.

Invariants: an illegal transition raises and changes nothing; an exchange that has asked hears of exactly one end, or
has let go by itself (`abort`, `finish`); a connection is given back only between two reads' meanings, whole.
Subclassed by `client`, the protocol around it: one call per read is all that the layer may cost.
"""

from typing import TYPE_CHECKING, Final

from zerogate.http.exchange import Exchange
from zerogate.http.h1.answer_reader import HEADS, AnswerReader
from zerogate.http.h1.asking import Asking, Keeper
from zerogate.http.h1.chunks import whole_chunks
from zerogate.http.h1.memo import END_BYTES, HEAD_END, KEPT_BYTES
from zerogate.http.h1.turn_states import (
    ASKED,
    BEGIN_BODY,
    BEGIN_ENDLESS,
    BODY,
    CLOSE,
    CLOSED,
    COUNTED,
    EARLY,
    END,
    END_OF_FILE,
    ENDED,
    HEAD,
    HEADED,
    IDLE,
    KNOW,
    OPEN,
    READ_OVER,
    SKIP_BODY,
    SPENT,
    SWITCH,
    TUNNEL,
    UNTIL_CLOSE,
)
from zerogate.http.h1.turned_away import TurnedAway
from zerogate.http.handshake import check_acceptance
from zerogate.http.heads import MAX_HEAD_BYTES, BadMessageError, Field, ResponseHead, has_no_body
from zerogate.http.tunnel import Tunnel

_KNOWN: Final = HEADS.known
_IN_ANSWER: Final = frozenset({HEAD, BODY, UNTIL_CLOSE})


class Turns(Asking):
    """See the module's text."""

    __slots__ = ("_body_left", "_is_last", "_is_relaying", "_now_s", "_reader", "_switch")

    def __init__(self, pool: Keeper) -> None:
        super().__init__(pool)
        self._reader = AnswerReader(self)
        self._body_left = 0
        """Of a body that is counted."""
        self._is_last = False
        """The answer to this HEAD is the last one of its connection."""
        self._is_relaying = False
        """The next byte is a chunk's first, and the client takes chunks as they are."""
        self._switch: ResponseHead | None = None
        """The 101 that opens a WebSocket."""
        self._now_s = 0.0

    # What the transport tells

    def take(self, data: bytes, now_s: float) -> None:
        """A read."""
        exchange = self._exchange
        if exchange is None:
            self.close()
            return
        self._now_s = self._pool.heard_s = now_s
        state = self.state
        if state == ASKED:
            if TYPE_CHECKING:
                assert isinstance(exchange, Exchange)
            end = data.find(HEAD_END) + END_BYTES
            if END_BYTES <= end <= KEPT_BYTES and exchange.head.method != b"HEAD":
                raw = data[:end]
                head = _KNOWN.get(raw)
                if head is not None:
                    length = head.content_length or 0
                    size = len(data) - end
                    if size == length and self._has_asked and not self.is_full:
                        self.state = IDLE
                        self._exchange = None
                        self._pool.give_back(self, now_s)
                        exchange.on_response(head, data[end:], now_s)
                        return
                    if size <= length:
                        self._begin_counted(exchange, head, data[end:])
                        return
                elif HEADS.comes_again(raw):
                    self.state = HEAD
                    self._read(exchange, data[end:], raw)
                    return
            self.state = HEAD
        elif state == COUNTED:
            self._take_counted(exchange, data)
            return
        elif self._is_relaying:
            size = whole_chunks(data)
            if size:
                exchange.on_response_chunks(data, size, now_s)
                return
            self._is_relaying = False
        self._read(exchange, data)

    def _begin_counted(self, exchange: Exchange, head: ResponseHead, data: bytes) -> None:
        """The head was known: count its body instead of parsing it."""
        self._step(KNOW)
        self._body_left = head.content_length or 0
        exchange.on_response_head(head, self._now_s)
        self._take_counted(exchange, data)

    def _take_counted(self, exchange: Exchange | TurnedAway, data: bytes) -> None:
        """A piece of a counted body. Bytes beyond it are nobody's: the connection is not used again."""
        left = self._body_left - len(data)
        if left > 0:
            self._body_left = left
            if data:
                exchange.on_response_data(data, self._now_s)
            exchange.downstream.flush()
            return
        if data:
            exchange.on_response_data(data[:left] if left else data, self._now_s)
        self._finish([], keep_alive=not left)

    def _read(self, exchange: Exchange | TurnedAway, data: bytes, head: bytes = b"") -> None:
        """Let the reader read; `head`: one that comes again, in front of `data`."""
        reader = self._reader
        try:
            behind = reader.learn(head, data) if head else reader.feed(data)
        except BadMessageError as bad:
            if self.state == HEADED:
                self._is_last = True
            else:
                self._fail(str(bad))
        else:
            if behind is not None:
                self._open(behind)
        state = self.state
        if state in _IN_ANSWER:
            # only now: one read brings the head together with much of the body
            if reader.head_bytes > MAX_HEAD_BYTES:
                what = "head" if state == HEAD else "trailer section"
                self._fail(f"the {what} of the answer is larger than {MAX_HEAD_BYTES} bytes")
            else:
                exchange.downstream.flush()
                if reader.is_between and state == BODY:
                    # an end of line that belongs to the next chunk would have been told as its head
                    self._is_relaying = data.endswith(b"\r\n") and exchange.downstream.takes_chunks
        elif state == HEADED:
            reader.renew()
            self._finish([], keep_alive=not self._is_last)
        elif state in (SPENT, EARLY):
            self._step(READ_OVER)
        elif state == TUNNEL:
            exchange.downstream.flush()

    def on_end_of_file(self) -> None:
        """The replica sends no more. Over TLS this is its goodbye: a connection lost without one was cut."""
        self._step(END_OF_FILE)

    def on_lost(self, failure: Exception | None, now_s: float) -> None:
        """The connection is gone, by our own doing too."""
        self._reader.close()
        self._waits_for_nothing()
        state = self.state
        if state == CLOSED:
            return
        self._step(CLOSE)
        exchange, self._exchange = self._exchange, None
        self._pool.on_lost(self)
        if exchange is None:
            return
        if state == ENDED and failure is None:
            exchange.on_response_end([], now_s)
        else:
            exchange.on_upstream_lost(str(failure) if failure is not None else "the connection was closed", now_s)

    def on_writable(self, writable: bool) -> None:
        """Whether the replica takes more."""
        self.is_full = not writable
        self.count_waiting()
        if self._exchange is not None:
            self._exchange.on_upstream_writable(writable)

    # What the reader tells

    def on_begin(self) -> None:
        if self.state != HEAD:
            raise BadMessageError("more bytes than one answer", 502)

    def on_head(self, head: ResponseHead, fields: list[Field]) -> None:
        exchange = self._exchange
        if not isinstance(exchange, Exchange):
            raise BadMessageError("more bytes than one answer", 502)
        if head.status == 101:
            self._check_switch(exchange, head, fields)
        elif head.status < 200:
            exchange.on_informational(head.status, head.reason, head.lines)
        else:
            self._begin_answer(exchange, head)

    def _begin_answer(self, exchange: Exchange, head: ResponseHead) -> None:
        method = exchange.head.method
        if method == b"HEAD":
            # over only after this read: the parser takes what may lie behind for the body that the length announces
            self._step(SKIP_BODY)
            self._is_last = not head.keep_alive
        elif head.chunked or head.content_length is not None or has_no_body(head.status, method):
            self._step(BEGIN_BODY)
        else:
            self._step(BEGIN_ENDLESS)
        self.was_streamed = head.chunked
        if head.not_sent and self._pool.may_turn_away:
            self._exchange = TurnedAway(exchange)
        else:
            exchange.on_response_head(head, self._now_s)

    def on_body(self, data: bytes) -> None:
        if self.state == HEADED:
            raise BadMessageError("a body where there is none", 502)
        self._reader.head_bytes = 0
        if self._exchange is not None:
            self._exchange.on_response_data(data, self._now_s)

    def on_end(self, trailers: list[Field], *, keep_alive: bool) -> None:
        if self.state == BODY:
            self._finish(trailers, keep_alive=keep_alive)

    def _finish(self, trailers: list[Field], *, keep_alive: bool) -> None:
        """The answer is complete: give the connection back or close it, then say so."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if keep_alive and self._has_asked and not self.is_full:
            self._step(END)
            if exchange.is_stalled:
                self._transport.resume_reading()
            self._pool.give_back(self, self._now_s)
        else:
            self.close()
        exchange.on_response_end(trailers, self._now_s)

    def _fail(self, cause: str) -> None:
        """What came has no meaning; where it came too early to be an answer at all, another try may bring one."""
        exchange, self._exchange = self._exchange, None
        is_answer = self.state != EARLY
        self.close()
        if exchange is not None:
            exchange.on_upstream_lost(cause, self._now_s, is_final=is_answer)

    # A WebSocket

    def _check_switch(self, exchange: Exchange, head: ResponseHead, fields: list[Field]) -> None:
        key = exchange.head.websocket_key
        if key is None:
            raise BadMessageError("the replica changed the protocol without being asked to", 502)
        try:
            check_acceptance(fields, key)
        except BadMessageError as bad:
            exchange.on_bad_switch(str(bad), self._now_s)
        else:
            self._step(SWITCH)
            self._switch = head

    def _open(self, behind: bytes) -> None:
        """The parser stands behind a 101: from here on it is a tunnel, if it was asked for and is right."""
        exchange, head = self._exchange, self._switch
        if head is None or not isinstance(exchange, Exchange):
            self._fail("the replica changed the protocol without being asked to")
            return
        self._step(OPEN)
        self._switch = None
        tunnel = exchange.on_switched(head, self._now_s)
        if self.state == TUNNEL:
            self.on_tunnel(tunnel)
            if behind:
                tunnel.on_replica_data(behind, self._now_s)

    def on_tunnel(self, tunnel: Tunnel) -> None:
        """What the replica sends from now on is the tunnel's; for the protocol around it."""
