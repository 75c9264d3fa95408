"""Ports that take requests: bind, and leave in order.

The order of leaving is `zerogate.drain`'s; here are its steps for a listener: close the port, answer what runs, and at
the deadline reset what is left. A port that closes resets what the kernel has completed and nobody has accepted, so one
is closed in two steps: nothing new comes, then what came is accepted (`docs/decisions/015-workers.md`).
"""

import asyncio
import errno
import os
import socket
import stat
import struct
from array import array
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from zerogate.errors import MachineError, PortTakenError
from zerogate.http.h1.server import ServerConnection
from zerogate.http.server import Server
from zerogate.runtime.interface import Address

BACKLOG: Final = 4096
"""Connections the kernel keeps while the loop is busy; capped by net.core.somaxconn, usually 4096."""

SOCKET_MODE: Final = 0o660
"""Of a Unix socket: its user and its group may connect. A web server in front runs as somebody else, and is let in by
the group of the folder (setgid) or by chgrp; the umask's usual 0755 would let in nobody but the owner."""

SETTLE_S: Final = 0.05
"""For handshakes that are under way when a port closes: most round trips are shorter, and a drain takes longer."""
_TURNS: Final = 3
_SO_ATTACH_FILTER: Final = 26
_NO_SYN: Final = (
    (0x30, 0, 0, 13),  # load the byte of the TCP header that has the flags
    (0x54, 0, 0, 0x12),  # of them SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone begins a connection:
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # anything else passes
)
"""Classic BPF; each instruction: code, jump if true, jump if false, constant."""


def bind(address: Address, *, what: str, example: str = "") -> socket.socket:
    """A listening socket. Raises MachineError; `what` names the setting for a person ("listen"), `example` shows how it
    is written."""
    if address.path:
        return _bind_unix(address.path, what)
    sock = _bound(address, what, example, socket.SO_REUSEADDR)
    _listen(sock, address, what, example)
    return sock


def bind_shared(address: Address, count: int, *, what: str, example: str = "") -> list[socket.socket]:
    """As `bind` for a host and port, but `count` sockets among which the kernel spreads connections."""
    # one that is not shared finds out whether somebody else is there: a second program would silently get a share
    with _bound(address, what, example, socket.SO_REUSEADDR) as sole:
        found = Address(address.host, int(sole.getsockname()[1]))
    socks: list[socket.socket] = []
    try:
        for _ in range(count):
            socks.append(_bound(found, what, example, socket.SO_REUSEADDR, socket.SO_REUSEPORT))
            _listen(socks[-1], found, what, example)
    except MachineError:
        for sock in socks:
            sock.close()
        raise
    return socks


def _bound(address: Address, what: str, example: str, *options: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise MachineError(
            f"{what}: {address} is not an address of this machine ({error.strerror or error})."
        ) from error
    try:
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        raise _refused(error, address, what, example or f"{what}: HOST:PORT") from error
    sock.setblocking(False)
    return sock


def _listen(sock: socket.socket, address: Address, what: str, example: str) -> None:
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _refused(error, address, what, example or f"{what}: HOST:PORT") from error


def _bind_unix(path: str, what: str) -> socket.socket:
    """As `bind`. A socket file that nobody listens on was left behind, and is replaced; any other file stays."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path, what)
        sock.bind(path)
        # before listen(): until then nobody can connect, whatever the umask made of its mode
        Path(path).chmod(SOCKET_MODE)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise MachineError(_why_not_unix(error, path, what)) from error
    except MachineError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _remove_stale(path: str, what: str) -> None:
    try:
        is_socket = stat.S_ISSOCK(Path(path).lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise MachineError(f"{what}: {path} is a file and no socket. Give another path, or remove it.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.setblocking(False)
        code = trial.connect_ex(path)
    if code != errno.ECONNREFUSED:
        raise MachineError(f"{what}: unix:{path} is taken by another program. End it, or give another path.")
    Path(path).unlink()


def _why_not_unix(error: OSError, path: str, what: str) -> str:
    if error.errno == errno.ENOENT:
        return f"{what}: there is no folder for unix:{path}. Make it."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{what}: unix:{path} may not be made there. Give a folder that zerogate may write."
    return f"{what}: unix:{path} cannot be used: {error.strerror or error}."


def _refused(error: OSError, address: Address, what: str, example: str) -> MachineError:
    if error.errno == errno.EADDRINUSE:
        says = f"{what}: {address} is taken by another program. End it, or give another port (`{example}`)."
        return PortTakenError(says, address.port)
    if error.errno == errno.EACCES:
        return MachineError(f"{what}: {address} needs more rights than zerogate has. Give a port above 1023.")
    if error.errno == errno.EADDRNOTAVAIL:
        return MachineError(
            f"{what}: {address.host} is not an address of this machine. Use 127.0.0.1, or 0.0.0.0 for all."
        )
    return MachineError(f"{what}: {address} cannot be used: {error.strerror}.")


class WayIn(Protocol):
    """What a connection of the port passes before HTTP; `zerogate.http.entrance` is one with TLS."""

    def connection(self) -> asyncio.Protocol:
        """The protocol of a new connection."""

    def abort_waiting(self) -> None:
        """End what has not come as far as HTTP."""


class OpenWay:
    """HTTP at once, of the version that the first bytes say. The sidecar has no other, and loads nothing for it."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def connection(self) -> asyncio.Protocol:
        return ServerConnection(self._server)

    def abort_waiting(self) -> None:
        """Nothing waits here."""


class Listener:
    """One port of a `Server`. `keeps_file`: a Unix socket's file is somebody else's to take away."""

    def __init__(
        self, server: Server, sock: socket.socket, *, way_in: WayIn | None = None, keeps_file: bool = False
    ) -> None:
        self.server = server
        self.way_in: WayIn = way_in or OpenWay(server)
        self._sock = sock
        self._file = None if keeps_file else _identity_of(sock)
        self._accepting: asyncio.Server | None = None

    async def start(self) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        accept = self.way_in.connection
        if self._sock.family == socket.AF_UNIX:
            self._accepting = await loop.create_unix_server(accept, sock=self._sock, backlog=BACKLOG)
        else:
            self._accepting = await loop.create_server(accept, sock=self._sock, backlog=BACKLOG)

    async def leave_port(self) -> None:
        """Close the port, and serve every connection that was made before."""
        if self._accepting is None:
            return
        self._remove_file()
        if self._sock.family != socket.AF_UNIX:
            refuse_connections(self._sock)
            await asyncio.sleep(SETTLE_S)
        await self._accept_rest()
        await self.hand_over_port()

    async def hand_over_port(self) -> None:
        """Stop accepting, where another process has the port open too, and serve every connection taken so far."""
        self.stop_accepting()
        # both loops tell of a connection some turns after they took it: until then the server does not know of it
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def _accept_rest(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(BACKLOG):
            try:
                connection, _ = self._sock.accept()
            except OSError:
                return  # there is none, or it has gone again
            connection.setblocking(False)
            with suppress(OSError):
                await loop.connect_accepted_socket(self.way_in.connection, connection)

    def stop_accepting(self) -> None:
        """Close the port at once; where no other process has it open too, what was not accepted yet is reset. A Unix
        socket's file is taken away, if it is still the same one."""
        if self._accepting is not None:
            self._accepting.close()
            self._accepting = None
            self._remove_file()

    def _remove_file(self) -> None:
        if self._file is not None and _file_at(self._file[0]) == self._file:
            with suppress(OSError):
                Path(self._file[0]).unlink()
        self._file = None

    async def drain(self, *, deadline_s: float) -> int:
        """Answer what runs; after `deadline_s` seconds reset the rest. Returns how many connections were reset."""
        self.server.drain()
        self.way_in.abort_waiting()
        emptied = self.server.emptied()
        try:
            async with asyncio.timeout(deadline_s):
                await emptied.wait()
        except TimeoutError:
            return self.abort()
        return 0

    def abort(self) -> int:
        """Reset all connections; returns how many."""
        self.way_in.abort_waiting()
        left = list(self.server.connections)
        for connection in left:
            connection.abort()
        return len(left)


def refuse_connections(sock: socket.socket) -> None:
    """Let no new connection begin on a listening socket; those whose handshake is under way may still come.

    A client repeats its SYN after a second, and finds the port closed. Systems without such filters change nothing.
    """
    program = array("B", b"".join(struct.pack("HBBI", *instruction) for instruction in _NO_SYN))
    address, _ = program.buffer_info()
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_NO_SYN), address))


def _identity_of(sock: socket.socket) -> tuple[str, int, int] | None:
    """Path, device and inode of a Unix socket's file."""
    return _file_at(sock.getsockname()) if sock.family == socket.AF_UNIX else None


def _file_at(path: str) -> tuple[str, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return path, found.st_dev, found.st_ino
