"""Which service a request is for: host, then path prefix, then the model's name. Pure.

The most specific place that takes the request wins: an exact host before a wildcard before any host, on one host the
longest prefix, and below `/v1/` of a place that several services share the model. A place that does not take the path
(it has only models, and the path is not below `/v1/`) is passed over. `docs/routing.md` has the rules for users.

A match is made on a simplified copy of the path; the path itself is passed on untouched. So that nobody can be led to
another service than the path seems to say, a path with a segment `.` or `..`, in whatever spelling, is refused wherever
the path takes part in the choice.

Called by the gateway's shell for each request: `match` on the head and, where that says `ByModel`, `resolve` on what
was peeked out of the body. The answers are made beforehand.
"""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Final

import msgspec

from gateway.peeked import Peeked, Verdict, refusal_of
from gateway.route_table import Place, Route, Scope, Table, build
from zerogate.errors import Refusal

_HOST_LIMIT_BYTES: Final = 255
"""Of a name in the DNS; longer ones need not be looked up."""
_KEPT_HEADS: Final = 1024
_KEPT_BYTES: Final = 512
"""Of host and path together, so that all that is kept stays below 1 MiB."""
_MODELS: Final = b"/models"
_NAMES_SHOWN: Final = 12
_NAME_CHARACTERS: Final = 64

_DOT_SEGMENT: Final = re.compile(rb"(?:[/\\]|%2[fF]|%5[cC])(?:\.|%2[eE]){1,2}(?:[/\\;]|%2[fF]|%5[cC]|%3[bB]|\Z)")
"""With every character by which some server ends a segment; Java's take `..;x` for `..`."""
_UNRESERVED: Final = re.compile(rb"%(?:2[dDeE]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])")
_ESCAPE: Final = re.compile(rb"%[0-9a-fA-F]{2}")


class ToService(msgspec.Struct, frozen=True):
    """The request is for this service."""

    service: str


class ByModel(msgspec.Struct, frozen=True):
    """The body's model decides among the services in `scope`: peek, then `Router.resolve`."""

    scope: Scope


class ListModels(msgspec.Struct, frozen=True):
    """`/v1/models` itself: answered by zerogate with the models in `scope`."""

    scope: Scope


class ShowModel(msgspec.Struct, frozen=True):
    """`/v1/models/NAME`: answered by zerogate; `name` is unescaped and may not exist."""

    scope: Scope
    name: str


class Unrouted(msgspec.Struct, frozen=True):
    """No service takes the request."""

    refusal: Refusal


_Taken = ToService | ByModel | ListModels | ShowModel
Match = _Taken | Unrouted


class Router:
    """Looks requests up in a table of routes, which never changes: a changed file makes a new router.

    Answers to the last heads are kept, since warm traffic asks for few different ones; what is kept is bounded.
    """

    __slots__ = ("_anywhere", "_exact", "_kept", "_offer", "_to", "_wildcard")

    def __init__(self, routes: Iterable[Route]) -> None:
        """Raises DefinitionError for a wrong host or prefix, and for services that cannot be told apart."""
        routes = list(routes)
        tables = build(routes)
        self._to = {route.service: ToService(route.service) for route in routes}
        ready: dict[int, _Host] = {}
        for table in (tables.anywhere, *tables.wildcard.values(), *tables.exact.values()):
            self._prepare(table, ready)
        self._exact = {host: ready[id(table)] for host, table in tables.exact.items()}
        self._wildcard = {host: ready[id(table)] for host, table in tables.wildcard.items()}
        self._anywhere = ready[id(tables.anywhere)]
        self._offer = _offer(routes)
        self._kept: dict[tuple[bytes | None, bytes], Match] = {}

    def _prepare(self, table: Table, ready: "dict[int, _Host]") -> "_Host":
        """The table with its answers made beforehand, its parents first."""
        if id(table) not in ready:
            parent = self._prepare(table.parent, ready) if table.parent is not None else None
            ready[id(table)] = _Host(table, parent, self._to)
        return ready[id(table)]

    def match(self, host: bytes | None, path: bytes) -> Match:
        """Where the head leads. `host`: as sent, with or without a port; `path`: the target, query included."""
        found = self._kept.get((host, path))
        return found if found is not None else self._look_up(host, path)

    def _look_up(self, host: bytes | None, path: bytes) -> Match:
        table = self._find_host(host) if host is not None else self._anywhere
        found = table.always
        if found is None:
            plain = path.partition(b"?")[0]
            if b"/." in plain or b"%" in plain or b"\\" in plain:
                if _DOT_SEGMENT.search(plain):
                    return _DOTS
                plain = _simplify(plain, table.reach)
            found = table.match(plain)
        if found is None:
            return self._unrouted(host, path)
        if not isinstance(found, ShowModel) and len(host or b"") + len(path) <= _KEPT_BYTES:
            if len(self._kept) >= _KEPT_HEADS:
                self._kept.clear()
            self._kept[host, path] = found
        return found

    def _find_host(self, host: bytes) -> "_Host":
        if (exact := self._exact.get(host)) is not None:
            return exact
        name = host.lower()
        end = name.find(b"]") + 1 if name.startswith(b"[") else name.find(b":")
        if end >= 0:
            name = name[:end]
        name = name.removesuffix(b".")
        found = self._exact.get(name)
        if found is None and self._wildcard and len(name) <= _HOST_LIMIT_BYTES:
            dot = name.find(b".", 1)
            while dot >= 0 and found is None:
                found = self._wildcard.get(name[dot + 1 :])
                dot = name.find(b".", dot + 1)
        return found or self._anywhere

    def resolve(self, scope: Scope, peeked: Peeked) -> ToService | Unrouted:
        """Where the body's model leads, or the 400 or 404 that says why nowhere."""
        service = scope.find(peeked.name) if peeked.verdict is Verdict.FOUND else None
        if service is None:
            service = scope.last_resort()
        if service is not None:
            return self._to[service]
        return Unrouted(unknown_model(scope, peeked.name) if peeked.verdict is Verdict.FOUND else refusal_of(peeked))

    def _unrouted(self, host: bytes | None, path: bytes) -> Unrouted:
        asked = (host or b"")[:_NAME_CHARACTERS] + path[:_NAME_CHARACTERS]
        detail = f"No service takes {asked.decode('ascii', 'backslashreplace')}. {self._offer}"
        return Unrouted(Refusal(status=404, code="no_route", detail=detail, hopeless=True))


_DOTS: Final = Unrouted(
    Refusal(
        status=400,
        code="path_ambiguous",
        detail="The path has a segment . or .. in it. Send the path that they lead to.",
        hopeless=True,
    )
)


class _Place:
    """A place with its answers made beforehand."""

    __slots__ = ("api", "below_api", "direct", "listing")

    def __init__(self, place: Place, to: dict[str, ToService]) -> None:
        self.api = place.api
        self.direct = to[place.owner] if place.owner is not None else None
        self.listing = ListModels(place.scope) if place.has_models else None
        self.below_api = ByModel(place.scope) if place.is_by_model else self.direct

    def match(self, path: bytes) -> _Taken | None:
        """Who takes the path, which lies under the place's prefix; None where nobody does."""
        if self.listing is None or not path.startswith(self.api):
            return self.direct
        rest = path[len(self.api) :]
        if rest.startswith(_MODELS):
            name = rest[len(_MODELS) :]
            if name in (b"", b"/"):
                return self.listing
            if name.startswith(b"/"):
                return ShowModel(self.listing.scope, _unescape(name[1:]))
        return self.below_api if rest[:1] in (b"", b"/") else self.direct


class _Host:
    """A host's table with its answers made beforehand."""

    __slots__ = ("_by_prefix", "_longest", "_parent", "_root", "always", "reach")

    def __init__(self, table: Table, parent: "_Host | None", to: dict[str, ToService]) -> None:
        self._by_prefix = {prefix: _Place(place, to) for prefix, place in table.by_prefix.items()}
        self._longest = table.longest
        self._root = _Place(table.root, to) if table.root is not None else None
        self._parent = parent
        root_takes_all = self._root is not None and self._root.listing is None and not self._by_prefix
        self.always: _Taken | None = self._root.direct if self._root is not None and root_takes_all else None
        """The one answer of this host, where the path does not matter."""
        self.reach: int = max(table.longest, parent.reach if parent is not None else 0)
        """Bytes of the longest prefix that a path on this host may have to be compared with."""

    def match(self, path: bytes) -> _Taken | None:
        """Who takes a path without a query; None where nobody does, here and on less specific hosts."""
        if self._by_prefix:
            head = path if len(path) <= self._longest else path[: max(0, path.rfind(b"/", 0, self._longest + 1))]
            while head:
                place = self._by_prefix.get(head)
                if place is not None and (found := place.match(path)) is not None:
                    return found
                head = head[: max(0, head.rfind(b"/"))]
        if self._root is not None and (found := self._root.match(path)) is not None:
            return found
        return self._parent.match(path) if self._parent is not None else None


def _simplify(path: bytes, reach: int) -> bytes:
    """The path with needless escapes undone (RFC 3986 section 6.2.2.2), as far as a prefix and the API can reach."""
    end = 3 * (reach + len(b"/v1/models/"))
    return _UNRESERVED.sub(_unescape_one, path[:end]) + path[end:]


def _unescape_one(escape: re.Match[bytes]) -> bytes:
    return bytes((int(escape[0][1:], 16),))


def _unescape(name: bytes) -> str:
    """A model's name out of a path. Too long to be one: cut, so that no time is lost on it."""
    return _ESCAPE.sub(_unescape_one, name[: 3 * 1024]).decode("utf-8", "backslashreplace")


def unknown_model(scope: Scope, name: str) -> Refusal:
    """The 404 for a model that nobody in the scope has, with the names that exist."""
    names = scope.all_models()
    return Refusal(
        status=404,
        code="model_not_found",
        detail=f"The model {_shown(name)} does not exist. Models: {_some(names)}.",
        hopeless=True,
    )


def _offer(routes: list[Route]) -> str:
    hosts = dict.fromkeys(host for route in routes for host in route.hosts)
    named = [r.service for r in routes if not r.hosts and r.path_prefix is None and not r.models]
    hosts.update(dict.fromkeys(f"{name}.localhost" for name in named))
    prefixes = dict.fromkeys(route.path_prefix for route in routes if route.path_prefix is not None)
    models = dict.fromkeys(name for route in routes for name in route.models)
    offers = [("Hosts", hosts), ("Path prefixes", prefixes), ("Models below /v1/", models)]
    return " ".join(f"{title}: {_some(names)}." for title, names in offers if names) or "There are no services."


def _some(names: "Iterable[str] | dict[str, str]") -> str:
    names = list(names)
    more = len(names) - _NAMES_SHOWN
    shown = ", ".join(map(_shown, islice(names, _NAMES_SHOWN)))
    return f"{shown} and {more} more" if more > 0 else shown or "none"


def _shown(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[:_NAME_CHARACTERS]}…"
