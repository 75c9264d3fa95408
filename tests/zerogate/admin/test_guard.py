"""Whom the admin API answers, by where it is bound."""

import pytest

from zerogate.admin.guard import refusal


@pytest.mark.parametrize(
    ("host", "bound_to", "path", "passes"),
    [
        pytest.param("127.0.0.1:8081", "127.0.0.1", "/", True, id="own address"),
        pytest.param("127.3.2.1", "127.0.0.1", "/", True, id="all of 127/8"),
        pytest.param("LOCALHOST", "127.0.0.1", "/", True, id="names ignore case"),
        pytest.param("[::1]:8081", "::1", "/", True, id="IPv6"),
        pytest.param("", "127.0.0.1", "/", False, id="no host"),
        pytest.param("evil.example", "127.0.0.1", "/", False, id="a name pointed at loopback"),
        pytest.param("localhost.evil.example", "127.0.0.1", "/", False, id="a name that begins well"),
        pytest.param("10.0.0.7", "127.0.0.1", "/", False, id="another address"),
        pytest.param("evil.example", "127.0.0.1", "/metrics", False, id="metrics on loopback are no exception"),
        pytest.param("box.lan:8081", "box.lan", "/", True, id="the name that it binds"),
        pytest.param("10.0.0.7:8081", "0.0.0.0", "/", True, id="an address cannot be pointed elsewhere"),
        pytest.param("box.lan", "0.0.0.0", "/", False, id="a name that it does not know"),
        pytest.param("box.lan", "0.0.0.0", "/metrics", True, id="Prometheus comes under any name"),
    ],
)
def test_hosts(host: str, bound_to: str, path: str, passes: bool) -> None:
    assert (refusal("GET", path, {"Host": host}, bound_to=bound_to) is None) is passes


@pytest.mark.parametrize(
    ("method", "headers", "passes"),
    [
        pytest.param("POST", {}, True, id="the command line sends no origin"),
        pytest.param("POST", {"Origin": "http://localhost:8081"}, True, id="its own page"),
        pytest.param("POST", {"Origin": "http://localhost:3000"}, False, id="another port is another origin"),
        pytest.param("POST", {"Origin": "https://evil.example"}, False, id="another site"),
        pytest.param("DELETE", {"Sec-Fetch-Site": "same-site"}, False, id="a sibling site"),
        pytest.param("GET", {"Origin": "https://evil.example"}, True, id="reading is left to the browser's rules"),
    ],
)
def test_origins(method: str, headers: dict[str, str], passes: bool) -> None:
    given = {"Host": "localhost:8081"} | headers
    assert (refusal(method, "/api/reload", given, bound_to="127.0.0.1") is None) is passes


THROUGH = {"Host": "cluster.example.com", "X-Forwarded-Uri": "/api/v1/namespaces/n/services/s:8081/proxy/api/services"}


def test_what_an_api_server_passes_on_may_have_its_name_where_others_are_let_in() -> None:
    assert refusal("GET", "/api/services", THROUGH, bound_to="0.0.0.0") is None
    assert refusal("POST", "/api/services/a/b/pin", THROUGH, bound_to="0.0.0.0") is None
    assert refusal("GET", "/api/services", THROUGH, bound_to="127.0.0.1") is not None
    assert refusal("GET", "/api/services", {**THROUGH, "X-Forwarded-Uri": "/other"}, bound_to="0.0.0.0") is not None


def test_a_page_may_change_nothing_through_an_api_server_either() -> None:
    page = {**THROUGH, "Origin": "https://elsewhere.example.com"}
    assert refusal("POST", "/api/services/a/b/pin", page, bound_to="0.0.0.0") is not None
