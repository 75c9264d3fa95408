"""The connections to one replica that speaks HTTP/2: few, each carrying many exchanges.

Invariants: at most `MAX_CONNECTIONS` that take streams, opened one after the other and only while exchanges wait or the
others are well filled; no more streams on one than the replica allows; whoever waits for a place gets one in order, and
nobody overtakes. What waits is bounded, and waits at most as long as a connection may take to open.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from zerogate.clock import now
from zerogate.http.dial import Secured, cause_of, open_connection
from zerogate.http.exchange import Exchange
from zerogate.http.grpc import format_timeout
from zerogate.http.h2.client import ClientConnection
from zerogate.http.h2.client_stream import ClientStream
from zerogate.http.h2.hpack import HpackField
from zerogate.http.h2.replica_heads import request_fields
from zerogate.http.sweep import NEVER, Sweep
from zerogate.http.upstream import ReplicaProtocol
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery

MAX_CONNECTIONS: Final = 8
FULL: Final = 100
"""Streams on a connection from which another one is opened: the least that RFC 9113 section 6.5.2 asks servers to take.
One lost packet or one body that its server does not read holds up no more than these."""
MAX_WAITING: Final = 1024
IDLE_S: Final = 15.0
"""Then a connection without streams is closed, as with HTTP/1.1."""
UNSAFE_IDLE_S: Final = 2.0
"""No request that may not be repeated rides on a connection idle for longer; HTTP/1.1's, for the same reason."""


class SharedPool:
    """See the module's text."""

    def __init__(
        self, address: Address, sweep: Sweep, nursery: Nursery, *, host: bytes | None = None,
        secured: Secured | None = None,
    ) -> None:  # fmt: skip
        self.address = address
        self._secured = secured
        self.may_turn_away = False
        """Sidecars speak HTTP/1.1 to gateways."""
        self.host = host
        """Sent instead of the client's own, where it is given."""
        self.tick = 0
        self.visit_s = NEVER
        self.asked_s = 0.0
        self.heard_s = 0.0
        self.on_reached: Callable[[], None] | None = None
        self._sweep = sweep
        self._nursery = nursery
        self._loop = asyncio.get_running_loop()
        self._connections: list[ClientConnection] = []
        """Those that take streams."""
        self._all: set[ClientConnection] = set()
        self._waiting: deque[tuple[Exchange, int]] = deque()
        """With the attempt for which it waits: later ones have nothing to do with it."""
        self._is_connecting = False
        self._is_closed = False

    def take(self, exchange: Exchange, now_s: float) -> ClientStream | None:
        """A stream for the exchange; or None, and it is told when there is one or there can be none."""
        self.asked_s = now_s
        if not self._waiting:
            connection = self._find(now_s, may_repeat=exchange.head.is_idempotent)
            if connection is not None:
                return ClientStream(connection)
        if len(self._waiting) >= MAX_WAITING:
            self._loop.call_soon(self._turn_away, exchange, exchange.attempts)
            return None
        self._waiting.append((exchange, exchange.attempts))
        self._connect_if_needed()
        return None

    def _find(self, now_s: float, *, may_repeat: bool) -> ClientConnection | None:
        """The connection for one more stream: the fullest that is not full, so that the others become idle."""
        best: ClientConnection | None = None
        oldest_s = now_s - (IDLE_S if may_repeat else UNSAFE_IDLE_S)
        for connection in tuple(self._connections):
            if not connection.can_open:
                continue
            idle_since_s = connection.idle_since_s
            if idle_since_s is not None and idle_since_s < oldest_s:
                self._retire(connection)
            elif best is None or _rank(connection) > _rank(best):
                best = connection
        if best is not None and best.streams >= FULL:
            self._connect_if_needed()
        return best

    def _turn_away(self, exchange: Exchange, attempt: int) -> None:
        if exchange.wants_connection and exchange.attempts == attempt:
            exchange.on_connect_failed(f"{MAX_WAITING} requests wait for a stream already", now())

    def _connect_if_needed(self) -> None:
        if self._is_connecting or self._is_closed or len(self._connections) >= MAX_CONNECTIONS:
            return
        if any(connection.is_resting for connection in self._connections):
            return  # a replica that has too much gets no more by another way
        self._is_connecting = True
        timeout_s = self._waiting[0][0].terms.connect_s if self._waiting else UNSAFE_IDLE_S
        self._nursery.start(self._connect(timeout_s), name=f"connect to {self.address}")

    async def _connect(self, timeout_s: float) -> None:
        """Open one more connection, and give it to those that wait when the replica's settings have come."""
        connection: ClientConnection | None = None
        cause: str | None = None
        try:
            async with asyncio.timeout(timeout_s):
                connection = await open_connection(self.address, self._secured, ClientConnection(self))
                self._all.add(connection)
                await connection.settled.wait()
            cause = connection.failure
        except TimeoutError:
            cause = f"no connection within {timeout_s:g} s" if connection is None else "it said nothing in HTTP/2"
        except OSError as failure:
            cause = cause_of(failure)
        finally:
            self._is_connecting = False
        if cause is not None or connection is None:
            if connection is not None:
                connection.abort()
            self._fail(cause or "no connection")
        elif self._is_closed:
            self._retire(connection)
        else:
            self._connections.append(connection)
            if self.on_reached is not None:
                self.on_reached()
            self._serve()
            self._look_later(connection)

    def _fail(self, cause: str) -> None:
        """Nobody who waits now gets a connection, unless another one has places."""
        if any(connection.is_usable for connection in self._connections):
            return
        waiting, self._waiting = self._waiting, deque()
        for exchange, attempt in waiting:
            if exchange.wants_connection and exchange.attempts == attempt:
                exchange.on_connect_failed(cause, now())

    def _serve(self) -> None:
        """Give the places that there are to those that wait, in order."""
        while self._waiting:
            exchange, attempt = self._waiting[0]
            if not exchange.wants_connection or exchange.attempts != attempt:
                self._waiting.popleft()
                continue
            connection = self._find(now(), may_repeat=True)
            if connection is None:
                self._connect_if_needed()
                return
            self._waiting.popleft()
            exchange.on_connection(ClientStream(connection), now())

    # What its connections tell (Keeper)

    def on_place(self, connection: ClientConnection) -> None:
        """A stream has ended, or the replica allows more."""
        if self.on_reached is not None and connection.is_usable:
            self.on_reached()  # who waited for a place in vain did not find the replica unreachable
        if self._waiting:
            self._serve()
        self._look_later(connection)

    def on_leaving(self, connection: ClientConnection) -> None:
        """The replica takes no further stream on it."""
        if connection in self._connections:
            self._connections.remove(connection)
        if self._waiting:
            self._serve()

    def on_lost(self, connection: ClientConnection) -> None:
        """It is closed."""
        self._all.discard(connection)
        self.on_leaving(connection)

    @property
    def protocol(self) -> ReplicaProtocol:
        """HTTP/2, over TLS or without."""
        return "h2c" if self._secured is None else "h2"

    @property
    def is_secure(self) -> bool:
        """Whether it goes over TLS."""
        return self._secured is not None

    def request_fields(self, exchange: Exchange) -> list[HpackField]:
        """The head of the request as it goes to this replica."""
        head = exchange.head
        client, arrival = exchange.downstream.peer, exchange.downstream.arrival
        way = (self.host, b"https" if self._secured is not None else b"http")
        sent = head.sent_fields
        if exchange.trace is not None:
            fields = request_fields(
                head, client=client, host=self.host, proto=arrival.scheme, identity=arrival.identity, scheme=way[1],
                lines=exchange.trace.sent(exchange),
            )  # fmt: skip
        elif sent is not None and sent[2] is arrival and sent[0] == client and sent[1] == way:
            fields = sent[3]
        else:
            fields = request_fields(
                head, client=client, host=self.host, proto=arrival.scheme, identity=arrival.identity, scheme=way[1]
            )
            head.sent_fields = (client, way, arrival, fields)
        left_s = exchange.left_s
        return fields if left_s is None else [*fields, (b"grpc-timeout", format_timeout(left_s), False)]

    # Time, and the end

    def _look_later(self, connection: ClientConnection) -> None:
        if not self.tick and not connection.streams:
            self._sweep.watch(self, now() + IDLE_S)

    def due(self, now_s: float) -> float | None:
        """Close what was idle for too long."""
        next_s: float | None = None
        for connection in tuple(self._connections):
            idle_since_s = connection.idle_since_s
            if idle_since_s is None:
                continue
            if now_s >= idle_since_s + IDLE_S:
                self._retire(connection)
            elif next_s is None or idle_since_s + IDLE_S < next_s:
                next_s = idle_since_s + IDLE_S
        return next_s

    def _retire(self, connection: ClientConnection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
        connection.retire()

    def secure(self, secured: Secured | None) -> None:
        """Use other certificates from now on: no further stream on connections that were made with the old ones."""
        self._secured = secured
        for connection in tuple(self._connections):
            self._retire(connection)

    def close(self) -> None:
        """Close what is idle; what still carries an exchange ends with it."""
        self._is_closed = True
        self._sweep.forget(self)
        for connection in tuple(self._all):
            self._retire(connection)
        self._fail("the replica is not used any more")


def _rank(connection: ClientConnection) -> int:
    """Full ones behind those that are not."""
    return connection.streams if connection.streams < FULL else FULL - 1 - connection.streams
