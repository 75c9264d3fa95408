"""One connection to an autoscaler, from the sender's side: bytes in, messages out, in slices. Used by
`zerogate.reporting.stream`, which knows what they mean.

Invariant: nothing is read while messages wait to be dealt with, so what is kept is what one read brought.
"""

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from zerogate.clock import now
from zerogate.reporting.wire import MOST_BYTES_OF_ONE, Frames, WireError
from zerogate.runtime.interface import Address

if TYPE_CHECKING:
    from zerogate.reporting.proof import Session

log = logging.getLogger(__name__)

SLICE: Final = 128
"""Messages in one callback, a few microseconds each: a loop that carries traffic stays smooth, whatever comes."""


class Owner(Protocol):
    """Who speaks over it."""

    address: Address

    def on_message(self, connection: "Connection", body: bytes) -> None:
        """The autoscaler spoke. Raises WireError."""

    def on_writable(self, can_write: bool) -> None:
        """The autoscaler has stopped or begun to read."""

    def on_lost(self) -> None:
        """Nothing can be said any more."""


class Connection(asyncio.Protocol):
    """See the module's text."""

    def __init__(self, owner: Owner) -> None:
        loop = asyncio.get_running_loop()
        self.welcomed: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.made: asyncio.Future[None] = loop.create_future()
        """Connected, and with TLS proved."""
        self.nonce = b""
        """Ours, of the challenge."""
        self.proven: asyncio.Future[None] = loop.create_future()
        self.failure: Exception | None = None
        self.session: Session | None = None
        """Codes of messages, from the proof on."""
        self.heard_s = now()
        self._owner = owner
        self._frames = Frames(MOST_BYTES_OF_ONE)
        self._bodies: deque[bytes] = deque()
        """Messages that are not dealt with yet; nothing is read meanwhile."""
        self._transport: Any = None

    def take_tls(self, _: Any) -> asyncio.Protocol:
        """The handshake is done, and the other side's name is right."""
        return self

    def fail(self, _: Any, failure: Exception | None) -> None:
        """There is no connection."""
        self.failure = failure
        self.connection_lost(failure)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if not self.made.done():
            self.made.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.on_lost()
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.heard_s = now()
        try:
            self._bodies.extend(self._frames.feed(data))
        except WireError as error:
            self._wrong(error)
        self._deal()
        if self._bodies:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._go_on)

    def _deal(self) -> None:
        """With a slice of what was said."""
        try:
            for _ in range(min(SLICE, len(self._bodies))):
                body = self._bodies.popleft()
                self._owner.on_message(self, body if self.session is None else self.session.open(body))
        except WireError as error:
            self._wrong(error)

    def _go_on(self) -> None:
        self._deal()
        if self._transport.is_closing():
            return
        if self._bodies:
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._transport.resume_reading()

    def _wrong(self, error: WireError) -> None:
        log.warning("the autoscaler at %s: %s", self._owner.address, error)
        self._bodies.clear()
        self.abort()

    def pause_writing(self) -> None:
        self._owner.on_writable(False)

    def resume_writing(self) -> None:
        self._owner.on_writable(True)

    def say(self, framed: bytes, greeting: bytes = b"") -> None:
        self.write(greeting + (framed if self.session is None else self.session.seal(framed)))

    def write(self, data: bytes) -> None:
        # uvloop raises where it is closed already, as it is when one is turned away at once
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
