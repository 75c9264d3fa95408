"""Writes Events: what happened to whom, for `kubectl describe`. The shell of `event_book.py`.

Events are for people and come last: they are written one by one, behind everything else, and what cannot be written
is dropped without anybody noticing but a counter.
"""

import asyncio
import logging
from collections.abc import Callable

from zerogate.clock import now, wall
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import AlreadyExists, KubeError, NotFound
from zerogate.kube.event_book import Bounds, CreateEvent, EventBook, Happening, RepeatEvent
from zerogate.kube.objects import EVENTS
from zerogate.kube.rate import Priority
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)


class Happenings:
    """`controller` such as `zerogate.dev/autoscaler`; `instance` the name of the pod."""

    def __init__(
        self,
        client: KubeClient,
        *,
        controller: str,
        instance: str,
        bounds: Bounds | None = None,
        clock: Callable[[], float] = now,
        calendar: Callable[[], float] = wall,
    ) -> None:
        self._client = client
        self._book = EventBook(controller, instance, bounds)
        self._clock = clock
        self._calendar = calendar
        self._news = asyncio.Event()
        self._nursery = Nursery()
        self.fault: KubeError | None = None
        """Why the last one was not written; None: it was."""

    @property
    def dropped(self) -> int:
        """Happenings that no Event ever told of."""
        return self._book.dropped

    def start(self) -> None:
        self._nursery.start(self._run(), name="events")

    def tell(self, happening: Happening) -> None:
        """Returns at once; never raises."""
        self._book.tell(happening, self._clock(), self._calendar())
        self._news.set()

    async def aclose(self) -> None:
        """Stop; what is not written by now stays unsaid."""
        await self._nursery.aclose()

    async def _run(self) -> None:
        while True:
            self._news.clear()
            writes, wait_s = self._book.due(self._clock(), self._calendar())
            for write in writes:
                await self._write(write)
            if writes:
                continue
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _write(self, write: CreateEvent | RepeatEvent) -> None:
        try:
            count = await self._perform(write)
        except (NotFound, AlreadyExists) as error:
            if isinstance(error, NotFound) and isinstance(write, CreateEvent):
                self._book.on_failed(write.name, self._clock())
            else:
                self._book.on_lost(write.name, self._clock(), self._calendar())
        except KubeError as error:
            if type(error) is not type(self.fault):
                log.warning("%s", error)
            self.fault = error
            self._book.on_failed(write.name, self._clock())
        else:
            self.fault = None
            self._book.on_written(write.name, count)

    async def _perform(self, write: CreateEvent | RepeatEvent) -> int:
        if isinstance(write, CreateEvent):
            made = await self._client.create(EVENTS, write.body, namespace=write.namespace, priority=Priority.READ)
        else:
            made = await self._client.merge_patch(
                EVENTS, write.name, write.patch, namespace=write.namespace, priority=Priority.READ
            )
        return made.series.count if made.series else 1
