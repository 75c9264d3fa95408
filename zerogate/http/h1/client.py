"""The replica's side of HTTP/1.1: one connection that carries one exchange at a time.

The shell around `turn`, in which all that a connection may do and what its bytes mean is decided: here are the event
loop, the clock, and the change of the protocol for a WebSocket. Owned by the pool of its replica.
"""

import asyncio
from typing import Any, Final

from zerogate.clock import now
from zerogate.http.h1.tunnel_ends import ReplicaEnd
from zerogate.http.h1.turn import Turns
from zerogate.http.h1.turn_states import CLOSED
from zerogate.http.line import bear_with_a_slow_reader, expect_acknowledgement, notice_death
from zerogate.http.tunnel import Tunnel

FINISH_S: Final = 5.0
"""For a replica to take what was written before its connection is closed; one that hangs never would."""


class ClientConnection(Turns, asyncio.Protocol):
    """See the module's text. `_exchange` and the rest of the state are the turns'."""

    __slots__ = ()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing
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

    def on_large_body(self) -> None:
        bear_with_a_slow_reader(self._transport)

    def on_large_body_over(self) -> None:
        expect_acknowledgement(self._transport)

    def on_tunnel(self, tunnel: Tunnel) -> None:
        bear_with_a_slow_reader(self._transport)
        self._transport.set_protocol(ReplicaEnd(self, tunnel, self._pool))

    def finish(self) -> None:
        was_open = self.state != CLOSED
        super().finish()
        if was_open and self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(FINISH_S, self._transport.abort)
