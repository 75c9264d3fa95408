"""What the API server has of one kind, kept up to date: list and watch, and who wants to know of changes.

The shell of `following.py`. Consumers (runtime, gateway, activator) see a mapping that is always whole: it is filled
when the first state is complete, a new list after 410 replaces it by differences, and while the server cannot be
reached it stays as it was, with its age beside it. Changes are told on the loop, one by one and in order.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing
from enum import StrEnum
from types import MappingProxyType
from typing import Generic, TypeVar

import msgspec

from zerogate import slices
from zerogate.clock import now
from zerogate.kube.client import KubeClient
from zerogate.kube.decoding import Page, Status, WatchLine, decode
from zerogate.kube.errors import Asked, KubeError, Unreadable, refusal
from zerogate.kube.following import Following, ListPage, Pace, Step, Wait, Watch, failure_of
from zerogate.kube.objects import Glance, Key, Kind, Meta, Resource
from zerogate.kube.pages import read_ahead
from zerogate.kube.relists import Part, Relist, RelistClock
from zerogate.kube.transport import WatchStream
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Kind)


class Change(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


OnChange = Callable[[Change, T | None, T | None], None]
"""Kind of change, the object before (None: added) and after (None: removed)."""


class Watched(Generic[T]):
    """The objects of one kind, in one namespace or all, that match the selectors."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource[T],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        pace: Pace | None = None,
        by_watch: bool = True,
        clock: Callable[[], float] = now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._clock = clock
        self._chance = chance
        self._following = Following(pace, by_watch=by_watch)
        self._items: dict[Key, T] = {}
        self._collected: dict[Key, T] = {}
        self._told: OnChange[T] = _nobody
        self._synced = asyncio.Event()
        self._sign_s = float("-inf")
        self._nursery = Nursery()
        self.items: Mapping[Key, T] = MappingProxyType(self._items)
        """What is known, by (namespace, name); a live view."""
        self.fault: KubeError | None = None
        """What keeps it from being up to date right now; None: nothing."""
        self.unreadable = 0
        """Objects that could not be decoded so far; each keeps the state it was last seen in."""
        self.relists = 0
        """How often everything was listed anew, because the server had forgotten where the watch stood (410)."""
        self.relist: Relist | None = None
        """What the last of them took."""
        self._relist_clock = RelistClock(clock)

    @property
    def name(self) -> str:
        """What is watched, for people."""
        return f"{self._resource.plural} {self._namespace}".strip()

    @property
    def is_synced(self) -> bool:
        """The state has been complete once. From then on `items` is never empty for lack of knowledge."""
        return self._synced.is_set()

    @property
    def age_s(self) -> float:
        """Seconds since the server last said anything on it; infinite before the first state is complete.

        In a quiet cluster up to 60 s are normal: a bookmark comes once a minute.
        """
        return self._clock() - self._sign_s

    def start(self, on_change: OnChange[T] | None = None) -> None:
        """Begin; `on_change` is called for every object of the first state too, before `is_synced` is true."""
        if on_change:
            self._told = on_change
        self._nursery.start(self._run(), name=f"watch {self.name}")

    async def wait_synced(self) -> None:
        await self._synced.wait()

    async def aclose(self) -> None:
        """Stop watching. `items` stays as it is."""
        await self._nursery.aclose()

    async def _run(self) -> None:
        while True:
            step = self._following.next_step(self._chance())
            try:
                await self._perform(step)
            except KubeError as error:
                if type(error) is not type(self.fault):
                    log.warning("%s", error)
                self.fault = error
                was_whole = not self._following.is_collecting
                self._following.on_failed(failure_of(error), error.retry_after_s)
                if was_whole and self._following.is_collecting:
                    self._relist_clock.lost()

    async def _perform(self, step: Step) -> None:
        match step:
            case Wait(seconds=seconds):
                with self._relist_clock.counted(Part.PAUSED):
                    await asyncio.sleep(seconds)
            case ListPage(token=token):
                await self._list(token)
            case Watch():
                await self._watch(step)

    async def _list(self, token: str) -> None:
        if not token:
            self._collected = {}
        async with aclosing(read_ahead(self._page, token)) as pages:
            async for page in pages:
                with self._relist_clock.counted(Part.COLLECTED):
                    await self._collect_all(page)
                if not page.metadata.continue_token:
                    await self._replace()
                self._following.on_page(page.metadata.resource_version, page.metadata.continue_token)

    async def _page(self, token: str) -> Page:
        return await self._client.page(
            self._resource, namespace=self._namespace, labels=self._labels, fields=self._fields, token=token
        )

    async def _collect_all(self, page: Page) -> None:
        pace = slices.Pace()
        for raw in page.items or ():
            self._collect(raw)
            await pace.rest()

    async def _watch(self, step: Watch) -> None:
        if step.initial:
            self._collected = {}
        began_s = self._clock()
        async with self._client.watch(
            self._resource,
            version=step.version,
            namespace=self._namespace,
            labels=self._labels,
            fields=self._fields,
            initial=step.initial,
            length_s=step.length_s,
            silence_s=step.silence_s,
        ) as stream:
            if not self._following.is_collecting:
                self.fault = None  # where nothing happens, the next word would be a bookmark, a minute from now
            pace = slices.Pace()
            async for line in stream:
                await self._on_line(line, stream)
                await pace.rest()
        self._following.on_closed(self._clock() - began_s)

    async def _on_line(self, line: bytes, stream: WatchStream) -> None:
        try:
            change = decode(line, WatchLine)
        except msgspec.DecodeError as error:
            raise Unreadable(stream.asked, f"a line of the watch is no event: {error}") from error
        if change.type == "ERROR":
            raise _refused_inside(stream.asked, change.object)
        if change.type == "BOOKMARK":
            about = self._head(change.object).metadata
            if self._following.is_collecting and about.annotation("k8s.io/initial-events-end") == "true":
                await self._replace()
                stream.silence_s = self._following.on_initial_end(about.resource_version)
        elif self._following.is_collecting:
            self._collect(change.object, is_there=change.type != "DELETED")
            return
        else:
            about = self._on_change(change)
        self._following.on_event(about.resource_version)
        if not self._following.is_collecting:
            self._is_up_to_date()

    def _on_change(self, change: WatchLine) -> Meta:
        found = self._decoded(change.object)
        about = found or self._head(change.object)
        if change.type == "DELETED":
            self._remove(about.key, found)
        elif found is not None:
            self._put(found)
        return about.metadata

    def _head(self, raw: msgspec.Raw) -> Kind:
        try:
            return decode(raw, Kind)
        except msgspec.DecodeError:
            return Kind()

    def _collect(self, raw: msgspec.Raw, *, is_there: bool = True) -> None:
        found = self._as_known(raw) or self._decoded(raw)
        if found is None:
            found = self._items.get(self._head(raw).key)
        if found is None:
            return
        if is_there:
            self._collected[found.key] = found
        else:
            self._collected.pop(found.key, None)

    def _as_known(self, raw: msgspec.Raw) -> T | None:
        """The object that is known where it is in the same state still, as nearly all are after a 410."""
        if not self._items:
            return None
        try:
            seen = decode(raw, Glance).metadata
        except msgspec.DecodeError:
            return None
        known = self._items.get((seen.namespace, seen.name))
        if known is None or (known.metadata.uid, known.metadata.resource_version) != (seen.uid, seen.resource_version):
            return None
        return known

    def _decoded(self, raw: msgspec.Raw) -> T | None:
        """The object; None where it cannot be read: then it stays what it was last seen as."""
        try:
            return decode(raw, self._resource.shape)
        except msgspec.DecodeError as error:
            self.unreadable += 1
            log.warning("an object of %s cannot be read and is left as it was: %s", self._resource.plural, error)
            return None

    async def _replace(self) -> None:
        """Make the collected state the known one, by differences."""
        with self._relist_clock.counted(Part.TOLD):
            await self._tell_differences()
        relist = self._relist_clock.whole()
        if relist is not None:
            self.relists, self.relist = self.relists + 1, relist
            log.info("%s: %d objects listed anew in %.2f s", self.name, len(self._items), relist.took_s)
        self._is_up_to_date()
        self._synced.set()

    async def _tell_differences(self) -> None:
        fresh, self._collected = self._collected, {}
        pace = slices.Pace()
        for found in list(fresh.values()):
            self._put(found)
            await pace.rest()
        for key in [key for key in self._items if key not in fresh]:
            self._remove(key)
            await pace.rest()

    def _is_up_to_date(self) -> None:
        self._sign_s = self._clock()
        self.fault = None

    def _put(self, found: T) -> None:
        old = self._items.get(found.key)
        if old is not None and old.metadata.uid != found.metadata.uid:
            self._remove(found.key)
            old = None
        if old is not None and old.metadata.resource_version == found.metadata.resource_version:
            return
        self._items[found.key] = found
        self._tell(Change.CHANGED if old is not None else Change.ADDED, old, found)

    def _remove(self, key: Key, last: T | None = None) -> None:
        """`last`: the state in which it was deleted, where that is known: it knows more than the one before."""
        known = self._items.pop(key, None)
        if known is not None:
            self._tell(Change.REMOVED, last or known, None)

    def _tell(self, change: Change, old: T | None, new: T | None) -> None:
        try:
            self._told(change, old, new)
        except Exception:
            log.exception("a consumer of %s failed on %s", self._resource.plural, (new or old))


def _refused_inside(asked: Asked, raw: msgspec.Raw) -> KubeError:
    try:
        status = decode(raw, Status)
    except msgspec.DecodeError:
        status = Status(message="the watch ended with an error that cannot be read")
    return refusal(asked, status.code, status)


def _nobody(change: Change, old: Kind | None, new: Kind | None) -> None:
    """Nobody wants to know."""
