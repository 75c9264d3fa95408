"""What the Gateway API's objects of a cluster come to: which hosts and prefixes lead to which workload, and what their
owners are told. Pure.

Fed with objects as watches show them, in any order; `read` looks at all of them together. A Gateway is zerogate's when
its GatewayClass names `CONTROLLER`. A route is used as a whole or not at all; of one that is used, a rule whose backend
cannot be found leads nowhere (`Place.service` is None) instead of falling to a broader rule that its author meant for
something else. Gateways serve by this reading and the leading autoscaler writes it into the objects' status: both read
the same objects and come to the same.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from zerogate.kube.attaching import ACCEPTED, Attached, Verdict, attach
from zerogate.kube.catalog import Managed, service_name
from zerogate.kube.fronts import selects, why_no_way
from zerogate.kube.http_rules import Backend, Rule, Unsupported, rules_of
from zerogate.kube.objects import Key, Service
from zerogate.kube.route_objects import CONTROLLER, GROUP, Gateway, GatewayClass, HttpRoute, Json, ReferenceGrant

_NOBODY: Final = ("", "")
_ByLabel: TypeAlias = Mapping[tuple[str, str, str], list[Managed]]
"""Namespace, label and its value → workloads whose pods have it."""
_RESOLVED: Final = Verdict(True, "ResolvedRefs", "All backends are Services of workloads under zerogate.")


class Place(msgspec.Struct, frozen=True):
    """A host (`ANY`: all of them) with a prefix. `service`: who takes its requests; None: nobody."""

    host: str
    prefix: str
    service: str | None


class Parent(msgspec.Struct, frozen=True):
    """One parentRef of a route to a Gateway of ours. `listeners`: to which it is attached."""

    reference: Json
    gateway: Key
    accepted: Verdict
    resolved: Verdict
    listeners: tuple[str, ...] = ()


class RouteReading(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTPRoute that has a Gateway of ours among its parents. `since`: when it was made; older ones win."""

    key: Key
    uid: str
    since: str
    parents: tuple[Parent, ...]
    places: tuple[Place, ...] = ()
    """In the order of its rules; the first of two for the same place counts."""

    @property
    def name(self) -> str:
        """What people are told it is called."""
        return f"HTTPRoute {service_name(self.key)}"

    @property
    def trouble(self) -> str:
        """Why some of its requests lead nowhere; empty where none do."""
        return next((one.resolved.message for one in self.parents if not one.resolved.holds), "")


class RouteBook:
    """See the module's text. `namespace_labels`: of a namespace, as far as it is known."""

    def __init__(self, namespace_labels: Callable[[str], dict[str, str]]) -> None:
        self._namespace_labels = namespace_labels
        self.classes: Mapping[Key, GatewayClass] = {}
        self.gateways: Mapping[Key, Gateway] = {}
        self.routes: Mapping[Key, HttpRoute] = {}
        self.grants: Mapping[Key, ReferenceGrant] = {}
        self.services: Mapping[Key, Service] = {}
        """Live views of what is known; empty where there are no such definitions."""

    def our_classes(self) -> list[GatewayClass]:
        """Those that name us."""
        return [one for one in self.classes.values() if one.spec.controller_name == CONTROLLER]

    def our_gateways(self) -> dict[Key, Gateway]:
        """Those of our classes."""
        names = {one.metadata.name for one in self.our_classes()}
        return {key: one for key, one in self.gateways.items() if one.spec.gateway_class_name in names}

    def read(self, entries: Mapping[str, Managed]) -> dict[Key, RouteReading]:
        """All routes that ask for a Gateway of ours. `entries`: the workloads under zerogate."""
        ours = self.our_gateways()
        if not ours:
            return {}
        workloads = _by_label(entries)
        found = {}
        for key, route in self.routes.items():
            parents = [
                (reference, gateway)
                for reference in route.spec.parent_refs
                if (gateway := ours.get(_gateway_of(reference, key[0]) or _NOBODY)) is not None
            ]
            if parents and not route.metadata.is_deleting:
                found[key] = self._reading(route, parents, workloads)
        return found

    def _reading(self, route: HttpRoute, parents: list[tuple[Json, Gateway]], workloads: _ByLabel) -> RouteReading:
        rules = rules_of(route)
        services: list[str | None] = []
        resolved = _RESOLVED
        if not isinstance(rules, Unsupported):
            for rule in rules:
                backend = self._resolve(rule.backend, route, workloads)
                services.append(backend if isinstance(backend, str) else None)
                if isinstance(backend, Verdict) and resolved.holds:
                    resolved = backend
        judged: list[Parent] = []
        hosts: dict[str, None] = {}
        for reference, gateway in parents:
            parent, of_parent = self._judge(route, reference, gateway, rules, resolved)
            judged.append(parent)
            hosts.update(dict.fromkeys(of_parent))
        meta = route.metadata
        return RouteReading(
            key=route.key, uid=meta.uid, since=meta.creation_timestamp or "", parents=tuple(judged),
            places=() if isinstance(rules, Unsupported) else tuple(_places(rules, services, hosts)),
        )  # fmt: skip

    def _judge(
        self, route: HttpRoute, reference: Json, gateway: Gateway, rules: tuple[Rule, ...] | Unsupported,
        resolved: Verdict,
    ) -> tuple[Parent, tuple[str, ...]]:  # fmt: skip
        labels = self._namespace_labels(route.metadata.namespace)
        attached = attach(gateway, reference, route.metadata.namespace, labels, route.spec.hostnames)
        if isinstance(rules, Unsupported):
            attached = Verdict(False, "UnsupportedValue", rules.message)
        if isinstance(attached, Attached):
            return Parent(reference, gateway.key, ACCEPTED, resolved, attached.listeners), attached.hosts
        return Parent(reference, gateway.key, attached, resolved), ()

    def _resolve(self, backend: Backend, route: HttpRoute, workloads: _ByLabel) -> str | Verdict:
        """The workload behind it."""
        if (backend.group, backend.kind) != ("", "Service"):
            return _unresolved("InvalidKind", f"A backend of kind {backend.kind} is not supported, only Services.")
        key = (backend.namespace, backend.name)
        where = f"Service {service_name(key)}"
        if key[0] != route.metadata.namespace and not self._is_granted(backend, route):
            return _unresolved("RefNotPermitted", f"No ReferenceGrant lets this route lead to {where}.")
        service = self.services.get(key)
        if service is None:
            return _unresolved("BackendNotFound", f"{where} does not exist.")
        behind = _behind(service, workloads)
        if not behind:
            message = f"{where} selects the pods of no workload with zerogate.dev/enabled."
            return _unresolved("BackendNotFound", message)
        if len(behind) > 1:
            names = " and ".join(sorted(one.service for one in behind))
            return _unresolved("BackendNotFound", f"{where} selects pods of {names}; a backend is one workload.")
        why = why_no_way(behind[0], service, backend.port)
        return _unresolved("BackendNotFound", f"{where}: {why}.") if why else behind[0].service

    def _is_granted(self, backend: Backend, route: HttpRoute) -> bool:
        return any(
            any(
                (one.group, one.kind, one.namespace) == (GROUP, "HTTPRoute", route.metadata.namespace)
                for one in grant.spec.from_
            )
            and any(
                (one.group, one.kind) == ("", "Service") and one.name in ("", backend.name) for one in grant.spec.to
            )
            for grant in self.grants.values()
            if grant.metadata.namespace == backend.namespace
        )


def _gateway_of(reference: Json, namespace: str) -> Key | None:
    if (reference.get("group", GROUP), reference.get("kind", "Gateway")) != (GROUP, "Gateway"):
        return None
    return reference.get("namespace") or namespace, str(reference.get("name", ""))


def _by_label(entries: Mapping[str, Managed]) -> _ByLabel:
    found: dict[tuple[str, str, str], list[Managed]] = defaultdict(list)
    for entry in entries.values():
        for label, value in _labels(entry).items():
            found[entry.key[0], label, value].append(entry)
    return found


def _labels(entry: Managed) -> Mapping[str, str]:
    template = entry.template
    return (template.metadata.labels or {}) if template is not None and template.metadata is not None else {}


def _behind(service: Service, workloads: _ByLabel) -> list[Managed]:
    """The workloads whose pods are the Service's."""
    namespace, selector = service.metadata.namespace, service.spec.selector or {}
    candidates = (workloads.get((namespace, label, value), []) for label, value in selector.items())
    return [entry for entry in min(candidates, key=len, default=[]) if selects(service, _labels(entry))]


def _unresolved(reason: str, message: str) -> Verdict:
    return Verdict(False, reason, f"{message} Requests that would go there are answered 503.")


def _places(rules: tuple[Rule, ...], services: list[str | None], hosts: Mapping[str, None]) -> Iterator[Place]:
    for rule, service in zip(rules, services, strict=True):
        for prefix in rule.prefixes:
            for host in hosts:
                yield Place(host, prefix, service)
