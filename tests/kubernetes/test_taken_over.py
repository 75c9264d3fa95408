"""Takeover with everything of zerogate on a real node: a client that knows only the Service of a workload at zero.

`test_takeover.py` has the edges in detail, with a leader of its own; here the chart's autoscaler and activators do it.
"""

import os
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from websockets.sync.client import connect

from cli.kubectl.app import app
from cli.kubectl.words import hoisted
from tests.deploy.chart import SYSTEM
from tests.extras import extra
from tests.kubernetes.harness import images
from tests.kubernetes.harness.manifests import STUB, Object, container, service
from tests.kubernetes.harness.node import Node
from tests.kubernetes.harness.processes import until
from tests.kubernetes.release import installed
from tests.kubernetes.whole import ALL, FITTING, LONG_S, Answered, Model, Whole, ask, watched
from zerogate.demo.weights import cache_folder, weights_file

pytestmark = [
    pytest.mark.may_block("what reads kubeconfigs takes a second to import, and clients of these tests wait"),
    pytest.mark.timeout(600),
]

NEVER = "1h"
WEBSOCKETS = """
from aiohttp import web
async def echo(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    return ws
async def health(request):
    return web.Response()
app = web.Application()
app.router.add_get("/health", health)
app.router.add_get("/", echo)
web.run_app(app, host="0.0.0.0", port=8000)
"""
LLM = """
import os
import signal
from pathlib import Path
from zerogate.demo.llm import serve
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # the first process of a container has no default action
server = serve(8000, host="0.0.0.0", weights=Path("/weights.gguf"))
signal.pause()
"""


@pytest.fixture(scope="module")
def whole(node: Node, helm: None) -> Iterator[Whole]:
    activator = {"enabled": True, "replicas": 2, "drainDeadlineSeconds": 30, "drainWaitSeconds": 3}
    values = {**ALL, "activator": activator, "listenHost": "::" if node.has_ipv6 else "0.0.0.0"}
    with installed(node, values), watched(node) as numbers:
        yield Whole(node, numbers)


@pytest.fixture
def team(node: Node, whole: Whole) -> Iterator[str]:
    with node.plane.namespace("team") as name:
        yield name


class Taken(Model):
    """A workload `llama` that is taken over, at zero, and the way to its Service's address."""

    def __init__(
        self, whole: Whole, team: str, *, target: int | str = "model", of: Object | None = None,
        volumes: Sequence[Object] = (), families: Sequence[str] = ("IPv4",), **keys: str,
    ) -> None:  # fmt: skip
        policy = "SingleStack" if len(families) == 1 else "RequireDualStack"
        front = service("llama", target=target, ipFamilies=list(families), ipFamilyPolicy=policy)
        whole.cluster.apply(front, namespace=team)
        super().__init__(
            whole, team, "llama", replicas=0, of=of, pod={"volumes": list(volumes)}, takeover="true", **keys
        )
        self.slices = f"/apis/discovery.k8s.io/v1/namespaces/{team}/endpointslices"
        self.cluster.until(self.slices, is_answered_by_activators, within_s=LONG_S)
        self.ports = {
            family: whole.node.reach(80, address)
            for family, address in zip(families, self.service()["spec"]["clusterIPs"], strict=True)
        }
        """By family: what leads to its address."""
        self.port = self.ports[families[0]]

    def service(self) -> Object:
        return self.cluster.get(f"/api/v1/namespaces/{self.namespace}/services/llama")

    def ask(self, family: str = "") -> Answered:
        """A client of the Service, on a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.ports[family] if family else self.port, timeout=LONG_S)
        try:
            return ask(connection, "anything.example", method="POST", body=b"x" * 70_000)
        finally:
            connection.close()

    def until_nodes_follow(self) -> None:
        """The node follows a second after the slice; before, nobody answers for a workload that was never up."""
        for port in self.ports.values():
            until(
                lambda port=port: self._asked_for_health(port).status == 200,  # type: ignore[misc]
                within_s=LONG_S, what="an activator's answer",
            )  # fmt: skip

    def _asked_for_health(self, port: int) -> Answered:
        connection = HTTPConnection("127.0.0.1", port, timeout=LONG_S)
        try:
            return ask(connection, "anything.example", "/health")
        finally:
            connection.close()


def is_answered_by_activators(slices: Object) -> bool:
    return any(one.get("endpoints") for one in ours(slices))


def ours(slices: Object) -> list[Object]:
    managed_by = "endpointslice.kubernetes.io/managed-by"
    return [one for one in slices["items"] if one["metadata"]["labels"].get(managed_by) == "zerogate.dev"]


@pytest.mark.parametrize("target", ["model", 8000])
def test_a_service_at_zero_answers_by_its_own_address_again_and_again(
    whole: Whole, team: str, target: int | str
) -> None:
    model = Taken(whole, team, target=target, idle_timeout="3s")
    model.until_nodes_follow()
    for _ in range(2 if target == "model" else 1):
        answered = model.ask()
        assert answered.status == 200, answered
        assert b"x" * 100 in answered.body
        model.until_gone(within_s=2 * LONG_S)
    model.annotate(takeover=None, min_replicas="1")
    model.cluster.until(model.slices, lambda found: not ours(found), within_s=LONG_S)
    assert model.service()["spec"]["ports"][0]["targetPort"] == target


@pytest.fixture
def has_ipv6(node: Node) -> None:
    if not node.has_ipv6:
        pytest.skip("this machine's kernel has no IPv6, or ip6tables cannot be used")


@pytest.mark.usefixtures("has_ipv6")
@pytest.mark.parametrize("families", [["IPv4", "IPv6"], ["IPv6"]], ids=" and ".join)
def test_a_service_at_zero_answers_by_an_address_of_each_family(
    whole: Whole, team: str, families: Sequence[str]
) -> None:
    model = Taken(whole, team, families=families, idle_timeout="3s")
    model.until_nodes_follow()
    for family in reversed(families):
        answered = model.ask(family)
        assert answered.status == 200, (family, answered)
        assert b"x" * 100 in answered.body
        model.until_gone(within_s=2 * LONG_S)
    assert model.written() == [0, *[1, 0] * len(families)]
    answering = [one["addressType"] for one in ours(model.cluster.get(model.slices)) if one.get("endpoints")]
    assert sorted(answering) == sorted(families)


@pytest.mark.usefixtures("has_ipv6")
def test_the_gateways_answer_by_an_address_of_each_family(whole: Whole, team: str) -> None:
    model = Model(whole, team, "llama", idle_timeout="3s")
    found = whole.cluster.get(f"/api/v1/namespaces/{SYSTEM}/services/zerogate-gateway")
    assert found["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    connection = HTTPConnection("127.0.0.1", whole.node.reach(80, found["spec"]["clusterIPs"][1]), timeout=LONG_S)
    answered = ask(connection, model.host)
    connection.close()
    assert answered.status == 200, answered
    assert model.written() == [0, 1]


def test_r3_a_websocket_waits_for_the_start_and_stays_when_pods_answer_again(whole: Whole, team: str) -> None:
    of = container("model", ["python3", "-c", WEBSOCKETS], port=8000)
    model = Taken(whole, team, of=of, idle_timeout=NEVER)
    model.until_nodes_follow()
    with connect(f"ws://127.0.0.1:{model.port}/", proxy=None, open_timeout=LONG_S, compression=None) as ws:
        ws.send("hello")
        assert ws.recv(LONG_S) == "hello"
        model.cluster.until(model.slices, lambda found: not is_answered_by_activators(found), within_s=LONG_S)
        ws.send("again")
        assert ws.recv(LONG_S) == "again"


def model_with(**fields: Any) -> Object:
    return container("model", STUB, port=8000, securityContext=FITTING, **fields)


@pytest.mark.parametrize(
    ("of", "quota", "words"),
    [
        (model_with(resources={"limits": {"nvidia.com/gpu": "1"}}), {}, "Insufficient nvidia.com/gpu"),
        (model_with(), {"pods": "0"}, "exceeded quota: few"),
        (model_with(image="127.0.0.1:1/model:1", imagePullPolicy="IfNotPresent"), {}, "container model: "),
    ],
    ids=["no node has GPUs", "over a quota", "no image"],
)
def test_c13_who_waits_for_pods_that_do_not_come_is_told_why_and_they_are_taken_back(
    whole: Whole, team: str, of: Object, quota: dict[str, str], words: str
) -> None:
    if quota:
        whole.cluster.create(
            f"/api/v1/namespaces/{team}/resourcequotas", {"metadata": {"name": "few"}, "spec": {"hard": quota}}
        )
    model = Taken(whole, team, of=of, idle_timeout=NEVER, start_timeout="4s")
    model.until_nodes_follow()
    for way in ("gateway", "Service"):
        answered = model.call("/v1/models") if way == "gateway" else model.ask()
        assert answered.status == 503, answered
        assert b"start_failed" in answered.body
        assert words in answered.body.decode()
        assert "retry-after" in answered.headers
        assert answered.took_s < LONG_S / 2
        model.until_gone()


def test_what_cannot_be_taken_over_is_said_where_people_look(whole: Whole, team: str) -> None:
    whole.cluster.apply(service("llama", target="model", clusterIP="None"), namespace=team)
    model = Model(whole, team, "llama", replicas=1, takeover="true", idle_timeout="1s")
    until(lambda: "headless" in _status(whole, team), within_s=LONG_S, what="the status")
    events = whole.cluster.get(f"/apis/events.k8s.io/v1/namespaces/{team}/events")["items"]
    said = [one["note"] for one in events if one["reason"] == "TakeoverRefused"]
    assert any("it is headless" in one for one in said), said
    assert model.replicas() == 1


def _status(whole: Whole, namespace: str) -> str:
    asked = ["status", "-n", namespace, "--kubeconfig", str(whole.cluster.kubeconfig)]
    done = CliRunner().invoke(app, hoisted(asked), env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def weights(node: Node) -> Path:
    """The model of the demonstration: its server in an image, its weights in this machine's cache."""
    extra("xllamacpp")
    image = images.zerogate(("kubernetes", "demo"))
    layers = [[file for file in layer if "gguf" not in file.path] for layer in image.layers]
    node.add_image(images.Image(image.name, layers, env=image.env, folder=image.folder))
    return weights_file(cache_folder(os.environ))


@pytest.mark.model
def test_the_real_model_at_zero_streams_to_openais_client_by_its_services_address(
    whole: Whole, team: str, weights: Path
) -> None:
    openai = extra("openai")
    of = container(
        "model", ["python3", "-c", LLM], port=8000, image=f"{images.ZEROGATE}-demo",
        volumeMounts=[{"name": "weights", "mountPath": "/weights.gguf", "readOnly": True}],
    )  # fmt: skip
    volume = {"name": "weights", "hostPath": {"path": str(weights), "type": "File"}}
    model = Taken(whole, team, of=of, volumes=[volume], idle_timeout="3s")
    model.until_nodes_follow()
    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{model.port}/v1", api_key="none", max_retries=0, timeout=LONG_S
    ) as client:
        pieces = [
            event.choices[0].delta.content or ""
            for event in client.chat.completions.create(
                model="gemma3-270m", messages=[{"role": "user", "content": "What is the capital of France?"}],
                max_tokens=24, temperature=0, stream=True,
            )
            if event.choices
        ]  # fmt: skip
    assert "Paris" in "".join(pieces)
    assert len(pieces) > 3, "it came in one piece"
    assert model.written() == [0, 1]
    model.until_gone()
