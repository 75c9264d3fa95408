"""Takeover with everything of zerogate on a real node: a client that knows only the Service of a workload at zero.

`test_takeover.py` has the edges in detail, with a leader of its own; here the chart's autoscaler and activators do it.
"""

from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from tests.kubernetes.harness.manifests import service
from tests.kubernetes.harness.node import Node
from tests.kubernetes.harness.processes import until
from tests.kubernetes.release import installed
from tests.kubernetes.whole import ALL, LONG_S, Answered, Model, Whole, ask, watched

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def whole(node: Node, helm: None) -> Iterator[Whole]:
    activator = {"enabled": True, "replicas": 1, "drainDeadlineSeconds": 30, "drainWaitSeconds": 1}
    with installed(node, {**ALL, "activator": activator}), watched(node) as numbers:
        yield Whole(node, numbers)


def test_a_service_at_zero_answers_by_its_own_address_again_and_again(whole: Whole, node: Node) -> None:
    with node.plane.namespace("team") as team:
        node.cluster.apply(service("llama", target="model"), namespace=team)
        model = Model(whole, team, "llama", takeover="true", idle_timeout="3s")
        address = node.cluster.get(f"/api/v1/namespaces/{team}/services/llama")["spec"]["clusterIP"]
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{team}/endpointslices"
        node.cluster.until(slices, _is_answered_by_activators, within_s=LONG_S)
        port = node.reach(80, address)
        # the node follows a second after the slice; before, nobody answers for a workload that was never up
        until(lambda: _call(port).status == 200, within_s=LONG_S, what="the first answer")
        for _ in range(2):
            model.until_gone(within_s=2 * LONG_S)
            answered = _call(port)
            assert answered.status == 200, answered
            assert b"x" * 100 in answered.body


def _call(port: int) -> Answered:
    connection = HTTPConnection("127.0.0.1", port, timeout=LONG_S)
    try:
        return ask(connection, "anything.example", method="POST", body=b"x" * 70_000)
    finally:
        connection.close()


def _is_answered_by_activators(slices: dict[str, list[dict[str, object]]]) -> bool:
    ours = "endpointslice.kubernetes.io/managed-by"
    found = [one for one in slices["items"] if one["metadata"]["labels"].get(ours) == "zerogate.dev"]  # type: ignore[index]
    return any(one.get("endpoints") for one in found)
