"""A node is lost, as by a cut of its power: of two real ones that one on which only replicas run. Traffic comes through
gateways on the other one.

The controllers call it NotReady after 16 s (of 50 by default); what runs there is deleted a second later and made anew
on the node that is left. All that is zerogate's own to do with it: tell what is ready, send to what can be reached, and
leave the number alone.
"""

import json
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.kubernetes.harness.manifests import Object
from tests.kubernetes.harness.node import Joined, Node, joined
from tests.kubernetes.harness.processes import say, until
from tests.kubernetes.release import installed
from tests.kubernetes.whole import ALL, LONG_S, Load, Model, Whole, watched
from zerogate.clock import wall
from zerogate.http.line import DEAD_AFTER_MS

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.may_block("what reads kubeconfigs takes a second to import, in a process of its own"),
]

RPS: Final = 50
CONNECTIONS: Final = 20
_PLACED: Final = {
    "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "model"}},
    }],
    "tolerations": [
        {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
        for what in ("unreachable", "not-ready")
    ],
}  # fmt: skip
"""Spread over the nodes, and gone from a lost one after a second instead of five minutes."""
_BY_TRAFFIC: Final = {
    "metric": "rps", "target_rps": "33", "stable_window": "10s", "scale_down_delay": "5s", "idle_timeout": "5s",
    "max_replicas": "4",
}  # fmt: skip
"""Two replicas from 34 to 66 requests a second."""


@pytest.fixture(scope="module")
def whole(impatient_node: Node, helm: None) -> Iterator[Whole]:
    with installed(impatient_node, ALL), watched(impatient_node) as numbers:
        yield Whole(impatient_node, numbers)


@pytest.fixture
def second(impatient_node: Node, whole: Whole) -> Iterator[Joined]:
    """It joins when zerogate's own pods have their places on the first one."""
    with joined(impatient_node) as one:
        yield one


def test_a_lost_node_costs_no_request_that_may_be_sent_again_and_no_number(
    impatient_node: Node, whole: Whole, second: Joined
) -> None:
    """Its number is asked for by traffic alone; it may go up, down and to zero."""
    first = impatient_node
    with first.plane.namespace("team") as team:
        model = Model(whole, team, "model", replicas=2, flags=(), of=None, pod=_PLACED, min_replicas="2", **_BY_TRAFFIC)
        model.until_ready(2)
        assert sorted(_places(model)) == [first.machine.name, second.name]
        with Load(whole, model.host, rps=RPS, connections=CONNECTIONS) as load:
            until(lambda: _ready(whole, model) == 2, within_s=LONG_S, what="two ready replicas in the status")
            time.sleep(10)  # as long as its window is
            model.annotate(min_replicas=None)
            time.sleep(6)  # longer than its scale-down delay
            before, began_at_s = model.written(), wall()
            assert before[-1] == 2, "the load was another one: it proves nothing"
            lost = time.monotonic()
            second.lose()
            until(lambda: _ready(whole, model) == 1, within_s=LONG_S, what="one ready replica in the status")
            say(f"one is ready {time.monotonic() - lost:.1f} s after the loss")
            until(lambda: _ready(whole, model) == 2, within_s=LONG_S, what="a replacement in the status")
            say(f"two are ready {time.monotonic() - lost:.1f} s after the loss")
            assert _places(model) == [first.machine.name] * 2
            # what was sent there in the first moments is given up by then, and sent again
            time.sleep(max(0.0, lost + DEAD_AFTER_MS / 1000 + 5 - time.monotonic()))
            assert model.written() == before
            assert first.plane.audit is not None
            assert not first.plane.audit.since(began_at_s, team, model.name)
        load.check(rps=RPS)
        assert load.outcome.p99_s < 1, "requests were sent there again and again"


def _places(model: Model) -> list[str]:
    return [pod["spec"]["nodeName"] for pod in model.pods()]


def _ready(whole: Whole, model: Model) -> int:
    """Replicas that are ready, by the status of an autoscaler."""
    address = next(iter(whole.pods("autoscaler").values()))
    found: Object = json.loads(whole.admin(address, f"/api/services/{model.namespace}%2F{model.name}"))
    return sum(one["state"] == "ready" for one in found["replicas"])
