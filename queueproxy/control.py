"""Control connections of the sidecar: each gateway is told whether the replica is ready and how many it may send.

A gateway comes by `Upgrade` on the port of the traffic and is a holder of the grants from then on, until its connection
ends or is silent for too long. What is said is always the present state, at most once in a turn of the loop, and
never to a gateway that does not read. `docs/decisions/011-grants.md` says why it is so.
"""

import asyncio
import logging
from collections import Counter
from typing import Any, Final

from queueproxy.grants import Holder
from queueproxy.slots import Slots
from zerogate.clock import now
from zerogate.control import BEAT_S, PROTOCOL, SILENCE_S, ControlError, Lines, Terms, is_name, line, read_demand
from zerogate.http.h1 import peer
from zerogate.http.heads import RequestHead
from zerogate.http.sweep import NEVER, Sweep

log = logging.getLogger("queueproxy")

MOST_GATEWAYS: Final = 256
"""Each gateway and activator has one; beyond it a gateway sends without being told how many."""
MOST_FROM_ONE: Final = 32
"""Of one client address: a pod has one, a host with as many workers has 32. Whoever claims requests that do not exist
must not get all places by that either."""
MOST_RECORDS: Final = 1024
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Control:
    """All control connections of one sidecar."""

    def __init__(self, slots: Slots, sweep: Sweep) -> None:
        self.slots = slots
        self.tick = 0
        self.visit_s = NEVER
        self.connections: dict[bytes, ControlConnection] = {}
        """By the gateway's name."""
        self._by_client: Counter[bytes] = Counter()
        self._records: dict[bytes, tuple[int, float]] = {}
        """By client address: what the last one that lapsed from there has to answer for, should it come again."""
        self.is_leaving = False
        """The replica is about to go: gateways are told that it is not ready, whatever else is still taken."""
        self._sweep = sweep
        self._is_planned = False
        slots.on_change = self._on_change

    def take(self, head: RequestHead) -> asyncio.Protocol | None:
        """The connection of a gateway that asks for it; None where it cannot be had."""
        name = head.holder
        if head.method != b"GET" or name is None or not is_name(name) or len(self.connections) >= MOST_GATEWAYS:
            return None
        return ControlConnection(self, name)

    def leave(self) -> None:
        """Tell all gateways to send nothing more."""
        self.is_leaving = True
        self._on_change()

    def close(self) -> None:
        """End all of them: the replica takes nothing new from here any more."""
        self._sweep.forget(self)
        for connection in tuple(self.connections.values()):
            connection.close()

    def on_made(self, connection: "ControlConnection", now_s: float) -> Holder | None:
        """A gateway has come; an older connection of the same one is dead, only not known to be.

        None where too many have come from there.
        """
        before = self.connections.get(connection.name)
        if before is not None:
            before.close()
        client = connection.client
        if self._by_client[client] >= MOST_FROM_ONE:
            return None
        self._by_client[client] += 1
        self.connections[connection.name] = connection
        self._sweep.watch(self, now_s + BEAT_S)
        holder = self.slots.join(connection.name, now_s)
        holder.remember(*self._records.get(client, (0, 0.0)), now_s)
        return holder

    def on_lost(self, connection: "ControlConnection", holder: Holder, now_s: float) -> None:
        """A gateway has gone."""
        client = connection.client
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]
        if self.connections.get(connection.name) is connection:
            del self.connections[connection.name]
        self.slots.part(holder, now_s)
        if holder.lapses:
            self._records.pop(client, None)
            self._records[client] = (holder.lapses, max(now_s, holder.penance_until_s))
            if len(self._records) > MOST_RECORDS:
                del self._records[next(iter(self._records))]

    def due(self, now_s: float) -> float | None:
        """Take back slots that are kept for too long, speak where nothing was said, part from the silent."""
        self.slots.check(now_s)
        for connection in tuple(self.connections.values()):
            connection.beat(now_s)
        return min(now_s + BEAT_S / 2, self.slots.grants.due_s) if self.connections else None

    def _on_change(self) -> None:
        if not self._is_planned and self.connections:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._is_planned = False
        for connection in self.connections.values():
            connection.tell()
        due_s = self.slots.grants.due_s
        if due_s < self.visit_s:
            self._sweep.watch(self, due_s)


class ControlConnection(asyncio.Protocol):
    """One gateway."""

    def __init__(self, control: Control, name: bytes) -> None:
        self.name = name
        self.client = b""
        """Its address."""
        self._control = control
        self._slots = control.slots
        self._holder: Holder | None = None
        self._transport: Any = None
        self._lines = Lines()
        self._said: tuple[bool, int, bool] | None = None
        self._said_at_s = self._heard_at_s = 0.0
        self._can_write = True

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.client = peer.address(transport)
        now_s = self._heard_at_s = now()
        self._holder = self._control.on_made(self, now_s)
        if self._holder is None:
            log.warning("gateway %s is one too many from %s", self.name.decode(), self.client.decode())
            transport.write(_FULL)
            transport.close()
            return
        log.info("gateway %s has come", self.name.decode())
        transport.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % PROTOCOL)
        self.tell()

    def connection_lost(self, exc: Exception | None) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            log.info("gateway %s has gone", self.name.decode())
            self._control.on_lost(self, holder, now())

    def data_received(self, data: bytes) -> None:
        now_s = self._heard_at_s = now()
        try:
            demands = [read_demand(text) for text in self._lines.feed(data)]
        except ControlError as error:
            log.warning("gateway %s: %s", self.name.decode(), error)
            self.close()
            return
        if demands and self._holder is not None:
            self._slots.report(self._holder, demands[-1].waiting, demands[-1].in_flight, now_s)

    def pause_writing(self) -> None:
        self._can_write = False

    def resume_writing(self) -> None:
        self._can_write = True
        self.tell()

    def tell(self) -> None:
        """Say how it is, where that is not what was said last."""
        holder, slots = self._holder, self._slots
        if holder is None or not self._can_write:
            return
        is_ready = slots.takes_gateways and not self._control.is_leaving
        allowance = 0 if slots.is_quiesced else holder.allowance
        said = (is_ready, allowance, holder.is_contended)
        if said == self._said and not holder.is_refused:
            return
        holder.is_refused = False
        self._said = said
        self._said_at_s = now()
        gate = slots.gate
        terms = Terms(
            ready=is_ready,
            detail="It is leaving." if self._control.is_leaving else slots.why_shut,
            allowance=allowance,
            limit=gate.limit,
            most=gate.release_limit,
            contended=holder.is_contended,
        )
        self._transport.write(line(terms))

    def beat(self, now_s: float) -> None:
        """Say it again where nothing was said for a while; end where nothing was heard for too long."""
        if now_s >= self._heard_at_s + SILENCE_S:
            log.warning("gateway %s said nothing for %g s", self.name.decode(), SILENCE_S)
            self.close()
        elif now_s >= self._said_at_s + BEAT_S / 2:
            self._said = None
            self.tell()

    def close(self) -> None:
        """End it now, whatever is on its way."""
        transport = self._transport
        self.connection_lost(None)
        transport.abort()
