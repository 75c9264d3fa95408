"""Tells all autoscalers what this process counts: changed readings each second, a beat each 5 s, wakes at once.

The owner keeps the counters (`Book`) and says when a request waits; which autoscalers there are is asked of the name
again and again, and each has a stream of its own. What one of them could not be told is told as it is by then, so
nothing is kept but names. Whoever can act without the autoscalers (a gateway may scale 0→1) is called when the leader
does not acknowledge a wake for 3 s. All methods run on the event loop and none of them waits but `close`.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from zerogate.clock import now
from zerogate.reporting.families import Told
from zerogate.reporting.stream import Asked, Stream
from zerogate.reporting.targets import MOST_ADDRESSES, resolve
from zerogate.reporting.wakes import Wakes
from zerogate.reporting.wire import (
    BEAT_S,
    MOST_READINGS,
    MOST_REFUSED,
    Beat,
    Bye,
    FromSource,
    Hello,
    Kind,
    Order,
    Reading,
    Readings,
    Wake,
    frame,
    reading_of,
)
from zerogate.runtime.interface import Address
from zerogate.stats import Stat
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)

PERIOD_S: Final = 1.0
SOON_S: Final = 0.01
"""The least time between two tellings of hand-overs: until it is told, a request may count twice."""
RESOLVE_S: Final = 10.0
"""As long as the usual name server of a cluster keeps an answer is 5 to 30 s."""
_REPEAT_S: Final = 0.1
"""Wakes are said to a new leader at once, and not with each word of a talkative one: they come each second anyway."""
LAST_WORD_S: Final = 1.0
MOST_TOKEN_BYTES: Final = 8192


class Book(Protocol):
    """The owner's counters."""

    def take_changed(self) -> list[str]:
        """Services whose counters changed, or whose integrals run, since the last call."""

    def read(self, service: str, now_s: float) -> Stat | None:
        """A reading of now; None where the service is not known any more. Source and incarnation are left out."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where to and as whom. `source`: unlike any other's; `service`: the only one that it can see, empty for all."""

    addresses: tuple[Address, ...]
    source: str
    kind: Kind
    service: str = ""
    token_file: str = ""
    ca_file: str = ""
    """Authorities that prove autoscalers, by TLS, under the names of `addresses`."""
    key: str = ""
    """Or what a sidecar has instead, as `zerogate.reporting.proof` writes it."""
    workers: int = 1
    """Sources in the same pod, this one included."""


Answer = Callable[[FromSource], None]
"""Says something to the autoscaler that gave an order, where it can hear it now."""


def _nobody(*_: object) -> None:
    """Nobody acts."""


def _asked_of(target: Target) -> Asked:
    """Neither TLS nor codes are loaded where there is no use for them."""
    if target.ca_file:
        from zerogate.reporting.trust import Trust

        return Asked(trust=Trust(target.ca_file))
    if target.key:
        from zerogate.reporting.proof import parse_key

        return Asked(key=parse_key(target.key))
    return Asked()


class Sender:
    """See the module's text. `start` first, `close` last. `jitter`: a random number from 0 to 1, injected. `inside`:
    requests inside replicas without a sidecar, where there are any; told with a beat, and within a second of a change.
    `on_refused`: (service, why the leader cannot bring it up from zero; empty: that is over).
    """

    def __init__(
        self,
        book: Book,
        target: Target,
        *,
        nursery: Nursery,
        jitter: Callable[[], float],
        on_unacknowledged: Callable[[str], None] = _nobody,
        on_refused: Callable[[str, str], None] = _nobody,
        on_order: Callable[[Order, Answer], None] = _nobody,
        inside: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self._book = book
        self._target = target
        self._nursery = nursery
        self._jitter = jitter
        self._on_unacknowledged = on_unacknowledged
        self._on_refused = on_refused
        self._on_order = on_order
        self._inside = inside
        self._incarnation = os.urandom(8).hex()
        self._asked = _asked_of(target)
        self._streams: dict[Address, Stream] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._known: dict[str, None] = {}
        """Services that were ever reported and still exist."""
        self._soon: dict[str, None] = {}
        self._wakes = Wakes()
        self._wakes_timer: asyncio.Handle | None = None
        self._soon_timer: asyncio.Handle | None = None
        self._is_closed = False
        self._readings = 0
        self._unheard_wakes = 0

    def start(self) -> None:
        """Find the autoscalers and report to them from now on."""
        self._tasks = [
            self._nursery.start(self._find_always(), name="autoscalers"),
            self._nursery.start(self._report_always(), name="stats"),
        ]

    async def close(self) -> None:
        """Tell the last readings and say goodbye, to whom that can be told within a second."""
        self._is_closed = True
        for timer in (self._wakes_timer, self._soon_timer):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        await self._push(list({**self._soon, **dict.fromkeys(self._book.take_changed())}))
        await asyncio.gather(*(stream.end(Bye(), LAST_WORD_S) for stream in self._streams.values()))

    def wake(self, service: str) -> None:
        """A request waits: tell it in this turn of the loop."""
        self._wakes.ask(service, now())
        if self._wakes_timer is None and not self._is_closed:
            self._wakes_timer = asyncio.get_running_loop().call_soon(self._send_wakes)

    def soon(self, service: str) -> None:
        """Report the service before the second is over."""
        self._soon[service] = None
        if self._soon_timer is None and not self._is_closed:
            # many begin and cease to wait in one turn of the loop: what is left of that is told once
            self._soon_timer = asyncio.get_running_loop().call_soon(self._on_soon)

    @property
    def leader_age_s(self) -> float:
        """Seconds since the leader acknowledged anything; infinite before it ever did."""
        return self._wakes.leader_age_s(now())

    @property
    def open_streams(self) -> int:
        """Autoscalers that hear this process now."""
        return sum(stream.is_open for stream in self._streams.values())

    def told(self) -> Told:
        """What was counted."""
        return Told(self.open_streams, self._readings, self._unheard_wakes)

    # Who hears it

    async def _find_always(self) -> None:
        while True:
            try:
                found = {one: target.host for target in self._target.addresses for one in await resolve(target)}
            except (OSError, TimeoutError) as error:
                log.warning("the autoscalers' addresses are not to be had: %s", error or "no answer")
            else:
                self._keep(found)
            await asyncio.sleep(RESOLVE_S * (0.75 + self._jitter() / 2) if self._streams else PERIOD_S)

    def _keep(self, all_found: Mapping[Address, str]) -> None:
        """`all_found`: addresses with the names that they were found by."""
        found = dict(list(all_found.items())[:MOST_ADDRESSES])
        for address, stream in self._streams.items():
            # one that works is left alone until it ends: who is not ready for others may well be ready for us
            stream.is_listed = address in found
        for address, name in found.items():
            if address not in self._streams:
                asked = msgspec.structs.replace(self._asked, name=name.rstrip("."))
                stream = self._streams[address] = Stream(address, self, self._jitter, asked)
                self._nursery.start(self._run(stream), name=f"stats to {address}")

    async def _run(self, stream: Stream) -> None:
        try:
            await stream.run()
        finally:
            # whatever ended it: the next look at the name begins a new one
            if self._streams.get(stream.address) is stream:
                del self._streams[stream.address]

    def hello(self) -> Hello:
        """The first word of a stream."""
        it = self._target
        return Hello(it.source, self._incarnation, it.kind, self._token(), it.service, it.workers)

    def _token(self) -> str:
        """Read anew each time: it is replaced in its file long before it expires."""
        if not self._target.token_file:
            return ""
        try:
            with Path(self._target.token_file).open("rb") as file:
                return file.read(MOST_TOKEN_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            log.warning("%s cannot be read as a token: %s", self._target.token_file, error)
            return ""

    def on_welcome(self, stream: Stream) -> None:
        """It has heard nothing yet. Where it leads, `on_ack` comes next, and tells the wakes."""
        stream.wakes_said_s = float("-inf")
        stream.missed.update(self._known)
        self._catch_up(stream)

    def on_writable(self, stream: Stream) -> None:
        """It reads again."""
        self._catch_up(stream)

    def on_ack(self, stream: Stream, number: int, *, is_leading: bool, refused: str = "") -> None:
        """An autoscaler has heard something."""
        if not is_leading:
            return
        now_s = now()
        service = self._wakes.hear_leader(number, now_s, refused[:MOST_REFUSED])
        if service is not None:
            self._on_refused(service, refused[:MOST_REFUSED])
        if number == 0 and now_s >= stream.wakes_said_s + _REPEAT_S:
            stream.wakes_said_s = now_s
            self._say_wakes(self._wakes.unanswered(), [stream])

    def on_order(self, stream: Stream, order: Order) -> None:
        """An autoscaler orders something; the answers go to it alone."""
        self._on_order(order, lambda message: self._answer(stream, message))

    @staticmethod
    def _answer(stream: Stream, message: FromSource) -> None:
        stream.say(frame(message))

    # What is said

    async def _report_always(self) -> None:
        next_beat_s = 0.0
        told: dict[str, int] = {}
        await asyncio.sleep(PERIOD_S * self._jitter())
        while True:
            await self._push(self._book.take_changed())
            now_s = now()
            inside = self._inside()
            if now_s >= next_beat_s or inside != told:
                told = inside
                next_beat_s = now_s + BEAT_S - PERIOD_S / 2
                token = self._token()
                for stream in self._streams.values():
                    stream.beat(Beat(inside), token, now_s)
            self._look_after_wakes(now_s)
            await asyncio.sleep(PERIOD_S)

    async def _push(self, services: Sequence[str]) -> None:
        """Tell all streams; in slices, because thousands of services are milliseconds."""
        for begin in range(0, len(services), MOST_READINGS):
            if begin:
                await asyncio.sleep(0)
            part = services[begin : begin + MOST_READINGS]
            self._known.update(dict.fromkeys(part))
            data = self._frame(part)
            for stream in self._streams.values():
                if not stream.missed.keys().isdisjoint(part):
                    for service in part:
                        stream.missed.pop(service, None)
                if data and not stream.say(data):
                    stream.missed.update(dict.fromkeys(part))

    def _frame(self, services: Iterable[str]) -> bytes:
        now_s = now()
        readings = [reading for service in services if (reading := self._read(service, now_s)) is not None]
        self._readings += len(readings)
        return frame(Readings(tuple(readings))) if readings else b""

    def _read(self, service: str, now_s: float) -> Reading | None:
        stat = self._book.read(service, now_s)
        if stat is None:
            self._known.pop(service, None)
            return None
        return reading_of(stat)

    def _catch_up(self, stream: Stream) -> None:
        """Tell a stream what it missed, a slice in each turn of the loop, as long as it reads."""
        if not stream.missed or not stream.can_write:
            return
        part = list(stream.missed)[:MOST_READINGS]
        for service in part:
            del stream.missed[service]
        if data := self._frame(part):
            stream.say(data)
        asyncio.get_running_loop().call_soon(self._catch_up, stream)

    def _on_soon(self) -> None:
        self._soon_timer = None
        if self._soon:
            self._send_soon()
            self._soon_timer = asyncio.get_running_loop().call_later(SOON_S, self._on_soon)

    def _send_soon(self) -> None:
        part = list(self._soon)[:MOST_READINGS]
        for service in part:
            del self._soon[service]
        data = self._frame(part)
        for stream in self._streams.values() if data else ():
            if not stream.say(data):
                stream.missed.update(dict.fromkeys(part))

    # Wakes

    def _send_wakes(self) -> None:
        self._wakes_timer = None
        now_s = now()
        due, next_s = self._wakes.take_due(now_s)
        self._say_wakes(due, self._streams.values())
        if next_s is not None:
            self._wakes_timer = asyncio.get_running_loop().call_later(next_s - now_s, self._send_wakes)

    def _say_wakes(self, wakes: Iterable[tuple[int, str]], streams: Iterable[Stream]) -> None:
        now_s = now()
        for number, service in wakes:
            reading = self._read(service, now_s)
            if reading is None:
                self._settle(service)
                continue
            self._known[service] = None
            data = frame(Wake(number, reading))
            for stream in streams:
                stream.say(data)

    def _look_after_wakes(self, now_s: float) -> None:
        for service in self._wakes.waiting():
            stat = self._book.read(service, now_s)
            if stat is None or not stat.held:
                self._settle(service)
        self._say_wakes(self._wakes.take_repeated(now_s), self._streams.values())
        for service in self._wakes.take_late(now_s):
            self._unheard_wakes += 1
            self._on_unacknowledged(service)

    def _settle(self, service: str) -> None:
        if self._wakes.settle(service):
            self._on_refused(service, "")
