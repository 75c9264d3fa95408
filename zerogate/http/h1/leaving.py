"""The end of a client's connection of HTTP/1.1, and the times that lead to it.

It is closed behind an answer that says so, when the next request does not come in time or its head takes too long, when
bytes have no single meaning, and when the process leaves. A client goes on taking what was written; one that takes
nothing for `linger.STALLED_S` is cut off. An answer that was given before its request was read lingers. Nothing is
closed in the middle of an answer as if that were its end: `reset` is for that.

`server` subclasses this: a layer of its own would cost a call per piece.
"""

from abc import abstractmethod
from typing import Final

from zerogate.clock import now
from zerogate.errors import Refusal
from zerogate.http.answers import render
from zerogate.http.h1 import peer
from zerogate.http.h1.answer import UNTIL_CLOSE, own_answer
from zerogate.http.h1.connection_states import CLOSE, CLOSING, LINGER, OPEN
from zerogate.http.h1.linger import STALLED_S, Linger
from zerogate.http.h1.pausing import Pausing
from zerogate.http.h1.reader import RequestReader
from zerogate.http.server import DRAIN_HEAD_S, HEAD_TIMEOUT_S, KEEP_ALIVE_S, Server

HEAD_GRACE_S: Final = 10.0
HEAD_BYTES_PER_S: Final = 500
"""After its grace a head has to have come at this rate (Apache's MinRate): a connection is not held open for a byte now
and then."""


class Leaving(Pausing):
    """See the module's text."""

    __slots__ = ("_idle_since_s", "_linger", "_made_s", "_reader", "_unsent_bytes")

    _reader: RequestReader

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._unsent_bytes = 0
        """What the client had not taken at the last look, of a connection that is being closed."""
        self._linger: Linger | None = None
        self._idle_since_s = self._made_s = 0.0

    # The last word

    def _say(self, refusal: Refusal) -> None:
        """Answer outside of any request, as the last thing on this connection."""
        answer = render(refusal, openai_shape=False)
        self._step(CLOSE)
        self._transport.write(own_answer(answer.status, answer.headers, answer.body, b"GET", close=True))

    @property
    @abstractmethod
    def _has_more(self) -> bool:
        """Whether requests are read ahead whose turn has not come."""

    def _say_last_word(self, refusal: Refusal) -> None:
        self._say(refusal)
        self._start_linger()

    def reset(self) -> None:
        """Close without the end of the answer; with a reset where only the close itself would mark the end."""
        self.flush()
        self._step(CLOSE)
        if self._ending == UNTIL_CLOSE:
            peer.reset(self._transport)
        else:
            self._shut()

    def abort(self) -> None:
        """Cut whatever is on its way."""
        self._step(CLOSE)
        self._transport.abort()

    def turn_away(self, refusal: Refusal) -> None:
        """Say that it is one too many, where nothing was said yet, and close."""
        if self.state < OPEN:
            self._say(refusal)
            self._transport.close()
        else:
            self.abort()

    def close_if_idle(self) -> None:
        """Close unless a request is being read or answered; one that is read has until `Server.heads_until_s`, the
        first one of a connection too, which nobody makes for nothing, and a WebSocket is told to leave."""
        if self._current is not None:
            self._current.leave_tunnel(now())
        elif not self._has_more:
            if self._reader.in_head or self._idle_since_s == self._made_s:
                self._server.sweep.watch(self, self._request_by_s())
                return
            self._shut()

    def let_go(self) -> None:
        """The next answer says so; nothing can be said to a client that asks nothing."""

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

    def _drop(self, data: bytes) -> bytes:
        """Nothing is read any more; returns what is left of it."""
        if self._linger is not None:
            self._linger.take(len(data))
        return b""

    # Time

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
