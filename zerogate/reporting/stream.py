"""One stream to one autoscaler, from the sender's side: connects, says hello, keeps what it could not say.

Whoever answers has to prove first that it is an autoscaler, where the source has what that takes: authorities (TLS) or
a key. Until then it is told nothing, and nothing that it says is done.

What is kept is names of services, never reports: reports are cumulative, so the present one says all that is missing.
Nothing is written to an autoscaler that does not read. Owned by `zerogate.reporting.sender`, which decides what is
said; how bytes become messages: `zerogate.reporting.connection`.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from zerogate.clock import now
from zerogate.reporting.connection import Connection
from zerogate.reporting.wire import (
    PREAMBLE,
    PROVEN_PREAMBLE,
    SILENCE_S,
    Ack,
    Challenge,
    FromSource,
    Hello,
    Order,
    Proof,
    Quiesce,
    Reopen,
    Token,
    ToSource,
    TurnedAway,
    Welcome,
    WireError,
    frame,
    read_to_source,
)
from zerogate.runtime.interface import Address

if TYPE_CHECKING:
    from zerogate.reporting.proof import Key
    from zerogate.reporting.trust import Trust

log = logging.getLogger(__name__)

CONNECT_S: Final = 3.0
"""For a connection."""
ANSWER_S: Final = 10.0
"""For a proof, and as long again for the welcome: an autoscaler to which thousands come at once takes up to 5 s for
each and says then why not. Who gave up before that would only come again, and make them more."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
"""Between tries, doubled each time and jittered: ten thousand sidecars of an autoscaler that was replaced come back
over some seconds, at about 1 ms each."""
REFUSED_PAUSE_S: Final = 30.0
"""After a refusal, which stands until a person or a new token changes it."""
LONGEST_APPOINTMENT_S: Final = 30.0
"""Whoever says when to come again."""
_LATE_S: Final = 0.1
"""At random, for those that were told the same."""
_MOST_SHOWN: Final = 300
"""Signs of a reason in the log; an autoscaler's own are a sentence."""
_LASTED_S: Final = 10.0
"""A stream that lasted so long did work: the next try is soon."""


class StreamOwner(Protocol):
    """Who decides what is said."""

    def hello(self) -> Hello: ...
    def on_welcome(self, stream: "Stream") -> None: ...
    def on_ack(self, stream: "Stream", number: int, *, is_leading: bool, refused: str = "") -> None: ...
    def on_writable(self, stream: "Stream") -> None: ...
    def on_order(self, stream: "Stream", order: Order) -> None: ...


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Of an autoscaler before it is told anything. With neither, whoever answers is believed."""

    trust: "Trust | None" = None
    name: str = ""
    """What its certificate has to be for."""
    key: "Key | None" = None


def _one_line(reason: str) -> str:
    """It may be anybody who says so."""
    return "".join(sign if sign.isprintable() else " " for sign in reason[:_MOST_SHOWN])


class Stream:
    """See the module's text. `run` it as a task; `missed` are services whose last readings it has not been told."""

    def __init__(
        self, address: Address, owner: StreamOwner, jitter: Callable[[], float], asked: Asked | None = None
    ) -> None:
        self.address = address
        self._asked = asked or Asked()
        self.is_listed = True
        """Whether its name still stands for this address: if not, it is not connected to again."""
        self.is_open = False
        """Welcomed, and not lost since."""
        self.wakes_said_s = float("-inf")
        """When it was told all wakes that nobody has answered."""
        self.can_write = False
        self.missed: dict[str, None] = {}
        self._owner = owner
        self._jitter = jitter
        self._told_token = ""
        self._connection: Connection | None = None
        self._is_refused = False
        self._come_again_s = 0.0
        self._said = ""

    async def run(self) -> None:
        """Stay connected while the address is listed."""
        pause_s = 0.0
        while self.is_listed:
            began_s = now()
            try:
                await self._connect_and_stay()
            except (OSError, TimeoutError) as error:
                self._say(f"no reports to the autoscaler at {self.address}: {error or 'it does not answer'}")
            if self._is_refused:
                pause_s = REFUSED_PAUSE_S
            elif now() - began_s > _LASTED_S:
                pause_s = 0.0
            if self._come_again_s:
                # an appointment, and not one more of many blind tries
                await asyncio.sleep(self._come_again_s + self._jitter() * _LATE_S)
                continue
            await asyncio.sleep(pause_s * (0.5 + self._jitter()))
            pause_s = max(FIRST_PAUSE_S, min(LONGEST_PAUSE_S, pause_s * 2))

    async def _connect_and_stay(self) -> None:
        self._is_refused, self._come_again_s = False, 0.0
        async with asyncio.timeout(CONNECT_S):
            connection = await self._connect()
        self._connection = connection
        try:
            if self._asked.key is not None:
                async with asyncio.timeout(ANSWER_S):
                    await self._ask_for_proof(connection, self._asked.key)
            hello = self._owner.hello()
            self._told_token = hello.token
            connection.say(frame(hello), PREAMBLE if connection.session is None else b"")
            async with asyncio.timeout(ANSWER_S):
                await asyncio.wait((connection.welcomed, connection.lost), return_when=asyncio.FIRST_COMPLETED)
            await connection.lost
        finally:
            connection.abort()
            self._connection = None
            self.on_lost()

    async def _connect(self) -> Connection:
        """Raises OSError, also where the other side is not who it should be."""
        asked = self._asked
        connection = Connection(self)
        if asked.trust is None:
            await self._dial(lambda: connection)
            return connection
        # late: OpenSSL is not for everybody
        from zerogate.http.tls_transport import TlsTransport

        context = asked.trust.context()
        transport = await self._dial(
            lambda: TlsTransport(context, connection.take_tls, connection.fail, server_name=asked.name)
        )
        try:
            await asyncio.wait((connection.made, connection.lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not connection.made.done():
                transport.abort()
        if not connection.made.done():
            raise OSError(f"whoever answers does not prove to be {asked.name}: {connection.failure or 'it went away'}")
        return connection

    async def _dial(self, protocol: Callable[[], asyncio.Protocol]) -> Any:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(protocol, self.address.host, self.address.port)
        return transport

    async def _ask_for_proof(self, connection: Connection, key: "Key") -> None:
        """Raises OSError where it is not proved."""
        from zerogate.reporting.proof import NONCE_BYTES

        connection.nonce = os.urandom(NONCE_BYTES)
        connection.write(PROVEN_PREAMBLE + frame(Challenge(key.name, connection.nonce)))
        await asyncio.wait((connection.proven, connection.lost), return_when=asyncio.FIRST_COMPLETED)
        if not connection.proven.done():
            raise OSError("it went away before it proved to be an autoscaler")
        if connection.session is None:
            raise OSError(connection.failure)

    def say(self, data: bytes) -> bool:
        """One frame. False where it cannot be written now, or is not connected."""
        if not self.can_write or self._connection is None:
            return False
        self._connection.say(data)
        return True

    def beat(self, message: FromSource, token: str, now_s: float) -> None:
        """Say that the source lives, and a token that was renewed; end a stream that is silent for too long."""
        connection = self._connection
        if connection is None or not self.is_open:
            return
        if now_s - connection.heard_s > SILENCE_S:
            log.warning("the autoscaler at %s said nothing for %g s", self.address, SILENCE_S)
            connection.abort()
            return
        if token != self._told_token and self.say(frame(Token(token))):
            self._told_token = token
        self.say(frame(message))

    async def end(self, message: FromSource, within_s: float) -> None:
        """Say a last word, and wait until it is on its way."""
        self.is_listed = False
        connection = self._connection
        if connection is None or not self.is_open:
            return
        self.say(frame(message))
        connection.close()
        await asyncio.wait((connection.lost,), timeout=within_s)

    def on_message(self, connection: Connection, body: bytes) -> None:
        """The autoscaler spoke."""
        message = read_to_source(body)
        if self._asked.key is not None and connection.session is None:
            self._on_unproven(connection, message)
        elif isinstance(message, Ack):
            self._owner.on_ack(self, message.number, is_leading=message.leading, refused=message.refused)
        elif isinstance(message, TurnedAway):
            self._is_refused = not message.is_passing
            self._make_appointment(message)
        elif isinstance(message, Quiesce | Reopen):
            self._owner.on_order(self, message)
        elif isinstance(message, Welcome) and not self.is_open:
            self.is_open = self.can_write = True
            self._say(f"reports go to the autoscaler at {self.address}")
            if not connection.welcomed.done():
                connection.welcomed.set_result(None)
            self._owner.on_welcome(self)
            self._owner.on_ack(self, 0, is_leading=message.leading)

    def _on_unproven(self, connection: Connection, message: ToSource) -> None:
        if isinstance(message, Proof) and not connection.proven.done():
            self._on_proof(connection, message)
        elif isinstance(message, TurnedAway):
            # whoever says so, it is worth a try soon: perhaps another answers there by then
            self._make_appointment(message)
            connection.abort()
        else:
            raise WireError("it speaks before it has proved to be an autoscaler")

    def _on_proof(self, connection: Connection, message: Proof) -> None:
        """At once: what follows in the same packet has a code already."""
        from zerogate.reporting.proof import Session

        key = self._asked.key
        assert key is not None
        try:
            session = Session(key, connection.nonce, message.nonce, is_source=True)
            if not session.is_proven_by(message.proof):
                raise WireError("it does not know this sidecar's key")
            connection.session = session
        except WireError as error:
            connection.failure = OSError(f"it is no autoscaler, and is told nothing: {error}")
        connection.proven.set_result(None)

    def _make_appointment(self, message: TurnedAway) -> None:
        if message.is_passing and message.come_again_s > 0.0:
            self._come_again_s = min(max(message.come_again_s, FIRST_PAUSE_S), LONGEST_APPOINTMENT_S)
        self._say(f"the autoscaler at {self.address} takes no reports from here: {_one_line(message.reason)}")

    def on_writable(self, can_write: bool) -> None:
        """The autoscaler has stopped or begun to read."""
        self.can_write = can_write and self.is_open
        if self.can_write:
            self._owner.on_writable(self)

    def on_lost(self) -> None:
        """Nothing can be said any more."""
        self.is_open = self.can_write = False

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            log.info("%s", what)
