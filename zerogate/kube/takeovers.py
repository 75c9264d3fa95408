"""Keeps the slices and target ports of all workloads that are taken over: the shell of `takeover_book.py`.

Part of the autoscaler; every replica watches, the leader writes. Fed with workloads and pods like any listener of a
`Feed`; Services and EndpointSlices are watched here. The runtime asks `may_zero` before it takes a service to zero, and
is told by `on_may_zero` when that changes. All methods run on the event loop, and none of them waits but `aclose`.
"""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

from zerogate.clock import now
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import KubeError, NotFound
from zerogate.kube.event_book import Happening
from zerogate.kube.fronts import TARGETS, operations, recorded
from zerogate.kube.happenings import Happenings
from zerogate.kube.objects import ENDPOINT_SLICES, SERVICES, EndpointSlice, Key, Pod, Service
from zerogate.kube.port_ledger import FIRST, LAST
from zerogate.kube.slice_book import SliceBook
from zerogate.kube.takeover import (
    SETTLE_S,
    WRITE_AGAIN_S,
    WRITE_S,
    Ask,
    DeleteSlice,
    Stand,
    WriteSlice,
    slice_name,
    slice_of,
)
from zerogate.kube.takeover_book import PORTS_AGAIN_S, Due, LookAgain, MayZero, Perform, Retarget, Revisit, TakeoverBook
from zerogate.kube.watching import Change, Watched
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)

ACTIVATORS: Final = "zerogate-activator"
"""The activators' own Service, in zerogate's namespace."""
CONNECT_S: Final = 1.0
AT_ONCE: Final = 64
"""Activators that are asked at a time."""


async def listens(address: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


class Takeovers:
    """See the module's text."""

    def __init__(
        self,
        client: KubeClient,
        *,
        home: str,
        happenings: Happenings | None = None,
        activators: str = ACTIVATORS,
        ports: tuple[int, int] = (FIRST, LAST),
        namespace: str = "",
        settle_s: float = SETTLE_S,
        clock: Callable[[], float] = now,
        chance: Callable[[], float] = random.random,
        is_listening: Callable[[str, int], Awaitable[bool]] = listens,
    ) -> None:
        self.on_may_zero: Callable[[str], None] = lambda service: None
        """Told, in a turn of its own, when `may_zero` of a service may say otherwise."""
        self._client = client
        self._happenings = happenings
        self._range = ports
        self._clock = clock
        self._chance = chance
        self._is_listening = is_listening
        self._services = Watched(client, SERVICES, namespace=namespace)
        self._slices = Watched(client, ENDPOINT_SLICES)
        self._slice_book = SliceBook((home, activators))
        self._book = TakeoverBook(self._services.items, self._slice_book, ports=ports, settle_s=settle_s)
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._ports_timer: asyncio.TimerHandle | None = None
        self._leads = False
        self._is_synced = False
        self._is_flush_due = False
        self._asking = asyncio.Semaphore(AT_ONCE)
        self._nursery = Nursery()

    def start(self) -> None:
        """Watch. Until all there is has been seen, nothing that is taken over goes to zero, and nothing is written: who
        may not see Services and slices, because no activators are installed, is not kept from anything else."""
        self._slices.start(self._on_slice)
        self._services.start(self._on_service)
        self._nursery.start(self._sync(), name="takeover")

    async def _sync(self) -> None:
        await asyncio.gather(self._slices.wait_synced(), self._services.wait_synced())
        self._is_synced = True
        self.lead(self._leads, anew=True)

    async def aclose(self) -> None:
        """Leave everything as it stands."""
        self._forget_timers()
        if self._ports_timer is not None:
            self._ports_timer.cancel()
        self._leads = False
        await asyncio.gather(self._slices.aclose(), self._services.aclose())
        await self._nursery.aclose()

    # What the composition root says

    def lead(self, leads: bool, *, anew: bool = False) -> None:
        """This process writes from now on, or another one does. To be called before the runtime's."""
        if leads == self._leads and not anew:
            return
        self._leads = leads
        self._forget_timers()
        first, last = self._range
        start = first + int(self._chance() * (last - first + 1))
        for found, port in self._book.lead(leads, start=start, recovers=self._is_synced):
            log.warning("the slice %s has port %s, which is not its own", "/".join(found.key), port)
        self._flush_soon()

    def on_services(self, services: Mapping[str, Managed]) -> None:
        """All workloads under zerogate."""
        for service in self._book.on_services(services):
            asyncio.get_running_loop().call_soon(self.on_may_zero, service)
        self._flush_soon()

    def on_number(self, service: str, number: int, version: int) -> None:
        """Of no use here: what answers is told by slices."""

    def on_pod(self, service: str, pod: Pod) -> None:
        """A pod of the service is new or looks different."""
        self._book.on_pod(service, pod)
        self._flush_soon()

    def on_pod_gone(self, service: str, name: str) -> None:
        """The pod was deleted."""
        self._book.on_pod_gone(service, name)
        self._flush_soon()

    def may_zero(self, service: str) -> bool:
        """The service heads for zero. Whether all its Services are answered for by now, or it is not taken over."""
        may_zero = self._book.may_zero(service, self._clock())
        self._flush_soon()
        return may_zero

    def stay_up(self, service: str) -> None:
        """It does so no longer."""
        self._book.stay_up(service, self._clock())
        self._flush_soon()

    def troubles(self, service: str) -> tuple[str, ...]:
        """What keeps a service from being taken over, a sentence each: for people."""
        return self._book.troubles(service)

    # What the watches show

    def _on_service(self, _: Change, old: Service | None, new: Service | None) -> None:
        self._book.on_service(old, new)
        self._flush_soon()

    def _on_slice(self, _: Change, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        seen = new or old
        if seen is not None:
            self._slice_book.on_slice(old, new)
            self._book.on_slice(seen, new, self._clock())
            self._flush_soon()

    # What is due

    def _plan(self, key: Key) -> None:
        self._book.plan(key)
        self._flush_soon()

    def _plan_whole(self) -> None:
        self._book.plan_whole()
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._is_flush_due and self._book.is_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if self._is_synced:
            for due in self._book.flush(self._clock()):
                self._do(due)

    def _do(self, due: Due) -> None:
        match due:
            case Perform(taken):
                self._nursery.start(self._perform(due), name=f"takeover of {'/'.join(taken.front.key)}")
            case Retarget(taken):
                self._nursery.start(self._move(due), name=f"target ports of {'/'.join(taken.front.key)}")
            case Revisit(key, at_s):
                self._revisit(key, at_s)
            case MayZero(service):
                asyncio.get_running_loop().call_soon(self.on_may_zero, service)
            case LookAgain():
                if self._ports_timer is None:
                    self._ports_timer = asyncio.get_running_loop().call_later(PORTS_AGAIN_S, self._look_for_ports)
            case Happening():
                if self._happenings is not None:
                    self._happenings.tell(due)

    def _look_for_ports(self) -> None:
        self._ports_timer = None
        self._plan_whole()

    def _revisit(self, key: Key, at_s: float | None) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if at_s is not None:
            delay_s = max(0.0, at_s - self._clock())
            self._timers[key] = asyncio.get_running_loop().call_later(delay_s, self._plan, key)

    def _forget_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def _perform(self, due: Perform) -> None:
        if isinstance(due.act, Ask):
            await self._ask(due.stand, due.act)
        else:
            await self._write(due.stand, due.act)
        self._plan(due.taken.front.key)

    async def _ask(self, stand: Stand, act: Ask) -> None:
        async with self._asking:
            answers = [await self._is_listening(act.address, port) for port in act.ports]
        if all(answers) and stand.ports == act.ports:
            stand.on_listening(act.address)

    async def _write(self, stand: Stand, act: WriteSlice | DeleteSlice) -> None:
        name, namespace = slice_name(stand.front, stand.family), stand.front.key[0]
        try:
            async with asyncio.timeout(WRITE_S):
                if isinstance(act, DeleteSlice):
                    with suppress(NotFound):
                        await self._client.delete(ENDPOINT_SLICES, name, namespace=namespace)
                    stand.on_slice(None, self._clock())
                else:
                    body = slice_of(stand, act.addresses)
                    written = await self._client.apply(ENDPOINT_SLICES, name, body, namespace=namespace)
                    stand.on_slice(written, self._clock())
        except TimeoutError:
            log.warning(
                "Service %s: its EndpointSlice %s was not written within %g s, and is written again",
                "/".join(stand.front.key), name, WRITE_S,
            )  # fmt: skip
            stand.on_failed(self._clock() + WRITE_AGAIN_S)
        except KubeError as error:
            log.warning("Service %s: %s", "/".join(stand.front.key), error)
            stand.on_failed(self._clock() + (error.retry_after_s or WRITE_AGAIN_S))
        else:
            stand.on_written(self._clock())

    async def _move(self, due: Retarget) -> None:
        """The record is written first and taken away last."""
        service, moves = due.move.service, due.move.moves
        namespace, name = service.key
        record = {**recorded(service), **{str(move.port): move.before for move in moves}}
        try:
            if not due.move.is_back:
                await self._record(service, json.dumps(record))
            await self._client.json_patch(SERVICES, name, operations(moves), namespace=namespace)
            if due.move.is_back:
                await self._record(service, None)
        except KubeError as error:
            log.warning("Service %s/%s: its target ports could not be written: %s", namespace, name, error)
            due.taken.on_not_moved(self._clock() + (error.retry_after_s or WRITE_AGAIN_S))
        else:
            due.taken.on_moved(due.move, self._clock())
        self._plan_whole()

    async def _record(self, service: Service, record: str | None) -> None:
        namespace, name = service.key
        body = {"metadata": {"annotations": {TARGETS: record}}}
        await self._client.merge_patch(SERVICES, name, body, namespace=namespace)
