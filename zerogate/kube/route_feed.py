"""Keeps a `RouteBook` up to date by watches, for as long as the cluster has the definitions of the Gateway API.

A cluster without them is asked again every `LOOK_S` and nothing else: no watch, no fault, nothing in a log. Definitions
that come later are found so, and those that go take their routes along. Used by gateways, which serve by it, and by
autoscalers, of which the leader writes what it comes to into the objects' status.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from zerogate.clock import now
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Asked, Forbidden, KubeError, NotFound, Unauthorized
from zerogate.kube.objects import SERVICES, Key, Resource
from zerogate.kube.route_book import RouteBook, RouteReading
from zerogate.kube.route_objects import GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES, REFERENCE_GRANTS
from zerogate.kube.watching import Change, Watched
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)

LOOK_S: Final = 20.0
"""Who installs the definitions sees their routes served within a minute; three requests a minute are nothing."""
_AGAIN_S: Final = 1.0
"""While the server cannot be asked and nothing is known yet."""
_GLANCE_S: Final = 0.02
_PATIENCE_S: Final = 30.0
"""For routes that the server cannot tell, because what converts them is broken: the workloads can be served without."""
_NEEDED: Final[tuple[Resource[Any], ...]] = (GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES)


class _ApiResource(msgspec.Struct, frozen=True):
    name: str


class _ApiResources(msgspec.Struct, frozen=True):
    resources: list[_ApiResource] = []


class RouteFeed:
    """See the module's text. `on_change`: something that `readings` or the status depend on may be different."""

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace_labels: Callable[[str], dict[str, str]],
        on_change: Callable[[], None],
        namespace: str = "",
        look_s: float = LOOK_S,
    ) -> None:
        self.book = RouteBook(namespace_labels)
        self._client = client
        self._on_change = on_change
        self._namespace = namespace
        self._look_s = look_s
        self._watched: dict[str, Watched[Any]] = {}
        self._nursery = Nursery()

    @property
    def is_there(self) -> bool:
        """The cluster has the definitions."""
        return bool(self._watched)

    @property
    def faults(self) -> tuple[str, ...]:
        """What keeps it from being up to date, a sentence each."""
        faults = (watched.fault for watched in self._watched.values())
        return tuple(dict.fromkeys(str(one) for one in faults if one is not None and not isinstance(one, NotFound)))

    def readings(self, entries: Mapping[str, Managed]) -> dict[Key, RouteReading]:
        """All routes of ours as they are now; `entries`: the workloads under zerogate."""
        return self.book.read(entries)

    async def start(self) -> None:
        """Begin, and return when everything there is is known, may not be known by this account, or is not told."""
        while not await self._look():  # noqa: ASYNC110 - it is the server that is waited for
            await asyncio.sleep(_AGAIN_S)
        until_s = now() + _PATIENCE_S
        while not all(map(_is_settled, self._watched.values())) and now() < until_s:  # noqa: ASYNC110 - several watches
            await asyncio.sleep(_GLANCE_S)
        self._nursery.start(self._look_again(), name="definitions of the Gateway API")

    async def aclose(self) -> None:
        """Watch no more."""
        await self._nursery.aclose()
        await asyncio.gather(*(watched.aclose() for watched in self._watched.values()))

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            await self._look()

    async def _look(self) -> bool:
        """Watch what is defined; whether the server could be asked."""
        try:
            served = await self._served(HTTP_ROUTES)
            granting = await self._served(REFERENCE_GRANTS) if served else set()
        except KubeError:
            return False
        wanted: list[Resource[Any]] = []
        if all(one.plural in served for one in _NEEDED):
            wanted = [*_NEEDED, SERVICES]
            if REFERENCE_GRANTS.plural in granting:
                wanted.append(REFERENCE_GRANTS)
        if [one.plural for one in wanted] != list(self._watched):
            await self._watch(wanted)
        return True

    async def _served(self, resource: Resource[Any]) -> set[str]:
        asked = Asked(verb="get", group=resource.group, resource=resource.root)
        try:
            data = await self._client.request("GET", resource.root, asked=asked)
        except NotFound:
            return set()
        try:
            return {one.name for one in msgspec.json.decode(data, type=_ApiResources).resources}
        except msgspec.DecodeError:
            return set()

    async def _watch(self, wanted: list[Resource[Any]]) -> None:
        names = [one.plural for one in wanted]
        for gone in [name for name in self._watched if name not in names]:
            await self._watched.pop(gone).aclose()
        if not wanted:
            log.info("the definitions of the Gateway API are gone, and their routes with them")
        elif not self._watched:
            log.info("the cluster has the Gateway API: HTTPRoutes are served")
        before, self._watched = self._watched, {}
        for one in wanted:
            known = before.get(one.plural)
            self._watched[one.plural] = known or Watched(self._client, one, namespace=self._namespace_for(one))
            if known is None:
                self._watched[one.plural].start(self._on_object)
        self._show()
        self._on_change()

    def _namespace_for(self, resource: Resource[Any]) -> str:
        return self._namespace if resource.namespaced else ""

    def _show(self) -> None:
        def items(resource: Resource[Any]) -> Mapping[Key, Any]:
            watched = self._watched.get(resource.plural)
            return watched.items if watched is not None else {}

        book = self.book
        book.classes, book.gateways, book.routes = (items(one) for one in _NEEDED)
        book.grants, book.services = items(REFERENCE_GRANTS), items(SERVICES)

    def _on_object(self, _: Change, old: Any, new: Any) -> None:
        if old is not None and new is not None and _is_alike(old, new):
            return
        self._on_change()


def _is_alike(old: Any, new: Any) -> bool:
    """Nothing that anybody here reads is different. A Service's annotations say what its target ports were, and a
    status that somebody else has changed is put right again."""
    if old.metadata.is_deleting != new.metadata.is_deleting or old.metadata.annotations != new.metadata.annotations:
        return False
    return bool(old.spec == new.spec and getattr(old, "status", None) == getattr(new, "status", None))


def _is_settled(watched: Watched[Any]) -> bool:
    """Its first state is known, or is refused to this account."""
    return watched.is_synced or isinstance(watched.fault, Forbidden | Unauthorized | NotFound)
