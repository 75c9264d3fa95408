"""When a client's connection of HTTP/1.1 is not read, and what becomes of it meanwhile.

It is not read while there is nowhere to go with its body, while requests read ahead wait for their turn, and while the
client does not take its answers: each is a reason of its own, and reading goes on when the last one has passed. A
transport that is not read shows no end of file, so after `PAUSED_S` the kernel is asked to tell of it (`gone`). What
the client has not taken counts in the process's memory while it takes no more, and so does what was read and is not a
whole request, or has no turn yet.

`server` subclasses this by way of `leaving`: a layer of its own would cost a call per piece.
"""

from abc import ABC, abstractmethod
from typing import Final

from zerogate.clock import now
from zerogate.http.h1.answering import Answering
from zerogate.http.h1.connection_states import CLOSING, NEW, next_state
from zerogate.http.server import Server
from zerogate.http.sweep import NEVER

PAUSED_S: Final = 0.02
"""A connection that is not read for longer is watched for its client's end; most pauses are over before. With a turn of
the sweep behind it a client that goes is noticed within 70 ms, of 100 in which its place is to be free."""

PAUSED_BODY: Final = 1
"""There is nowhere to go with the body."""
PAUSED_PIPELINE: Final = 2
"""Requests read ahead wait for their turn."""
PAUSED_OUTPUT: Final = 4
"""The client does not take its answers."""


class Pausing(Answering, ABC):
    """See the module's text."""

    __slots__ = (
        "_begun_bytes",
        "_gone_watch",
        "_is_blocked",
        "_kept_bytes",
        "_paused",
        "memory",
        "state",
        "tick",
        "visit_s",
    )

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.state = NEW
        self.memory = server.memory
        self.tick = 0
        self.visit_s = NEVER
        self._paused = 0
        self._is_blocked = False
        """The client does not take what it is sent."""
        self._kept_bytes = 0
        """What it counts for in the memory because of that."""
        self._begun_bytes = 0
        """What it counts for because of what has come ahead of its turn: half a head, requests that wait for theirs."""
        self._gone_watch: int | None = None
        """The descriptor by which the client's end is watched for."""

    def _step(self, event: int) -> None:
        self.state = next_state(self.state, event)

    @abstractmethod
    def due(self, now_s: float) -> float | None:
        """The sweep's visit; when it wants the next one."""

    # Reading

    def pause_body(self) -> None:
        self._pause(PAUSED_BODY)

    def resume_body(self) -> None:
        self._resume(PAUSED_BODY)

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

    # What the client takes

    def pause_writing(self) -> None:
        self._is_blocked = True
        self._count_kept(self.buffered_bytes)
        if self._current is not None:
            self._current.on_downstream_writable(False, now())

    def _count_kept(self, size: int) -> None:
        self._kept_bytes = self.memory.recount_answer(self._kept_bytes, size)

    def _count_begun(self, size: int) -> None:
        self._begun_bytes = self.memory.recount_head(self._begun_bytes, size)

    def squeeze(self, is_short: bool) -> None:
        """Let less, or as much as usual, of an answer wait."""
        self._transport.set_write_buffer_limits(high=0 if is_short else None)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""
        return int(self._transport.get_write_buffer_size())
