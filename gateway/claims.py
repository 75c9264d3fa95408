"""Who is reached at which host, prefix and model, where several workloads ask for the same. Pure.

A file with two services at one place is refused as a whole (`gateway.route_table`). A cluster has many owners, and a
mistake of one must not take the others down: here each place goes to one, and whoever came later is told what it did
not get. A workload's own name as host is its own whatever others ask for; beyond that the older one wins, be it a
workload with annotations or an HTTPRoute, and between two of one second the name decides, so that all gateways come to
the same.

Invariant: what is granted can be built (`route_table.build`), whatever was asked for.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from gateway.route_table import Route, build
from zerogate.errors import DefinitionError
from zerogate.policy import Policy

_ANY: Final = "*"


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What one asks for: a service by its annotations, or an HTTPRoute for the services that it leads to. `owner`: its
    name, unlike all others'. `since`: when its object was made, as text that sorts by time."""

    owner: str
    since: str
    routes: tuple[Route, ...]
    is_own_name: bool = False
    """By its own name as host, because it asks for nothing else."""


class Granted(msgspec.Struct, frozen=True):
    """The routes of a wish, and a sentence for each thing that it asked for and did not get."""

    routes: tuple[Route, ...]
    refused: tuple[str, ...] = ()


def wish_of(service: str, policy: Policy, *, since: str) -> Wish:
    """What a workload `NAMESPACE/NAME` with this policy asks for."""
    if policy.hosts or policy.path_prefix or policy.models:
        route = Route(service=service, hosts=policy.hosts, path_prefix=policy.path_prefix, models=policy.models)
        return Wish(owner=service, since=since, routes=(route,))
    route = Route(service=service, hosts=own_hosts(service))
    return Wish(owner=service, since=since, routes=(route,), is_own_name=True)


def own_hosts(service: str) -> tuple[str, ...]:
    """The hosts of `NAMESPACE/NAME`: those by which pods of the cluster know a Service of that name."""
    namespace, _, name = service.partition("/")
    host = f"{name}.{namespace}"
    return host, f"{host}.svc", f"{host}.svc.cluster.local"


def settle(wishes: Iterable[Wish]) -> dict[str, Granted]:
    """What each gets, by owner."""
    book = _Book()
    ordered = sorted(wishes, key=lambda wish: (not wish.is_own_name, wish.since, wish.owner))
    return {wish.owner: book.grant(wish) for wish in ordered}


class _Book:
    def __init__(self) -> None:
        self._places: dict[tuple[str, str], str] = {}
        """(host, prefix) → who takes all of it that no model decides."""
        self._models: dict[tuple[str, str, str], str] = {}
        """(host, prefix, model) → whose it is there."""

    def grant(self, wish: Wish) -> Granted:
        refused: dict[str, None] = {}
        # hosts that are granted alike stay together; those without a host are none of them
        hosts_of: dict[tuple[str, bool, str | None, tuple[str, ...]], list[str]] = {}
        for route in wish.routes:
            for host in route.hosts or ("",):
                models = self._take(route, host, refused)
                if models is not None:
                    hosts_of.setdefault((route.service, bool(host), route.path_prefix, models), []).append(host)
        routes = tuple(
            Route(
                service=service,
                hosts=tuple(dict.fromkeys(hosts)) if has_host else (),
                path_prefix=prefix,
                models=models,
            )
            for (service, has_host, prefix, models), hosts in hosts_of.items()
        )
        return Granted(tuple(_whole(routes)), tuple(refused))

    def _take(self, route: Route, host: str, refused: dict[str, None]) -> tuple[str, ...] | None:
        """The models that the route has at this host; None where it gets nothing there."""
        hosts = (host,) if host else ()
        alone = Route(service=route.service, hosts=hosts, path_prefix=route.path_prefix, models=route.models)
        try:
            build([alone])
        except DefinitionError as error:
            refused[f"{error.problem}. {error.hint}"] = None
            return None
        name, prefix = host.lower().removesuffix(".") or _ANY, (route.path_prefix or "").rstrip("/")
        take = self._take_models if route.models else self._take_place
        return take(route, name, prefix, refused)

    def _take_place(self, route: Route, host: str, prefix: str, refused: dict[str, None]) -> tuple[str, ...] | None:
        holder = self._places.get((host, prefix))
        if holder is None:
            self._places[host, prefix] = route.service
            return ()
        if holder != route.service:
            refused[
                f"{_shown(host, prefix)} leads to {holder}, which has it already. Choose another of hosts and "
                "path-prefix, or models by which the two can be told apart."
            ] = None
        return None

    def _take_models(self, route: Route, host: str, prefix: str, refused: dict[str, None]) -> tuple[str, ...] | None:
        kept: list[str] = []
        for model in route.models:
            places = dict.fromkeys(((host, "", model), (host, prefix, model)))
            holder = next((self._models[one] for one in places if one in self._models), route.service)
            if holder == route.service:
                self._models.update(dict.fromkeys(places, route.service))
                kept.append(model)
            else:
                where = "" if host == _ANY else f" at {host}"
                refused[f'The model "{model}"{where} is that of {holder}, which has it already.'] = None
        return tuple(kept) or None


def _whole(routes: Iterable[Route]) -> Iterator[Route]:
    """A route without hosts, prefix and models would be one by the service's name."""
    for route in routes:
        if route.hosts or route.path_prefix is not None or route.models:
            yield route


def _shown(host: str, prefix: str) -> str:
    return ("" if host == _ANY else host) + (prefix or "/")
