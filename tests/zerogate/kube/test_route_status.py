"""What is written into the status of routes and what stands above them."""

from typing import Any

import msgspec

from tests.zerogate.kube.routes import Shown, a_class, gateway, listener, route, service, workload
from zerogate.kube.objects import Kind
from zerogate.kube.route_objects import Gateway, GatewayClass, HttpRoute
from zerogate.kube.route_status import class_status, gateway_status, route_status

BEFORE, NOW = "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"
THEIRS = {"parentRef": {"name": "x"}, "controllerName": "example.org/other", "conditions": []}


def merged(one: Kind, body: dict[str, Any] | None) -> Any:
    """The object after the write, as the watch shows it."""
    assert body is not None
    return msgspec.convert({**msgspec.to_builtins(one), "status": body["status"]}, type(one))


def shown(*objects: Any) -> Shown:
    return Shown(gateway(), workload(), service(), *objects)


def test_what_is_written_once_is_not_written_again() -> None:
    room = shown(route())
    readings = room.read()
    [reading] = readings.values()
    assert class_status(merged(a_class(), class_status(a_class(), BEFORE)), NOW) is None
    assert gateway_status(merged(gateway(), gateway_status(gateway(), [reading], BEFORE)), [reading], NOW) is None
    assert route_status(merged(route(), route_status(route(), reading, BEFORE)), reading, NOW) is None


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    [reading] = shown(route()).read().values()
    one = merged(route(), route_status(route(), reading, BEFORE))
    room = Shown(gateway(), workload(), route())
    [worse] = room.read().values()
    body = route_status(one, worse, NOW)
    assert body is not None
    [parent] = body["status"]["parents"]
    times = {said["type"]: said["lastTransitionTime"] for said in parent["conditions"]}
    assert times == {"Accepted": BEFORE, "ResolvedRefs": NOW}
    assert body["metadata"] == {"resourceVersion": "7"}, "the parents are one list, which others write too"


def test_others_parents_stay_and_ours_go_with_their_gateway() -> None:
    one = route(status=(THEIRS,))
    [reading] = shown(one).read().values()
    body = route_status(one, reading, NOW)
    after: HttpRoute = merged(one, body)
    assert [said["controllerName"] for said in after.status.parents] == ["example.org/other", "zerogate.dev/gateway"]
    gone = route_status(after, None, NOW)
    assert gone is not None
    assert gone["status"]["parents"] == [THEIRS]
    assert route_status(one, None, NOW) is None


def test_a_listener_says_how_many_routes_it_has_and_what_it_cannot() -> None:
    one = gateway(listener(), listener("secure", protocol="HTTPS"), listener("odd", kinds=[{"kind": "TCPRoute"}]))
    readings = Shown(one, workload(), service(), route()).read().values()
    after: Gateway = merged(one, gateway_status(one, readings, NOW))
    found = {said.name: {each.type: each.reason for each in said.conditions} for said in after.status.listeners}
    assert [said.attached_routes for said in after.status.listeners] == [1, 0, 0]
    assert found["web"] == {"Accepted": "Accepted", "ResolvedRefs": "ResolvedRefs", "Programmed": "Programmed"}
    assert found["secure"]["Accepted"] == "UnsupportedProtocol"
    assert found["odd"]["ResolvedRefs"] == "InvalidRouteKinds"
    assert {said.type: said.status for said in after.status.conditions} == {"Accepted": "True", "Programmed": "True"}


def test_a_gateway_without_a_usable_listener_is_not_accepted() -> None:
    one = gateway(listener(protocol="TLS"))
    after: Gateway = merged(one, gateway_status(one, [], NOW))
    assert [said.reason for said in after.status.conditions] == ["ListenersNotValid", "Invalid"]


def test_a_class_with_parameters_is_refused() -> None:
    one = a_class(parametersRef={"group": "x", "kind": "y", "name": "z"})
    after: GatewayClass = merged(one, class_status(one, NOW))
    assert [said.reason for said in after.status.conditions] == ["InvalidParameters"]
