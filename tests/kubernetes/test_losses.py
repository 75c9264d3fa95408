"""What zerogate's processes may do without anybody noticing: restart, die, and be without an API server. On a real
node, as users have it, with traffic from inside the cluster.

One release serves all tests. Figures are printed (`pytest -s`); of times only what is far off fails. What takes longer
is tried by `make soak-kubernetes`.
"""

import json
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from http.client import HTTPConnection

import pytest
from typer.testing import CliRunner

from cli.exits import ExitCode
from cli.kubectl.app import app
from cli.kubectl.words import hoisted
from tests.deploy.chart import SYSTEM
from tests.kubernetes.harness.manifests import Object, service
from tests.kubernetes.harness.node import Node
from tests.kubernetes.harness.processes import ClusterError, say, until
from tests.kubernetes.release import installed
from tests.kubernetes.whole import ALL, LONG_S, Load, Model, Stream, Whole, ask, pod_of, watched

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.may_block("what reads kubeconfigs takes a second to import, in a process of its own"),
]

IS_LONG = os.environ.get("ZEROGATE_LONG", "") not in ("", "0")
RPS = 200
GONE_S = 300 if IS_LONG else 120
"""Without autoscalers: longer than their Lease, than the 3 s after which a gateway wakes by itself, and than a minute
after which a source that nobody hears counts as gone."""
SERVER_GONE_S = 60
"""Longer than the 15 s of the Lease, than the 10 s after which a status says that it is old, and than the 40 s after
which a node that was not heard of has all of its pods called not ready."""
LEADERS = 6 if IS_LONG else 3
"""So many are lost,"""
EACH_S = 20
"""one after the other, so far apart: the next one leads 15 s later, when the Lease has run out."""
STREAM_S = 60
GATEWAYS = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/zerogate-gateway"
AUTOSCALERS = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/zerogate-autoscaler"
ARRIVING_RPS = 80
BY_TRAFFIC = {
    "idle_timeout": "1h", "max_replicas": "10", "metric": "rps", "target_rps": "22", "stable_window": "15s",
    "scale_down_delay": "5s",
}  # fmt: skip
"""Keys of a policy that follows what arrives within seconds, whatever that costs a busy machine: four replicas from 66
to 88 requests a second. Who counted twice would want eight, who had forgotten half of them two."""
FROM_TRAFFIC = 4
HOLDING = "/sleep?ms=50"


@pytest.fixture(scope="module")
def whole(node: Node, helm: None) -> Iterator[Whole]:
    activator = {"enabled": True, "replicas": 2, "drainDeadlineSeconds": 90, "drainWaitSeconds": 3}
    with installed(node, {**ALL, "activator": activator}), watched(node) as numbers:
        yield Whole(node, numbers)


@pytest.fixture(scope="module")
def team(node: Node, whole: Whole) -> Iterator[str]:
    """A namespace that takes restricted pods alone: injected ones have to pass."""
    with node.plane.namespace("team", {"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        yield name


@pytest.fixture(scope="module")
def warm(whole: Whole, team: str) -> Model:
    """A service with two ready replicas."""
    model = Model(whole, team, "warm", idle_timeout="1h", min_replicas="2", max_replicas="2")
    model.until_ready(2)
    assert model.call().status == 200
    return model


@pytest.fixture
def by_traffic(whole: Whole, team: str) -> Iterator[Model]:
    """A service that has as many replicas as its traffic asks for, and so many from the beginning."""
    model = Model(whole, team, "busy", replicas=0, flags=(), of=None, pod=None, min_replicas="4", **BY_TRAFFIC)
    model.until_ready(FROM_TRAFFIC)
    yield model
    model.cluster.delete(model.path)


@pytest.mark.parametrize("role", ["gateway", "workload"])
def test_a_rolling_restart_under_steady_load_costs_no_request(whole: Whole, warm: Model, role: str) -> None:
    """F1."""
    with Load(whole, warm.host, rps=RPS) as load:
        if role == "workload":
            whole.restart(warm.name, warm.namespace)
        else:
            whole.restart(f"zerogate-{role}")
    load.check(rps=RPS)
    assert warm.replicas() == 2


def test_a_rolling_restart_of_the_autoscalers_costs_no_request_and_no_pod_its_sidecar(
    whole: Whole, warm: Model
) -> None:
    """F1. The webhook is in their processes, so pods are made meanwhile."""
    with Load(whole, warm.host, rps=RPS) as load:
        whole.cluster.kubectl("rollout", "restart", "-n", SYSTEM, "deployment/zerogate-autoscaler")
        whole.restart(warm.name, warm.namespace)
        whole.until_rolled_out("zerogate-autoscaler")
    load.check(rps=RPS)
    assert [_sidecars(pod) for pod in warm.pods()] == [["zerogate-queueproxy"]] * 2


def _sidecars(pod: Object) -> list[str]:
    return [one["name"] for one in pod["spec"].get("initContainers", [])]


def test_a_rolling_restart_of_the_activators_costs_no_request_that_they_hold_or_carry(whole: Whole, team: str) -> None:
    """F1. A Service at zero under load: they leave while its model starts."""
    taken, address = _taken_over(whole, team, "slow", "--ready-after", "6")
    with Load(whole, "slow", rps=RPS, place=f"{address}:80", is_cold=True) as load:
        taken.until_replicas(1)
        whole.restart("zerogate-activator")
        taken.until_ready(1)
        time.sleep(2)
    load.check(rps=0)
    assert taken.written() == [0, 1]
    taken.cluster.delete(taken.path)


def _taken_over(whole: Whole, team: str, name: str, *flags: str) -> tuple[Model, str]:
    """A workload at zero whose Service leads to the activators, and the Service's address."""
    whole.cluster.apply(service(name, target="model"), namespace=team)
    model = Model(whole, team, name, flags=flags, takeover="true", idle_timeout="1h", drain_deadline="90s")
    address = str(whole.cluster.get(f"/api/v1/namespaces/{team}/services/{name}")["spec"]["clusterIP"])
    until(lambda: _takes_connections(whole.node, address), within_s=LONG_S, what=f"an activator for {name}")
    return model, address


def _takes_connections(node: Node, address: str) -> bool:
    """The node follows the slice a second later; a connection alone wakes nothing."""
    try:
        node.run("bash", "-c", f"exec 3<>/dev/tcp/{address}/80", within_s=10)
    except ClusterError:
        return False
    return True


def test_a_stream_outlives_everything_but_its_own_way_and_traffic_every_leader(
    whole: Whole, team: str, by_traffic: Model
) -> None:
    """F1, F6. At once, so that it is waited for once: a rollout of the stream's own workload, the loss of the gateway
    and of the activator that do not carry it, and of one leader after the other."""
    model = Model(whole, team, "long", idle_timeout="1h", drain_deadline="90s")
    taken, address = _taken_over(whole, team, "taken")
    with ExitStack() as open_streams:
        port = whole.node.reach(80, address)
        streams = [
            open_streams.enter_context(Stream(whole, model.host, seconds=STREAM_S)),
            open_streams.enter_context(Stream(whole, "taken", seconds=STREAM_S, port=port)),
        ]
        began = time.monotonic()
        _lose_the_others(whole, "gateway", f"{team}/long")
        _lose_the_others(whole, "activator", f"{team}/taken")
        model.cluster.kubectl("rollout", "restart", "-n", team, "deployment/long")
        model.cluster.until(model.path, lambda it: it["status"].get("updatedReplicas") == 1, within_s=LONG_S)
        assert model.call().status == 200
        assert not any(stream.is_ended for stream in streams), "it proves nothing"
        _lose_leaders_under_load(whole, by_traffic)
        for stream in streams:
            stream.end()
        assert [stream.events for stream in streams] == [STREAM_S * 2] * 2
        assert time.monotonic() - began >= STREAM_S - 1
    for one in (model, taken):
        one.cluster.delete(one.path)


def _lose_the_others(whole: Whole, role: str, service: str) -> None:
    """All pods of a role but the one that carries the service's one request."""
    pods = whole.pods(role)
    series = f'zerogate_in_flight{{service="{service}"}}'
    others = [pod for pod, address in pods.items() if whole.metric(address, series) == 0]
    assert len(others) == len(pods) - 1
    for pod in others:
        whole.lose(pod)


def _lose_leaders_under_load(whole: Whole, model: Model) -> None:
    with Load(whole, model.host, rps=ARRIVING_RPS) as load:
        before = _settled(model)
        for number in range(LEADERS):
            holder, gone = until(whole.holder, within_s=LONG_S, what="a leader"), time.monotonic()
            (whole.lose_for_good if number else whole.lose)(pod_of(holder))
            # which may be the same pod's next process
            until(partial(_another_leads, whole, holder), within_s=LONG_S, what="the next leader")
            say(f"{time.monotonic() - gone:.1f} s from the loss of the leader to the next one")
            whole.until_rolled_out("zerogate-autoscaler")
            time.sleep(max(0.0, gone + EACH_S - time.monotonic()))
        time.sleep(6)  # longer than its scale-down delay
        after = model.written()[before:]
    load.check(rps=ARRIVING_RPS)
    _check_steady(model, after)


def _check_steady(model: Model, numbers: list[int]) -> None:
    """It moved by one at most, up or down, from what its traffic asks for."""
    say(f"the numbers of {model.name}: {numbers}")
    assert numbers[0] in (FROM_TRAFFIC - 1, FROM_TRAFFIC), "the load was another one: it proves nothing"
    assert max(numbers) - min(numbers) <= 1
    assert not [said for said in model.events() if said.startswith("ForeignScale")]


def _another_leads(whole: Whole, lost: str) -> bool:
    return whole.holder() not in ("", lost)


def _settled(model: Model) -> int:
    """Let its traffic alone say its number, and wait until that has stood for eight seconds; the place of the number
    among those that were written."""
    model.annotate(min_replicas=None)
    seen, since = model.written(), time.monotonic()
    deadline = since + LONG_S
    while time.monotonic() < min(since + 8, deadline):
        time.sleep(0.2)
        if (written := model.written()) != seen:
            seen, since = written, time.monotonic()
    return len(seen) - 1


def test_without_any_autoscaler_the_warm_are_served_and_the_cold_are_woken(
    whole: Whole, team: str, warm: Model
) -> None:
    """F14. The webhook is gone with it, so the pod has no sidecar, and is served all the same."""
    cold = Model(whole, team, "cold", idle_timeout="2s")
    with Load(whole, warm.host, rps=RPS) as load:
        whole.cluster.patch(AUTOSCALERS, {"spec": {"replicas": 0}})
        whole.until_rolled_out("zerogate-autoscaler")
        gone = time.monotonic()
        answered = cold.call()
        time.sleep(max(0.0, gone + GONE_S - time.monotonic()))
        assert warm.replicas() == 2
        whole.cluster.patch(AUTOSCALERS, {"spec": {"replicas": 2}})
        whole.until_rolled_out("zerogate-autoscaler")
    assert answered.status == 200, answered
    say(f"woken by a gateway and answered after {answered.took_s:.1f} s")
    assert cold.written() == [0, 1]
    load.check(rps=RPS)
    assert warm.replicas() == 2
    assert any(said.startswith("WokenByGateway") for said in cold.events())
    cold.cluster.delete(cold.path)


@pytest.fixture
def autoscalers_without_the_right_to_scale(whole: Whole) -> Iterator[None]:
    """As where a chart was cut down, or its roles were."""
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/zerogate-autoscaler"
    rules = whole.cluster.get(path)["rules"]
    left = [rule for rule in rules if not any(one.endswith("/scale") for one in rule.get("resources", ()))]
    assert len(left) < len(rules)
    whole.cluster.patch(path, {"rules": left})
    yield
    whole.cluster.patch(path, {"rules": rules})


@pytest.mark.usefixtures("autoscalers_without_the_right_to_scale")
def test_a_gateway_wakes_what_the_leader_has_heard_of_and_may_not_write(whole: Whole, team: str) -> None:
    cold = Model(whole, team, "unwritable", idle_timeout="1h")
    answered = cold.call()
    assert answered.status == 200, answered
    say(f"refused to the autoscaler, woken by a gateway and answered after {answered.took_s:.1f} s")
    assert cold.written() == [0, 1]
    assert any(said.startswith("WokenByGateway") for said in cold.events())
    cold.cluster.delete(cold.path)


@pytest.fixture(scope="module")
def three_gateways(whole: Whole) -> list[str]:
    """Their addresses."""
    whole.cluster.patch(GATEWAYS, {"spec": {"replicas": 3}})
    whole.until_rolled_out("zerogate-gateway")
    return list(whole.pods("gateway").values())


@pytest.fixture(scope="module")
def slots(whole: Whole, team: str, three_gateways: list[str]) -> Iterator[Model]:
    """Three replicas of two slots, which each gateway has reached."""
    model = Model(
        whole, team, "slots", idle_timeout="1h", min_replicas="3", max_replicas="3",
        concurrency_limit="2", target_concurrency="2",
    )  # fmt: skip
    model.until_ready(3)
    until(lambda: all(_call_by(whole, address, model) for address in three_gateways), within_s=LONG_S, what="answers")
    yield model
    model.cluster.delete(model.path)


def test_one_gateway_of_three_uses_every_slot_and_nobody_waits_while_one_is_free(
    whole: Whole, slots: Model, three_gateways: list[str]
) -> None:
    """C16."""
    model, service, busy = slots, f"{slots.namespace}/{slots.name}", three_gateways[0]
    with Load(whole, model.host, HOLDING, rps=0, connections=12, place=f"{busy}:8080") as load:
        time.sleep(4)
    load.check(rps=100)
    assert model.peaks() == [2, 2, 2]
    time.sleep(2)  # what lay there unused is handed back
    before = _waits(whole, busy, service)
    with Load(whole, model.host, HOLDING, rps=0, connections=5, place=f"{busy}:8080") as load:
        time.sleep(4)
    load.check(rps=80)
    waited = {bound: count - before.get(bound, 0) for bound, count in _waits(whole, busy, service).items()}
    every, soon = waited["+Inf"], waited["0.1"]
    say(f"with a free slot {every:.0f} of {load.outcome.count} waited, {every - soon:.0f} for more than 0.1 s")
    assert every == waited["0.25"], "0.1 s is the goal; a busy machine gets more"
    assert model.peaks() == [2, 2, 2]


def _call_by(whole: Whole, gateway: str, model: Model) -> bool:
    connection = HTTPConnection("127.0.0.1", whole.node.reach(8080, gateway), timeout=LONG_S)
    answered = ask(connection, model.host)
    connection.close()
    return answered.status == 200


def _waits(whole: Whole, gateway: str, service: str) -> dict[str, float]:
    """How many of the service's requests waited at a gateway for as long at most, by that time."""
    found = {}
    for line in whole.admin(gateway, "/metrics").decode().splitlines():
        if line.startswith("zerogate_hold_seconds_bucket{") and f'service="{service}"' in line:
            found[line.partition('le="')[2].partition('"')[0]] = float(line.rpartition(" ")[2])
    return found


def test_the_sum_over_three_gateways_and_what_the_autoscalers_make_of_it_is_what_clients_have_in_flight(
    whole: Whole, slots: Model, three_gateways: list[str]
) -> None:
    """N6, N5: six have slots and eleven wait, at whichever gateway; then some clients leave."""
    service, autoscalers = f"{slots.namespace}/{slots.name}", list(whole.pods("autoscaler").values())
    clients = [
        _begin_stream(whole, address, slots)
        for address, count in zip(three_gateways, (2, 6, 9), strict=True) for _ in range(count)
    ]  # fmt: skip
    for leave, (inside, waiting) in ((0, (6, 11)), (9, (6, 2)), (5, (3, 0))):
        for _ in range(leave):
            _leave(clients.pop())
        until(
            lambda it=(inside, waiting): _at_gateways(whole, three_gateways, service) == it,  # type: ignore[misc]
            within_s=LONG_S, what=f"{len(clients)} in flight at the gateways",
        )  # fmt: skip
        for address in autoscalers:
            until(
                lambda it=(inside, waiting), at=address: _at_autoscaler(whole, at, service) == it,  # type: ignore[misc]
                within_s=LONG_S, what=f"{len(clients)} in flight at an autoscaler",
            )  # fmt: skip
        assert inside + waiting == len(clients)
    for client in clients:
        _leave(client)


def _leave(client: HTTPConnection) -> None:
    """By a reset: an end of what it sends, as the tunnel passes that on, is not the end of a client."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _begin_stream(whole: Whole, gateway: str, model: Model) -> HTTPConnection:
    """Asked for, and not waited for."""
    connection = HTTPConnection("127.0.0.1", whole.node.reach(8080, gateway), timeout=LONG_S)
    connection.request("GET", "/sse?events=10000&gap_ms=500", headers={"Host": model.host})
    return connection


def _at_gateways(whole: Whole, gateways: Iterable[str], service: str) -> tuple[int, int]:
    """(inside of replicas, waiting), by the gateways' own metrics."""
    names = [f'zerogate_{what}{{service="{service}"}}' for what in ("in_flight", "held")]
    inside, waiting = (sum(int(whole.metric(address, name)) for address in gateways) for name in names)
    return inside, waiting


def _at_autoscaler(whole: Whole, address: str, service: str) -> tuple[int, int]:
    """The same, by what an autoscaler was told."""
    found = json.loads(whole.admin(address, f"/api/services/{service.replace('/', '%2F')}"))
    return found["in_flight"], found["held"]


@pytest.fixture
def prompt_node_afterwards(node: Node) -> Iterator[None]:
    """For the tests that follow."""
    yield
    node.restart_clients()


@pytest.mark.usefixtures("prompt_node_afterwards")
def test_without_an_api_server_the_warm_are_served_and_it_is_said_and_nothing_goes_down_afterwards(
    whole: Whole, by_traffic: Model
) -> None:
    plane, addresses = whole.node.plane, list(whole.pods("autoscaler").values())
    gateways = list(whole.pods("gateway").values())
    with Load(whole, by_traffic.host, rps=ARRIVING_RPS) as load:
        before = _settled(by_traffic)
        plane.api_server.stop()
        gone = time.monotonic()
        try:
            service = f"{by_traffic.namespace}/{by_traffic.name}"
            _is_said(whole, service, autoscalers=addresses, gateways=gateways)
            time.sleep(max(0.0, gone + SERVER_GONE_S - time.monotonic()))
        finally:
            plane.start_api_server()
        back = time.monotonic()
        until(lambda: any(_leads(whole, address) for address in addresses), within_s=LONG_S, what="a leader")
        say(f"a leader {time.monotonic() - back:.1f} s after the API server was back")
        time.sleep(12)  # longer than its scale-down delay
        after = by_traffic.written()[before:]
    load.check(rps=ARRIVING_RPS)
    _check_steady(by_traffic, after)


def _is_said(whole: Whole, service: str, *, autoscalers: Iterable[str], gateways: Iterable[str]) -> None:
    """By metrics, status and `kubectl zerogate doctor`, each in its own words."""
    for address in autoscalers:
        until(partial(_says_that_it_is_old, whole, address, service), within_s=LONG_S, what="metrics and status")
        assert whole.metric(address, "zerogate_cluster_state_age_seconds") > 5
    done = CliRunner().invoke(app, hoisted(["doctor", "--kubeconfig", str(whole.cluster.kubeconfig)]))
    assert (done.exit_code, "wrong  API server" in done.output) == (ExitCode.FAILED, True), done.output
    for address in gateways:
        assert "as last seen" in json.loads(whole.admin(address, "/readyz"))["detail"]


def _says_that_it_is_old(whole: Whole, address: str, service: str) -> bool:
    status = whole.admin(address, f"/api/services/{service.replace('/', '%2F')}")
    return not _leads(whole, address) and b"What is known of the cluster is" in status


def _leads(whole: Whole, address: str) -> bool:
    return whole.metric(address, "zerogate_leader") == 1
