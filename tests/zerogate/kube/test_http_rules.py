"""Which rules of HTTPRoutes are followed, and what is said of the others."""

from typing import Any

import pytest

from tests.zerogate.kube.routes import route, rule
from zerogate.kube.http_rules import Backend, Rule, Unsupported, rules_of


def test_prefixes_and_one_backend_are_followed() -> None:
    backend = {"name": "llama", "namespace": "other", "port": 8080, "weight": 5}
    found = rules_of(route({**rule("/", "/a/", "/b"), "backendRefs": [backend]}))
    assert found == (Rule(("/", "/a", "/b"), Backend("", "Service", "other", "llama", 8080)),)


def test_a_rule_without_matches_takes_every_path() -> None:
    found = rules_of(route({"backendRefs": [{"name": "llama", "port": 80}]}))
    assert found == (Rule(("/",), Backend("", "Service", "ml", "llama", 80)),)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"filters": [{"type": "RequestMirror"}]}, "rules[0].filters"),
        ({"timeouts": {"request": "10s"}}, "rules[0].timeouts"),
        ({"retry": {"attempts": 3}}, "rules[0].retry"),
        ({"sessionPersistence": {"type": "Cookie"}}, "rules[0].sessionPersistence"),
        ({"matches": [{"path": {"type": "Exact", "value": "/a"}}]}, "rules[0].matches[0].path.type Exact"),
        ({"matches": [{}, {"path": {"type": "RegularExpression", "value": "/a.*"}}]}, "rules[0].matches[1].path.type"),
        ({"matches": [{"path": {"type": "PathPrefix", "value": "/a%20b"}}]}, "rules[0].matches[0].path.value /a%20b"),
        ({"matches": [{"headers": [{"name": "x", "value": "y"}]}]}, "rules[0].matches[0].headers"),
        ({"matches": [{"queryParams": [{"name": "x", "value": "y"}]}]}, "rules[0].matches[0].queryParams"),
        ({"matches": [{"method": "GET"}]}, "rules[0].matches[0].method"),
        ({"backendRefs": []}, "rules[0].backendRefs with no backends"),
        ({"backendRefs": [{"name": "a"}, {"name": "b"}]}, "rules[0].backendRefs with 2 backends"),
        ({"backendRefs": [{"name": "a", "weight": 0}]}, "rules[0].backendRefs[0].weight 0"),
        ({"backendRefs": [{"name": "a", "filters": [{"type": "URLRewrite"}]}]}, "rules[0].backendRefs[0].filters"),
    ],
)
def test_whatever_else_a_rule_says_refuses_the_route_by_name(more: dict[str, Any], named: str) -> None:
    found = rules_of(route({**rule(), **more}, rule("/x")))
    assert isinstance(found, Unsupported)
    assert found.message.startswith(named)
    assert "is not supported, so the route is not used" in found.message


def test_what_says_nothing_is_no_reason_to_refuse() -> None:
    assert not isinstance(rules_of(route({**rule(), "filters": [], "timeouts": {}, "retry": None})), Unsupported)
