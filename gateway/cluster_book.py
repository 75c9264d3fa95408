"""What a cluster's objects say to a gateway: services, routes, where sidecars are, and why none gets ready. Pure.

Fed with what `zerogate.kube.feed` tells; `take` gives what is different since it was asked last. A pod's address counts
from the moment that it has one, long before it is ready: whoever connects there is told by the sidecar when it is. It
counts no longer once the pod is being deleted. A pod without a sidecar, because its owner wants none, nobody was there
to inject one, or it ran before its workload was annotated, is reached at its model server (`gateway.bare_book`).
HTTPRoutes of the Gateway API ask for hosts and prefixes as annotations do.
Called by `gateway.cluster`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec.structs import replace

from gateway.bare_book import BareBook, Crowd, Question
from gateway.changes import Change, difference
from gateway.claims import Granted, Wish, settle, wish_of
from gateway.file import Service
from gateway.http_routes import nowhere, stand_ins, wish_of_route
from gateway.route_table import Route
from zerogate.kube.catalog import Managed, sidecar_port
from zerogate.kube.objects import Pod, Workload
from zerogate.kube.obstacles import Obstacle, take_unmade
from zerogate.kube.route_book import RouteReading
from zerogate.policy import Policy
from zerogate.runtime.interface import Address


class ClusterBook:
    """See the module's text. `workload_of`: the object behind a service, as it was last seen."""

    def __init__(self, workload_of: Callable[[str], Workload | None]) -> None:
        self._workload_of = workload_of
        self._entries: dict[str, Managed] = {}
        self._policies: dict[str, Policy] = {}
        self._wishes: dict[str, Wish] = {}
        self._http_routes: dict[str, RouteReading] = {}
        """By their names, as owners of wishes."""
        self._granted: dict[str, Granted] = {}
        self._routes: dict[str, tuple[Route, ...]] = {}
        """By service."""
        self._stand_ins: dict[str, Service] = {}
        """For what HTTPRoutes lead to and is not there."""
        self._pods: dict[str, dict[str, Pod]] = {}
        self._obstacles: dict[str, Obstacle] = {}
        self._changed: dict[str, None] = {}
        self._is_rerouted = False
        self._services: dict[str, Service] = {}
        self._bare = BareBook()

    @property
    def entries(self) -> Mapping[str, Managed]:
        """The workloads behind the services."""
        return self._entries

    @property
    def http_routes(self) -> Mapping[str, RouteReading]:
        """HTTPRoutes that ask for something, by their names."""
        return self._http_routes

    @property
    def refused(self) -> dict[str, tuple[str, ...]]:
        """By service or HTTPRoute, what it asked for and did not get; those that got everything are left out."""
        return {owner: one.refused for owner, one in self._granted.items() if one.refused}

    def notices(self) -> dict[str, tuple[str, ...]]:
        """The same by service, for those who look there: with what HTTPRoutes that lead to it did not get."""
        found: dict[str, dict[str, None]] = defaultdict(dict)
        for owner, sentences in self.refused.items():
            reading = self._http_routes.get(owner)
            if reading is None:
                found[owner].update(dict.fromkeys(sentences))
                continue
            for service in dict.fromkeys(place.service for place in reading.places if place.service is not None):
                found[service].update(dict.fromkeys(f"{owner}: {sentence}" for sentence in sentences))
        return {service: tuple(sentences) for service, sentences in found.items()}

    # What the feed tells

    def on_services(self, services: Mapping[str, Managed]) -> None:
        """All services; some are new, different or gone."""
        for service in [known for known in self._entries if known not in services]:
            self._forget(service)
        for service, entry in services.items():
            if self._entries.get(service) is not entry:
                self._entries[service] = entry
                self._read(entry)

    def on_http_routes(self, readings: Iterable[RouteReading]) -> None:
        """All HTTPRoutes; some are new, different or gone."""
        asking = {reading.name: reading for reading in readings if reading.places}
        if asking != self._http_routes:
            self._http_routes = asking
            self._is_rerouted = True

    def on_number(self, service: str) -> None:
        """The workload looks different."""
        self._changed[service] = None

    def on_pod(self, service: str, pod: Pod) -> None:
        """A pod is new or looks different."""
        self._pods.setdefault(service, {})[pod.metadata.name] = pod
        self._obstacles.setdefault(service, Obstacle()).on_pod(pod)
        self._changed[service] = None

    def on_pod_gone(self, service: str, name: str) -> None:
        """A pod is gone, or nobody's any longer."""
        gone = self._pods.get(service, {}).pop(name, None)
        if gone is not None:
            self._obstacles.setdefault(service, Obstacle()).on_pod_gone(gone)
            self._changed[service] = None

    def on_crowd(self, crowd: Crowd) -> bool:
        """The gateways are others than before, or know less of each other; whether that makes a difference."""
        if crowd == self._bare.crowd:
            return False
        self._bare.crowd = crowd
        due = [name for name, pods in self._pods.items() if any(sidecar_port(pod) is None for pod in pods.values())]
        self._changed.update(dict.fromkeys(name for name in due if name in self._entries))
        return bool(due)

    def on_answer(self, uid: str, *, is_ready: bool) -> bool:
        """A pod that is asked whether it is ready says something else than before."""
        service = self._bare.on_answer(uid, is_ready=is_ready)
        if service is not None:
            self._changed[service] = None
        return service is not None

    def questions(self) -> dict[str, Question]:
        """What pods without a sidecar are to be asked, by their UIDs."""
        return self._bare.questions()

    def on_time(self, now_s: float) -> bool:
        """Whether something is different because time has passed: what was in the way is there for too long."""
        due = {service: None for service, one in self._obstacles.items() if one.due_s <= now_s}
        self._changed.update(due)
        return bool(due)

    def take_unmade(self, now_s: float) -> list[tuple[Managed, float]]:
        """Workloads about whose Events it is time to ask, and for how many seconds their pods are missing."""
        return take_unmade(self._obstacles, self._entries, now_s)

    def on_unmade(self, service: str, words: str) -> bool:
        """Why its pods are missing; whether that is news."""
        obstacle = self._obstacles.get(service)
        if obstacle is None or not obstacle.on_events(words):
            return False
        self._changed[service] = None
        return True

    def _forget(self, service: str) -> None:
        del self._entries[service], self._policies[service], self._wishes[service]
        self._pods.pop(service, None)
        self._obstacles.pop(service, None)
        self._bare.forget(service)
        self._changed[service] = None
        self._is_rerouted = True

    def _read(self, entry: Managed) -> None:
        service = entry.service
        policy = policy_here(entry.wanted.policy)
        workload = self._workload_of(service)
        since = workload.metadata.creation_timestamp if workload is not None else None
        wish = wish_of(service, policy, since=since or "")
        if wish != self._wishes.get(service):
            self._wishes[service] = wish
            self._is_rerouted = True
        self._policies[service] = policy
        self._changed[service] = None

    # What comes of it

    def take(self, now_s: float) -> list[Change]:
        """The slices of what is different since the last call."""
        if self._is_rerouted:
            self._is_rerouted = False
            self._reroute()
        if not self._changed:
            return []
        after = dict(self._services)
        for service in self._changed:
            if service in self._entries:
                after[service] = self._service(service, now_s)
            elif service in self._stand_ins:
                after[service] = self._stand_ins[service]
            else:
                after.pop(service, None)
        self._changed.clear()
        changes = list(difference(self._services, after))
        self._services = after
        return changes

    def _reroute(self) -> None:
        """Decide anew who gets what."""
        asked = [wish_of_route(reading) for reading in self._http_routes.values()]
        self._granted = settle([*self._wishes.values(), *asked])
        routes: dict[str, tuple[Route, ...]] = dict.fromkeys(self._entries, ())
        for granted in self._granted.values():
            for route in granted.routes:
                routes[route.service] = (*routes.get(route.service, ()), route)
        before, self._routes = self._routes, routes
        stood, self._stand_ins = self._stand_ins, {}
        for reading in self._http_routes.values():
            self._stand_ins.update(stand_ins(reading, routes.get(nowhere(reading), ())))
        self._changed.update((name, None) for name, one in routes.items() if before.get(name) != one)
        told = {**stood, **self._stand_ins}
        self._changed.update((name, None) for name in told if stood.get(name) != self._stand_ins.get(name))

    def _service(self, service: str, now_s: float) -> Service:
        pods = self._pods.get(service, {})
        entry, obstacle = self._entries[service], self._obstacles.setdefault(service, Obstacle())
        return Service(
            policy=self._policies[service],
            replicas=tuple(_addresses(pods)),
            bare=self._bare.replicas(entry, pods.values()),
            routes=self._routes[service],
            trouble=obstacle.look(pods.values(), self._workload_of(service), entry, now_s),
        )


def policy_here(policy: Policy) -> Policy:
    """A workload's policy as gateways need it: sidecars are spoken to in HTTP/1.1 whatever their model server speaks,
    and how many replicas there are is decided elsewhere."""
    return replace(policy, protocol="http1", schedule=())


def _addresses(pods: Mapping[str, Pod]) -> Iterator[Address]:
    """Of sidecars."""
    for pod in pods.values():
        port = sidecar_port(pod)
        if pod.status.pod_ip and pod.is_present and port is not None:
            yield Address(pod.status.pod_ip, port)
