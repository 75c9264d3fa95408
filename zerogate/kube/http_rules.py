"""What an HTTPRoute says in its rules: path prefixes and where each leads, or why it cannot be followed. Pure.

Followed are path prefixes with one backend each. Whatever else a rule says (filters, headers, methods, exact paths,
several backends, timeouts, keys that nobody here knows) makes the route one that is refused as a whole: a rule of which
half is followed would send requests where its author did not want them. Called by `zerogate.kube.route_book`.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from zerogate.kube.route_objects import HttpRoute, Json

_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*/?")
"""As `path-prefix` of a policy: without percent-escapes, of which servers do not agree what they stand for."""
_WHAT_WORKS: Final = "Only path prefixes with one backend each are followed"


class Backend(msgspec.Struct, frozen=True):
    """What a rule's one backendRef names."""

    group: str
    kind: str
    namespace: str
    name: str
    port: int | None


class Rule(msgspec.Struct, frozen=True):
    """Requests below any of the prefixes go to the backend."""

    prefixes: tuple[str, ...]
    backend: Backend


class Unsupported(msgspec.Struct, frozen=True):
    """Why the route is not followed, as a sentence."""

    message: str


class _UnsupportedError(Exception):
    pass


def rules_of(route: HttpRoute) -> tuple[Rule, ...] | Unsupported:
    """All rules of a route in their order, or the first thing in them that cannot be followed."""
    try:
        return tuple(
            Rule(tuple(_prefixes(rule, f"rules[{index}]")), _backend(rule, f"rules[{index}]", route))
            for index, rule in enumerate(route.spec.rules)
        )
    except _UnsupportedError as error:
        return Unsupported(str(error))


def _refuse(place: str) -> _UnsupportedError:
    return _UnsupportedError(f"{place} is not supported, so the route is not used. {_WHAT_WORKS}.")


def _only(value: Json, known: tuple[str, ...], place: str) -> None:
    for key, said in value.items():
        if key not in known and said not in (None, [], {}, ""):
            raise _refuse(f"{place}.{key}")


def _prefixes(rule: Json, place: str) -> Iterator[str]:
    _only(rule, ("name", "matches", "backendRefs"), place)
    for index, match in enumerate(rule.get("matches") or [{}]):
        here = f"{place}.matches[{index}]"
        _only(match, ("path",), here)
        path: dict[str, Any] = match.get("path") or {}
        kind, value = path.get("type") or "PathPrefix", path.get("value") or "/"
        if kind != "PathPrefix":
            raise _refuse(f"{here}.path.type {kind}")
        if not _PREFIX.fullmatch(value) or "/./" in f"{value}/" or "/../" in f"{value}/":
            raise _refuse(f"{here}.path.value {value}")
        yield value.rstrip("/") or "/"


def _backend(rule: Json, place: str, route: HttpRoute) -> Backend:
    references: list[Json] = rule.get("backendRefs") or []
    if len(references) != 1:
        raise _refuse(f"{place}.backendRefs with {len(references) or 'no'} backends")
    reference = references[0]
    _only(reference, ("group", "kind", "name", "namespace", "port", "weight"), f"{place}.backendRefs[0]")
    if reference.get("weight", 1) == 0:
        raise _refuse(f"{place}.backendRefs[0].weight 0")
    return Backend(
        group=reference.get("group") or "",
        kind=reference.get("kind") or "Service",
        namespace=reference.get("namespace") or route.metadata.namespace,
        name=str(reference.get("name", "")),
        port=reference.get("port"),
    )
