"""What each connection of a port passes before HTTP: a balancer's PROXY header, TLS, and the choice of the version.

    bytes ─▶ PrefacedConnection ─▶ TlsTransport ─▶ the protocol that ALPN chose
             (trusted balancers)   (TLS ports)

Each of them hands the connection to the next one, together with what it read too much. None of them waits: a header and
a handshake have a deadline in the sweep, and there are at most `MOST_WAITING` of them, so that a crowd that connects
and says nothing costs a bounded amount; when one more comes, the one that has waited longest goes.
"""

import asyncio
import logging
import ssl
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

import msgspec

from zerogate.clock import now
from zerogate.errors import Refusal
from zerogate.http.answers import render
from zerogate.http.certificates import ServerContexts
from zerogate.http.client_identity import identity_line
from zerogate.http.h1 import peer
from zerogate.http.h1.answer import own_answer
from zerogate.http.h1.server import ServerConnection
from zerogate.http.h2.server import ServerConnection as Http2Connection
from zerogate.http.heads import UNIX_PEER
from zerogate.http.proxy_protocol import ProxyHeaderError, parse
from zerogate.http.server import Server
from zerogate.http.sides import SECURE, Arrival
from zerogate.http.sweep import NEVER
from zerogate.http.tls_transport import TlsTransport

log = logging.getLogger(__name__)

Network = IPv4Network | IPv6Network

HANDSHAKE_S: Final = 10.0
"""For a PROXY header, and again for a handshake. Over a slow satellite link one takes 2 s; users of Go and of Envoy
choose 5 to 15."""
MOST_WAITING: Final = 1024
"""Connections that have not come as far as HTTP: 40 KiB each while a handshake is under way."""


class TrustedSenders(msgspec.Struct, frozen=True):
    """Whose PROXY headers are believed: networks, and whether Unix sockets are."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    def __contains__(self, address: bytes) -> bool:
        if address == UNIX_PEER:
            return self.unix
        found = ip_address(address.decode())
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self.networks)

    @property
    def is_empty(self) -> bool:
        return not self.networks and not self.unix


NOBODY: Final = TrustedSenders()


class EntranceCounters(msgspec.Struct):
    """What never came as far as HTTP; they only grow."""

    failed_handshakes: int = 0
    late: int = 0
    """Gave no header or no handshake in time, or made room for others."""
    bad_headers: int = 0


class Entrance:
    """The way in of one port. `contexts` (None: no TLS) and `trusted` may be replaced at any time: connections that are
    there keep what they came with."""

    def __init__(
        self, server: Server, *, contexts: ServerContexts | None = None, trusted: TrustedSenders = NOBODY
    ) -> None:
        self.server = server
        self.contexts = contexts
        self.trusted = trusted
        self.counters = EntranceCounters()
        self._waiting: dict[_Waiting, None] = {}

    def connection(self) -> asyncio.Protocol:
        """The protocol of a new connection: the factory for `create_server`."""
        if not self.trusted.is_empty:
            return PrefacedConnection(self)
        return self.after_header(b"")

    def after_header(self, client: bytes) -> asyncio.Protocol:
        """The next protocol once the client's address is known (nothing: it is the transport's)."""
        if self.contexts is None:
            return ServerConnection(self.server, peer=client)
        tls = TlsTransport(
            self.contexts.default,
            lambda tls: self._speaks(tls, client),
            self._on_failed,
            sweep=self.server.sweep,
            deadline_s=now() + HANDSHAKE_S,
        )
        self.wait(tls)
        return tls

    def _speaks(self, tls: TlsTransport, client: bytes) -> asyncio.Protocol:
        """The handshake is done: who speaks above it, by the version that ALPN selected."""
        self.leave(tls)
        arrival = _arrival(tls.ssl)
        if tls.ssl.selected_alpn_protocol() == "h2":
            return Http2Connection(self.server, arrival=arrival, peer=client)
        return ServerConnection(self.server, arrival=arrival, peer=client)

    def _on_failed(self, tls: TlsTransport, failure: Exception | None) -> None:
        self.leave(tls)
        if isinstance(failure, TimeoutError):
            self.counters.late += 1
            return
        if failure is None:
            return  # it went away: what only looks whether the port is open does that
        self.counters.failed_handshakes += 1
        if isinstance(failure, ssl.SSLError) and failure.reason == "HTTP_REQUEST":
            answer = render(_NOT_TLS, openai_shape=False)
            tls.write_raw(own_answer(answer.status, answer.headers, answer.body, b"GET", close=True))
        else:
            log.debug("a TLS handshake failed: %s", failure)

    # Those that wait

    def wait(self, connection: "_Waiting") -> None:
        """One more that has not come as far as HTTP."""
        self._waiting[connection] = None
        if len(self._waiting) > MOST_WAITING:
            self.counters.late += 1
            self._cut(next(iter(self._waiting)))

    def leave(self, connection: "_Waiting") -> None:
        """It has, or will not."""
        self._waiting.pop(connection, None)

    def _cut(self, connection: "_Waiting") -> None:
        self.leave(connection)
        connection.abort()

    def abort_waiting(self) -> None:
        """Nothing was asked yet on these connections: end them."""
        for connection in list(self._waiting):
            self._cut(connection)


def _arrival(tls: ssl.SSLObject) -> Arrival:
    certificate = tls.getpeercert()
    if not certificate:
        return SECURE
    return Arrival(b"https", identity_line(certificate, tls.getpeercert(binary_form=True) or b""))


class PrefacedConnection(asyncio.Protocol):
    """Reads a PROXY header where it comes from somebody who is trusted with it; others begin at once."""

    __slots__ = ("_data", "_deadline_s", "_entrance", "_transport", "tick", "visit_s")

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance
        self._transport: Any = None
        self._data = b""
        self._deadline_s = NEVER
        self.tick = 0
        self.visit_s = NEVER

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if peer.address(transport) in self._entrance.trusted:
            self._deadline_s = now() + HANDSHAKE_S
            self._entrance.wait(self)
            self._entrance.server.sweep.watch(self, self._deadline_s)
        else:
            self._hand_over(b"", b"")

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            header = parse(self._data)
        except ProxyHeaderError as error:
            log.debug("%s: %s", peer.address(self._transport).decode(), error)
            self._entrance.counters.bad_headers += 1
            self.abort()
            return
        if header is not None:
            self._leave()
            self._hand_over((header.client or "").encode(), self._data[header.size :])

    def _hand_over(self, client: bytes, rest: bytes) -> None:
        following = self._entrance.after_header(client)
        self._transport.set_protocol(following)
        following.connection_made(self._transport)
        if rest:
            following.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def _leave(self) -> None:
        self._entrance.leave(self)
        self._entrance.server.sweep.forget(self)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def due(self, now_s: float) -> float | None:
        """The sweep's visit."""
        if now_s < self._deadline_s:
            return self._deadline_s
        self._entrance.counters.late += 1
        self.abort()
        return None


_Waiting = TlsTransport | PrefacedConnection


_NOT_TLS: Final = Refusal(
    status=400, code="bad_request", detail="This port speaks TLS: ask with https://.", hopeless=True
)
