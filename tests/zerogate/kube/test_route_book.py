"""What the Gateway API's objects of a cluster come to."""

from typing import Any

import pytest

from tests.zerogate.kube.routes import Shown, a_class, gateway, grant, listener, route, rule, service, workload
from zerogate.kube.route_book import Place, RouteReading


def reading(*objects: Any) -> RouteReading:
    [found] = Shown(gateway(), *objects).read().values()
    assert isinstance(found, RouteReading)
    return found


def verdicts(found: RouteReading) -> tuple[str, str]:
    [parent] = found.parents
    return parent.accepted.reason, parent.resolved.reason


def test_a_route_leads_to_the_workload_behind_its_service() -> None:
    found = reading(workload(), service("front", app="llama"), route(rule("/", "/v1", backend="front")))
    assert found.places == (Place("a.example", "/", "ml/llama"), Place("a.example", "/v1", "ml/llama"))
    assert verdicts(found) == ("Accepted", "ResolvedRefs")
    assert (found.name, found.trouble) == ("HTTPRoute ml/route", "")


@pytest.mark.parametrize(
    "others",
    [
        (gateway(name="other", of="theirs"),),
        (),
        (a_class("theirs", "example.org/other"), gateway(of="theirs")),
    ],
    ids=["another name", "no such Gateway", "somebody else's class"],
)
def test_a_route_without_a_gateway_of_ours_is_none_of_our_business(others: tuple[Any, ...]) -> None:
    assert Shown(workload(), service(), route(), *others).read() == {}


def test_a_parent_that_is_no_gateway_is_left_to_others() -> None:
    mesh = {"group": "", "kind": "Service", "name": "edge"}
    assert Shown(gateway(), workload(), service(), route(parents=(mesh,))).read() == {}


def test_a_gateway_of_another_namespace_has_to_be_named_and_to_let_routes_in() -> None:
    parent = {"name": "edge", "namespace": "infra"}
    one = gateway(listener(namespaces={"from": "All"}), namespace="infra")
    [found] = Shown(one, workload(), service(), route(parents=(parent,))).read().values()
    assert verdicts(found) == ("Accepted", "ResolvedRefs")
    [found] = Shown(gateway(namespace="infra"), workload(), service(), route(parents=(parent,))).read().values()
    assert verdicts(found)[0] == "NotAllowedByListeners"
    assert found.places == ()


@pytest.mark.parametrize(
    ("objects", "reference", "reason", "said"),
    [
        ((workload(),), {}, "BackendNotFound", "Service ml/llama does not exist"),
        ((service(),), {}, "BackendNotFound", "selects the pods of no workload"),
        ((workload(), service()), {"port": 81}, "BackendNotFound", "the Service has no port 81"),
        ((workload(), service(target=9)), {}, "BackendNotFound", "port 80 does not lead to the model's port 8000"),
        ((workload(), service()), {"kind": "ServiceImport", "group": "x"}, "InvalidKind", "kind ServiceImport"),
        ((workload(), service()), {"namespace": "other"}, "RefNotPermitted", "No ReferenceGrant"),
    ],
    ids=["no service", "no workload", "no port", "another port", "another kind", "another namespace"],
)
def test_a_backend_that_is_not_found_leads_nowhere_and_is_told(
    objects: tuple[Any, ...], reference: dict[str, Any], reason: str, said: str
) -> None:
    wrong = {"backendRefs": [{"name": "llama", "port": 80, **reference}]}
    found = reading(*objects, route({**rule("/x"), **wrong}))
    assert found.places == (Place("a.example", "/x", None),)
    assert verdicts(found) == ("Accepted", reason)
    assert said in found.trouble


def test_the_port_may_be_named() -> None:
    assert reading(workload(), service(target="http"), route()).places[0].service == "ml/llama"


def test_a_service_before_two_workloads_is_not_one_backend() -> None:
    found = reading(workload(), workload("other", app="llama"), service(), route())
    assert found.places[0].service is None
    assert found.trouble.startswith("Service ml/llama selects pods of ml/llama and ml/other; a backend is one workload")


@pytest.mark.parametrize(
    ("granted", "is_let"),
    [
        (grant("ml", "other"), True),
        (grant("ml", "other", name="llama"), True),
        (grant("ml", "other", name="another"), False),
        (grant("x", "other"), False),
        (grant("ml", "ml"), False),
    ],
    ids=["all", "by name", "another name", "another namespace's routes", "in another namespace"],
)
def test_another_namespaces_service_needs_a_grant_there(granted: Any, is_let: bool) -> None:
    there = {"backendRefs": [{"name": "llama", "namespace": "other", "port": 80}]}
    found = reading(workload(namespace="other"), service(namespace="other"), granted, route({**rule(), **there}))
    assert (found.places[0].service == "other/llama") is is_let


def test_a_route_that_cannot_be_followed_has_no_place_at_all() -> None:
    found = reading(workload(), service(), route(rule(), rule("/x", filters=[{"type": "RequestMirror"}])))
    assert found.places == ()
    assert verdicts(found)[0] == "UnsupportedValue"


def test_of_two_parents_each_has_its_own_verdict_and_places_are_those_of_the_accepted_one() -> None:
    shown = Shown(
        gateway(), gateway(listener(hostname="b.example"), name="second"), workload(), service(),
        route(parents=({"name": "edge"}, {"name": "second"})),
    )  # fmt: skip
    [found] = shown.read().values()
    assert [one.accepted.reason for one in found.parents] == ["Accepted", "NoMatchingListenerHostname"]
    assert [place.host for place in found.places] == ["a.example"]
