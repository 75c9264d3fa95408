"""The ports of an activator: one for each port of a Service that it answers for, and each of them one service's alone.

Nobody is routed here: whoever comes to a port is the service's client. Each port has a server of its own, because its
clients are told apart from others': while the service's pods answer by themselves, each answer of HTTP/1 is the last of
its connection and HTTP/2 gets GOAWAY, so that clients go to the pods; nothing is cut for it. A port that is given up
answers what came and closes.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from activator.holds import Holds
from activator.quiet import answer_quietly, is_quiet
from zerogate.clock import now
from zerogate.counters import Result, ServiceCounters
from zerogate.errors import MachineError, Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.listener import Listener, OpenWay, bind
from zerogate.http.memory import BufferMemory
from zerogate.http.server import ConnectionLimits, Server, say_short
from zerogate.http.sides import DEFAULT_TERMS, Owner
from zerogate.http.sweep import Sweep
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)

BIND_AGAIN_S: Final = 1.0
"""A port that another one has: it may go, and until then this activator's readiness is off."""
QUIET_S: Final = 1.0
"""Nodes that have not noticed that it leaves go on sending new connections here. Of traffic that matters there are
several a second, since each answer is the last one of its connection."""
_UNKNOWN: Final = Refusal(
    status=503,
    code="unknown_service",
    detail="This activator does not know the service yet. Try again.",
    retry_after_s=1.0,
)


class Wanted(msgspec.Struct, frozen=True):
    """What a port is for. `is_needed`: the service's pods do not answer."""

    service: str
    is_needed: bool


class Entry(Owner[Exchange]):
    """Where the requests of one port come in; owner of those that no hold takes."""

    terms = DEFAULT_TERMS

    def __init__(
        self, service: str, holds: Holds, unplaced: ServiceCounters, note: Callable[[str, Exchange], None]
    ) -> None:
        self._service = service
        self._holds = holds.by_service
        self._unplaced = unplaced
        self._note = note

    def place(self, exchange: Exchange, now_s: float) -> None:
        """What the port's server calls for each request."""
        hold = self._holds.get(self._service)
        if hold is None:
            exchange.give_to(self)
            exchange.refuse(_UNKNOWN, now_s)
        elif is_quiet(exchange.head, hold):
            exchange.give_to(self)
            state = "failing" if hold.is_blocked else "ready" if hold.ready else "zero"
            answer_quietly(exchange, hold, state, now_s, is_failing=hold.is_blocked)
        else:
            hold.place(exchange, now_s)

    def on_ended(self, exchange: Exchange, now_s: float) -> None:
        """Count it."""
        self._note("", exchange)
        if exchange.result is Result.SERVED:
            self._unplaced.served += 1
        elif exchange.result is Result.REFUSED:
            self._unplaced.refuse(exchange.code)
        else:
            self._unplaced.abandoned += 1

    def on_unsent(self, exchange: Exchange, cause: str, now_s: float) -> None:
        """Never: nothing is sent anywhere."""

    def on_turned_away(self, exchange: Exchange, now_s: float) -> None:
        """Never: nothing is sent anywhere."""

    def on_hold_timeout(self, exchange: Exchange, now_s: float) -> None:
        """Never: it is not held here."""


class _Noticed(OpenWay):
    """`came` is called for each connection that begins."""

    def __init__(self, server: Server, came: Callable[[], None]) -> None:
        super().__init__(server)
        self._came = came

    def connection(self) -> asyncio.Protocol:
        self._came()
        return super().connection()


class _Door:
    __slots__ = ("listener", "server", "wanted")

    def __init__(self, wanted: Wanted, server: Server, listener: Listener) -> None:
        self.wanted = wanted
        self.server = server
        self.listener = listener


class Doors:
    """See the module's text. `host`: the address to listen on; `drain_s`: for what runs when a port is given up."""

    def __init__(
        self,
        holds: Holds,
        *,
        host: str,
        sweep: Sweep,
        nursery: Nursery,
        memory: BufferMemory,
        limits: ConnectionLimits,
        drain_s: float,
        note: Callable[[str, Exchange], None],
    ) -> None:
        self.unplaced = ServiceCounters()
        """What ended before a hold took it."""
        self.faults: dict[int, str] = {}
        """Ports that cannot be opened, and why."""
        self._holds = holds
        self._host = host
        self._sweep = sweep
        self._nursery = nursery
        self._memory = memory
        self._limits = limits
        self._drain_s = drain_s
        self._note = note
        self._wanted: Mapping[int, Wanted] = {}
        self._doors: dict[int, _Door] = {}
        self._servers: set[Server] = set()
        """Those of ports that are given up too, as long as they have connections."""
        self._news = asyncio.Event()
        self._came_s = float("-inf")

    @property
    def connections(self) -> int:
        """Of clients, that are open."""
        return sum(len(door.server.connections) for door in self._doors.values())

    @property
    def is_open(self) -> bool:
        """Whether every port that is wanted takes connections."""
        return all(
            port in self._doors and self._doors[port].wanted.service == wanted.service
            for port, wanted in self._wanted.items()
        )

    def configure(self, wanted: Mapping[int, Wanted]) -> None:
        """All ports there are to be."""
        self._wanted = wanted
        self._news.set()

    async def run(self) -> None:
        """Open and close as is wanted, until cancelled."""
        while True:
            self._news.clear()
            await self._keep_up()
            try:
                async with asyncio.timeout(BIND_AGAIN_S if self.faults else None):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _keep_up(self) -> None:
        wanted = self._wanted
        for port, door in list(self._doors.items()):
            if port not in wanted or wanted[port].service != door.wanted.service:
                del self._doors[port]
                await door.listener.leave_port()
                self._nursery.start(self._end(door), name=f"end of port {port}")
        self.faults = {port: fault for port, fault in self.faults.items() if port in wanted}
        for port, one in wanted.items():
            known = self._doors.get(port)
            if known is None:
                await self._open(port, one)
            elif known.wanted != one:
                _turn(known, one)

    async def _open(self, port: int, wanted: Wanted) -> None:
        try:
            sock = bind(Address(self._host, port), what=f"port {port} of {wanted.service}")
        except MachineError as error:
            if port not in self.faults:
                log.warning("%s", error)
            self.faults[port] = str(error)
            return
        self.faults.pop(port, None)
        entry = Entry(wanted.service, self._holds, self.unplaced, self._note)
        server = Server(entry.place, self._sweep, memory=self._memory, limits=self._limits)
        self._servers.add(server)
        self._memory.on_short = self._on_short  # a server asks to be told alone
        door = _Door(wanted, server, Listener(server, sock, way_in=_Noticed(server, self._note_came)))
        await door.listener.start()
        self._doors[port] = door
        _turn(door, wanted)

    async def _end(self, door: _Door) -> None:
        await door.listener.drain(deadline_s=self._drain_s)
        self._servers.discard(door.server)

    def _on_short(self, is_short: bool) -> None:
        say_short(self._memory, is_short)
        for server in tuple(self._servers):
            server.squeeze(is_short)

    # Leaving

    def leave_soon(self) -> None:
        """Let each answer be the last one of its connection."""
        for door in self._doors.values():
            door.server.let_go()

    def _note_came(self) -> None:
        self._came_s = now()

    async def until_quiet(self, *, least_s: float, most_s: float, at_once: asyncio.Event) -> None:
        """Until nodes send no new connections here: `least_s`, and then until none has come for `QUIET_S`, but no
        longer than `most_s`; `at_once` ends it."""
        began_s = now()
        while not at_once.is_set():
            quiet_s = min(self._came_s + QUIET_S, began_s + most_s)
            left_s = max(began_s + least_s, quiet_s) - now()
            if left_s <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await at_once.wait()

    async def leave_ports(self) -> None:
        """Close all ports, and serve every connection that was made before."""
        self._wanted = {}
        await asyncio.gather(*(door.listener.leave_port() for door in self._doors.values()))

    async def drain(self, *, deadline_s: float) -> int:
        """Answer what runs; after `deadline_s` reset the rest. Returns how many connections were reset."""
        ends = (door.listener.drain(deadline_s=deadline_s) for door in self._doors.values())
        return sum(await asyncio.gather(*ends))

    def abort(self) -> None:
        """Reset all connections."""
        for door in self._doors.values():
            door.listener.abort()


def _turn(door: _Door, wanted: Wanted) -> None:
    """Whether its clients had better go to the pods."""
    door.wanted = wanted
    if wanted.is_needed:
        door.server.keep()
    else:
        door.server.let_go()
