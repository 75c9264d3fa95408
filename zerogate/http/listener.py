"""Ports that take requests: bind, and leave in order.

The order of leaving is `zerogate.drain`'s; here are its steps for a listener: stop accepting, answer what runs, and at
the deadline reset what is left.
"""

import asyncio
import errno
import socket
from typing import Final

from zerogate.errors import MachineError
from zerogate.http.h1.server import ServerConnection
from zerogate.http.server import Server
from zerogate.runtime.interface import Address

BACKLOG: Final = 4096
"""Connections the kernel keeps while the loop is busy; capped by net.core.somaxconn, usually 4096."""


def bind(address: Address, *, what: str, example: str = "") -> socket.socket:
    """A listening socket. Raises MachineError; `what` names the setting for a person ("listen"), `example` shows how it
    is written."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise MachineError(
            f"{what}: {address} is not an address of this machine ({error.strerror or error})."
        ) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise MachineError(_why(error, address, what, example or f"{what}: HOST:PORT")) from error
    sock.setblocking(False)
    return sock


def _why(error: OSError, address: Address, what: str, example: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{what}: {address} is taken by another program. End it, or give another port (`{example}`)."
    if error.errno == errno.EACCES:
        return f"{what}: {address} needs more rights than zerogate has. Give a port above 1023."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{what}: {address.host} is not an address of this machine. Use 127.0.0.1, or 0.0.0.0 for all."
    return f"{what}: {address} cannot be used: {error.strerror}."


class Listener:
    """One port of a `Server`."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self._sock = sock
        self._accepting: asyncio.Server | None = None

    async def start(self) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        self._accepting = await loop.create_server(
            lambda: ServerConnection(self.server), sock=self._sock, backlog=BACKLOG
        )

    def _connection(self) -> ServerConnection:
        return ServerConnection(self.server)

    def stop_accepting(self) -> None:
        """Close the port: what the kernel has accepted already is served."""
        if self._accepting is not None:
            self._accepting.close()
            self._accepting = None

    async def drain(self, *, deadline_s: float) -> int:
        """Answer what runs; after `deadline_s` seconds reset the rest. Returns how many connections were reset."""
        self.server.drain()
        emptied = self.server.emptied()
        try:
            async with asyncio.timeout(deadline_s):
                await emptied.wait()
        except TimeoutError:
            return self.abort()
        return 0

    def abort(self) -> int:
        """Reset all connections; returns how many."""
        left = list(self.server.connections)
        for connection in left:
            connection.abort()
        return len(left)
