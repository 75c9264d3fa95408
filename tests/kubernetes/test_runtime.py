"""The runtime of a cluster against real controllers: the same contract, with a kubelet played here."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

import pytest

from tests.kubernetes.harness.control_plane import ControlPlane
from tests.zerogate.runtime.contract import CEILINGS, READY, STARTING, RuntimeContract, World
from zerogate.clock import now
from zerogate.kube.access import by_kubeconfig
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.feed import Feed
from zerogate.kube.hands import KubeHands
from zerogate.kube.happenings import Happenings
from zerogate.kube.objects import DEPLOYMENTS, EVENTS, PODS, Pod
from zerogate.kube.runtime import KubernetesRuntime
from zerogate.kube.target import Target
from zerogate.tasks import Nursery

pytestmark = [
    pytest.mark.may_block("the first kubeconfig imports kubernetes_asyncio"),
    # asyncio leaves the socket of a TLS handshake to the collector that is cancelled in its midst, as here at each end
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <(socket.so|function _Selector):pytest.PytestUnraisableExceptionWarning"
    ),
]


class ShortNames:
    """A feed's listener that calls services by the contract's names, `a` for NAMESPACE/a."""

    def __init__(self, runtime: KubernetesRuntime) -> None:
        self.runtime = runtime

    def on_services(self, services: Mapping[str, Managed]) -> None:
        self.runtime.configure({_short(name): _target(entry) for name, entry in services.items()})

    def on_number(self, service: str, number: int, version: int) -> None:
        self.runtime.on_number(_short(service), number, version)

    def on_pod(self, service: str, pod: Pod) -> None:
        self.runtime.on_pod(_short(service), pod)

    def on_pod_gone(self, service: str, name: str) -> None:
        self.runtime.on_pod_gone(_short(service), name)


def _short(service: str) -> str:
    return service.partition("/")[2]


def _target(entry: Managed) -> Target:
    return Target(
        service=_short(entry.service), kind=entry.kind, resource=entry.resource, key=entry.key, uid=entry.uid,
        order=entry.order, ceiling=entry.wanted.policy.max_replicas, port="8012",
    )  # fmt: skip


class RealWorld(World):
    """A namespace whose Deployments are kept by the real controllers; their pods run nowhere, and say what we say."""

    def __init__(self, client: KubeClient, namespace: str, runtime: KubernetesRuntime) -> None:
        super().__init__()
        self.client = client
        self.namespace = namespace
        self.runtime: KubernetesRuntime = runtime
        self._addresses = iter(range(1, 250))
        self._restarts: dict[str, int] = {}

    async def make_ready(self, replica_id: str) -> None:
        await self._say(replica_id.partition("~")[0], {"running": {}}, ready=True)

    async def crash(self, replica_id: str) -> None:
        pod = replica_id.partition("~")[0]
        await self._say(pod, {"terminated": {"exitCode": 3}}, ready=False)
        self._restarts[pod] = self._restarts.get(pod, 0) + 1
        await self._say(pod, {"running": {}}, ready=False)

    async def _say(self, pod: str, state: dict[str, Any], *, ready: bool) -> None:
        address = f"10.9.8.{next(self._addresses)}"
        container = {
            "name": "model", "image": "model", "imageID": "", "ready": ready, "state": state,
            "restartCount": self._restarts.get(pod, 0),
        }  # fmt: skip
        status = {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "containerStatuses": [container],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        }  # fmt: skip
        await self.client.merge_patch(PODS, pod, {"status": status}, namespace=self.namespace, subresource="status")

    async def set_number(self, service: str, number: int) -> None:
        """As `kubectl scale` does."""
        await self.client.merge_patch(
            DEPLOYMENTS, service, {"spec": {"replicas": number}}, namespace=self.namespace, subresource="scale"
        )

    async def number(self, service: str) -> int | None:
        return (await self.client.get(DEPLOYMENTS, service, namespace=self.namespace)).spec.replicas


@pytest.fixture
def own_namespace(controllers: ControlPlane) -> Iterator[str]:
    with controllers.namespace() as name:
        yield name


@pytest.fixture
async def world(controllers: ControlPlane, own_namespace: str) -> AsyncIterator[RealWorld]:
    access = await by_kubeconfig(controllers.cluster.kubeconfig)
    async with aclosing(KubeClient(access)) as client:
        for name, ceiling in CEILINGS.items():
            await client.create(DEPLOYMENTS, _deployment(name, ceiling), namespace=own_namespace)
        nursery = Nursery()
        happenings = Happenings(client, controller="zerogate.dev/autoscaler", instance="test")
        happenings.start()
        runtime = KubernetesRuntime(
            KubeHands(client, happenings), nursery, call_later=asyncio.get_running_loop().call_later, clock=now
        )
        runtime.lead(True)
        world = RealWorld(client, own_namespace, runtime)
        feed = Feed(client, ShortNames(runtime), home=own_namespace, namespace=own_namespace)
        await feed.start()
        runtime.subscribe(world.seen)
        runtime.set_quiescer(world.gates)
        yield world
        await feed.aclose()
        await runtime.aclose(drain_deadline_s=0)
        await happenings.aclose()
        await nursery.aclose()
        world.check()


def _deployment(name: str, ceiling: int) -> dict[str, Any]:
    annotations = {"zerogate.dev/enabled": "true", "zerogate.dev/max-replicas": str(ceiling)}
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "model", "image": "model", "ports": [{"containerPort": 8000}]}]},
            },
        },
    }


class TestWithRealControllers(RuntimeContract):
    """Everything that holds for the double, too."""

    async def test_the_named_one_goes_though_the_controller_would_have_taken_another(self, world: RealWorld) -> None:
        ids = await world.ready("a", 2)
        for victim in ids[:1]:
            world.scale("a", 1, victims=(victim,))
            await world.seen.until(lambda: len(world.seen.ids("a", READY)) == 1)
            assert world.seen.ids("a", READY) == ids[1:]

    async def test_a_number_written_by_hand_is_told_in_an_event_and_left_alone(self, world: RealWorld) -> None:
        await world.ready("a", 1)
        await world.set_number("a", 2)
        await world.seen.until(lambda: len(world.seen.ids("a", STARTING, READY)) == 2)
        world.scale("a", 1)
        async with asyncio.timeout(10):
            while not (told := await self._events(world)):
                await asyncio.sleep(0.05)
        assert told == ["Somebody else changed the number of replicas from 1 to 2. zerogate leaves it alone for 60 s, "
                        "but for waking it from zero."]  # fmt: skip
        assert await world.number("a") == 2

    async def test_by_hand_to_zero_while_it_is_wanted_it_wakes_all_the_same(self, world: RealWorld) -> None:
        await world.ready("b", 1)
        await world.set_number("b", 0)
        async with asyncio.timeout(10):
            while (foreign := world.runtime.last_foreign_write("b")) is None or await world.number("b") != 1:
                await asyncio.sleep(0.01)
        write, is_hands_off = foreign
        assert (write.before, write.found, is_hands_off) == (1, 0, False)

    @staticmethod
    async def _events(world: RealWorld) -> list[str]:
        events, _ = await world.client.list(EVENTS, namespace=world.namespace)
        return [event.note for event in events if event.reason == "ForeignScale"]
