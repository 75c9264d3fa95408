"""Pods without a sidecar on a real node: two gateways share their slots, count what is inside, and let them be stopped.

Every wait is for an event and generously bounded; no time is asserted here.
"""

import json
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from tests.deploy.chart import SYSTEM
from tests.kubernetes.harness.node import Node
from tests.kubernetes.harness.processes import until
from tests.kubernetes.release import installed
from tests.kubernetes.whole import ALL, LONG_S, Answered, Load, Model, Stream, Whole, ask, watched
from zerogate.clock import wall
from zerogate.kube.peers import BEFORE_S
from zerogate.kube.times import wall_time

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def whole(node: Node, helm: None) -> Iterator[Whole]:
    with installed(node, ALL), watched(node) as numbers:
        it = Whole(node, numbers)
        until(lambda: _youngest_ran_s(it) > BEFORE_S + 1, within_s=LONG_S, what="gateways that were there before")
        yield it


def _youngest_ran_s(whole: Whole) -> float:
    """For how long the gateway has run that was started last: one that is younger than a pod has no slot of it."""
    pods = [whole.cluster.get(f"/api/v1/namespaces/{SYSTEM}/pods/{name}") for name in whole.pods("gateway")]
    states = [state["state"] for pod in pods for state in pod["status"]["containerStatuses"]]
    started = [wall_time(state["running"]["startedAt"]) for state in states]
    return wall() - max(started)


@pytest.fixture
def team(node: Node, whole: Whole) -> Iterator[str]:
    with node.plane.namespace("team") as name:
        yield name


class _Clients:
    """Requests at once, the same number at each gateway, however a Service would have shared them."""

    def __init__(self, whole: Whole, host: str, path: str, *, each: int) -> None:
        ports = [whole.node.reach(8080, address) for address in whole.pods("gateway").values()]
        assert len(ports) == 2
        self.answers: list[Answered] = []
        self._host, self._path = host, path
        self._threads = [threading.Thread(target=self._call, args=(port,)) for port in ports * each]
        for thread in self._threads:
            thread.start()

    def _call(self, port: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=LONG_S)
        self.answers.append(ask(connection, self._host, self._path))
        connection.close()

    def end(self) -> list[Answered]:
        for thread in self._threads:
            thread.join(2 * LONG_S)
        return self.answers


def _peak(whole: Whole, model: Model) -> int:
    """Most requests that were inside the model at the same time, by its own word."""
    (pod,) = model.pods()
    connection = HTTPConnection("127.0.0.1", whole.node.reach(8000, pod["status"]["podIP"]), timeout=LONG_S)
    answered = ask(connection, "localhost", "/stats")
    connection.close()
    return int(json.loads(answered.body)["peak"])


def _notices(whole: Whole, model: Model) -> list[str]:
    found = [json.loads(whole.admin(address, "/services")) for address in whole.pods("gateway").values()]
    service = f"{model.namespace}/{model.name}"
    return [one["notices"][0] for all_ in found for one in all_["services"] if one["service"] == service]


@pytest.mark.parametrize(("limit", "split"), [(2, [1, 1]), (1, [0, 1])], ids=["a slot for each", "one slot for both"])
def test_r8_two_gateways_never_exceed_the_limit_of_a_pod_without_a_sidecar_which_goes_back_to_zero(
    whole: Whole, team: str, limit: int, split: list[int]
) -> None:
    """C1, C3."""
    model = Model(
        whole, team, "plain", idle_timeout="8s", inject="false", concurrency_limit=str(limit), max_replicas="1",
        ready_path="/health",
    )  # fmt: skip
    crowd = _Clients(whole, model.host, "/sse?events=3&gap_ms=200", each=4).end()
    assert [one.status for one in crowd] == [200] * 8, crowd
    assert all(one.body.endswith(b"data: [DONE]\n\n") for one in crowd)
    (pod,) = model.pods()
    assert not pod["spec"].get("initContainers")
    assert _peak(whole, model) == limit
    shares = sorted(0 if ", and none of its slots is" in said else 1 for said in _notices(whole, model))
    assert shares == split
    status = str(model.found()["metadata"]["annotations"].get("state.zerogate.dev/status", ""))
    assert "never goes to zero" not in status
    model.until_gone()
    assert model.written() == [0, 1, 0]


def test_scale_in_takes_the_pod_without_a_sidecar_in_which_nothing_is(whole: Whole, team: str) -> None:
    model = Model(
        whole, team, "plain", idle_timeout="1h", inject="false", max_replicas="2", target_concurrency="1",
        stable_window="6s", panic_window="1s", scale_down_delay="2s",
    )  # fmt: skip
    with Stream(whole, model.host, seconds=600) as long:
        model.until_ready(1)
        with Stream(whole, model.host, seconds=8) as short:
            model.until_ready(2)
            short.end()
        model.until_replicas(1)
        model.cluster.until(model.pods_path, lambda found: len(found["items"]) == 1, within_s=LONG_S)
        long.until_more(4)
    assert short.events == 16


def test_a_pin_is_carried_out_whatever_is_inside_a_pod_without_a_sidecar(whole: Whole, team: str) -> None:
    model = Model(whole, team, "plain", idle_timeout="1h", inject="false")
    with Stream(whole, model.host, seconds=80) as stream:
        model.cluster.patch(model.path, {"metadata": {"annotations": {"state.zerogate.dev/pin": '{"replicas":0}'}}})
        model.until_replicas(0)
        until(lambda: stream.is_ended, within_s=LONG_S, what="the end of its pod")
    assert not stream.events, "it has ended by itself, and so proves nothing"


def test_a_rolling_restart_of_the_gateways_costs_no_request_and_exceeds_no_limit_of_a_pod_without_a_sidecar(
    whole: Whole, team: str
) -> None:
    """F1, R8. The last test here: the gateways are younger afterwards than what it waits for at the beginning."""
    model = Model(
        whole, team, "plain", idle_timeout="1h", inject="false", min_replicas="1", concurrency_limit="3",
        ready_path="/health",
    )  # fmt: skip
    model.until_ready(1)
    before = set(whole.pods("gateway"))
    # more clients than slots, each of which asks again at once: whoever took one too many would be seen
    with Load(whole, model.host, "/sleep?ms=50", rps=0, connections=8) as load:
        whole.restart("zerogate-gateway")
        time.sleep(2)
    load.check(rps=0)
    assert not before & set(whole.pods("gateway"))
    assert _peak(whole, model) == 3
