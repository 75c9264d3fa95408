"""The proxy that makes faults passes everything else on as it is."""

import json
import select
import ssl
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse, HTTPSConnection

import pytest

from tests.kubernetes.harness.access import Cluster
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.fault_proxy import FaultProxy, fault_proxy

ANY_BREAK = (OSError, HTTPException)


@pytest.fixture
def proxy(api_server: ControlPlane) -> Iterator[FaultProxy]:
    with fault_proxy(api_server) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: FaultProxy, api_server: ControlPlane) -> Iterator[Cluster]:
    client = api_server.client(proxy.access)
    yield client
    client.close()


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


@pytest.fixture
def watch(proxy: FaultProxy, through: Cluster, maps: str) -> Iterator[HTTPResponse]:
    """A watch whose answer has begun, from the present state on."""
    version = through.get(maps)["metadata"]["resourceVersion"]
    context = ssl.create_default_context(cafile=proxy.access.authority)
    connection = HTTPSConnection("127.0.0.1", int(proxy.access.url.rpartition(":")[2]), context=context, timeout=30)
    connection.request("GET", f"{maps}?watch=true&resourceVersion={version}")
    with connection.getresponse() as answer:
        yield answer
    connection.close()


def test_what_is_not_chosen_passes(through: Cluster, proxy: FaultProxy, maps: str) -> None:
    proxy.answer("GET /api/v1/nodes", 500)
    through.create(maps, {"metadata": {"name": "passed"}, "data": {"key": "value"}})
    assert through.get(f"{maps}/passed")["data"] == {"key": "value"}
    assert [(seen.what, seen.status) for seen in proxy.requests] == [
        (f"POST {maps}", 201),
        (f"GET {maps}/passed", 200),
    ]


def test_kubectl_and_tokens_pass(api_server: ControlPlane, namespace: str) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    with fault_proxy(api_server, api_server.account(namespace, "through", rules=rules)) as proxy:
        said = api_server.client(proxy.access).kubectl("get", "pods", "-n", namespace, "-o", "name")
    assert said == ""
    assert proxy.count("/pods") == 1


@pytest.mark.parametrize("status", [410, 429, 500])
def test_chosen_requests_are_answered_so_many_times(
    through: Cluster, proxy: FaultProxy, maps: str, status: int
) -> None:
    proxy.answer("GET .*/configmaps", status, times=2, retry_after_s=3)
    answers = [through.ask("GET", maps) for _ in range(3)]
    assert [answer.status for answer in answers] == [status, status, 200]
    assert answers[0].body["code"] == status


def test_a_cut_breaks_a_watch_off_in_the_middle(proxy: FaultProxy, watch: HTTPResponse) -> None:
    proxy.cut("watch=")
    with pytest.raises(ANY_BREAK):
        watch.read()


def test_an_ended_watch_ends_properly(proxy: FaultProxy, watch: HTTPResponse) -> None:
    proxy.end("watch=")
    assert watch.read() == b""


def test_a_watch_is_told_that_its_version_is_gone(proxy: FaultProxy, watch: HTTPResponse) -> None:
    proxy.tell_gone("watch=")
    last = json.loads(watch.read())
    assert (last["type"], last["object"]["code"]) == ("ERROR", 410)


def test_a_stalled_watch_says_nothing_and_goes_on_after(
    proxy: FaultProxy, api_server: ControlPlane, maps: str, watch: HTTPResponse
) -> None:
    proxy.stall("watch=")
    api_server.cluster.create(maps, {"metadata": {"name": "during"}})
    assert not select.select([watch], [], [], 0.5)[0]
    proxy.resume()
    assert json.loads(watch.readline())["object"]["metadata"]["name"] == "during"


def test_slow_requests_take_as_long_as_was_said(through: Cluster, proxy: FaultProxy, maps: str) -> None:
    proxy.slow("GET", 0.3)
    began = time.monotonic()
    assert through.ask("GET", maps).status == 200
    assert time.monotonic() - began >= 0.3


def test_while_down_connections_are_refused(through: Cluster, proxy: FaultProxy, maps: str) -> None:
    through.ask("GET", maps)
    proxy.down()
    with pytest.raises(ANY_BREAK):
        through.ask("GET", maps)
    with pytest.raises(ConnectionRefusedError):
        through.ask("GET", maps)
    proxy.up()
    assert through.ask("GET", maps).status == 200
