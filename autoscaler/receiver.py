"""The receiving end of the stats path: takes streams of sidecars, gateways and activators, and feeds the autoscaler.

Every autoscaler receives, so that a follower knows as much as the leader; only the leader is woken, and an
acknowledgement says whether it was one. A stream may ask this side first to prove that it is an autoscaler; it says who
it is, its token is judged by whoever was injected, and from then on it speaks for that source alone.

Invariants: bounded in streams, in those not yet known, in tokens that are judged, in bytes kept and read, in time until
a source says who it is, and in work for one callback; a report about a service that the source may not see is dropped
and counted, and ends its stream; whatever a source does, others are heard.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from autoscaler.heard import FOLLOWING, LEADING
from autoscaler.identity import Identity, Refused, Source
from autoscaler.knocks import ONE_BURST, ONE_PER_S, Knocks
from autoscaler.stream import Stream
from zerogate.clock import now
from zerogate.http.listener import BACKLOG
from zerogate.http.sweep import Sweep
from zerogate.reporting.wire import Order, Quiesced, frame
from zerogate.slices import Pace
from zerogate.stats import Stat
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)

_CROWD: Final = 50
"""Streams that are not known yet: a tenth of a second's judgements."""
_LOG_GAP_S: Final = 1.0
"""Whoever knocks again and again does not fill the log."""

Authenticate = Callable[[str], Awaitable[Identity | Refused]]


class Taker(Protocol):
    """Who is fed: the `Autoscaler`."""

    def report(self, stat: Stat) -> None: ...
    def heartbeat(self, source: str, incarnation: str, *, service: str | None = None) -> None: ...
    def farewell(self, source: str, incarnation: str) -> None: ...
    def wake(self, service: str) -> None: ...


class Listener(Protocol):
    """Who asks sidecars for their gates, and holders (gateways, activators) for those of replicas that have none, and
    hears what becomes of that: `autoscaler.quiescer`."""

    def on_source(self, source: str, incarnation: str) -> None: ...
    def on_source_lost(self, source: str) -> None: ...
    def on_in_flight(self, source: str, count: int) -> None: ...
    def on_quiesced(self, source: str, incarnation: str, word: Quiesced) -> None: ...
    def on_holder(self, source: str, incarnation: str, workers: int) -> None: ...
    def on_holder_lost(self, source: str) -> None: ...
    def on_holder_left(self, source: str) -> None: ...
    def on_inside(self, source: str, inside: Mapping[str, int]) -> None: ...


class _Nobody:
    """Nobody asks."""

    def on_source(self, source: str, incarnation: str) -> None: ...
    def on_source_lost(self, source: str) -> None: ...
    def on_in_flight(self, source: str, count: int) -> None: ...
    def on_quiesced(self, source: str, incarnation: str, word: Quiesced) -> None: ...
    def on_holder(self, source: str, incarnation: str, workers: int) -> None: ...
    def on_holder_lost(self, source: str) -> None: ...
    def on_holder_left(self, source: str) -> None: ...
    def on_inside(self, source: str, inside: Mapping[str, int]) -> None: ...


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What the streams are held to."""

    streams: int = 20_000
    """More than the sources that the autoscaler knows at most."""
    unknown: int = 5_000
    """Streams whose token is not judged yet: after a restart ten thousand sources come within seconds, and half of them
    wait more cheaply here than by coming again. Each keeps about 3 KiB."""
    silent_s: float = 1.0
    """So long nobody has to give way who has not said yet who he is: that takes two round trips."""
    tokens_per_s: float = ONE_PER_S
    tokens_at_once: int = ONE_BURST
    """First tokens that are judged for one address."""
    readings_per_s: float = 50.0
    """Of a source that sees one service: it has one reading a second to tell."""
    readings_per_s_of_all: float = 20_000.0
    """Of a gateway: every service each second, of a cluster with as many as are foreseen, four times."""
    burst_s: float = 4.0
    """What was not said for so long may be said at once."""


class Figures:
    """What the receiver counted."""

    __slots__ = ("forged", "refused", "reports", "throttled", "wakes")

    def __init__(self) -> None:
        self.reports = 0
        self.wakes = 0
        self.forged = 0
        """Readings and wakes about services that their source may not see."""
        self.throttled = 0
        """Times that a source said too much, and was not read for a while."""
        self.refused: dict[str, int] = {
            "full": 0, "token": 0, "forged": 0, "protocol": 0, "silent": 0, "tls": 0, "key": 0, "unproven": 0
        }  # fmt: skip


class Receiver:
    """See the module's text. `start` first, `close` last.

    `tls`: with what certificate a handshake is answered; `masters`: of which sidecars' keys are made
    (`zerogate.reporting.proof`); `takes_unproven`: whether sources are heard that ask for no proof;
    `refusal`: why a service cannot be brought up from zero though that was tried, as a clause.
    """

    def __init__(
        self,
        taker: Taker,
        authenticate: Authenticate,
        *,
        is_leading: Callable[[], bool],
        sweep: Sweep,
        nursery: Nursery,
        bounds: Bounds | None = None,
        listener: Listener | None = None,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        masters: Callable[[], Sequence[bytes]] = tuple,
        takes_unproven: bool = True,
        refusal: Callable[[str], str] = lambda service: "",
    ) -> None:
        self.tls = tls
        self.masters = masters
        self.takes_unproven = takes_unproven
        self.refusal = refusal
        self.taker = taker
        self.authenticate = authenticate
        self.is_leading = is_leading
        self.sweep = sweep
        self.nursery = nursery
        self.bounds = bounds or Bounds()
        self.listener: Listener = listener or _Nobody()
        self.figures = Figures()
        self.streams: dict[str, Stream] = {}
        """Of known sources, by their names."""
        self.of_all: dict[str, None] = {}
        """Names of those that see all services: gateways' and activators' workers."""
        self.unknown: set[Stream] = set()
        self.silent: dict[Stream, float] = {}
        """Of the unknown, those that have not said who they are, the oldest first, with when they came."""
        self.knocks = Knocks(one_per_s=self.bounds.tokens_per_s, one_burst=self.bounds.tokens_at_once)
        self._quiet_until_s = 0.0
        self._server: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Take streams from this listening socket."""
        self._server = await asyncio.get_running_loop().create_server(lambda: Stream(self), sock=sock, backlog=BACKLOG)

    # What streams tell

    def enter(self, stream: Stream) -> bool:
        """It has come, and is nobody's yet. False: it was turned away, because there are as many as are taken."""
        unknown, bounds, now_s = len(self.unknown), self.bounds, now()
        self.unknown.add(stream)
        if unknown >= bounds.unknown or unknown + len(self.streams) >= bounds.streams:
            # an honest source says soon who it is: whoever only knocks keeps no place from it
            oldest, came_s = next(iter(self.silent.items()), (stream, now_s))
            gives_way = oldest if now_s - came_s >= bounds.silent_s else stream
            gives_way.put_off("This autoscaler has as many streams as it takes.")
            if gives_way is stream:
                return False
        self.silent[stream] = now_s
        return True

    def hear(self, stream: Stream) -> None:
        """It has said who it is; that is to be proved yet."""
        self.silent.pop(stream, None)

    def know(self, stream: Stream, source: Source) -> None:
        """It is this source's. One that is open already is dead, and only not known to be."""
        before = self.streams.get(source.name)
        if before is not None:
            before.abort()
        self.unknown.discard(stream)
        self.streams[source.name] = stream
        if source.scope is None:
            self.of_all[source.name] = None

    def turn_away(self, stream: Stream, source: Source | None, why: str, reason: str) -> None:
        """It is told why, and ends; `why` is one of `Figures.refused`."""
        self.figures.refused[why] += 1
        if now() >= self._quiet_until_s:
            self._quiet_until_s = now() + _LOG_GAP_S
            log.warning("a stream of %s: %s", source.name if source is not None else "an unknown source", reason)
        self.unknown.discard(stream)
        self.silent.pop(stream, None)

    def leave(self, stream: Stream, source: Source | None) -> None:
        """Its connection is lost."""
        self.unknown.discard(stream)
        self.silent.pop(stream, None)
        if source is not None and self.streams.get(source.name) is stream:
            del self.streams[source.name]
            self.of_all.pop(source.name, None)
            if source.scope is not None:
                self.listener.on_source_lost(source.name)
            elif source.holds:
                self.listener.on_holder_lost(source.name)

    def withdraw(self, token_id: bytes, why: Refused) -> None:
        """The token with this id (`Identity.token_id`) proves nothing after all: whom it was believed of are ended."""
        for stream in [stream for stream in self.streams.values() if stream.token_id == token_id]:
            stream.turn_away("token", why.reason)

    # What the autoscaler wants

    async def say_who_leads(self, *, to_sidecars: bool, pace: Pace) -> None:
        """The leader has changed: sources say again what it has not acknowledged. Those that see all services hold
        requests, and should hear it first."""
        data = LEADING if self.is_leading() else FOLLOWING
        for name, stream in list(self.streams.items()):
            if stream.sees_one is to_sidecars and self.streams.get(name) is stream:
                stream.write(data)
                await pace.rest()

    def tell(self, source: str, order: Order) -> bool:
        """Send an order to a sidecar or a holder. False where that cannot be written now, or it has no stream."""
        stream = self.streams.get(source)
        return stream is not None and stream.write(frame(order))

    def proofs(self) -> dict[str, int]:
        """Known sources by how this side proved itself to them."""
        return {**dict.fromkeys(("tls", "key", "none"), 0), **Counter(stream.proof for stream in self.streams.values())}

    @property
    def is_crowded(self) -> bool:
        """Many wait to be known."""
        return len(self.unknown) >= _CROWD

    def close(self) -> None:
        """End all streams; their sources go to other autoscalers, or come again."""
        if self._server is not None:
            self._server.close()
        for stream in (*self.unknown, *self.streams.values()):
            stream.abort()
