"""One replica as the request path sees it: its gate, its address, its pool of connections."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, Literal, Protocol

import msgspec

from zerogate.clock import now
from zerogate.gate import Gate
from zerogate.http.dial import Secured, cause_of, open_connection
from zerogate.http.exchange import Exchange
from zerogate.http.h1.client import ClientConnection
from zerogate.http.sides import Connections
from zerogate.http.sweep import NEVER, Sweep
from zerogate.http.write_heads import request_bytes
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery

ReplicaProtocol = Literal["http1", "h2c", "h2"]
"""The words of the policy's `protocol`."""

UNSAFE_IDLE_S: Final = 2.0
"""No request that may not be repeated rides on a connection idle for longer: uvicorn closes at 5 s, gunicorn at 2 s."""
PROOF_S: Final = 0.1
"""llama.cpp's server closes its connection after each streamed answer without having said so. How much later depends on
when its thread runs: microseconds on an idle machine, a few milliseconds on a busy one."""
IDLE_S: Final = 15.0
"""Then an idle connection is closed."""
MAX_IDLE: Final = 256
"""Idle connections kept per replica; a busy one has as many as requests."""


class EndpointWay(msgspec.Struct, frozen=True):
    """The way to a service that runs elsewhere. `host`: what it is asked for in the Host field."""

    address: Address
    host: bytes
    secured: Secured | None = None


class Pool:
    """Connections to one replica. Bounded by the slots of its gate; idle ones by `MAX_IDLE` and `IDLE_S`.

    Who finds no idle one asks for a new one, and takes whatever comes first: that one, another's, or one that became
    idle meanwhile. What comes too late for anybody is idle.
    """

    protocol: ReplicaProtocol = "http1"

    def __init__(
        self,
        address: Address,
        sweep: Sweep,
        nursery: Nursery,
        *,
        host: bytes | None = None,
        secured: Secured | None = None,
        holder: bytes | None = None,
    ) -> None:
        """`holder`: our own name, where a sidecar is at this address; then its refusals are believed."""
        self.address = address
        self._secured = secured
        self.may_turn_away = holder is not None
        self.host = host
        """Sent instead of the client's own, where it is given."""
        self.tick = 0
        self.visit_s = NEVER
        self.asked_s = 0.0
        """When the last request was given a connection, or asked for one."""
        self.heard_s = 0.0
        """When the last byte came from the replica."""
        self.on_reached: Callable[[], None] | None = None
        """Called when a connection comes about; for an owner that waits for one."""
        self._sweep = sweep
        self._nursery = nursery
        self._holder = holder
        self._way = (host, holder)
        self._idle: list[ClientConnection] = []
        self._waiting: dict[Exchange, int] = {}
        """Who waits for a connection, in order, with the attempt: later ones have nothing to do with it. Never more of
        them want one still than `_connecting`."""
        self._connecting = 0
        """Connections on their way. One for each that asked, which may have found another one since."""
        self._is_closed = False
        self._outlives_streams = False
        """Whether the replica was seen to keep a connection after a streamed answer."""

    def take(self, exchange: Exchange, now_s: float) -> ClientConnection | None:
        """An idle connection, the one used last; or None: `exchange` is told when a new one is there or failed."""
        self.asked_s = now_s
        connection = self._find(exchange, now_s)
        if connection is None:
            self._waiting.pop(exchange, None)
            self._waiting[exchange] = exchange.attempts
            self._connecting += 1
            self._nursery.start(self._connect(exchange, exchange.attempts), name=f"connect to {self.address}")
        return connection

    def _find(self, exchange: Exchange, now_s: float) -> ClientConnection | None:
        """An idle connection that this exchange may ride on."""
        is_idempotent = exchange.head.is_idempotent
        oldest_s = now_s - (IDLE_S if is_idempotent else UNSAFE_IDLE_S)
        at = len(self._idle)
        while at:
            at -= 1
            connection = self._idle[at]
            if connection.is_closing() or connection.idle_since_s < oldest_s:
                del self._idle[at]
                connection.close()
            elif is_idempotent or self._is_proven(connection, now_s):
                del self._idle[at]
                return connection
        return None

    def _is_proven(self, connection: ClientConnection, now_s: float) -> bool:
        """Whether a request that may not be repeated can trust that the replica is not just closing it."""
        if not connection.was_streamed or self._outlives_streams:
            return True
        if now_s - connection.idle_since_s < PROOF_S:
            return False
        self._outlives_streams = True
        return True

    async def _connect(self, exchange: Exchange, attempt: int) -> None:
        """One more connection. It was asked for by an attempt of this exchange, and goes to whoever waits longest."""
        try:
            async with asyncio.timeout(exchange.terms.connect_s + 1.0):  # the exchange gives up by itself before
                connection = await open_connection(self.address, self._secured, ClientConnection(self))
        except OSError as failure:
            self._connecting -= 1
            self._tell(exchange, attempt, cause_of(failure))
            return
        except BaseException:
            self._connecting -= 1
            raise
        self._connecting -= 1
        if self.on_reached is not None:
            self.on_reached()
        first = next(self._wanting(), None) if not self._is_closed else None
        if first is None:
            self.give_back(connection, now())
        else:
            del self._waiting[first]
            first.on_connection(connection, now())

    def _wanting(self) -> Iterator[Exchange]:
        """Those that still wait, in their order; the others are forgotten."""
        for exchange, attempt in tuple(self._waiting.items()):
            if self._waiting.get(exchange) != attempt:
                continue  # while this was looped over
            if exchange.wants_connection and exchange.attempts == attempt:
                yield exchange
            else:
                del self._waiting[exchange]

    def _tell(self, exchange: Exchange, attempt: int, cause: str) -> None:
        """A connect has failed: tell who asked for it, or, where that one was served by another's, the first of those
        that wait for more connections than are on their way."""
        waiting = list(self._wanting())
        if exchange in waiting and exchange.attempts == attempt:
            told: Exchange | None = exchange
        else:
            told = waiting[0] if len(waiting) > self._connecting else None
        if told is not None:
            del self._waiting[told]
            told.on_connect_failed(cause, now())

    def _serve(self) -> None:
        """Give what became idle to those that wait for a connection still."""
        for exchange in self._wanting():
            if not self._idle:
                return
            connection = self._find(exchange, now())
            if connection is not None:
                del self._waiting[exchange]
                exchange.on_connection(connection, now())

    @property
    def is_secure(self) -> bool:
        """Whether it goes over TLS."""
        return self._secured is not None

    def secure(self, secured: Secured | None) -> None:
        """Use other certificates from now on: what is idle was made with the old ones."""
        self._secured = secured
        while self._idle:
            self._idle.pop().close()

    def give_back(self, connection: ClientConnection, now_s: float) -> None:
        """A connection is idle."""
        if self._is_closed or len(self._idle) >= MAX_IDLE:
            connection.close()
            return
        connection.idle_since_s = now_s
        self._idle.append(connection)
        if self._waiting:
            # not now: it is in the midst of telling its last exchange
            asyncio.get_running_loop().call_soon(self._serve)
        if not self.tick:
            self._sweep.watch(self, now_s + IDLE_S)

    def on_lost(self, connection: ClientConnection) -> None:
        """A connection is closed; it may have been idle."""
        if connection in self._idle:
            self._idle.remove(connection)
            if connection.was_streamed:
                self._outlives_streams = False

    def due(self, now_s: float) -> float | None:
        """Close what was idle for too long; the list is ordered by the time of the last use."""
        while self._idle and now_s >= self._idle[0].idle_since_s + IDLE_S:
            self._idle.pop(0).close()
        return self._idle[0].idle_since_s + IDLE_S if self._idle else None

    def close(self) -> None:
        """Close what is idle; what still carries an exchange ends with it."""
        self._is_closed = True
        self._sweep.forget(self)
        while self._idle:
            self._idle.pop().close()
        for exchange in self._wanting():
            del self._waiting[exchange]
            exchange.on_connect_failed("the replica is not used any more", now())

    def request_bytes(self, exchange: Exchange) -> bytes:
        """The head of the request as it goes to this replica."""
        head = exchange.head
        client, arrival = exchange.downstream.peer, exchange.downstream.arrival
        if head.timeout_s is not None or exchange.trace is not None:
            return request_bytes(
                head, client=client, host=self.host, holder=self._holder, proto=arrival.scheme,
                identity=arrival.identity, left_s=exchange.left_s if head.timeout_s is not None else None,
                lines=exchange.trace.sent(exchange) if exchange.trace is not None else None,
            )  # fmt: skip
        sent = head.sent
        way = self._way
        if sent is not None and sent[2] is arrival and sent[0] == client and (sent[1] is way or sent[1] == way):
            return sent[3]
        data = request_bytes(
            head, client=client, host=self.host, holder=self._holder, proto=arrival.scheme, identity=arrival.identity
        )
        head.sent = (client, way, arrival, data)
        return data


class ReplicaPool(Connections[Exchange], Protocol):
    """The way to one replica, whatever is spoken on it."""

    @property
    def protocol(self) -> ReplicaProtocol:
        """What is spoken on it."""

    address: Address
    host: bytes | None
    asked_s: float
    """When the last request was given a connection, or asked for one."""
    heard_s: float
    """When the last byte came from the replica."""
    on_reached: Callable[[], None] | None
    """Called when a connection comes about, or is seen to be alive; for an owner that waits for one."""

    @property
    def is_secure(self) -> bool:
        """Whether it goes over TLS."""

    def secure(self, secured: Secured | None) -> None:
        """Use other certificates from now on."""

    def close(self) -> None:
        """Close what is idle; what still carries an exchange ends with it."""


class Upstream:
    """One replica that takes requests."""

    __slots__ = ("gate", "id", "pool", "rests_until_s", "service", "start_s")

    def __init__(self, *, service: str, id: str, gate: Gate, pool: ReplicaPool, start_s: float | None = None) -> None:  # noqa: A002
        self.service = service
        self.id = id
        self.gate: Gate = gate
        self.pool: ReplicaPool = pool
        self.start_s = start_s
        """Seconds from its spawn to its readiness; None where that is not known."""
        self.rests_until_s = 0.0
        """After a failed connect nothing is sent to it until then."""


Choose = Callable[[int], int]
"""A random number below its argument: injected, so that balancing can be tested."""
