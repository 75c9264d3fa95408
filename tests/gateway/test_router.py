"""Routing: the most specific place wins, and what cannot be told apart is refused when the table is made."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.peeked import Peeked, Verdict
from gateway.route_table import Route
from gateway.router import ByModel, ListModels, Router, ShowModel, ToService, Unrouted
from zerogate.errors import DefinitionError

MISSING = Peeked(Verdict.MISSING)


def route(service: str, *hosts: str, prefix: str | None = None, models: tuple[str, ...] = ()) -> Route:
    return Route(service=service, hosts=hosts, path_prefix=prefix, models=models)


def go(router: Router, host: str | None, path: str, model: str | None = None) -> str:
    """Where a request ends up, as a word: the service, a list, or the refusal's code."""
    found = router.match(host.encode() if host is not None else None, path.encode())
    if isinstance(found, ByModel):
        found = router.resolve(found.scope, MISSING if model is None else Peeked(Verdict.FOUND, model))
    match found:
        case ToService(service):
            return service
        case ListModels(scope):
            return "list " + ",".join(scope.all_models())
        case ShowModel(_, name):
            return f"show {name}"
        case Unrouted(refusal):
            return f"{refusal.status} {refusal.code}"
    raise AssertionError(found)


MIXED = Router(
    [
        route("alone", "api.example.org"),
        route("wild", "*.example.org"),
        route("deep", "*.eu.example.org"),
        route("asr", prefix="/asr"),
        route("asr2", prefix="/asr/v2/"),
        route("team", "shared.test", prefix="/team"),
        route("chat", models=("gemma", "small")),
        route("embed", models=("e5",)),
        route("plain"),
    ]
)


@pytest.mark.parametrize(
    ("host", "path", "wanted"),
    [
        ("api.example.org", "/anything", "alone"),
        ("API.Example.org:8443", "/", "alone"),
        ("api.example.org.", "/", "alone"),
        ("api.example.org.:80", "/", "alone"),
        ("api.example.org", "/asr", "alone"),
        ("api.example.org", "/v1/models", "alone"),
        ("x.example.org", "/", "wild"),
        ("x.y.example.org", "/", "wild"),
        ("x.eu.example.org", "/", "deep"),
        ("eu.example.org", "/", "wild"),
        ("example.org", "/", "404 no_route"),
        (".example.org", "/", "404 no_route"),
        ("notexample.org", "/", "404 no_route"),
        ("plain", "/x", "plain"),
        ("plain.localhost:8080", "/x", "plain"),
        ("chat.localhost", "/x", "404 no_route"),
        ("shared.test", "/team/x", "team"),
        ("shared.test", "/asr/x", "asr"),
        ("shared.test", "/x", "404 no_route"),
        ("other.test", "/team/x", "404 no_route"),
        (None, "/asr", "asr"),
        ("", "/asr", "asr"),
        ("[::1]:8080", "/asr", "asr"),
        ("[::1", "/asr", "asr"),
        ("x" * 70_000, "/asr", "asr"),
        ("a." * 30_000, "/asr", "asr"),
    ],
)
def test_the_host_comes_first(host: str | None, path: str, wanted: str) -> None:
    assert go(MIXED, host, path) == wanted


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/asr", "asr"),
        ("/asr/", "asr"),
        ("/asr/x/y", "asr"),
        ("/asr?x", "asr"),
        ("/asr?x=/../y", "asr"),
        ("/asr//x", "asr"),
        ("/asr/v1/models", "asr"),
        ("/asr/v2", "asr2"),
        ("/asr/v2?", "asr2"),
        ("/asr/v2/x", "asr2"),
        ("/asr/v2x", "asr"),
        ("/asr/v20/x", "asr"),
        ("/asrx", "404 no_route"),
        ("/as", "404 no_route"),
        ("//asr", "404 no_route"),
        ("/x/asr", "404 no_route"),
        ("/ASR", "404 no_route"),
        ("/", "404 no_route"),
        ("", "404 no_route"),
        ("*", "404 no_route"),
        ("asr", "404 no_route"),
        ("?/asr", "404 no_route"),
        ("/%61s%72/x", "asr"),
        ("/asr%2Fv2", "404 no_route"),
        ("/asr%3Fx", "404 no_route"),
        ("/asr%", "404 no_route"),
        ("/asr/.well-known/x", "asr"),
        ("/asr/...", "asr"),
        ("/asr/a..b/..c", "asr"),
        ("/asr/%252e%252e/x", "asr"),
        ("/" + "a/" * 30_000, "404 no_route"),
        ("/" + "%61" * 30_000, "404 no_route"),
    ],
)
def test_the_longest_prefix_of_whole_segments_wins(path: str, wanted: str) -> None:
    assert go(MIXED, "127.0.0.1:8080", path) == wanted


@pytest.mark.parametrize(
    "path",
    [
        "/asr/../chat",
        "/asr/..",
        "/asr/.",
        "/./asr",
        "/../asr",
        "/asr/..?x",
        "/asr/%2e%2E/chat",
        "/asr/.%2e/chat",
        "/asr/..%2fchat",
        "/asr%2f..%2fchat",
        "/asr\\..\\chat",
        "/asr/..%5Cchat",
        "/asr/..;x=1/chat",
        "/asr/..%3bx/chat",
        "/v1/../x",
        "/v1/models/../x",
    ],
)
def test_a_dot_segment_in_any_spelling_is_refused_where_the_path_decides(path: str) -> None:
    assert go(MIXED, "127.0.0.1", path) == "400 path_ambiguous"
    assert go(MIXED, "api.example.org", path) == "alone"


@pytest.mark.parametrize(
    ("path", "model", "wanted"),
    [
        ("/v1/chat/completions", "gemma", "chat"),
        ("/v1/chat/completions?x=1", "small", "chat"),
        ("/v1/embeddings", "e5", "embed"),
        ("/v1/embeddings", "E5", "404 model_not_found"),
        ("/v1/embeddings", "", "404 model_not_found"),
        ("/v1/embeddings", None, "400 model_required"),
        ("/v1", "e5", "embed"),
        ("/v1/", "e5", "embed"),
        ("/v1x", "e5", "404 no_route"),
        ("/v2/embeddings", "e5", "404 no_route"),
        ("/v1/models", None, "list gemma,small,e5"),
        ("/v1/models/", None, "list gemma,small,e5"),
        ("/v1/models?limit=2", None, "list gemma,small,e5"),
        ("/v1/models/e5", None, "show e5"),
        ("/v1/models/org/name:4", None, "show org/name:4"),
        ("/v1/models/org%2Fname%C3%A9", None, "show org/nameé"),
        ("/v1/models/llama-3.1%2d8b", None, "show llama-3.1-8b"),
        ("/v1/modelsx", "e5", "embed"),
        ("/%761/models", None, "list gemma,small,e5"),
    ],
)
def test_below_v1_the_model_decides(path: str, model: str | None, wanted: str) -> None:
    assert go(MIXED, "127.0.0.1:8080", path, model) == wanted


ONLY = [route("only", models=("m",))]
OWN_HOST = [route("a", "h", models=("m",))]
OWN_PREFIX = [route("a", prefix="/a", models=("m",))]
SHARED_HOST = [route("a", "h", models=("m",)), route("b", "h", models=("n",))]
SHARED_PREFIX = [route("a", prefix="/p", models=("m",)), route("b", prefix="/p", models=("n",))]
WITH_A_NAMELESS = [route("a", "h"), route("b", "h", models=("n",))]
CATCH_ALL = [route("all", prefix="/"), route("b", models=("n",))]
ANY_HOST = [route("all", "*"), route("b", "h"), route("c", prefix="/c")]
NO_OWNER = [route("a", "h", prefix="/a", models=("m",)), route("b", models=("m", "n"))]
OWNED_ELSEWHERE = [route("a", "h", prefix="/a", models=("m",)), route("all", "*", models=("n",))]


@pytest.mark.parametrize(
    ("routes", "host", "path", "model", "wanted"),
    [
        pytest.param(ONLY, "x", "/v1/x", "other", "404 model_not_found", id="one service with models, another model"),
        pytest.param(ONLY, "x", "/v1/x", None, "400 model_required", id="one service with models, no model"),
        pytest.param(ONLY, "x", "/health", None, "404 no_route", id="models count only below v1"),
        pytest.param(OWN_HOST, "h", "/v1/x", "?", "a", id="on its own host no model is needed"),
        pytest.param(OWN_HOST, "h", "/v1/models", None, "list m", id="its own host lists its models"),
        pytest.param(OWN_HOST, "x", "/v1/x", "m", "404 no_route", id="models stay on their hosts"),
        pytest.param(OWN_PREFIX, "x", "/v1/x", "m", "a", id="prefix and models: by model below v1"),
        pytest.param(OWN_PREFIX, "x", "/a/v1/x", None, "a", id="prefix and models: by prefix without one"),
        pytest.param(SHARED_HOST, "h", "/v1/x", "n", "b", id="shared host: by model"),
        pytest.param(SHARED_HOST, "h", "/v1/x", "?", "404 model_not_found", id="shared host: unknown model"),
        pytest.param(SHARED_HOST, "h", "/x", "n", "404 no_route", id="shared host: nobody's path"),
        pytest.param(SHARED_PREFIX, "x", "/p/v1/chat", "n", "b", id="shared prefix: by model"),
        pytest.param(SHARED_PREFIX, "x", "/p/v1/models", None, "list m,n", id="shared prefix: lists models"),
        pytest.param(SHARED_PREFIX, "x", "/p/x", "n", "404 no_route", id="shared prefix: nobody's path"),
        pytest.param(WITH_A_NAMELESS, "h", "/v1/x", "n", "b", id="beside a nameless one: known model"),
        pytest.param(WITH_A_NAMELESS, "h", "/v1/x", "?", "a", id="beside a nameless one: unknown model"),
        pytest.param(WITH_A_NAMELESS, "h", "/v1/x", None, "a", id="beside a nameless one: no model"),
        pytest.param(WITH_A_NAMELESS, "h", "/x", None, "a", id="beside a nameless one: other paths"),
        pytest.param(CATCH_ALL, "x", "/v1/x", "n", "b", id="catch-all: known model"),
        pytest.param(CATCH_ALL, "x", "/v1/x", "?", "all", id="catch-all: unknown model"),
        pytest.param(ANY_HOST, "x", "/", None, "all", id="any host"),
        pytest.param(ANY_HOST, "h", "/c", None, "b", id="own host before prefix on any"),
        pytest.param(ANY_HOST, "x", "/c", None, "c", id="prefix before any path"),
        pytest.param(NO_OWNER, "h", "/v1/x", "n", "b", id="a host without an owner has the models of any host"),
        pytest.param(NO_OWNER, "h", "/v1/x", "m", "a", id="a host's own model goes first"),
        pytest.param(NO_OWNER, "x", "/v1/x", "m", "b", id="the same model on another host"),
        pytest.param(OWNED_ELSEWHERE, "h", "/v1/x", "?", "all", id="a host without an owner has the one of any host"),
        pytest.param([], None, "/", None, "404 no_route", id="no services"),
    ],
)
def test_places_that_are_shared(
    routes: list[Route], host: str | None, path: str, model: str | None, wanted: str
) -> None:
    assert go(Router(routes), host, path, model) == wanted


@pytest.mark.parametrize(
    ("routes", "key", "words"),
    [
        ([route("a", models=("m",)), route("b", models=("m",))], "services.b.models", ["m", "a"]),
        ([route("a", "h", models=("m",)), route("b", "h", models=("x", "m"))], "services.b.models", ["m", "a"]),
        ([route("a", "h"), route("b", "H.")], "services.b", ["a", "h/"]),
        ([route("a", prefix="/x"), route("b", prefix="/x/")], "services.b", ["a", "/x"]),
        ([route("a"), route("b", "a.localhost")], "services.b", ["a", "a.localhost"]),
        ([route("a", "http://x")], "services.a.hosts", ["http://x"]),
        ([route("a", "x:80")], "services.a.hosts", ["x:80"]),
        ([route("a", "x.*.org")], "services.a.hosts", ["x.*.org"]),
        ([route("a", "größe.de")], "services.a.hosts", ["größe.de"]),
        ([route("a", "")], "services.a.hosts", []),
        ([route("a", prefix="asr")], "services.a.path-prefix", ["asr"]),
        ([route("a", prefix="/a/../b")], "services.a.path-prefix", ["/a/../b"]),
        ([route("a", prefix="/a//b")], "services.a.path-prefix", ["/a//b"]),
        ([route("a", prefix="/a?b")], "services.a.path-prefix", ["/a?b"]),
        ([route("a", prefix="/a%20b")], "services.a.path-prefix", ["/a%20b"]),
    ],
)
def test_what_cannot_be_told_apart_is_refused(routes: list[Route], key: str, words: list[str]) -> None:
    with pytest.raises(DefinitionError) as caught:
        Router(routes)
    assert caught.value.key == key
    assert caught.value.hint
    assert all(word in caught.value.problem for word in words)


def test_one_service_may_name_a_model_or_a_host_twice() -> None:
    router = Router([route("a", "h", "H", models=("m", "m"))])
    assert go(router, "h", "/v1/models") == "list m"


@pytest.mark.parametrize("peeked", [Peeked(Verdict.MALFORMED, problem="broken"), Peeked(Verdict.NOT_TEXT), MISSING])
def test_a_body_without_a_usable_name_is_a_400_that_says_what_to_do(peeked: Peeked) -> None:
    found = MIXED.match(b"x", b"/v1/chat/completions")
    assert isinstance(found, ByModel)
    resolved = MIXED.resolve(found.scope, peeked)
    assert isinstance(resolved, Unrouted)
    assert resolved.refusal.status == 400
    assert resolved.refusal.detail == "broken" or "/v1/models" in resolved.refusal.detail


def test_a_refusal_names_what_exists_and_stays_short() -> None:
    router = Router(
        [route(f"s{i}", f"h{i}.test", prefix=f"/p{i}", models=(f"m{i}-" + "x" * 400,)) for i in range(1000)]
        + [route("last", models=("m",))]
    )
    missing = router.match(b"h" * 5000, b"/\xff" * 5000)
    assert isinstance(missing, Unrouted)
    assert all(word in missing.refusal.detail for word in ["h0.test", "/p0", "m0-", "and 989 more"])
    assert len(missing.refusal.detail) < 3000
    shared = router.match(b"x", b"/v1/x")
    assert isinstance(shared, ByModel)
    unknown = router.resolve(shared.scope, Peeked(Verdict.FOUND, "y" * 5000))
    assert isinstance(unknown, Unrouted)
    assert "Models: m." in unknown.refusal.detail
    assert len(unknown.refusal.detail) < 3000


def test_what_is_kept_of_past_requests_is_bounded() -> None:
    router = Router([route("a", prefix="/a")])
    for number in range(5000):
        assert go(router, f"h{number}", "/a") == "a"
        assert go(router, "x", "/a" + "/y" * number) == "a"
        assert go(router, "x", f"/b{number}") == "404 no_route"
    assert len(router._kept) <= 1024
    assert all(len(host or b"") + len(path) <= 512 for host, path in router._kept)


segments = st.lists(st.sampled_from(["a", "b", "ab", "v1", "models", "x"]), max_size=4)
prefixes = st.none() | segments.map(lambda parts: "/" + "/".join(parts))
hosts = st.sampled_from(["h", "x.h", "*.h", "*.x.h", "*"])


def plainly(routes: list[Route], host: str, path: str) -> str | None:
    """The rules, written down without haste, for routes without models."""

    def specificity(candidate: Route) -> Any:
        fitting = [h for h in candidate.hosts or ("*",) if h in (host, "*") or (h[0] == "*" and host.endswith(h[1:]))]
        prefix = (candidate.path_prefix or "").rstrip("/")
        if not fitting or not (path + "/").startswith(prefix + "/"):
            return None
        best = max(fitting, key=lambda h: (h == host, len(h)))
        return best == host, len(best), len(prefix)

    ranked = [(rank, r.service) for r in routes if (rank := specificity(r)) is not None]
    return max(ranked)[1] if ranked else None


@given(
    places=st.lists(st.tuples(st.lists(hosts, max_size=2, unique=True), prefixes), min_size=1, max_size=6),
    host=st.sampled_from(["h", "x.h", "y.x.h", "z", "hh"]),
    path=segments.map(lambda parts: "/" + "/".join(parts)),
)
def test_lookups_agree_with_the_rules(places: list[tuple[list[str], str | None]], host: str, path: str) -> None:
    routes = [route(f"s{i}", *hosts, prefix=prefix or "/") for i, (hosts, prefix) in enumerate(places)]
    try:
        router = Router(routes)
    except DefinitionError:
        return
    assert go(router, host, path) == (plainly(routes, host, path) or "404 no_route")
    assert go(router, f"{host.upper()}:80", path + "?q=/a") == (plainly(routes, host, path) or "404 no_route")


DOC = Path(__file__).parents[2] / "docs" / "routing.md"


def test_the_examples_of_the_documentation_are_true() -> None:
    """The first YAML block is the table of routes; each row of the table behind it is a request and its service."""
    text = DOC.read_text()
    services = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])["services"]
    router = Router(
        Route(
            service=name,
            hosts=tuple(definition.get("hosts", ())),
            path_prefix=definition.get("path-prefix"),
            models=tuple(definition.get("models", ())),
        )
        for name, definition in services.items()
    )
    rows = re.findall(r"^\| `(\S+?)(/\S*)`(?: with `(\S+)`)? \| (.+?) \|$", text, re.MULTILINE)
    assert len(rows) >= 12
    for host, path, model, wanted in rows:
        assert go(router, host, path, model or None) == wanted.strip("`"), (host, path, model)
