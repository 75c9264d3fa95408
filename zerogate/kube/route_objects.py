"""The objects of the Gateway API that zerogate reads, as far as it uses them. Pure.

What a route says in its rules is kept as the server sent it: a key that is not known here has to be seen, so that the
route can be refused instead of being followed in half.
"""

from typing import Any, Final

import msgspec

from zerogate.kube.objects import Condition, Kind, Resource, Wire

GROUP: Final = "gateway.networking.k8s.io"
CONTROLLER: Final = "zerogate.dev/gateway"
"""What a GatewayClass names as its controller so that its Gateways are zerogate's."""

Json = dict[str, Any]


class Stamped(Condition, frozen=True, kw_only=True):
    """A condition as these objects have it."""

    observed_generation: int = 0
    last_transition_time: str = ""


class Reference(Wire, frozen=True, kw_only=True):
    group: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""


class GatewayClassSpec(Wire, frozen=True, kw_only=True):
    controller_name: str = ""
    parameters_ref: Reference | None = None


class GatewayClassStatus(Wire, frozen=True, kw_only=True):
    conditions: tuple[Stamped, ...] = ()


class GatewayClass(Kind, frozen=True, kw_only=True):
    spec: GatewayClassSpec = GatewayClassSpec()
    status: GatewayClassStatus = GatewayClassStatus()


class LabelRequirement(Wire, frozen=True, kw_only=True):
    key: str
    operator: str = ""
    values: tuple[str, ...] = ()


class LabelSelector(Wire, frozen=True, kw_only=True):
    match_labels: dict[str, str] | None = None
    match_expressions: tuple[LabelRequirement, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether an object with these labels is meant; an operator that is not known means none."""
        if any(labels.get(key) != value for key, value in (self.match_labels or {}).items()):
            return False
        return all(_holds(one, labels) for one in self.match_expressions)


def _holds(one: LabelRequirement, labels: dict[str, str]) -> bool:
    match one.operator:
        case "In":
            return labels.get(one.key) in one.values
        case "NotIn":
            return labels.get(one.key) not in one.values
        case "Exists":
            return one.key in labels
        case "DoesNotExist":
            return one.key not in labels
    return False


class FromNamespaces(Wire, frozen=True, kw_only=True):
    from_: str = msgspec.field(default="Same", name="from")
    selector: LabelSelector | None = None


class AllowedRoutes(Wire, frozen=True, kw_only=True):
    namespaces: FromNamespaces = FromNamespaces()
    kinds: tuple[Reference, ...] = ()


class Listener(Wire, frozen=True, kw_only=True):
    name: str
    port: int = 0
    protocol: str = ""
    hostname: str = ""
    allowed_routes: AllowedRoutes = AllowedRoutes()


class GatewayInfrastructure(Wire, frozen=True, kw_only=True):
    parameters_ref: Reference | None = None


class GatewaySpec(Wire, frozen=True, kw_only=True):
    gateway_class_name: str = ""
    listeners: tuple[Listener, ...] = ()
    addresses: tuple[Json, ...] = ()
    infrastructure: GatewayInfrastructure | None = None


class ListenerStatus(Wire, frozen=True, kw_only=True):
    name: str
    attached_routes: int = 0
    conditions: tuple[Stamped, ...] = ()


class GatewayStatus(Wire, frozen=True, kw_only=True):
    conditions: tuple[Stamped, ...] = ()
    listeners: tuple[ListenerStatus, ...] = ()


class Gateway(Kind, frozen=True, kw_only=True):
    spec: GatewaySpec = GatewaySpec()
    status: GatewayStatus = GatewayStatus()


class HttpRouteSpec(Wire, frozen=True, kw_only=True):
    parent_refs: tuple[Json, ...] = ()
    hostnames: tuple[str, ...] = ()
    rules: tuple[Json, ...] = ()


class HttpRouteStatus(Wire, frozen=True, kw_only=True):
    parents: tuple[Json, ...] = ()
    """Of all controllers: who writes has to leave the others' as they are."""


class HttpRoute(Kind, frozen=True, kw_only=True):
    spec: HttpRouteSpec = HttpRouteSpec()
    status: HttpRouteStatus = HttpRouteStatus()


class ReferenceGrantSpec(Wire, frozen=True, kw_only=True):
    from_: tuple[Reference, ...] = msgspec.field(default=(), name="from")
    to: tuple[Reference, ...] = ()


class ReferenceGrant(Kind, frozen=True, kw_only=True):
    spec: ReferenceGrantSpec = ReferenceGrantSpec()


GATEWAY_CLASSES = Resource(GROUP, "v1", "gatewayclasses", GatewayClass, namespaced=False)
GATEWAYS = Resource(GROUP, "v1", "gateways", Gateway)
HTTP_ROUTES = Resource(GROUP, "v1", "httproutes", HttpRoute)
REFERENCE_GRANTS = Resource(GROUP, "v1beta1", "referencegrants", ReferenceGrant)
