"""The two ends of a tunnel on HTTP/1.1: they take the place of the connections' own protocols after a 101.

So a request that is no WebSocket pays nothing for those that are. Bytes and their end go straight to the tunnel; what
the connections keep to themselves (their place in server and pool, writing, the loss) stays theirs.
"""

import asyncio
from typing import Any, Protocol

from zerogate.clock import now
from zerogate.http.tunnel import Tunnel


class _Connection(Protocol):
    """What an end asks of its connection."""

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


class _Keeper(Protocol):
    """The pool of a replica: it knows when the replica spoke last."""

    heard_s: float


class _End(asyncio.Protocol):
    __slots__ = ("_connection", "_tunnel")

    def __init__(self, connection: _Connection, tunnel: Tunnel) -> None:
        self._connection = connection
        self._tunnel = tunnel

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)


class ClientEnd(_End):
    """Toward the client. `transport` tells whether it can be read after its end of file."""

    __slots__ = ("_transport",)

    def __init__(self, connection: _Connection, tunnel: Tunnel, transport: Any) -> None:
        super().__init__(connection, tunnel)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._tunnel.on_client_data(data, now())

    def eof_received(self) -> bool:
        self._tunnel.on_client_end(now())
        return bool(self._transport.can_write_eof())


class ReplicaEnd(_End):
    """Toward the replica. Its end of file is its loss: a server ends the connection when both have closed."""

    __slots__ = ("_pool",)

    def __init__(self, connection: _Connection, tunnel: Tunnel, pool: _Keeper) -> None:
        super().__init__(connection, tunnel)
        self._pool = pool

    def data_received(self, data: bytes) -> None:
        self._pool.heard_s = now_s = now()
        self._tunnel.on_replica_data(data, now_s)
