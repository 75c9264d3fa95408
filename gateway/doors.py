"""The listening sockets of a gateway. The parent has them all from its start to its end, its children some of them.

One socket per worker and port, shared by `SO_REUSEPORT`; the Unix socket is one for all. Because the parent keeps them
open, what waits in the kernel survives a worker (`docs/decisions/015-workers.md`).
"""

import socket
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gateway.settings import Settings
from zerogate.http.listener import bind, bind_shared


class Door(msgspec.Struct, frozen=True):
    """One socket where a worker takes requests."""

    sock: socket.socket
    is_tls: bool


class Doors:
    """See the module's text. Raises MachineError."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._plain = bind_shared(settings.listen, count, what="--listen", example="--listen HOST:PORT")
        self._tls: list[socket.socket] = []
        if settings.listen_tls is not None:
            self._tls = bind_shared(settings.listen_tls, count, what="--listen-tls", example="--listen-tls HOST:PORT")
        self._unix = [bind(settings.listen_unix, what="--listen-unix")] if settings.listen_unix else []
        self._file = settings.listen_unix.path if settings.listen_unix else None
        self.admin = bind(settings.admin, what="--admin", example="--admin HOST:PORT")

    def of(self, place: int) -> tuple[Door, ...]:
        """Those of the worker in a place."""
        found = [Door(sock, is_tls=False) for sock in (self._plain[place], *self._unix)]
        return (*found, Door(self._tls[place], is_tls=True)) if self._tls else tuple(found)

    def close_all_but(self, kept: Iterable[socket.socket]) -> None:
        """In a child: let go of the others'."""
        kept = set(kept)
        for sock in (*self._plain, *self._tls, *self._unix, self.admin):
            if sock not in kept:
                sock.close()

    def close_traffic(self) -> None:
        """All leave: the workers alone have the ports, and close them when they have served what came."""
        if self._file is not None:
            Path(self._file).unlink(missing_ok=True)
        for sock in (*self._plain, *self._tls, *self._unix):
            sock.close()

    def __str__(self) -> str:
        """Where requests and questions are taken, for a person."""
        words = f"requests on {_address(self._plain[0])}, administration on {_address(self.admin)}"
        return f"{words}, TLS on {_address(self._tls[0])}" if self._tls else words


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
