"""HTTPRoutes of a cluster as a gateway's routes: what each asks for, and who answers where one leads nowhere. Pure.

Called by `gateway.cluster_book`; which hosts and prefixes a route stands for is read by `zerogate.kube.route_book`.
"""

from collections.abc import Iterator

from gateway.claims import Wish
from gateway.file import Service
from gateway.route_table import Route
from zerogate.kube.catalog import service_name
from zerogate.kube.route_book import RouteReading
from zerogate.policy import Policy
from zerogate.runtime.interface import Trouble


def wish_of_route(reading: RouteReading) -> Wish:
    """What an HTTPRoute asks for. What leads nowhere is asked for too: no broader route is to have its requests."""
    nobody = nowhere(reading)
    routes = tuple(
        Route(
            service=place.service or nobody,
            hosts=(place.host,) if place.host else (),
            path_prefix=place.prefix,
        )
        for place in reading.places
    )
    return Wish(owner=reading.name, since=reading.since, routes=routes)


def nowhere(reading: RouteReading) -> str:
    """The name of the service that stands for the workloads that an HTTPRoute leads to and that are not there."""
    return f"{service_name(reading.key)} (HTTPRoute)"


def stand_ins(reading: RouteReading, routes: tuple[Route, ...]) -> Iterator[tuple[str, Service]]:
    """A service that answers 503 with what is wrong, where any of the routes leads nowhere."""
    name = nowhere(reading)
    own = tuple(route for route in routes if route.service == name)
    if own:
        detail = f"{reading.name}: {reading.trouble}"
        yield name, Service(policy=Policy(), routes=own, trouble=Trouble(detail, is_hopeless=True))
