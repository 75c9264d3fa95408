"""The last seconds of a connection that was answered before its request had been read.

Closing with unread bytes makes the kernel send a reset, and a reset destroys the answer on its way: so the end of our
side is sent, and what comes is read and dropped, for a bounded time and up to a bounded number of bytes. A client that
is still taking what it was sent has longer.
"""

from typing import Any, Final

LINGER_S: Final = 2.0
"""How long an unread body is read and thrown away after an early answer, so that the client reads the answer."""
LINGER_BYTES: Final = 64 * 1024 * 1024
STALLED_S: Final = 60.0
"""How long a connection that is to be closed may lie with a client that takes nothing of what it was sent; nginx's
send_timeout, and the same as for an answer in HTTP/2's windows."""


class Linger:
    """See the module's text. `until_s` is the instant at which it is over whatever comes."""

    __slots__ = ("_left", "_transport", "_unsent_bytes", "until_s")

    def __init__(self, transport: Any, now_s: float) -> None:
        self._transport = transport
        self._left = LINGER_BYTES
        self.until_s = now_s + LINGER_S
        self._unsent_bytes = transport.get_write_buffer_size()
        if self._unsent_bytes:
            self._unsent_bytes += 1  # the first look is early: nothing has to have been taken by then
        if transport.can_write_eof():
            transport.write_eof()

    def take(self, size: int) -> None:
        """So many bytes came and are dropped."""
        self._left -= size
        if self._left < 0:
            self._transport.abort()

    def due(self, now_s: float) -> float | None:
        """End it when its time is over; the next instant to look."""
        if now_s < self.until_s:
            return self.until_s
        before, self._unsent_bytes = self._unsent_bytes, self._transport.get_write_buffer_size()
        if 0 < self._unsent_bytes < before:
            self.until_s = now_s + STALLED_S
            return self.until_s
        self._transport.abort()
        return None
