"""All of zerogate together on a real node, as users have it: the chart, an annotation, requests through the gateway.

Every wait is for an event and generously bounded; no time is asserted here (`make bench-kubernetes` measures).
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest

from tests.kubernetes.harness.manifests import Object, service
from tests.kubernetes.harness.node import Node
from tests.kubernetes.harness.processes import until
from tests.kubernetes.release import installed
from tests.kubernetes.whole import ALL, LONG_S, Answered, AtOnce, Model, Stream, Whole, ask, watched

pytestmark = pytest.mark.timeout(600)

AT_ONCE = 4
"""So many services go round beside each other, because a round is mostly waiting for a pod;"""
ROUNDS = int(os.environ.get("ZEROGATE_ROUNDS", "5"))
"""each of them so often, in about 12 s."""
QUICKLY = "2s"
NEVER = "1h"


@pytest.fixture(scope="module")
def whole(node: Node, helm: None) -> Iterator[Whole]:
    with installed(node, ALL), watched(node) as numbers:
        yield Whole(node, numbers)


@pytest.fixture
def team(node: Node, whole: Whole) -> Iterator[str]:
    """A namespace that takes restricted pods alone: injected ones have to pass."""
    with node.plane.namespace("team", {"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        yield name


def test_a_cold_request_is_held_while_one_write_starts_its_model_which_goes_back_to_zero(
    whole: Whole, team: str
) -> None:
    model = Model(whole, team, "llama", idle_timeout=QUICKLY)
    assert not model.pods()
    answered = model.call()
    assert answered.status == 200, answered
    assert "hold;dur=" in answered.headers["server-timing"]
    assert model.written() == [0, 1]
    (pod,) = model.pods()
    assert [one["name"] for one in pod["spec"]["initContainers"]] == ["zerogate-queueproxy"]
    model.until_gone()
    assert model.written() == [0, 1, 0]
    # on a machine so busy that the leader is late, it is a gateway that wakes
    until(lambda: _said(model, "ScaledUp") or _said(model, "WokenByGateway"), within_s=LONG_S, what="an Event")
    until(lambda: _said(model, "ScaledDown"), within_s=LONG_S, what="an Event")


def test_cold_requests_keep_their_bodies_and_streams_and_a_cold_connection_is_kept(whole: Whole, team: str) -> None:
    """C2, C8, C10."""
    model = Model(whole, team, "llama", idle_timeout=QUICKLY)
    body = os.urandom(3_000_000)
    connection = HTTPConnection("127.0.0.1", whole.port, timeout=LONG_S)
    ways: list[tuple[str, bytes | Iterator[bytes] | None]] = [
        ("/echo", body), ("/echo", _dripped(body)), ("/sse?events=1000&gap_ms=1", None)
    ]  # fmt: skip
    for path, sent in ways:
        answered = ask(connection, model.host, path, method="POST" if sent else "GET", body=sent)
        assert answered.status == 200, answered.error
        assert answered.body == body if sent else answered.body.count(b"data: {") == 1000
        assert "hold;dur=" in answered.headers["server-timing"]
        assert connection.sock is not None, "the gateway closed it"
        used = connection.sock
        again = ask(connection, model.host)
        assert (again.status, connection.sock) == (200, used)
        model.until_gone()
    connection.close()


def _dripped(body: bytes) -> Iterator[bytes]:
    """Begun when nobody is there, and ended when somebody may be."""
    for part in range(0, len(body), 100_000):
        yield body[part : part + 100_000]
        time.sleep(0.1)


@pytest.mark.parametrize(("count", "replicas"), [(10, 1), (100, 4)])
def test_a_crowd_at_zero_is_answered_whole_by_as_many_replicas_as_it_needs(
    whole: Whole, team: str, count: int, replicas: int
) -> None:
    """C7, C16."""
    model = _at_zero(whole, team, "llama")
    crowd = AtOnce(whole, model.host, count).outcome()
    assert crowd.statuses == [200] * count
    assert all(crowd.are_whole)
    model.until_ready(replicas)
    assert 0 < max(model.peaks()) <= 30
    # one write where the crowd is there within milliseconds, which a busy machine cannot promise
    written = model.written()
    assert (written[0], written[-1]) == (0, replicas)
    assert written == sorted(written)


def test_a_crowd_by_all_gateways_that_the_leader_hears_at_once_gets_its_replicas_in_one_write(
    whole: Whole, team: str
) -> None:
    """S5. The leader stands still until all of them wait, so that it is one crowd on any machine. Where that took
    longer than gateways have patience, one of them has woken it itself: then it is another crowd's turn."""
    for number in range(3):
        model = _at_zero(whole, team, f"llama-{number}")
        with whole.held_up(whole.leader()):
            crowd = AtOnce(whole, model.host, 100)
            until(lambda it=model: _waiting(whole, it) == 100, within_s=LONG_S, what="the crowd")  # type: ignore[misc]
        assert crowd.outcome().statuses == [200] * 100
        if not _said(model, "WokenByGateway"):
            break
    assert model.written() == [0, 4]
    assert len([said for said in _said(model, "ScaledUp") if "100 held" in said]) == 1


def _at_zero(whole: Whole, team: str, name: str) -> Model:
    """One replica for thirty requests."""
    return Model(
        whole, team, name, idle_timeout=NEVER, max_replicas="6", concurrency_limit="30", target_concurrency="30"
    )


def _waiting(whole: Whole, model: Model) -> float:
    series = f'zerogate_held{{service="{model.namespace}/{model.name}"}}'
    return sum(whole.metric(address, series) for address in whole.pods("gateway").values())


def test_rounds_from_zero_and_back_without_an_error(whole: Whole, team: str) -> None:
    models = [Model(whole, team, f"llama-{number}", idle_timeout="1s") for number in range(AT_ONCE)]
    answers: list[Answered] = []
    with ThreadPoolExecutor(AT_ONCE) as clients:
        for _ in range(ROUNDS):
            answers += clients.map(Model.call, models)
            for model in models:
                model.until_gone()
    assert [answered.status for answered in answers] == [200] * ROUNDS * AT_ONCE, answers
    assert [model.written() for model in models] == [[0, *[1, 0] * ROUNDS]] * AT_ONCE


def test_scale_in_takes_the_idle_replica_while_a_stream_goes_on(whole: Whole, team: str) -> None:
    model = Model(
        whole, team, "llama", idle_timeout=NEVER, max_replicas="2", target_concurrency="1", concurrency_limit="1",
        stable_window="6s", panic_window="1s", scale_down_delay="2s",
    )  # fmt: skip
    with Stream(whole, model.host, seconds=60) as long, Stream(whole, model.host, seconds=5) as short:
        model.until_ready(2)
        short.end()
        model.until_replicas(1)
        model.cluster.until(model.pods_path, lambda found: len(found["items"]) == 1, within_s=LONG_S)
        assert not long.is_ended, "the scale-in was too late to prove anything"
        long.end()
    assert long.events == 120
    assert short.events == 10


def test_a_service_past_the_sidecar_withholds_zero_until_somebody_says_that_nobody_uses_it(
    whole: Whole, team: str
) -> None:
    whole.cluster.apply(service("llama", target=8000), namespace=team)
    model = Model(whole, team, "llama", idle_timeout=QUICKLY)
    assert model.call().status == 200
    model.cluster.until(model.path, lambda found: "by Service llama, past the sidecar" in _status(found))
    assert model.replicas() == 1
    model.annotate(uncounted="ignore")
    model.until_gone()
    assert model.written() == [0, 1, 0]


def _status(found: Object) -> str:
    return str(found["metadata"]["annotations"].get("state.zerogate.dev/status", ""))


def test_a_number_set_by_hand_is_reported_and_left_alone(whole: Whole, team: str) -> None:
    """S9."""
    model = Model(whole, team, "llama", idle_timeout=QUICKLY, max_replicas="3")
    assert model.call().status == 200
    model.cluster.kubectl("scale", "-n", team, "deployment/llama", "--replicas=3")
    until(lambda: _said(model, "ForeignScale"), within_s=LONG_S, what="the Event")
    (said,) = _said(model, "ForeignScale")
    assert "Somebody else changed the number of replicas" in said
    assert model.replicas() == 3


def _said(model: Model, reason: str) -> list[str]:
    return [said for said in model.events() if said.startswith(f"{reason}: ")]


def test_a_workload_without_the_annotation_is_what_it_was_before(whole: Whole, team: str) -> None:
    model = Model(whole, team, "llama", replicas=2)
    model.until_ready(2)
    before = _own(model.found())
    # a model that is told to end before it hears signals has all of that time
    model.annotate(enabled="true", idle_timeout=QUICKLY, min_replicas="1", max_replicas="3", drain_deadline="20s")
    model.until_routed()
    whole.restart(model.name, team)
    model.until_replicas(1)
    model.annotate(enabled=None, idle_timeout=None, min_replicas=None, max_replicas=None, drain_deadline=None)
    model.until_replicas(2)
    whole.restart(model.name, team)
    assert _own(model.found()) == before
    assert [pod["spec"].get("initContainers") for pod in model.pods()] == [None, None]
    assert model.call().status == 404


def _own(found: Object) -> tuple[Object, list[str]]:
    """What the user wrote of the spec, and whose notes are on the object."""
    spec = {**found["spec"], "template": found["spec"]["template"]["spec"]}
    return spec, sorted(name for name in found["metadata"]["annotations"] if "zerogate" in name)
