"""The control connection to one replica's sidecar, kept for as long as the replica is known.

It brings the sidecar's word (ready or not, the allowance) to the replica's gate and the hold, and says how many of the
service's requests wait. Which loss means what: a refused connection or no answer is proof that requests cannot go there
either, because it is their port, and closes the gate; an end of the connection alone leaves the last allowance in place
while it connects again; a failure on this side, or a server that does not know the upgrade, leaves the replica to be
trusted. When it is tried again is said by `activator.tries`. `docs/decisions/011-grants.md` has the reasons.
"""

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import Any, Final

from activator.hold import Hold
from activator.remote_gate import RemoteGate
from activator.tries import ANSWER_S, Newcomers, Tries
from zerogate.clock import now
from zerogate.control import BEAT_S, PROTOCOL, SILENCE_S, ControlError, Demand, Lines, Terms, line, read_terms
from zerogate.http.sweep import NEVER, Sweep
from zerogate.http.upstream import Pool, Upstream
from zerogate.names import HOLDER
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)

_MAX_HEAD_BYTES: Final = 4096
_OUR_OWN_FAULT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Failures to connect that say nothing about the other side."""


class NoControlError(Exception):
    """The server there does not know the upgrade."""


class Link:
    """See the module's text. `start` first; `close` when the replica is gone, which is then removed from its hold.

    `name`: this process's own, the same to all sidecars. `jitter`: a random number from 0 to 1, injected.
    """

    def __init__(
        self,
        hold: Hold,
        replica_id: str,
        address: Address,
        name: bytes,
        *,
        sweep: Sweep,
        nursery: Nursery,
        jitter: Callable[[], float],
        newcomers: Newcomers,
    ) -> None:
        self.hold = hold
        self.gate = RemoteGate(limit=hold.policy.concurrency_limit, release_limit=hold.release_limit)
        self.name = name
        self.address = address
        self.sweep = sweep
        self._jitter = jitter
        self._newcomers = newcomers
        pool = Pool(address, sweep, nursery, holder=name)
        self.gate.on_use = self._plan
        self._is_planned = False
        self._upstream = Upstream(service=hold.service, id=replica_id, gate=self.gate, pool=pool)
        self._nursery = nursery
        self._task: asyncio.Task[None] | None = None
        self._connection: LinkConnection | None = None
        self._heard_at_s = now()
        self._is_ready = False
        """Whether the gate was opened from here: whoever closes it for another reason is not overruled."""

    def start(self) -> None:
        """Connect, and stay connected."""
        self._task = self._nursery.start(self._stay_connected(), name=f"control connection to {self.address}")

    def close(self) -> None:
        """The replica is gone."""
        self._is_ready = True  # whatever comes yet opens nothing
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.close()
        self.hold.remove(self._upstream.id)
        self._upstream.pool.close()

    def report(self) -> None:
        """Tell how many requests wait, where that is not what was told last."""
        if self._connection is not None:
            self._connection.report()

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._report_planned)

    def _report_planned(self) -> None:
        self._is_planned = False
        self.report()

    @property
    def demand(self) -> Demand:
        """What waits and could go there, no more than the replica could ever take at once, and what was sent."""
        gate = self.gate
        return Demand(min(self.hold.queue.length, gate.most) if gate.is_open else 0, gate.in_flight)

    # Connected

    def on_terms(self, terms: Terms) -> None:
        """The sidecar spoke."""
        self._heard_at_s = now()
        self.gate.tell(terms)
        if terms.ready:
            self._open()
            self.hold.release_more(self._heard_at_s)
            if self._connection is not None:
                # where we wait in vain, it may have taken us for one that does not answer any more
                self._connection.report(again=self.demand.waiting > 0)
        else:
            self._shut()

    def _open(self) -> None:
        if self._is_ready:
            return
        self._is_ready = True
        if self._upstream.id not in self.hold.replicas:
            self.gate.is_open = True
            self.hold.add(self._upstream, now())
        else:
            self.hold.reopen_gate(self._upstream.id, now())

    def _shut(self) -> None:
        self._is_ready = False
        if self.gate.is_open:
            self.hold.close_gate(self._upstream.id)

    # Connecting

    async def _stay_connected(self) -> None:
        tries = Tries(now(), self._newcomers)
        try:
            await self._try_always(tries)
        finally:
            tries.close()

    async def _try_always(self, tries: Tries) -> None:
        while True:
            began_s = now()
            try:
                connection = await self._connect(tries.connect_s(began_s))
            except NoControlError:
                self._trust("it does not know this kind of control connection")
                tries.on_no_control()
            except OSError as error:
                if error.errno in _OUR_OWN_FAULT:
                    if now() >= self._heard_at_s + SILENCE_S:
                        self._trust(f"no connection can be made from here: {error}")
                else:
                    self._shut()
            else:
                tries.on_reached()
                await connection.lost
                self._connection = None
                tries.on_lost(now() - began_s)
            await asyncio.sleep(tries.pause_s(now()) * (0.5 + self._jitter()))

    async def _connect(self, within_s: float) -> "LinkConnection":
        loop = asyncio.get_running_loop()
        address = self.address
        async with asyncio.timeout(ANSWER_S):
            async with asyncio.timeout(within_s):
                _, connection = await loop.create_connection(lambda: LinkConnection(self), address.host, address.port)
            try:
                await connection.answered
            except BaseException:
                connection.close()
                raise
        self._connection = connection
        connection.report()
        return connection

    def _trust(self, why: str) -> None:
        if self.gate.is_told or not self.gate.is_open:
            log.warning("the sidecar at %s is sent to without being asked: %s", self.address, why)
            self.gate.trust()
            self._open()


class LinkConnection(asyncio.Protocol):
    """One control connection. `answered` is set when the upgrade was, `lost` at its end."""

    def __init__(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.tick = 0
        self.visit_s = NEVER
        self._link = link
        self._transport: Any = None
        self._head: bytes | None = b""
        self._lines = Lines()
        self._said = Demand(0, 0)
        self._said_at_s = self._heard_at_s = now()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(
            b"GET / HTTP/1.1\r\nHost: %b\r\nConnection: Upgrade\r\nUpgrade: %b\r\n%b: %b\r\n\r\n"
            % (str(self._link.address).encode(), PROTOCOL, HOLDER, self._link.name)
        )
        self._link.sweep.watch(self, now() + BEAT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.sweep.forget(self)
        if not self.answered.done():
            self.answered.set_exception(exc or ConnectionResetError(errno.ECONNRESET, "closed without an answer"))
            self.answered.exception()  # nobody may be waiting for it any more
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._heard_at_s = now()
        if self._head is not None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0 and len(self._head) < _MAX_HEAD_BYTES:
                return
            head, data, self._head = self._head[:end], self._head[end + 4 :], None
            if self.answered.done():
                return
            if end < 0 or not head.startswith(b"HTTP/1.1 101 "):
                self.answered.set_exception(NoControlError())
                return
            self.answered.set_result(None)
        try:
            terms = [read_terms(text) for text in self._lines.feed(data)]
        except ControlError as error:
            log.warning("the sidecar at %s: %s", self._link.address, error)
            self.close()
            return
        if terms and not self.lost.done():
            self._link.on_terms(terms[-1])

    def report(self, *, again: bool = False) -> None:
        """Say how many wait and were sent, where that is of use and new; with `again` in any case."""
        demand, said = self._link.demand, self._said
        is_of_use = demand.waiting or said.waiting or self._link.gate.is_contended
        if not self.lost.done() and (again or (is_of_use and demand != said)):
            self._said = demand
            self._said_at_s = now()
            self._transport.write(line(demand))

    def due(self, now_s: float) -> float | None:
        """Speak where nothing was said for a while; end where nothing was heard for too long."""
        if now_s >= self._heard_at_s + SILENCE_S:
            self.close()
            return None
        if now_s >= self._said_at_s + BEAT_S / 2:
            self.report(again=True)
        return now_s + BEAT_S / 2

    def close(self) -> None:
        """End it now."""
        if self._transport is not None:
            self._transport.abort()
        if not self.lost.done():
            self.lost.set_result(None)
