"""Writes what became of HTTPRoutes into their status, and of the Gateways and GatewayClasses above them: the shell of
`zerogate.kube.route_status`.

Only the leader writes, behind everything else. Without an autoscaler nothing is written, and gateways serve the routes
all the same.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from zerogate.clock import now, wall
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Conflict, KubeError, NotFound
from zerogate.kube.objects import Kind, Pod, Resource
from zerogate.kube.rate import Priority
from zerogate.kube.route_feed import RouteFeed
from zerogate.kube.route_objects import GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES, Json
from zerogate.kube.route_status import class_status, gateway_status, route_status
from zerogate.kube.times import second_time

log = logging.getLogger(__name__)

_LOOK_S: Final = 0.5
_PER_LOOK: Final = 20
"""Writes; the rest waits for the next look."""
_AGAIN_S: Final = 10.0
"""After a write that failed: somebody may have to allow it first."""


class RouteNotes:
    """See the module's text. A listener of the feed of workloads."""

    def __init__(
        self,
        client: KubeClient,
        *,
        is_leader: Callable[[], bool],
        namespace_labels: Callable[[str], dict[str, str]],
        namespace: str = "",
    ) -> None:
        self.feed = RouteFeed(client, namespace_labels=namespace_labels, on_change=self.mark, namespace=namespace)
        self._client = client
        self._is_leader = is_leader
        self._entries: Mapping[str, Managed] = {}
        self._is_due = True
        self._not_before_s = float("-inf")
        self._fault: str | None = None

    @property
    def faults(self) -> tuple[str, ...]:
        """What keeps routes from being seen, a sentence each."""
        return self.feed.faults

    def mark(self) -> None:
        """Something may be different: a route, what it leads to, or who leads."""
        self._is_due = True

    def on_services(self, services: Mapping[str, Managed]) -> None:
        """All services; some are new, different or gone."""
        self._entries = dict(services)
        self.mark()

    def on_number(self, service: str, number: int, version: int) -> None:
        """How many replicas run is nothing to a route, nor are pods."""

    def on_pod(self, service: str, pod: Pod) -> None:
        """See `on_number`."""

    def on_pod_gone(self, service: str, name: str) -> None:
        """See `on_number`."""

    async def run(self) -> None:
        """Look and write, for ever."""
        await self.feed.start()
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._is_due and self._is_leader() and now() >= self._not_before_s:
                self._is_due = False
                await self._look()

    async def _look(self) -> None:
        for written, (resource, one, body) in enumerate(self._changes()):
            if written == _PER_LOOK:
                self._is_due = True
                return
            await self._write(resource, one, body)

    def _changes(self) -> Iterator[tuple[Resource[Any], Kind, Json]]:
        """What is to be written, as it was seen when the look began."""
        book, at = self.feed.book, second_time(wall())
        readings = self.feed.readings(self._entries)
        for one in book.our_classes():
            if (body := class_status(one, at)) is not None:
                yield GATEWAY_CLASSES, one, body
        for gateway in book.our_gateways().values():
            if (body := gateway_status(gateway, readings.values(), at)) is not None:
                yield GATEWAYS, gateway, body
        for key, route in list(book.routes.items()):
            if (body := route_status(route, readings.get(key), at)) is not None:
                yield HTTP_ROUTES, route, body

    async def _write(self, resource: Resource[Any], one: Kind, body: Json) -> None:
        namespace, name = one.key
        try:
            await self._client.merge_patch(
                resource, name, body, namespace=namespace, subresource="status", priority=Priority.READ
            )
        except (Conflict, NotFound):
            self._is_due = True  # what the watch shows then decides
        except KubeError as error:
            if str(error) != self._fault:
                log.warning("the status of %s %s is not written: %s", resource.plural, name, error)
            self._fault = str(error)
            self._is_due = True
            self._not_before_s = now() + _AGAIN_S
