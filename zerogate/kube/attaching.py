"""Whether a route may attach to a Gateway, by which listeners, and for which hosts. Pure.

Listeners say which hosts and whose routes; their port is not opened by zerogate, whose gateways listen where their
Service leads. Called by `zerogate.kube.route_book`.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from zerogate.kube.route_objects import GROUP, Gateway, Json, Listener

ANY: Final = ""
"""Any host at all."""


class Verdict(msgspec.Struct, frozen=True):
    """A condition's worth of opinion. `reason` is a word of the Gateway API, `message` a sentence."""

    holds: bool
    reason: str
    message: str


ACCEPTED: Final = Verdict(True, "Accepted", "The route is used by zerogate's gateways.")


class Attached(msgspec.Struct, frozen=True):
    """To these listeners, for these hosts (`ANY` among them: for all)."""

    listeners: tuple[str, ...]
    hosts: tuple[str, ...]


def trouble_of(gateway: Gateway) -> Verdict | None:
    """Why nothing of a Gateway can be used; None where it can."""
    if gateway.spec.addresses:
        return Verdict(False, "UnsupportedAddress", "spec.addresses is not supported: a Service leads to the gateways.")
    infrastructure = gateway.spec.infrastructure
    if infrastructure is not None and infrastructure.parameters_ref is not None:
        return Verdict(False, "InvalidParameters", "spec.infrastructure.parametersRef is not supported.")
    return None


def trouble_of_listener(listener: Listener) -> Verdict | None:
    """Why a listener cannot be used; None where it can."""
    if listener.protocol == "HTTP":
        return None
    return Verdict(
        False, "UnsupportedProtocol",
        f"The protocol {listener.protocol} is not supported, only HTTP. Certificates are the gateways' own "
        "settings, and routes of listeners of HTTP count over TLS too.",
    )  # fmt: skip


def takes_routes(listener: Listener) -> bool:
    """Whether it lets HTTPRoutes in at all."""
    kinds = listener.allowed_routes.kinds
    return not kinds or any(one.kind == "HTTPRoute" and one.group in ("", GROUP) for one in kinds)


def attach(
    gateway: Gateway, parent: Json, namespace: str, labels: dict[str, str], hostnames: tuple[str, ...]
) -> Attached | Verdict:
    """What `parent`, a parentRef to the Gateway in a route of `namespace` (which has these labels), comes to."""
    trouble = trouble_of(gateway)
    if trouble is not None:
        return Verdict(False, "NoMatchingParent", f"The Gateway cannot be used: {trouble.message}")
    meant = [one for one in gateway.spec.listeners if _is_meant(one, parent)]
    if not meant:
        return Verdict(False, "NoMatchingParent", "The Gateway has no listener of this sectionName and port.")
    usable = [one for one in meant if trouble_of_listener(one) is None]
    if not usable:
        said = ", ".join(f"{one.name} ({one.protocol})" for one in meant)
        return Verdict(False, "NoMatchingParent", f"Only listeners of HTTP are supported, and there is {said}.")
    allowed = [one for one in usable if takes_routes(one) and _lets_in(one, gateway, namespace, labels)]
    if not allowed:
        message = "allowedRoutes of the Gateway's listeners leaves out HTTPRoutes of this namespace."
        return Verdict(False, "NotAllowedByListeners", message)
    by_listener = {one.name: _hosts(one.hostname, hostnames) for one in allowed}
    kept = {name: hosts for name, hosts in by_listener.items() if hosts}
    if not kept:
        message = "None of the hostnames is one of the Gateway's listeners."
        return Verdict(False, "NoMatchingListenerHostname", message)
    hosts = dict.fromkeys(host for hosts in kept.values() for host in hosts)
    return Attached(tuple(kept), tuple(hosts))


def _is_meant(listener: Listener, parent: Json) -> bool:
    section, port = parent.get("sectionName"), parent.get("port")
    return section in (None, "", listener.name) and port in (None, listener.port)


def _lets_in(listener: Listener, gateway: Gateway, namespace: str, labels: dict[str, str]) -> bool:
    whose = listener.allowed_routes.namespaces
    match whose.from_:
        case "All":
            return True
        case "Same":
            return namespace == gateway.metadata.namespace
        case "Selector":
            return whose.selector is not None and whose.selector.matches(labels)
    return False


def _hosts(of_listener: str, of_route: Iterable[str]) -> tuple[str, ...]:
    found = (_common(of_listener.lower(), host.lower()) for host in tuple(of_route) or (ANY,))
    return tuple(dict.fromkeys(host for host in found if host is not None))


def _common(one: str, other: str) -> str | None:
    """The hosts that both stand for; None where there are none."""
    for narrow, broad in ((one, other), (other, one)):
        if broad in (ANY, narrow):
            return narrow
        if broad.startswith("*.") and narrow.endswith(broad[1:]):
            return narrow
    return None
