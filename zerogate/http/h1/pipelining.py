"""Whose turn it is on a client's connection of HTTP/1.1.

Requests are answered in their order: one exchange runs, what was read beyond it waits parsed, and no more is read. No
request is begun while the client does not take the answers before it: they would pile up, whatever each of them does
about its own. Where what follows the last request has no meaning, the refusal of it is the last word, at its turn; so
it is where there is no memory for what was read ahead.

`server` subclasses this: a layer of its own would cost a call per request.
"""

import asyncio
from collections import deque
from typing import Final

from zerogate.clock import now
from zerogate.counters import ABANDONED, CUT
from zerogate.errors import Refusal
from zerogate.http.account import HEAD_OVERHEAD_BYTES
from zerogate.http.exchange import Exchange
from zerogate.http.h1.answer import UNTIL_CLOSE
from zerogate.http.h1.connection_states import CLOSE, CLOSING
from zerogate.http.h1.leaving import Leaving
from zerogate.http.h1.pausing import PAUSED_BODY, PAUSED_OUTPUT, PAUSED_PIPELINE
from zerogate.http.heads import BadMessageError
from zerogate.http.server import Server

MAX_PIPELINED: Final = 128
"""Requests parsed ahead on one connection; real clients do not pipeline."""


class Pipelining(Leaving):
    """See the module's text."""

    __slots__ = ("_ahead_bytes", "_last_word", "_now_s", "_pipelined")

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._pipelined: deque[Exchange] | None = None
        self._ahead_bytes = 0
        """Of the heads among them; what is kept of a body counts by itself."""
        self._last_word: Refusal | None = None
        self._now_s = 0.0
        """The time of the read, or of the turn, that is being dealt with."""

    @property
    def _has_more(self) -> bool:
        return bool(self._pipelined)

    def _queue(self, exchange: Exchange) -> None:
        if self._pipelined is None:
            self._pipelined = deque()
        if len(self._pipelined) >= MAX_PIPELINED:
            raise BadMessageError(f"more than {MAX_PIPELINED} requests were pipelined", 429)
        self._pipelined.append(exchange)
        self._ahead_bytes += _size(exchange)
        self._pause(PAUSED_PIPELINE)

    def _unqueue(self, exchange: Exchange) -> None:
        """The request that was read last has no meaning after all, and no turn."""
        if self._pipelined and self._pipelined[-1] is exchange:
            self._pipelined.pop().withdraw()
            self._ahead_bytes -= _size(exchange)

    def _drop_ahead(self, refusal: Refusal) -> None:
        """There is no room for what was read and has no turn yet: let go of it, and say so at the end."""
        while self._pipelined:
            self._unqueue(self._pipelined[-1])
        self._reader.stop()
        self._count_begun(self._ahead_bytes)
        self._say_at_the_end(refusal)

    def _say_at_the_end(self, refusal: Refusal) -> None:
        """What was read last has no meaning: say so once all that was asked before is answered."""
        if self._current is None and not self._pipelined:
            self._say_last_word(refusal)
            return
        self._last_word = refusal
        self._pause(PAUSED_PIPELINE)

    def on_ended(self, exchange: Exchange) -> None:
        """The exchange is over: the next pipelined one, the next request, or the end of the connection."""
        self._current = None
        if exchange.result is ABANDONED or exchange.result is CUT or self.state >= CLOSING:
            self._step(CLOSE)
            if exchange.result is ABANDONED:
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
            self._pause(PAUSED_OUTPUT)
        elif self._pipelined or self._paused or self._last_word is not None:
            self._go_further()

    def _go_further(self) -> None:
        """The next pipelined request, the last word, or more to read."""
        if self._pipelined:
            asyncio.get_running_loop().call_soon(self._next)
        elif self._last_word is not None:
            self._say_last_word(self._last_word)
        elif self._paused:
            self._resume(PAUSED_BODY | PAUSED_PIPELINE | PAUSED_OUTPUT)

    def _next(self) -> None:
        if self._current is None and self._pipelined and self.state < CLOSING and not self._is_blocked:
            self._now_s = now()
            exchange = self._current = self._pipelined.popleft()
            self._ahead_bytes -= _size(exchange)
            self._count_begun(self._begun_bytes - _size(exchange))
            if not self._pipelined and self._last_word is None:
                self._resume(PAUSED_PIPELINE | PAUSED_OUTPUT)
            self._server.place(exchange, self._now_s)

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._count_kept(0)
        if self._current is not None:
            self._current.on_downstream_writable(True, now())
        elif self.state < CLOSING:
            self._go_further()


def _size(exchange: Exchange) -> int:
    """Of a request that waits for its turn, without its body."""
    head = exchange.head
    return HEAD_OVERHEAD_BYTES + len(head.lines) + len(head.target)
