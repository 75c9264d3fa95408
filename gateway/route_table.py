"""The table of routes: checked and laid out once, so that a lookup is a few steps in dictionaries. Pure.

A service *claims* a place, which is a host (or any) with a path prefix (or none), and *offers* its models under `/v1/`
on its hosts. `docs/routing.md` has the rules as users read them; `gateway.router` looks up.

Invariants: a request that can be told apart by host, prefix and model leads to one service or the table is refused
with a DefinitionError; nothing here changes after it was built.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from zerogate.errors import DefinitionError
from zerogate.policy import Policy

API_ROOT: Final = b"/v1"
"""Where OpenAI's paths begin: only below it does a body name a model."""
LOCALHOST: Final = "localhost"
_ANY: Final = "*"
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,62})"
_HOST: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\]|\*")
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*")


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """How one service is reached. Hosts and prefix as in `Policy`; with none of the three, by its own name as host."""

    service: str
    hosts: tuple[str, ...] = ()
    path_prefix: str | None = None
    models: tuple[str, ...] = ()


def route_for(service: str, policy: Policy, *, is_alone: bool) -> Route:
    """How a service is reached. One without hosts, prefix and models is reached by its name as a host.

    Where it is the only service (`is_alone`) it takes every request: there is nothing to tell apart.
    """
    if policy.hosts or policy.path_prefix or policy.models:
        return Route(service=service, hosts=policy.hosts, path_prefix=policy.path_prefix, models=policy.models)
    if is_alone:
        return Route(service=service, path_prefix="/")
    return Route(service=service, hosts=(service, f"{service}.{LOCALHOST}"))


class Scope(msgspec.Struct, frozen=True):
    """The models that may be named at one place, its own before those of less specific hosts.

    `fallback` takes requests with any other model or none: the place's owner, unless it shares the place by model.
    """

    models: dict[str, str]
    fallback: str | None = None
    parent: "Scope | None" = None

    def _chain(self) -> "Iterator[Scope]":
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def find(self, name: str) -> str | None:
        """The service that has the model; None where none in this scope has."""
        scope: Scope | None = self
        while scope is not None:
            if (service := scope.models.get(name)) is not None:
                return service
            scope = scope.parent
        return None

    def last_resort(self) -> str | None:
        """The service that takes what names no model of this scope; None where there is none."""
        return next((scope.fallback for scope in self._chain() if scope.fallback is not None), None)

    def all_models(self) -> dict[str, str]:
        """Every name with its service, in the order of definition, the most specific host first."""
        merged: dict[str, str] = {}
        for scope in self._chain():
            for name, service in scope.models.items():
                merged.setdefault(name, service)
        return merged


class Place(msgspec.Struct, frozen=True):
    """A prefix on a host. `owner` takes all its paths, save what `scope` has to say below `api`."""

    owner: str | None
    api: bytes
    scope: Scope
    has_models: bool
    """Models can be asked for here: zerogate answers `/v1/models`."""
    is_by_model: bool
    """Below `api` the body decides: another service than the owner could be meant."""


class Table(msgspec.Struct, frozen=True):
    """One host's places. `by_prefix` holds those with a prefix, without a slash at the end."""

    by_prefix: dict[bytes, Place]
    longest: int
    """Bytes of the longest prefix."""
    root: Place | None
    parent: "Table | None"
    """The next less specific host's table: asked where this one has no place for a path."""


class Tables(msgspec.Struct, frozen=True):
    """All hosts, in lower case: exact names, and wildcards by what follows their `*.`."""

    exact: dict[bytes, Table]
    wildcard: dict[bytes, Table]
    anywhere: Table


class _Draft:
    """A place while the routes are being collected."""

    def __init__(self, host: str, prefix: str) -> None:
        self.host = host
        self.prefix = prefix
        self.claims: list[Route] = []
        self.models: dict[str, str] = {}

    def offer(self, route: Route) -> None:
        """Add the route's models; a name that another service has here is refused."""
        for name in route.models:
            holder = self.models.setdefault(name, route.service)
            if holder != route.service:
                raise DefinitionError(
                    f'the model "{name}" belongs to the service {holder} already',
                    key=f"services.{route.service}.models",
                    hint="A name leads to one service: take it from one of them, or give the two different hosts.",
                )

    def place(self, less_specific: Scope | None) -> Place:
        """The finished place, inside the scope of the next less specific host."""
        owner = self._owner()
        if len(self.claims) > 1:
            for route in self.claims:
                self.offer(route)
        inherited = less_specific if owner is None and not self.prefix else None
        alone = owner is not None and all(service == owner.service for service in self.models.values())
        fallback = owner.service if owner is not None and (alone or not owner.models) else None
        return Place(
            owner=owner.service if owner else None,
            api=self.prefix.encode() + API_ROOT,
            scope=Scope(self.models, fallback, inherited),
            has_models=bool(self.models),
            is_by_model=not alone,
        )

    def _owner(self) -> Route | None:
        if len(self.claims) <= 1:
            return self.claims[0] if self.claims else None
        nameless = [route for route in self.claims if not route.models]
        if len(nameless) > 1:
            place = (self.host if self.host != _ANY else "") + (self.prefix or "/")
            raise DefinitionError(
                f"the service {nameless[0].service} is reached at {place} already",
                key=f"services.{nameless[1].service}",
                hint="Give it another of hosts and path-prefix, or models by which the two can be told apart.",
            )
        return nameless[0] if nameless else None


def build(routes: Iterable[Route]) -> Tables:
    """Lay out the routes. Raises DefinitionError for a wrong host or prefix, and for two services at one place."""
    drafts: dict[str, dict[str, _Draft]] = {_ANY: {}}
    for route in routes:
        _collect(route, drafts)
    tables: dict[str, Table] = {}
    for host in sorted(drafts, key=_breadth):
        broader = next((tables[name] for name in _broader(host) if name in tables), None)
        tables[host] = _table(drafts[host], broader)
    return Tables(
        exact={host.encode(): table for host, table in tables.items() if not host.startswith(_ANY)},
        wildcard={host[2:].encode(): table for host, table in tables.items() if host.startswith("*.")},
        anywhere=tables[_ANY],
    )


def _collect(route: Route, drafts: dict[str, dict[str, _Draft]]) -> None:
    claims = bool(route.hosts) or route.path_prefix is not None or not route.models
    is_named = not route.hosts and route.path_prefix is None and not route.models
    hosts = (route.service.lower(), f"{route.service.lower()}.localhost") if is_named else route.hosts or (_ANY,)
    prefix = _checked_prefix(route)
    for host in dict.fromkeys(hosts if is_named else [_checked_host(route, host) for host in hosts]):
        places = drafts.setdefault(host, {})
        if claims:
            places.setdefault(prefix, _Draft(host, prefix)).claims.append(route)
        if route.models:
            places.setdefault("", _Draft(host, "")).offer(route)


def _checked_host(route: Route, host: str) -> str:
    name = host.lower().removesuffix(".")
    if not _HOST.fullmatch(name) or len(name) > 255:
        raise DefinitionError(
            f'"{host}" is not a host',
            key=f"services.{route.service}.hosts",
            hint="Write a name without scheme, port or path, such as chat.example.org or *.example.org; "
            "names in other scripts in their xn-- form.",
        )
    return name


def _checked_prefix(route: Route) -> str:
    prefix = (route.path_prefix or "").rstrip("/")
    if not _PREFIX.fullmatch(prefix) or "/./" in f"{prefix}/" or "/../" in f"{prefix}/":
        raise DefinitionError(
            f'"{route.path_prefix}" is not a path prefix',
            key=f"services.{route.service}.path-prefix",
            hint="Write whole segments beginning with a slash, such as /asr or /team/asr, without %, ?, #, . and .. in "
            "it; / alone takes every path.",
        )
    return prefix


def _breadth(host: str) -> tuple[bool, int]:
    """Sorts broad hosts before narrow ones: any, wildcards by length, exact names."""
    return not host.startswith(_ANY), len(host)


def _broader(host: str) -> Iterator[str]:
    """Less specific hosts that match whatever this one does, the narrowest first."""
    rest = host.removeprefix("*.")
    while "." in rest:
        rest = rest.partition(".")[2]
        yield f"*.{rest}"
    yield _ANY


def _table(places: dict[str, _Draft], broader: Table | None) -> Table:
    scope = _scope_of(broader)
    built = {prefix.encode(): draft.place(scope) for prefix, draft in places.items()}
    root = built.pop(b"", None)
    return Table(built, max(map(len, built), default=0), root, broader)


def _scope_of(table: Table | None) -> Scope | None:
    while table is not None and table.root is None:
        table = table.parent
    return table.root.scope if table is not None and table.root is not None else None
