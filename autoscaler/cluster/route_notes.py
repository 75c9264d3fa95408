"""Writes what became of HTTPRoutes into their status, and of the Gateways and GatewayClasses above them: the shell of
`zerogate.kube.route_status`.

Only the leader writes, behind everything else. What is refused waits longer each time (`postponed.py`) and comes last,
so that it keeps nothing else waiting. Without an autoscaler nothing is written, and gateways serve the routes all the
same.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from autoscaler.cluster.postponed import Postponed
from zerogate.clock import now, wall
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Conflict, Forbidden, Invalid, KubeError, NotFound, ServerFault
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
"""While the server is in trouble."""

_Change: TypeAlias = tuple[Resource[Any], Kind, Json]
"""An object, and what its status has to be."""


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
        self._postponed = Postponed()

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
            if self._is_leader():
                await self.look()

    async def look(self) -> None:
        """Write what is due, a slice of it."""
        if now() < self._not_before_s or not (self._is_due or self._postponed.is_due(now())):
            return
        self._is_due = False
        for written, change in enumerate(self._in_turn()):
            if written == _PER_LOOK or now() < self._not_before_s:
                self._is_due = True
                return
            await self._write(*change)

    def _in_turn(self) -> Iterator[_Change]:
        """What may be written now; what has failed before comes last, so that it keeps nothing else waiting."""
        again: list[tuple[float, _Change]] = []
        things: dict[Hashable, None] = {}
        for change in self._changes():
            object_, place = _things(*change[:2])
            things |= {object_: None, place: None}
            until_s = self._postponed.until_s(object_, place)
            if until_s is None:
                yield change
            else:
                again.append((until_s, change))
        self._postponed.keep(things)
        for until_s, change in sorted(again, key=lambda one: one[0]):
            if now() >= until_s:
                yield change

    def _changes(self) -> Iterator[_Change]:
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
        except KubeError as error:
            self._on_failed(resource, one, error)
        else:
            self._postponed.on_done(*_things(resource, one))

    def _on_failed(self, resource: Resource[Any], one: Kind, error: KubeError) -> None:
        object_, place = _things(resource, one)
        if isinstance(error, Conflict | NotFound):
            # what the watch shows then decides
            self._postponed.on_failed(object_, now(), first_s=_LOOK_S)
            return
        if str(error) != self._fault:
            log.warning("the status of %s %s is not written: %s", resource.plural, one.metadata.name, error)
        self._fault = str(error)
        if isinstance(error, Forbidden) and error.rule:
            self._postponed.on_failed(place, now())
        elif isinstance(error, Forbidden | Invalid):
            self._postponed.on_failed(object_, now())
        else:
            self._not_before_s = now() + (error.retry_after_s or _AGAIN_S)
            if isinstance(error, ServerFault):
                # the server may be well, and what it asks about this object not
                self._postponed.on_failed(object_, now())
            self._is_due = True


def _things(resource: Resource[Any], one: Kind) -> tuple[Hashable, Hashable]:
    """What may be refused: the object as its owner wrote it last, and all of its kind in its namespace."""
    meta = one.metadata
    return (resource.plural, *one.key, meta.uid, meta.generation), (resource.plural, meta.namespace)
