"""The replica's side of HTTP/1.1: one connection that carries one exchange at a time.

The shell around `turn`, in which all that a connection may do and what its bytes mean is decided: here are the event
loop, the clock, and the change of the protocol for a WebSocket. Owned by the pool of its replica.
"""

import asyncio
from typing import Any, Final

from zerogate.clock import now
from zerogate.http.exchange import Exchange
from zerogate.http.h1.tunnel_ends import ReplicaEnd
from zerogate.http.h1.turn import Turns
from zerogate.http.h1.turn_states import CLOSED
from zerogate.http.line import bear_with_a_slow_reader, expect_acknowledgement, notice_death
from zerogate.http.tunnel import Tunnel

FINISH_S: Final = 5.0
"""For a replica to take what was written before its connection is closed; one that hangs never would."""
TAKEN_AT_ONCE_BYTES: Final = 16 * 1024
"""Of a body: with a head of the usual size it fits into what kernels receive before their program reads (64 KiB)."""


class ClientConnection(Turns, asyncio.Protocol):
    """See the module's text. `_exchange` and the rest of the state are the turns'."""

    __slots__ = ("_sent_bytes",)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing
        self._sent_bytes = 0
        """Of the body of the request that runs or was the last, up to the piece that made it large."""
        notice_death(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.on_lost(exc, now())

    def data_received(self, data: bytes) -> None:
        self.take(data, now())

    def eof_received(self) -> None:
        self.on_end_of_file()

    def pause_writing(self) -> None:
        self.on_writable(False)

    def resume_writing(self) -> None:
        self.on_writable(True)

    def send_head(self, exchange: Exchange, body: bytes | None = None) -> None:
        if self._sent_bytes:
            self._begin_anew()
        if body is not None:
            self._count_sent(len(body))
        super().send_head(exchange, body)

    def send_data(self, data: bytes) -> None:
        if self._sent_bytes <= TAKEN_AT_ONCE_BYTES:
            self._count_sent(len(data))
        super().send_data(data)

    def _begin_anew(self) -> None:
        """The body before was answered, so it was read."""
        if self._sent_bytes > TAKEN_AT_ONCE_BYTES:
            expect_acknowledgement(self._transport)
        self._sent_bytes = 0

    def _count_sent(self, size: int) -> None:
        self._sent_bytes += size
        if self._sent_bytes > TAKEN_AT_ONCE_BYTES:
            bear_with_a_slow_reader(self._transport)

    def on_tunnel(self, tunnel: Tunnel) -> None:
        bear_with_a_slow_reader(self._transport)
        self._transport.set_protocol(ReplicaEnd(self, tunnel, self._pool))

    def finish(self) -> None:
        was_open = self.state != CLOSED
        super().finish()
        if was_open and self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(FINISH_S, self._transport.abort)
