"""One replica as the request path sees it: its gate, its address, its pool of connections."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from zerogate.clock import now
from zerogate.gate import Gate
from zerogate.http.exchange import Exchange
from zerogate.http.h1.client import ClientConnection
from zerogate.http.heads import request_bytes
from zerogate.http.sides import Connections
from zerogate.http.sweep import NEVER, Sweep
from zerogate.http.tls_transport import TlsTransport
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery

ReplicaProtocol = Literal["http1", "h2c"]
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


class Secured(msgspec.Struct, frozen=True):
    """TLS to a replica: what is trusted and shown, and the name that its certificate has to be for."""

    context: ssl.SSLContext
    server_name: str


class EndpointWay(msgspec.Struct, frozen=True):
    """The way to a service that runs elsewhere. `host`: what it is asked for in the Host field."""

    address: Address
    host: bytes
    secured: Secured | None = None


class Pool:
    """Connections to one replica. Bounded by the slots of its gate; idle ones by `MAX_IDLE` and `IDLE_S`."""

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
        self._is_closed = False
        self._outlives_streams = False
        """Whether the replica was seen to keep a connection after a streamed answer."""

    def take(self, exchange: Exchange, now_s: float) -> ClientConnection | None:
        """An idle connection, the one used last; or None: `exchange` is told when a new one is there or failed."""
        self.asked_s = now_s
        is_idempotent = exchange.head.is_idempotent
        oldest_s = now_s - (IDLE_S if is_idempotent else UNSAFE_IDLE_S)
        at = len(self._idle)
        while at:
            at -= 1
            connection = self._idle[at]
            if not connection.is_usable or connection.idle_since_s < oldest_s:
                del self._idle[at]
                connection.close()
            elif is_idempotent or self._is_proven(connection, now_s):
                del self._idle[at]
                return connection
        self._nursery.start(self._connect(exchange, exchange.attempts), name=f"connect to {self.address}")
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
        """Connect for an attempt of the exchange; by the time it is there, another one may be under way."""
        try:
            async with asyncio.timeout(exchange.terms.connect_s + 1.0):  # the exchange gives up by itself before
                connection = await open_connection(self.address, self._secured, ClientConnection(self))
        except OSError as failure:
            if exchange.attempts == attempt:
                exchange.on_connect_failed(cause_of(failure), now())
            return
        if self.on_reached is not None:
            self.on_reached()
        if exchange.wants_connection and exchange.attempts == attempt and not self._is_closed:
            exchange.on_connection(connection, now())
        else:
            self.give_back(connection, now())

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


ConnectionT = TypeVar("ConnectionT", bound=asyncio.Protocol)


async def open_connection(address: Address, secured: Secured | None, connection: ConnectionT) -> ConnectionT:
    """Make the connection: over TCP or a Unix socket, with TLS or without. Raises OSError, of which TLS's are some."""
    if secured is None:
        await _open(address, lambda: connection)
        return connection
    is_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ready(tls: TlsTransport) -> ConnectionT:
        if not is_ready.done():
            is_ready.set_result(None)
        return connection

    def failed(tls: TlsTransport, failure: Exception | None) -> None:
        if not is_ready.done():
            is_ready.set_exception(failure or ConnectionResetError("the connection was closed in the handshake"))

    tls = TlsTransport(secured.context, ready, failed, server_name=secured.server_name)
    try:
        await _open(address, lambda: tls)
        await is_ready
    except BaseException:
        is_ready.cancel()
        tls.abort()
        raise
    return connection


async def _open(address: Address, protocol: Callable[[], asyncio.Protocol]) -> None:
    loop = asyncio.get_running_loop()
    if address.path:
        await loop.create_unix_connection(protocol, address.path)
    else:
        await loop.create_connection(protocol, address.host, address.port)


def cause_of(failure: OSError) -> str:
    """Why there is no connection, for a person."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {failure.verify_message or failure}"
    if isinstance(failure, ssl.SSLError):
        return f"TLS failed: {(failure.reason or str(failure)).replace('_', ' ').lower()}"
    return failure.strerror or str(failure)


class ReplicaPool(Connections[Exchange], Protocol):
    """The way to one replica, whatever is spoken on it."""

    protocol: ReplicaProtocol
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
