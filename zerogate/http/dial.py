"""How a connection to a replica comes about: a Unix socket, or TCP to the first of its addresses to answer; then TLS.

A name that leads to several addresses is tried as RFC 8305 says: they take turns by family, the next one begins when
the last has failed or said nothing for `STAGGER_S`, the first that connects is taken and all others are closed. So an
address that swallows packets costs a quarter of a second and not the whole timeout, which is the caller's. Called by
the pools of both versions.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from zerogate.errors import shown
from zerogate.http.tls_transport import TlsTransport
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery

STAGGER_S: Final = 0.25
"""RFC 8305 section 5: the delay that it recommends."""
MOST_TARGETS: Final = 8
"""Addresses of a name that are tried for one connection: their delays are two seconds, less than a connect timeout."""
_NO_NAME: Final = "{} is no name: a part of it is empty or longer than 63 letters"


class Secured(msgspec.Struct, frozen=True):
    """TLS to a replica: what is trusted and shown, and the name that its certificate has to be for."""

    context: ssl.SSLContext
    server_name: str


class Target(msgspec.Struct, frozen=True):
    """One address of a name, as sockets take it."""

    family: int
    where: tuple[Any, ...]


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

    try:
        tls = TlsTransport(secured.context, ready, failed, server_name=secured.server_name)
    except ValueError as failure:
        raise OSError(_NO_NAME.format(shown(secured.server_name))) from failure
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
        return
    if not _is_name(address.host):
        await loop.create_connection(protocol, address.host, address.port)
        return
    found = await resolve(address.host, address.port)
    targets = in_turns([Target(family, where) for family, _, _, _, where in found])
    sock = await first_of(targets)
    try:
        await loop.create_connection(protocol, sock=sock)
    except BaseException:
        sock.close()
        raise


async def resolve(host: str, port: int) -> list[Any]:
    """The addresses of a name, as `getaddrinfo` has them, in its order (RFC 6724). Raises OSError."""
    try:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as failure:
        raise OSError(_NO_NAME.format(shown(host))) from failure


def _is_name(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def in_turns(found: Sequence[Target]) -> list[Target]:
    """The addresses in the order in which they are tried: the resolver's, with the families in turns (section 4)."""
    lines = [deque(target for target in found if target.family == family) for family in _families(found)]
    ordered: list[Target] = []
    while any(lines):
        ordered += [line.popleft() for line in lines if line]
    return ordered[:MOST_TARGETS]


def _families(found: Sequence[Target]) -> list[int]:
    return list(dict.fromkeys(target.family for target in found))


async def first_of(targets: Sequence[Target]) -> socket.socket:
    """A socket that is connected to the first of them that could be reached. Raises the OSError of the first that could
    not, when there is none. No other socket is left open, whatever ends this."""
    attempts = Nursery(on_failure=lambda name, failure: None)
    begun: list[asyncio.Task[socket.socket]] = []
    taken: socket.socket | None = None
    left = deque(targets)
    try:
        while left or any(not task.done() for task in begun):
            if left:
                begun.append(attempts.start(_reach(left.popleft()), name="connect to one of several addresses"))
            running = [task for task in begun if not task.done()]
            await asyncio.wait(
                running, timeout=STAGGER_S if left else None, return_when=asyncio.FIRST_COMPLETED
            )  # fmt: skip
            taken = next((task.result() for task in begun if _has_connected(task)), None)
            if taken is not None:
                return taken
        raise _failure_of(begun)
    finally:
        await attempts.aclose()
        for task in begun:
            if _has_connected(task) and task.result() is not taken:
                task.result().close()


async def _reach(target: Target) -> socket.socket:
    sock = socket.socket(target.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio looks at it for TCP_NODELAY
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, target.where)
    except BaseException:
        sock.close()
        raise
    return sock


def _has_connected(task: asyncio.Task[socket.socket]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _failure_of(tasks: Sequence[asyncio.Task[socket.socket]]) -> BaseException:
    for task in tasks:
        failure = task.exception()
        if failure is not None:
            return failure
    return OSError("the name leads to no address")


def cause_of(failure: OSError) -> str:
    """Why there is no connection, for a person."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {failure.verify_message or failure}"
    if isinstance(failure, ssl.SSLError) and "NO_APPLICATION_PROTOCOL" in (failure.reason or ""):
        return "TLS failed: it does not speak the version of HTTP that it was offered by ALPN"
    if isinstance(failure, ssl.SSLError):
        return f"TLS failed: {(failure.reason or str(failure)).replace('_', ' ').lower()}"
    return failure.strerror or str(failure)
