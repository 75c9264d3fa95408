"""Who gets a host, a prefix or a model that several workloads ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.claims import Wish, own_hosts, settle, wish_of
from gateway.route_table import Route
from gateway.router import ByModel, Router, ToService, Unrouted
from zerogate.policy import Policy


def wish(service: str, since: str = "2026-01-01T00:00:00Z", **policy: object) -> Wish:
    return wish_of(service, Policy(**policy), since=since)  # type: ignore[arg-type]


def router(*wishes: Wish) -> Router:
    return Router([route for one in settle(wishes).values() for route in one.routes])


def test_a_workload_that_asks_for_nothing_is_reached_as_a_service_of_its_name_would_be() -> None:
    to = router(wish("ml/llama"))
    for host in (b"llama.ml", b"llama.ml.svc", b"LLAMA.ML.svc.cluster.local:8080"):
        assert to.match(host, b"/x") == ToService("ml/llama")
    assert isinstance(to.match(b"llama", b"/x"), Unrouted)
    assert isinstance(router().match(b"llama.ml", b"/"), Unrouted)


def test_the_only_workload_does_not_take_what_it_did_not_ask_for() -> None:
    assert isinstance(router(wish("ml/llama")).match(b"other.example", b"/"), Unrouted)


@pytest.mark.parametrize(
    ("asked", "of_younger"),
    [
        ({"hosts": ("a.example",)}, ()),
        ({"path_prefix": "/asr"}, ()),
        ({"models": ("qwen",)}, ()),
        ({"hosts": ("a.example",), "models": ("qwen",)}, ()),
        ({"hosts": ("a.example",), "path_prefix": "/asr"}, ()),
    ],
    ids=["host", "prefix", "model", "model at a host", "host and prefix"],
)
def test_the_older_of_two_wins_whoever_is_seen_first(asked: dict[str, object], of_younger: tuple[Route, ...]) -> None:
    policy = Policy(**asked)  # type: ignore[arg-type]
    older = wish_of("z/older", policy, since="2025-01-01T00:00:00Z")
    younger = wish_of("a/younger", policy, since="2026-01-01T00:00:00Z")
    for order in ((older, younger), (younger, older)):
        granted = settle(order)
        assert [route.service for route in granted["z/older"].routes] == ["z/older"]
        assert granted["z/older"].refused == ()
        assert granted["a/younger"].routes == of_younger
        assert all("z/older, which has it already" in said for said in granted["a/younger"].refused)
        assert granted["a/younger"].refused


def test_what_is_not_taken_stays_and_the_refusal_says_what_is() -> None:
    granted = settle(
        [
            wish("ml/one", "2025-01-01T00:00:00Z", hosts=("a.example",), models=("qwen",)),
            wish("ml/two", hosts=("a.example", "b.example"), models=("qwen", "gemma")),
        ]
    )
    by_host = {host: route.models for route in granted["ml/two"].routes for host in route.hosts}
    assert by_host == {"a.example": ("gemma",), "b.example": ("qwen", "gemma")}
    assert granted["ml/two"].refused == ('The model "qwen" at a.example is that of ml/one, which has it already.',)


def test_nobody_can_take_anothers_own_name_however_old() -> None:
    thief = wish("ml/thief", "2020-01-01T00:00:00Z", hosts=("llama.ml",))
    granted = settle([thief, wish("ml/llama")])
    assert granted["ml/llama"].routes[0].hosts == own_hosts("ml/llama")
    assert granted["ml/thief"].routes == ()
    assert granted["ml/thief"].refused[0].startswith("llama.ml/ leads to ml/llama, which has it already.")


def test_a_service_that_offers_models_may_share_a_host_with_one_that_does_not() -> None:
    to = router(wish("ml/all", hosts=("a.example",)), wish("ml/qwen", hosts=("a.example",), models=("qwen",)))
    assert to.match(b"a.example", b"/x") == ToService("ml/all")
    assert isinstance(to.match(b"a.example", b"/v1/chat/completions"), ByModel)


def test_a_host_that_is_none_costs_only_itself() -> None:
    granted = settle([wish("ml/llama", hosts=("a_b..example", "good.example"))])
    assert [route.hosts for route in granted["ml/llama"].routes] == [("good.example",)]
    assert '"a_b..example" is not a host' in granted["ml/llama"].refused[0]


def http_route(name: str, since: str, *places: tuple[str, str, str]) -> Wish:
    routes = tuple(
        Route(service=service, hosts=(host,) if host else (), path_prefix=prefix) for host, prefix, service in places
    )
    return Wish(owner=f"HTTPRoute {name}", since=since, routes=routes)


@pytest.mark.parametrize("is_route_older", [True, False])
def test_between_an_http_route_and_annotations_the_older_wins_and_the_other_is_told(is_route_older: bool) -> None:
    route = http_route("ml/route", "2025" if is_route_older else "2026", ("a.example", "/", "ml/by-route"))
    annotated = wish("ml/annotated", "2026" if is_route_older else "2025", hosts=("a.example",))
    granted = settle([annotated, route])
    winner, loser = (route, annotated) if is_route_older else (annotated, route)
    assert granted[winner.owner].refused == ()
    assert granted[loser.owner].routes == ()
    holder = winner.routes[0].service
    assert granted[loser.owner].refused[0].startswith(f"a.example/ leads to {holder}, which has it already.")


def test_two_http_routes_of_one_second_are_told_apart_by_their_names() -> None:
    routes = [http_route(f"ml/{name}", "2026", ("a.example", "/", f"ml/{name}")) for name in ("b", "a")]
    assert router(*routes).match(b"a.example", b"/") == ToService("ml/a")


def test_an_http_route_leads_to_several_services_and_its_first_rule_for_a_place_counts() -> None:
    to = router(
        http_route(
            "ml/route", "2026",
            ("a.example", "/", "ml/one"), ("*.a.example", "/", "ml/one"), ("a.example", "/two", "ml/two"),
            ("a.example", "/", "ml/three"), ("", "/any", "ml/one"),
        )
    )  # fmt: skip
    assert to.match(b"a.example", b"/x") == ToService("ml/one")
    assert to.match(b"x.y.a.example", b"/x") == ToService("ml/one")
    assert to.match(b"a.example", b"/two/x") == ToService("ml/two")
    assert to.match(b"other.example", b"/any/x") == ToService("ml/one")
    assert isinstance(to.match(b"other.example", b"/"), Unrouted)


HOSTS = st.lists(st.sampled_from(["a.example", "*.example", "*", "A.example", "s1.ns", "not a host"]), max_size=3)
WISHES = st.builds(
    lambda number, since, hosts, prefix, models: wish(
        f"ns/s{number}", since, hosts=tuple(hosts), path_prefix=prefix, models=tuple(models)
    ),
    st.integers(0, 9), st.sampled_from(["1", "2"]), HOSTS, st.sampled_from([None, "/", "/a", "/a/", "/b/../c"]),
    st.lists(st.sampled_from(["m", "n", "o"]), max_size=3),
)  # fmt: skip


PLACES = st.tuples(
    st.sampled_from(["", "a.example", "*.example", "s1.ns"]), st.sampled_from(["/", "/a", "/a/b"]),
    st.sampled_from(["ns/s1", "ns/s2", "ns/r (HTTPRoute)"]),
)  # fmt: skip
ROUTES = st.builds(
    lambda number, since, places: http_route(f"ns/r{number}", since, *places),
    st.integers(0, 9), st.sampled_from(["1", "2"]), st.lists(PLACES, min_size=1, max_size=4),
)  # fmt: skip


@given(st.lists(WISHES | ROUTES, max_size=12, unique_by=lambda one: one.owner))
def test_whatever_is_asked_for_what_is_granted_can_be_built(wishes: list[Wish]) -> None:
    granted = settle(wishes)
    Router([route for one in granted.values() for route in one.routes])
    assert settle(reversed(wishes)) == granted
    reached = {route.service for one in granted.values() for route in one.routes}
    for owner, one in granted.items():
        assert one.routes or one.refused or owner in reached or owner.startswith("HTTPRoute")
