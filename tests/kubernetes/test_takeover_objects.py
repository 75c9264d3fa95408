"""What becomes of Services and EndpointSlices on a real API server when a workload is taken over, and afterwards."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from tests.kubernetes.harness.control_plane import ControlPlane
from zerogate.kube.access import by_kubeconfig
from zerogate.kube.client import KubeClient
from zerogate.kube.feed import Feed
from zerogate.kube.happenings import Happenings
from zerogate.kube.objects import DEPLOYMENTS, ENDPOINT_SLICES, EVENTS, SERVICES, EndpointSlice, Service
from zerogate.kube.port_ledger import FIRST, LAST
from zerogate.kube.slice_book import is_ours
from zerogate.kube.takeover import WAIT_S
from zerogate.kube.takeovers import Takeovers

pytestmark = pytest.mark.may_block("the first kubeconfig imports kubernetes_asyncio")

ACTIVATOR, POD = "10.7.7.7", "10.8.8.8"


async def listening(address: str, port: int) -> bool:
    return address == ACTIVATOR and port > 0


class World:
    """A namespace with a Deployment, one activator, and a leader."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.happenings = Happenings(client, controller="zerogate.dev/autoscaler", instance="test")
        self.happenings.start()
        self.takeovers: Takeovers
        self.feed: Feed

    async def lead(self, *, leads: bool = True, ports: tuple[int, int] = (FIRST, LAST)) -> None:
        """Be a leader that has just been elected, or a follower."""
        self.takeovers = Takeovers(
            self.client, home=self.namespace, happenings=self.happenings, namespace=self.namespace, settle_s=0.2,
            is_listening=listening, ports=ports,
        )  # fmt: skip
        self.feed = Feed(self.client, self.takeovers, home=self.namespace, namespace=self.namespace)
        await self.feed.start()
        self.takeovers.start()
        self.takeovers.lead(leads)

    async def stop(self) -> None:
        await self.feed.aclose()
        await self.takeovers.aclose()

    @property
    def name(self) -> str:
        return f"{self.namespace}/llm"

    async def service(self, name: str, target: int | str, **spec: Any) -> None:
        body = {"selector": {"app": "llm"}, "ports": [{"name": "web", "port": 80, "targetPort": target}], **spec}
        await self.client.create(SERVICES, {"metadata": {"name": name}, "spec": body}, namespace=self.namespace)

    async def slice(self, name: str, service: str, address: str, port: str) -> None:
        """One that a controller would make."""
        body = {
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
            "endpoints": [{"addresses": [address]}], "ports": [{"name": port, "port": 8012}],
        }  # fmt: skip
        await self.client.create(ENDPOINT_SLICES, body, namespace=self.namespace)

    async def annotate(self, **keys: str | None) -> None:
        body = {"metadata": {"annotations": {f"zerogate.dev/{key}": value for key, value in keys.items()}}}
        await self.client.merge_patch(DEPLOYMENTS, "llm", body, namespace=self.namespace)

    async def until_service(self, name: str, holds: Callable[[Service], object]) -> Service:
        async with asyncio.timeout(15):
            while not holds(found := await self.client.get(SERVICES, name, namespace=self.namespace)):
                await asyncio.sleep(0.05)
        return found

    async def until_ours(self, service: str, holds: Callable[[EndpointSlice | None], object]) -> EndpointSlice | None:
        async with asyncio.timeout(15):
            while True:
                listed, _ = await self.client.list(ENDPOINT_SLICES, namespace=self.namespace)
                found = next((one for one in listed if is_ours(one) and one.service == service), None)
                if holds(found):
                    return found
                await asyncio.sleep(0.05)


@pytest.fixture
def own_namespace(controllers: ControlPlane) -> Iterator[str]:
    with controllers.namespace() as name:
        yield name


@pytest.fixture
async def world(controllers: ControlPlane, own_namespace: str) -> AsyncIterator[World]:
    access = await by_kubeconfig(controllers.cluster.kubeconfig)
    async with aclosing(KubeClient(access)) as client:
        world = World(client, own_namespace)
        await client.create(DEPLOYMENTS, deployment(), namespace=own_namespace)
        await client.create(SERVICES, {"metadata": {"name": "zerogate-activator"}, "spec": {"ports": [{"port": 8081}]}},
                            namespace=own_namespace)  # fmt: skip
        await world.slice("activators", "zerogate-activator", ACTIVATOR, "")
        await world.lead()
        yield world
        await world.stop()
        await world.happenings.aclose()


def deployment() -> dict[str, Any]:
    annotations = {"zerogate.dev/enabled": "true", "zerogate.dev/takeover": "true"}
    container = {"name": "model", "image": "model", "ports": [{"name": "http", "containerPort": 8000}]}
    return {
        "metadata": {"name": "llm", "annotations": annotations},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": "llm"}},
            "template": {"metadata": {"labels": {"app": "llm"}}, "spec": {"containers": [container]}},
        },
    }  # fmt: skip


def addresses(found: EndpointSlice | None) -> list[str]:
    return [] if found is None else [one.addresses[0] for one in found.endpoints or ()]


async def test_a_service_at_zero_leads_to_the_activators_and_belongs_to_the_service(world: World) -> None:
    await world.service("llm", "http")
    found = await world.until_ours("llm", lambda it: addresses(it) == [ACTIVATOR])
    service = await world.client.get(SERVICES, "llm", namespace=world.namespace)
    assert found is not None
    assert [owner.uid for owner in found.metadata.owner_references] == [service.metadata.uid]
    assert [port.name for port in found.ports or ()] == ["web"]


async def test_leave_for_zero_is_told_when_it_is_given(world: World) -> None:
    told: list[str] = []
    world.takeovers.on_may_zero = told.append
    await world.service("llm", "http")
    await world.slice("pods", "llm", POD, "web")
    await world.until_ours("llm", lambda it: it is not None and not it.endpoints)
    assert not world.takeovers.may_zero(world.name)
    await world.until_ours("llm", lambda it: addresses(it) == [ACTIVATOR])
    async with asyncio.timeout(10):
        while not told:
            await asyncio.sleep(0.05)
    assert world.takeovers.may_zero(world.name)
    world.takeovers.stay_up(world.name)
    await world.until_ours("llm", lambda it: not addresses(it))


async def test_a_new_leader_finds_the_port_again(world: World) -> None:
    await world.service("llm", "http")
    before = await world.until_ours("llm", addresses)
    await world.stop()
    await world.lead()
    await asyncio.sleep(0.5)
    after = await world.until_ours("llm", addresses)
    assert before is not None
    assert after is not None
    assert before.ports == after.ports
    assert before.metadata.resource_version == after.metadata.resource_version


async def test_a_number_is_moved_and_all_is_given_back_with_the_slice_last(world: World) -> None:
    await world.service("llm", 8000)
    moved = await world.until_service("llm", lambda it: it.spec.ports[0].target_port == "zg-http")
    assert moved.metadata.annotation("state.zerogate.dev/target-ports") == '{"80": 8000}'
    await world.until_ours("llm", lambda it: addresses(it) == [ACTIVATOR])
    await world.annotate(takeover=None)
    back = await world.until_service("llm", lambda it: it.spec.ports[0].target_port == 8000)
    assert (await world.until_ours("llm", addresses)) is not None
    await world.slice("pods", "llm", POD, "web")
    await world.until_ours("llm", lambda it: it is None)
    back = await world.until_service(
        "llm", lambda it: it.metadata.annotation("state.zerogate.dev/target-ports") is None
    )
    assert back.spec.ports[0].target_port == 8000
    assert world.takeovers.may_zero(world.name)


async def test_what_was_left_while_nobody_led_is_given_back_by_the_next_leader(world: World) -> None:
    await world.service("llm", 8000)
    await world.until_service("llm", lambda it: it.spec.ports[0].target_port == "zg-http")
    await world.until_ours("llm", lambda it: it is not None)
    await world.slice("pods", "llm", POD, "web")
    await world.stop()
    await world.annotate(enabled=None, takeover=None)
    assert (await world.until_service("llm", lambda it: True)).spec.ports[0].target_port == "zg-http"
    await world.lead()
    # the number first, and then the record of it
    await world.until_service("llm", lambda it: it.spec.ports[0].target_port == 8000)
    await world.until_service("llm", lambda it: it.metadata.annotation("state.zerogate.dev/target-ports") is None)
    assert await world.until_ours("llm", lambda it: it is None) is None


async def test_a_headless_service_is_refused_in_an_event_and_there_is_no_zero(world: World) -> None:
    await world.service("llm", "http", clusterIP="None")
    async with asyncio.timeout(10):
        while not any("headless" in one for one in await _events(world)):
            await asyncio.sleep(0.05)
    assert not world.takeovers.may_zero(world.name)
    assert any("headless" in one for one in world.takeovers.troubles(world.name))


async def test_who_waits_for_leave_and_is_no_longer_taken_over_has_it(world: World) -> None:
    told: list[str] = []
    world.takeovers.on_may_zero = told.append
    await world.client.delete(ENDPOINT_SLICES, "activators", namespace=world.namespace)
    await world.service("llm", "http")
    assert not world.takeovers.may_zero(world.name)
    await world.annotate(takeover="false")
    async with asyncio.timeout(10):
        while not told:
            await asyncio.sleep(0.05)
    assert world.takeovers.may_zero(world.name)


async def test_without_activators_there_is_no_zero_and_it_is_said(world: World) -> None:
    await world.client.delete(ENDPOINT_SLICES, "activators", namespace=world.namespace)
    await world.service("llm", "http")
    await world.until_ours("llm", lambda it: it is not None)
    assert not world.takeovers.may_zero(world.name)
    assert any("no activator" in one for one in world.takeovers.troubles(world.name))


async def test_where_no_port_of_activators_is_left_there_is_no_zero_and_it_is_said(world: World) -> None:
    await world.stop()
    await world.lead(ports=(20000, 20000))
    await world.service("first", "http")
    await world.until_ours("first", lambda it: it is not None)
    await world.service("second", "http")
    async with asyncio.timeout(10):
        while not any("20000, are taken" in one for one in world.takeovers.troubles(world.name)):
            await asyncio.sleep(0.05)
    await asyncio.sleep(WAIT_S)
    assert not world.takeovers.may_zero(world.name)


async def test_who_does_not_lead_can_say_what_is_refused_too(world: World) -> None:
    await world.service("llm", "http", selector=None)
    await world.stop()
    await world.lead(leads=False)
    async with asyncio.timeout(10):
        while not (troubles := world.takeovers.troubles(world.name)):
            await asyncio.sleep(0.05)
    assert any("has no selector" in one for one in troubles)


async def _events(world: World) -> list[str]:
    events, _ = await world.client.list(EVENTS, namespace=world.namespace)
    return [event.note for event in events if event.reason == "TakeoverRefused" and "llm" in event.regarding.name]
