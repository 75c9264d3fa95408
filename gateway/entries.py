"""The ports of one worker: what a connection passes before HTTP, and how all of them are left.

The parent has the sockets open too. Certificates of the TLS port are watched here, in each worker for itself.
"""

import asyncio
from collections.abc import Iterable

from gateway.doors import Door
from gateway.tls import ListenerWatch, LoadedListener
from zerogate.http.entrance import Entrance, TrustedSenders
from zerogate.http.listener import Listener
from zerogate.http.server import Server
from zerogate.tasks import Nursery


class Entries:
    """See the module's text. `tls`: set where one of the doors is for TLS."""

    def __init__(
        self, server: Server, doors: Iterable[Door], trusted: TrustedSenders, tls: ListenerWatch | None
    ) -> None:
        self._server = server
        self._tls = tls
        contexts = tls.loaded.server if tls is not None else None
        doors = tuple(doors)
        self._entrances = [
            Entrance(server, contexts=contexts if door.is_tls else None, trusted=trusted) for door in doors
        ]
        self._secure = [entrance for entrance in self._entrances if entrance.contexts is not None]
        self._listeners = [
            Listener(server, door.sock, way_in=entrance, keeps_file=True)
            for door, entrance in zip(doors, self._entrances, strict=True)
        ]

    async def start(self, nursery: Nursery) -> None:
        """Accept connections."""
        for listener in self._listeners:
            await listener.start()
        if self._tls is not None:
            nursery.start(self._tls.run(self._use), name="certificates")

    def _use(self, loaded: LoadedListener) -> None:
        """Of new connections; those that are there keep what they began with."""
        for entrance in self._secure:
            entrance.contexts = loaded.server

    async def look_at_certificates(self) -> None:
        """Use those that have changed on disk, without waiting for the next look."""
        if self._tls is not None:
            await self._tls.look(self._use)

    @property
    def lost(self) -> dict[str, int]:
        """Connections that never came as far as a request, by reason."""
        counters = [entrance.counters for entrance in self._entrances]
        return {
            "handshake": sum(one.failed_handshakes for one in counters),
            "header": sum(one.bad_headers for one in counters),
            "late": sum(one.late for one in counters),
        }

    async def leave_ports(self, *, is_last: bool) -> None:
        """Take no further connection; `is_last`: nobody else will, so the ports close."""
        await asyncio.gather(
            *(one.leave_port() if is_last else one.hand_over_port() for one in self._listeners)
        )  # fmt: skip

    def abort_waiting(self) -> None:
        """End what has not come as far as HTTP."""
        for entrance in self._entrances:
            entrance.abort_waiting()

    async def drain(self, *, deadline_s: float) -> int:
        """Answer what runs; after `deadline_s` reset the rest. Returns how many connections were reset."""
        self.abort_waiting()
        # they share a server, so each of them waits for the connections of all
        return await self._listeners[0].drain(deadline_s=deadline_s)

    def abort(self) -> None:
        """Reset all connections."""
        for listener in self._listeners:
            listener.abort()
