"""A forked process's end of its socket pair with the parent."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

from gateway.messages import Frames, FromParent, ToParent, frame, read_from_parent

_MOST_WAITING_BYTES: Final = 1024 * 1024
"""Of what the parent has not read: it was stopped, and further reports tell it the same."""


class Channel(asyncio.Protocol):
    """`on_message` is called for each message of the parent, `on_orphaned` when the parent is gone."""

    def __init__(self, on_message: Callable[[FromParent], None], on_orphaned: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_orphaned = on_orphaned
        self._frames = Frames()
        self._transport: Any = None
        self._closed = asyncio.Event()

    async def open(self, sock: socket.socket) -> None:
        """Begin to hear."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            self._on_message(read_from_parent(message))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._on_orphaned()

    @property
    def is_behind(self) -> bool:
        """Whether the parent does not read; what need not be said should wait."""
        return bool(self._transport.get_write_buffer_size() > _MOST_WAITING_BYTES)

    def say(self, message: ToParent) -> None:
        """Tell the parent."""
        if not self._closed.is_set():
            self._transport.write(frame(message))

    async def close(self, *, within_s: float) -> None:
        """Close when everything was said."""
        self._on_orphaned = _nobody_left
        if not self._closed.is_set():
            self._transport.close()
            try:
                async with asyncio.timeout(within_s):
                    await self._closed.wait()
            except TimeoutError:
                self._transport.abort()


def _nobody_left() -> None:
    """The channel was closed here."""
