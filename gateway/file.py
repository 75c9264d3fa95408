"""The gateway's file: services, their policies, and where their replicas' sidecars are. Pure.

JSON, because it is written by programs; on a cluster the same values come from the API server instead. A file is taken
as a whole or not at all, and all that is wrong with it is said at once.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from activator.bare_replica import BareReplica
from gateway.route_table import Route, route_for
from gateway.router import Router
from zerogate.errors import UNREADABLE, DefinitionError, DefinitionErrors, nearest, shown
from zerogate.flags import ip_and_port
from zerogate.policy import Policy
from zerogate.policy_keys import KEYS, read_policy
from zerogate.runtime.interface import Address, Trouble

MOST_REPLICAS: Final = 100_000
"""Of all services together."""
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_ROUTE_KEYS: Final = tuple(key.name for key in KEYS.values() if key.routes)
_SERVICE_KEYS: Final = ("policy", "replicas", *_ROUTE_KEYS)


class Service(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One service. `replicas`: where their sidecars take requests."""

    policy: Policy
    replicas: tuple[Address, ...] = ()
    routes: tuple[Route, ...] | None = None
    """How it is reached; None: as its policy says. Nobody reaches one that has none."""
    trouble: Trouble | None = None
    bare: tuple[BareReplica, ...] = ()
    """Replicas without a sidecar that are ready; only a cluster has them."""


class GatewayFile(msgspec.Struct, frozen=True):
    """What the gateway works by."""

    services: dict[str, Service]

    def router(self) -> Router:
        """A new table of the routes. Raises DefinitionError for services that cannot be told apart."""
        return Router(self._routes())

    def _routes(self) -> Iterator[Route]:
        is_alone = len(self.services) == 1
        for name, service in self.services.items():
            if service.routes is None:
                yield route_for(name, service.policy, is_alone=is_alone)
            else:
                yield from service.routes

    def policies(self) -> dict[str, Policy]:
        """The policy of every service."""
        return {name: service.policy for name, service in self.services.items()}

    def prefixes(self) -> dict[str, str]:
        """The path prefixes of the services that have one."""
        return {
            name: service.policy.path_prefix for name, service in self.services.items() if service.policy.path_prefix
        }


EMPTY: Final = GatewayFile({})


def read_file(data: bytes, source: str) -> GatewayFile:
    """The file with these bytes, called `source`. Raises DefinitionErrors."""
    reader = _Reader()
    try:
        file = reader.file(msgspec.json.decode(data))
        if not reader.errors:
            file.router()
    except UNREADABLE as error:
        raise DefinitionErrors([_syntax(data, error).at(source=source)]) from None
    except DefinitionError as error:
        reader.errors.append(error)
    if reader.errors:
        raise DefinitionErrors([error.at(source=source) for error in reader.errors])
    return file


def _syntax(data: bytes, error: Exception) -> DefinitionError:
    place = re.search(r" \(byte ([0-9]+)\)$", str(error))
    at = int(place[1]) if place else len(data)
    problem = str(error)[: place.start()] if place else str(error)
    hint = "The file of a gateway is JSON (docs/gateway.md); YAML is for `zerogate up`." if at == 0 else ""
    return DefinitionError(f"is no JSON: {problem}", line=data.count(b"\n", 0, at) + 1, hint=hint)


class _Reader:
    def __init__(self) -> None:
        self.errors: list[DefinitionError] = []
        self._owner_of: dict[Address, str] = {}

    def file(self, value: Any) -> GatewayFile:
        services = self._table(value, "", ("services",)).get("services", {})
        return GatewayFile({name: self._service(name, raw) for name, raw in self._object(services, "services").items()})

    def _object(self, value: Any, path: str) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        self._fail(f"{shown(value)} is not an object", path)
        return {}

    def _table(self, value: Any, path: str, keys: tuple[str, ...]) -> Mapping[str, Any]:
        """An object's known keys."""
        table = self._object(value, path)
        for name in table:
            if name not in keys:
                near = nearest(name, keys)
                hint = f"Did you mean {near}?" if near else f"Known keys are {', '.join(keys)}."
                self._fail("is not a key of this file", _joined(path, name), hint)
        return {name: item for name, item in table.items() if name in keys}

    def _service(self, name: str, value: Any) -> Service:
        path = _joined("services", name)
        if not _NAME.fullmatch(name):
            hint = "Small letters and digits, and . _ - inside; at most 63."
            self._fail(f"{shown(name)} is not a name of a service", path, hint)
        table = self._table(value, path, _SERVICE_KEYS)
        return Service(policy=self._policy(table, path), replicas=tuple(self._replicas(name, table, path)))

    def _policy(self, table: Mapping[str, Any], path: str) -> Policy:
        raw = dict(self._object(table.get("policy", {}), f"{path}.policy"))
        beside = {name: table[name] for name in _ROUTE_KEYS if name in table}
        for name in beside:
            if name in raw:
                self._fail("stands in the policy too", f"{path}.{name}", "Take one of them out.")
        policy, errors = read_policy({**raw, **beside}, scaled=True)
        if policy.protocol != "http1":
            hint = "Sidecars are spoken to in HTTP/1.1 in this version; clients may use HTTP/2 all the same."
            self._fail(f"{policy.protocol} is not available here", f"{path}.policy.protocol", hint)
        for error in errors:
            place = path if error.key in beside else f"{path}.policy"
            self._fail(error.problem, f"{place}.{error.key}", error.hint)
        return policy

    def _replicas(self, service: str, table: Mapping[str, Any], path: str) -> Iterator[Address]:
        path = f"{path}.replicas"
        listed = table.get("replicas", [])
        if not isinstance(listed, list):
            self._fail(f"{shown(listed)} is not a list", path, 'Write ["10.0.0.5:8012"], or [] while there are none.')
            return
        for number, text in enumerate(listed):
            place = f"{path}[{number}]"
            if not isinstance(text, str):
                self._fail(f"{shown(text)} is not an address", place, 'Write "10.0.0.5:8012", in quotes.')
                continue
            try:
                address = ip_and_port(text, lowest_port=1)
            except DefinitionError as error:
                self.errors.append(error.at(key=place))
                continue
            owner = self._owner_of.setdefault(address, service)
            if owner != service:
                self._fail(f"{address} is a replica of {owner} already", place, "A sidecar stands for one service.")
            elif len(self._owner_of) > MOST_REPLICAS:
                raise DefinitionError(f"there are more than {MOST_REPLICAS} replicas", key=place)
            else:
                yield address

    def _fail(self, problem: str, key: str, hint: str = "") -> None:
        self.errors.append(DefinitionError(problem, key=key, hint=hint))


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
