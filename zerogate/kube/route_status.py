"""What is written into the status of GatewayClasses, Gateways and HTTPRoutes, and whether it is news. Pure.

A body is a merge patch of the status, with the resource version that was read where others write there too (the parents
of a route); None: it says so already. A condition keeps the time of its last change. Called by the leading autoscaler.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from zerogate.kube.attaching import Verdict, takes_routes, trouble_of, trouble_of_listener
from zerogate.kube.objects import Key, Kind
from zerogate.kube.route_book import Parent, RouteReading
from zerogate.kube.route_objects import CONTROLLER, GROUP, Gateway, GatewayClass, HttpRoute, Json, Listener, Stamped

_LONGEST: Final = 1024
"""Of a message: the definitions allow 32 KiB, and nobody reads that."""
_SERVED: Final = Verdict(True, "Programmed", "Zerogate's gateways serve its routes.")


def class_status(one: GatewayClass, now: str) -> Json | None:
    """Of a GatewayClass of ours."""
    verdict = Verdict(True, "Accepted", "Zerogate's gateways serve Gateways of this class.")
    if one.spec.parameters_ref is not None:
        verdict = Verdict(False, "InvalidParameters", "spec.parametersRef is not supported.")
    conditions = _conditions(one, one.status.conditions, {"Accepted": verdict}, now)
    return None if conditions is None else {"status": {"conditions": conditions}}


def gateway_status(gateway: Gateway, readings: Iterable[RouteReading], now: str) -> Json | None:
    """Of a Gateway of ours. `readings`: all routes that ask for any."""
    trouble = trouble_of(gateway)
    usable = trouble is None and any(trouble_of_listener(one) is None for one in gateway.spec.listeners)
    accepted = trouble or Verdict(True, "Accepted", "It is one of zerogate's.")
    if trouble is None and not usable:
        accepted = Verdict(False, "ListenersNotValid", "None of its listeners is of the protocol HTTP.")
    programmed = _SERVED if usable else Verdict(False, "Invalid", accepted.message)
    own = _conditions(gateway, gateway.status.conditions, {"Accepted": accepted, "Programmed": programmed}, now)
    attached = _attached(gateway.key, readings)
    known = {one.name: one for one in gateway.status.listeners}
    listeners, is_news = [], own is not None or list(known) != [one.name for one in gateway.spec.listeners]
    for listener in gateway.spec.listeners:
        before = known.get(listener.name)
        stamped = before.conditions if before is not None else ()
        conditions = _conditions(gateway, stamped, _of_listener(listener, trouble), now)
        count = attached.get(listener.name, 0)
        is_news = is_news or conditions is not None or before is None or before.attached_routes != count
        listeners.append({
            "name": listener.name,
            "attachedRoutes": count,
            "supportedKinds": [{"group": GROUP, "kind": "HTTPRoute"}] if takes_routes(listener) else [],
            "conditions": _shown(stamped) if conditions is None else conditions,
        })  # fmt: skip
    if not is_news:
        return None
    return {"status": {"conditions": own or _shown(gateway.status.conditions), "listeners": listeners}}


def _of_listener(listener: Listener, trouble: Verdict | None) -> dict[str, Verdict]:
    accepted = trouble_of_listener(listener) or Verdict(True, "Accepted", "It takes HTTPRoutes.")
    resolved = Verdict(True, "ResolvedRefs", "It refers to nothing that is not there.")
    kinds = listener.allowed_routes.kinds
    if any((one.kind, one.group) not in (("HTTPRoute", ""), ("HTTPRoute", GROUP)) for one in kinds):
        resolved = Verdict(False, "InvalidRouteKinds", "Of allowedRoutes.kinds only HTTPRoute is supported.")
    programmed = _SERVED
    if trouble is not None or not accepted.holds:
        programmed = Verdict(False, "Invalid", trouble.message if trouble is not None else accepted.message)
    return {"Accepted": accepted, "ResolvedRefs": resolved, "Programmed": programmed}


def _attached(gateway: Key, readings: Iterable[RouteReading]) -> dict[str, int]:
    """By listener, how many routes are attached to it."""
    found: dict[str, int] = {}
    for reading in readings:
        names = {name: None for one in reading.parents if one.gateway == gateway for name in one.listeners}
        for name in names:
            found[name] = found.get(name, 0) + 1
    return found


def route_status(route: HttpRoute, reading: RouteReading | None, now: str) -> Json | None:
    """Of an HTTPRoute, of whose parents others may have theirs; `reading` is None where none is ours any longer."""
    others = [one for one in route.status.parents if one.get("controllerName") != CONTROLLER]
    before = [one for one in route.status.parents if one.get("controllerName") == CONTROLLER]
    ours = [_parent(route, parent, before, now) for parent in (reading.parents if reading is not None else ())]
    after = [*others, *ours]
    if len(after) == len(route.status.parents) and all(one in route.status.parents for one in after):
        return None
    return {"metadata": {"resourceVersion": route.metadata.resource_version}, "status": {"parents": after}}


def _parent(route: HttpRoute, parent: Parent, before: Sequence[Json], now: str) -> Json:
    known: Json = next((one for one in before if one.get("parentRef") == parent.reference), {})
    verdicts = {"Accepted": parent.accepted, "ResolvedRefs": parent.resolved}
    stamped = tuple(_stamped(one) for one in known.get("conditions") or ())
    conditions = _conditions(route, stamped, verdicts, now)
    if conditions is None:
        return known
    return {"parentRef": parent.reference, "controllerName": CONTROLLER, "conditions": conditions}


def _stamped(one: Json) -> Stamped:
    return Stamped(
        type=one["type"], status=one["status"], reason=one.get("reason", ""), message=one.get("message", ""),
        observed_generation=one.get("observedGeneration", 0), last_transition_time=one.get("lastTransitionTime", ""),
    )  # fmt: skip


def _conditions(
    about: Kind, before: Sequence[Stamped], verdicts: Mapping[str, Verdict], now: str
) -> list[dict[str, Any]] | None:
    """All conditions as they are to be; None where they are so. Those of other types stay."""
    known = {one.type: one for one in before}
    after = dict(known)
    for kind, verdict in verdicts.items():
        old = known.get(kind)
        status = "True" if verdict.holds else "False"
        is_same = old is not None and old.status == status and old.last_transition_time
        after[kind] = Stamped(
            type=kind, status=status, reason=verdict.reason, message=verdict.message[:_LONGEST],
            observed_generation=about.metadata.generation,
            last_transition_time=old.last_transition_time if old is not None and is_same else now,
        )  # fmt: skip
    return None if after == known else _shown(tuple(after.values()))


def _shown(conditions: Sequence[Stamped]) -> list[dict[str, Any]]:
    return [
        {
            "type": one.type, "status": one.status, "reason": one.reason, "message": one.message,
            "observedGeneration": one.observed_generation, "lastTransitionTime": one.last_transition_time,
        }
        for one in conditions
    ]  # fmt: skip
