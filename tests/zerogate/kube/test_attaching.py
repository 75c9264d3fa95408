"""To which listeners of a Gateway a route attaches, and for which hosts."""

from typing import Any

import pytest

from tests.zerogate.kube.routes import gateway, listener
from zerogate.kube.attaching import ANY, Attached, Verdict, attach
from zerogate.kube.route_objects import Gateway

PARENT: dict[str, Any] = {"name": "edge"}


@pytest.mark.parametrize(
    ("of_listener", "of_route", "hosts"),
    [
        ("", (), (ANY,)),
        ("", ("a.example", "*.b.example"), ("a.example", "*.b.example")),
        ("a.example", (), ("a.example",)),
        ("*.example", ("a.example", "x.y.example", "example"), ("a.example", "x.y.example")),
        ("a.example", ("*.example",), ("a.example",)),
        ("*.a.example", ("*.example",), ("*.a.example",)),
        ("*.example", ("*.a.example",), ("*.a.example",)),
        ("A.example", ("a.EXAMPLE",), ("a.example",)),
    ],
)
def test_the_hosts_are_those_that_listener_and_route_have_in_common(
    of_listener: str, of_route: tuple[str, ...], hosts: tuple[str, ...]
) -> None:
    found = attach(gateway(listener(hostname=of_listener)), PARENT, "ml", {}, of_route)
    assert found == Attached(("web",), hosts)


@pytest.mark.parametrize("of_route", ["b.example", "*.b.example", "aexample", "a.example.org"])
def test_hosts_that_are_not_the_listeners_are_refused(of_route: str) -> None:
    found = attach(gateway(listener(hostname="a.example")), PARENT, "ml", {}, (of_route,))
    assert isinstance(found, Verdict)
    assert found.reason == "NoMatchingListenerHostname"


SELECTED = {"namespaces": {"from": "Selector", "selector": {
    "matchLabels": {"team": "ml"},
    "matchExpressions": [
        {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"},
        {"key": "tier", "operator": "Exists"}, {"key": "tier", "operator": "NotIn", "values": ["c"]},
    ],
}}}  # fmt: skip


@pytest.mark.parametrize(
    ("allowed", "namespace", "labels", "is_let_in"),
    [
        ({}, "ml", {}, True),
        ({}, "other", {}, False),
        ({"namespaces": {"from": "All"}}, "other", {}, True),
        ({"namespaces": {"from": "None"}}, "ml", {}, False),
        (SELECTED, "other", {"team": "ml", "tier": "b"}, True),
        (SELECTED, "other", {"team": "ml", "tier": "c"}, False),
        (SELECTED, "other", {"team": "ml", "tier": "a", "old": ""}, False),
        (SELECTED, "ml", {"tier": "a"}, False),
        ({"namespaces": {"from": "Selector"}}, "ml", {}, False),
        ({"kinds": [{"kind": "HTTPRoute"}]}, "ml", {}, True),
        ({"kinds": [{"kind": "GRPCRoute"}]}, "ml", {}, False),
    ],
)
def test_whose_routes_a_listener_lets_in(
    allowed: dict[str, Any], namespace: str, labels: dict[str, str], is_let_in: bool
) -> None:
    found = attach(gateway(listener(**allowed)), PARENT, namespace, labels, ())
    assert isinstance(found, Attached) is is_let_in
    assert is_let_in or (isinstance(found, Verdict) and found.reason == "NotAllowedByListeners")


def test_a_section_name_and_a_port_choose_among_listeners() -> None:
    both = gateway(listener(hostname="a.example"), {**listener("second", hostname="b.example"), "port": 8080})
    assert attach(both, PARENT, "ml", {}, ()) == Attached(("web", "second"), ("a.example", "b.example"))
    assert attach(both, {"sectionName": "second"}, "ml", {}, ()) == Attached(("second",), ("b.example",))
    assert attach(both, {"port": 80}, "ml", {}, ()) == Attached(("web",), ("a.example",))
    assert isinstance(attach(both, {"sectionName": "third"}, "ml", {}, ()), Verdict)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (gateway(listener(protocol="HTTPS")), "Only listeners of HTTP are supported, and there is web (HTTPS)."),
        (gateway(addresses=[{"value": "10.0.0.1"}]), "spec.addresses is not supported"),
        (gateway(infrastructure={"parametersRef": {"group": "x", "kind": "y", "name": "z"}}), "parametersRef"),
    ],
    ids=["https", "addresses", "parameters"],
)
def test_a_gateway_that_asks_for_more_has_no_routes(one: Gateway, said: str) -> None:
    found = attach(one, PARENT, "ml", {}, ())
    assert isinstance(found, Verdict)
    assert (found.reason, said in found.message) == ("NoMatchingParent", True)


def test_a_listener_of_http_beside_one_of_https_is_used() -> None:
    both = gateway(listener("secure", protocol="HTTPS"), listener())
    assert attach(both, PARENT, "ml", {}, ()) == Attached(("web",), (ANY,))
