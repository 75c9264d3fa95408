"""What all connections of a listener share, whatever version of HTTP they speak.

`place` decides what a request is for; the composition gives it. A connection enters when it is made, leaves when it is
lost, and is counted in between.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from zerogate.clock import now
from zerogate.errors import Refusal
from zerogate.http.exchange import Placer
from zerogate.http.gone import GoneWatch
from zerogate.http.heads import RequestHead
from zerogate.http.memory import BufferMemory
from zerogate.http.sweep import NEVER, Sweep

log = logging.getLogger(__name__)

HEAD_TIMEOUT_S: Final = 30.0
"""For a whole head; in HTTP/2 for the preface, and for a head that comes in pieces. nginx allows 60 s, Go's none."""
KEEP_ALIVE_S: Final = 75.0
"""Without a request. nginx's default; longer than the 60 s of the usual cloud balancer, which must close first."""
DRAIN_HEAD_S: Final = 2.0
"""For heads that are on their way when the process leaves: three round trips of a slow line. Nobody waits for more."""
MOST_HEARD: Final = 32
"""Connections over the limit that may still say that they are something else: a control connection says so in its first
packet, so that one which is pushed out by 32 later ones has been silent for longer than that takes."""


class Connection(Protocol):
    """A client's connection, as those see it who end it."""

    def close_if_idle(self) -> None:
        """Close unless a request is being read or answered; one that is read has until `Server.heads_until_s`."""

    def let_go(self) -> None:
        """Have the client make its next requests on another connection, without ending anything."""

    def abort(self) -> None:
        """Cut whatever is on its way."""

    def squeeze(self, is_short: bool) -> None:
        """Let less, or as much as usual, of an answer wait for its client before its replica is read no further."""

    def turn_away(self, refusal: Refusal) -> None:
        """Say that it is one too many, where nothing was said yet, and close."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Most connections at once; 0 is none but the process's file descriptors."""

    total: int = 0
    per_client: int = 0
    """From one address. None by default: all clients of a balancer have its address."""
    not_sent: bool = False
    """Whether whoever is in front is told that it may send its request elsewhere."""


NO_LIMITS: Final = ConnectionLimits()


def say_short(memory: BufferMemory, is_short: bool) -> None:
    """Tell the operator that the memory is short now, or no longer."""
    if is_short:
        log.warning(
            "answers that clients do not take (%d bytes) and bodies that replicas do not take (%d bytes) have "
            "filled the memory for buffers: new requests get 503",
            memory.answer_bytes,
            memory.upload_bytes,
        )
    else:
        log.info("there is memory for buffers again")


class Server:
    """See the module's text. The counters only grow."""

    def __init__(
        self, place: Placer, sweep: Sweep, *, memory: BufferMemory | None = None, limits: ConnectionLimits = NO_LIMITS
    ) -> None:
        self.place = place
        self.sweep = sweep
        self.memory = memory or BufferMemory()
        self.memory.on_short = self._on_short
        self.gone = GoneWatch()
        self.limits = limits
        self.connections: set[Connection] = set()
        self._by_client: dict[bytes, int] = {}
        self.is_draining = False
        self.answers_are_last = False
        """Each answer closes its connection of HTTP/1; one of HTTP/2 is told once the process drains."""
        self.heads_until_s = NEVER
        """When a connection whose request has not come is closed, because the process leaves."""
        self._emptied: asyncio.Event | None = None
        self.upgrades: dict[bytes, Callable[[RequestHead], asyncio.Protocol | None]] = {}
        """By the token of `Upgrade`: the protocol that takes the connection over, or None: an ordinary request."""
        self.bad_requests = 0
        """Messages that were refused before they were a request."""
        self.accepted = 0
        """Connections taken so far."""
        self.turned_away = 0
        """Of them, closed because there were too many."""
        self.heard: dict[Connection, Refusal] = {}
        """Over the limit, but heard as far as their first head, with what they are told then; oldest first. Where no
        protocol takes connections over (`upgrades`) there is none."""

    def enter(self, connection: Connection, client: bytes) -> Refusal | None:
        """A connection from this address is made; returns what it is told where it is one too many."""
        self.accepted += 1
        self.connections.add(connection)
        count = self._by_client[client] = self._by_client.get(client, 0) + 1
        limits = self.limits
        if limits.per_client and count > limits.per_client:
            self.turned_away += 1
            return self._too_many(f"{limits.per_client} connections from this address are open, the most it may have")
        if not self._is_over():
            return None
        refusal = self._too_many(f"{limits.total} connections are open, the most that are taken at once")
        if self.upgrades:
            self._hear(connection, refusal)
            return None
        self.turned_away += 1
        return refusal

    def _is_over(self) -> bool:
        """Whether there are more connections than may be, those not counted that are only heard."""
        return 0 < self.limits.total < len(self.connections) - len(self.heard)

    def _hear(self, connection: Connection, refusal: Refusal) -> None:
        if len(self.heard) >= MOST_HEARD:
            oldest = next(iter(self.heard))
            self.turned_away += 1
            oldest.turn_away(self.heard.pop(oldest))
        self.heard[connection] = refusal

    def judge(self, connection: Connection) -> Refusal | None:
        """One that was heard has asked for no other protocol: it is told this, or has a place that is free by now."""
        refusal = self.heard.pop(connection, None)
        if refusal is None or not self._is_over():
            return None
        self.heard[connection] = refusal  # until it is closed, so that there are not more of them
        return refusal

    def _on_short(self, is_short: bool) -> None:
        say_short(self.memory, is_short)
        self.squeeze(is_short)

    def squeeze(self, is_short: bool) -> None:
        """Let less, or as much as usual, of all answers wait. Called by whoever has several servers on one memory."""
        for connection in tuple(self.connections):
            connection.squeeze(is_short)

    def _too_many(self, what: str) -> Refusal:
        detail = f"{what}. Use kept-alive connections, or try again later."
        not_sent = self.limits.not_sent
        return Refusal(
            status=503, code="too_many_connections", detail=detail, retry_after_s=1.0, not_sent=not_sent
        )  # fmt: skip

    def no_room(self) -> Refusal:
        """What a client is told whose head has come in part and cannot be kept."""
        detail = (
            "The head of the request did not come in one piece, and the memory for such heads is used up "
            "(`body-memory`). Try again in a moment."
        )
        not_sent = self.limits.not_sent
        return Refusal(status=503, code="memory_full", detail=detail, retry_after_s=1.0, not_sent=not_sent)

    def hand_over(self, connection: Connection, client: bytes) -> None:
        """Another protocol has the connection now: it is none of these any more, over the limit or not."""
        self.heard.pop(connection, None)
        self.leave(connection, client)

    def leave(self, connection: Connection, client: bytes) -> None:
        """A connection from this address is lost."""
        self.connections.discard(connection)
        if self.heard and self.heard.pop(connection, None) is not None:
            self.turned_away += 1
        left = self._by_client.pop(client, 1) - 1
        if left:
            self._by_client[client] = left
        self._tell_emptied()

    def replace(self, old: Connection, new: Connection) -> None:
        """Another version of HTTP goes on with a connection: it is counted once."""
        self.connections.discard(old)
        self.connections.add(new)
        if self.heard and (refusal := self.heard.pop(old, None)) is not None:
            self.heard[new] = refusal

    def leave_soon(self) -> None:
        """Take requests as before, but let each answer be the last one of its connection."""
        self.answers_are_last = True

    def let_go(self) -> None:
        """The clients of now have a better way: the same, and connections of HTTP/2 are told too."""
        self.leave_soon()
        for connection in tuple(self.connections):
            connection.let_go()

    def keep(self) -> None:
        """Connections of HTTP/1 last again."""
        self.answers_are_last = self.is_draining

    def drain(self) -> None:
        """Answer what runs, take no further request on any connection."""
        self.is_draining = self.answers_are_last = True
        self.heads_until_s = now() + DRAIN_HEAD_S
        for connection in tuple(self.connections):
            connection.close_if_idle()

    def emptied(self) -> asyncio.Event:
        """Set once no connection is left."""
        if self._emptied is None:
            self._emptied = asyncio.Event()
            self._tell_emptied()
        return self._emptied

    def _tell_emptied(self) -> None:
        if self._emptied is not None and not self.connections:
            self._emptied.set()
