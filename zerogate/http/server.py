"""What all connections of a listener share, whatever version of HTTP they speak.

`place` decides what a request is for; the composition gives it. A connection enters itself when it is made and takes
itself out when it is lost.
"""

import asyncio
from typing import Protocol

from zerogate.http.exchange import Placer
from zerogate.http.sides import BodyMemory
from zerogate.http.sweep import Sweep


class Connection(Protocol):
    """A client's connection, as those see it who end it."""

    def close_if_idle(self) -> None:
        """Close unless a request is being read or answered."""

    def abort(self) -> None:
        """Cut whatever is on its way."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""


class Server:
    """See the module's text. The counters only grow."""

    def __init__(self, place: Placer, sweep: Sweep, *, memory: BodyMemory | None = None) -> None:
        self.place = place
        self.sweep = sweep
        self.memory = memory or BodyMemory()
        self.connections: set[Connection] = set()
        self.is_draining = False
        self._emptied: asyncio.Event | None = None
        self.bad_requests = 0
        """Messages that were refused before they were a request."""
        self.accepted = 0
        """Connections taken so far."""

    def drain(self) -> None:
        """Answer what runs, take no further request on any connection."""
        self.is_draining = True
        for connection in tuple(self.connections):
            connection.close_if_idle()

    def emptied(self) -> asyncio.Event:
        """Set once no connection is left."""
        if self._emptied is None:
            self._emptied = asyncio.Event()
            self.on_closed()
        return self._emptied

    def on_closed(self) -> None:
        """A connection is closed."""
        if self._emptied is not None and not self.connections:
            self._emptied.set()
