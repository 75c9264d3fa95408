"""HTTPRoutes with the real definitions of the Gateway API: what gateways serve, and what the leader says of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from autoscaler.cluster.route_notes import RouteNotes
from tests.kubernetes.harness import definitions
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.kubelet import Kubelet, kubelet
from tests.kubernetes.test_gateway_cluster import ClusterGateway, account_of, cluster_gateway, up, went_on
from zerogate.kube.access import by_kubeconfig
from zerogate.kube.client import KubeClient
from zerogate.kube.feed import Feed
from zerogate.kube.route_feed import RouteFeed
from zerogate.tasks import Nursery

pytestmark = [
    pytest.mark.uvloop,
    pytest.mark.may_block("the harness's client makes TLS contexts"),
    # as in test_runtime: asyncio leaves the socket of a TLS handshake that is cancelled in its midst to the collector
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <(socket.so|function _Selector):pytest.PytestUnraisableExceptionWarning"
    ),
]

VERSION = "gateway.networking.k8s.io/v1"
API = f"/apis/{VERSION}"
GATEWAY_CLASS = {
    "apiVersion": VERSION, "kind": "GatewayClass", "metadata": {"name": "zerogate"},
    "spec": {"controllerName": "zerogate.dev/gateway"},
}  # fmt: skip
KINDS = {"gateways": "Gateway", "httproutes": "HTTPRoute"}


@pytest.fixture(scope="module")
def plane(definitions_plane: ControlPlane) -> ControlPlane:
    return definitions_plane


@pytest.fixture(scope="module")
def defined(plane: ControlPlane) -> None:
    """The definitions, and a class that is ours."""
    definitions.install(plane.cluster, ["gateway-api"])
    plane.cluster.create(f"{API}/gatewayclasses", GATEWAY_CLASS)


@pytest.fixture
def place(plane: ControlPlane) -> Iterator[str]:
    with plane.namespace() as name:
        yield name


@pytest.fixture
async def world(plane: ControlPlane, place: str) -> AsyncIterator["World"]:
    async with kubelet(plane, place) as played:
        yield World(played)


class World:
    """A namespace with Gateways and routes."""

    def __init__(self, played: Kubelet) -> None:
        self.played = played
        self.cluster = played.plane.cluster
        self.namespace = played.namespace

    async def gateway(self, name: str = "edge", **listener: Any) -> None:
        listeners = [{"name": "web", "port": 80, "protocol": "HTTP", **listener}]
        await self.create("gateways", name, {"gatewayClassName": "zerogate", "listeners": listeners})

    async def service(self, name: str, *, port: int = 80, target: int | str = 8000, app: str = "") -> None:
        await self._ask("create", f"/api/v1/namespaces/{self.namespace}/services", {
            "metadata": {"name": name},
            "spec": {"selector": {"app": app or name}, "ports": [{"port": port, "targetPort": target}]},
        })  # fmt: skip

    async def route(self, name: str, rules: dict[str, str], *hosts: str, **spec: Any) -> None:
        """`rules`: path prefix → Service."""
        await self.create("httproutes", name, {
            "parentRefs": [{"name": "edge"}], "hostnames": list(hosts),
            "rules": [rule(prefix, service) for prefix, service in rules.items()], **spec,
        })  # fmt: skip

    async def create(self, plural: str, name: str, spec: dict[str, Any]) -> None:
        path = f"{API}/namespaces/{self.namespace}/{plural}"
        whole = {"apiVersion": VERSION, "kind": KINDS[plural], "metadata": {"name": name}, "spec": spec}
        await self._ask("create", path, whole)

    async def patch(self, plural: str, name: str, spec: dict[str, Any]) -> None:
        await self._ask("patch", f"{API}/namespaces/{self.namespace}/{plural}/{name}", {"spec": spec})

    async def delete(self, plural: str, name: str) -> None:
        await self._ask("delete", f"{API}/namespaces/{self.namespace}/{plural}/{name}")

    async def status_of(self, plural: str, name: str, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The status once `holds` of it."""
        path = f"{API}/namespaces/{self.namespace}/{plural}/{name}"
        found = await self._ask("until", path, lambda one: holds(one.get("status", {})))
        status: dict[str, Any] = found["status"]
        return status

    async def verdicts(self, route: str, holds: Callable[[dict[str, str]], Any] = bool) -> dict[str, str]:
        """What the route's first parent says: type → status, reason."""
        status = await self.status_of("httproutes", route, lambda status: holds(_verdicts(status)))
        return _verdicts(status)

    async def _ask(self, verb: str, *arguments: Any) -> Any:
        return await self.played._tell(verb, *arguments)


def rule(prefix: str, service: str, port: int = 80, **more: Any) -> dict[str, Any]:
    matches = [{"path": {"type": "PathPrefix", "value": prefix}}]
    return {"matches": matches, "backendRefs": [{"name": service, "port": port}], **more}


def _verdicts(status: dict[str, Any]) -> dict[str, str]:
    parents = status.get("parents") or [{"conditions": []}]
    return {one["type"]: f"{one['status']} {one['reason']}" for one in parents[0]["conditions"]}


GOOD = {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"}


@asynccontextmanager
async def notes(plane: ControlPlane, namespace: str) -> AsyncIterator[RouteNotes]:
    """What the leading autoscaler does about routes, with its rights and no others."""
    access = await by_kubeconfig(await asyncio.to_thread(account_of, plane, namespace, "autoscaler"))
    nursery = Nursery()
    async with aclosing(KubeClient(access)) as client:
        it = RouteNotes(client, is_leader=lambda: True, namespace_labels=lambda name: feed.namespace_labels(name))
        feed = Feed(client, it, home=namespace, on_namespace=it.mark)
        await feed.start()
        nursery.start(it.run(), name="notes")
        try:
            yield it
        finally:
            await nursery.aclose()
            await feed.aclose()
            await it.feed.aclose()


@asynccontextmanager
async def served(world: World) -> AsyncIterator[ClusterGateway]:
    account = await asyncio.to_thread(account_of, world.played.plane, world.namespace, "gateway")
    async with cluster_gateway(account, home=world.namespace, workers=1) as gateway:
        yield gateway


async def test_definitions_that_come_later_are_found_and_those_that_go_take_their_routes_along(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="zerogate")
    plane, changes = world.played.plane, asyncio.Event()
    access = await by_kubeconfig(plane.cluster.kubeconfig)
    async with aclosing(KubeClient(access)) as client:
        feed = RouteFeed(client, namespace_labels=lambda _: {}, on_change=changes.set, look_s=0.05)
        await feed.start()
        await asyncio.sleep(0.5)
        assert not feed.is_there
        assert feed.faults == ()
        assert caplog.records == []
        await asyncio.to_thread(definitions.install, plane.cluster, ["gateway-api"])
        await asyncio.to_thread(plane.cluster.create, f"{API}/gatewayclasses", GATEWAY_CLASS)
        await world.gateway()
        await world.route("route", {"/": "llama"}, "a.example")
        async with asyncio.timeout(20):
            while not feed.readings({}):
                changes.clear()
                await changes.wait()
            await asyncio.to_thread(definitions.remove, plane.cluster, "gateway-api")
            while feed.readings({}) or feed.is_there:
                changes.clear()
                await changes.wait()
        assert feed.faults == ()
        await feed.aclose()


async def test_a_route_leads_to_the_workload_behind_its_service_and_its_status_says_so(
    defined: None, world: World
) -> None:
    await up(world.played, "llama")
    await world.service("front", app="llama")
    await world.gateway()
    async with served(world) as gateway, notes(world.played.plane, world.namespace):
        await world.route("route", {"/": "front"}, "a.example", "*.b.example")
        await gateway.until_status("a.example", 200)
        await gateway.until_status("x.y.b.example", 200)
        assert (await gateway.get("b.example"))[0] == 404
        assert (await gateway.get(f"llama.{world.namespace}"))[0] == 200
        assert await world.verdicts("route") == GOOD
        await world.patch("httproutes", "route", {"hostnames": ["c.example"]})
        await gateway.until_status("c.example", 200)
        await gateway.until_status("a.example", 404)
        status = await world.status_of("gateways", "edge", lambda one: _attached(one) == 1)
        assert {one["type"]: one["status"] for one in status["conditions"]} == {
            "Accepted": "True",
            "Programmed": "True",
        }
        await world.delete("httproutes", "route")
        await gateway.until_status("c.example", 404)
        await world.status_of("gateways", "edge", lambda one: _attached(one) == 0)
        [one] = (await world._ask("get", f"{API}/gatewayclasses/zerogate"))["status"]["conditions"]
        assert (one["type"], one["status"]) == ("Accepted", "True")


def _attached(status: dict[str, Any]) -> int | None:
    return next((one["attachedRoutes"] for one in status.get("listeners", ())), None)


async def test_streams_go_on_whatever_becomes_of_their_route(defined: None, world: World) -> None:
    await up(world.played, "llama")
    await up(world.played, "other")
    for name in ("llama", "other"):
        await world.service(name)
    await world.gateway()
    async with served(world) as gateway:
        await world.route("route", {"/": "llama", "/other": "other"}, "a.example")
        await gateway.until_status("a.example", 200)
        streams = [await gateway.stream_of("a.example") for _ in range(3)]
        await world.patch(
            "httproutes", "route", {"rules": [rule("/", "other")], "hostnames": ["a.example", "c.example"]}
        )
        await gateway.until_status("c.example", 200)
        await world.patch("httproutes", "route", {"hostnames": ["b.example"]})
        await gateway.until_status("a.example", 404)
        await world.delete("httproutes", "route")
        await world.delete("gateways", "edge")
        await gateway.until_status("b.example", 404)
        assert await went_on(streams)


async def test_what_leads_nowhere_or_is_anothers_is_told_and_falls_to_no_broader_rule(
    defined: None, world: World
) -> None:
    for name in ("llama", "other"):
        await up(world.played, name)
        await world.service(name)
    await world.gateway()
    await world.route("z-first", {"/": "llama", "/missing": "nobody"}, "a.example")
    async with served(world) as gateway, notes(world.played.plane, world.namespace):
        await gateway.until_status("a.example", 200)
        status, _, body = await gateway.get("a.example", "/missing/x")
        assert status == 503
        assert f"Service {world.namespace}/nobody does not exist" in body.decode()
        wrong = {**GOOD, "ResolvedRefs": "False BackendNotFound"}
        await world.verdicts("z-first", lambda said: said == wrong)
        await world.service("nobody", app="llama")
        await world.verdicts("z-first", lambda said: said == GOOD)

        async def is_there() -> bool:
            return (await gateway.get("a.example", "/missing/x"))[0] == 200

        await gateway.until(is_there)
        # the API's times have whole seconds, and z-first is seconds old by now
        await world.route("a-second", {"/": "other", "/x": "other"}, "a.example")

        async def notices() -> list[str]:
            return list((await gateway.services())[f"{world.namespace}/other"]["notices"])

        async def is_told() -> bool:
            return bool(await notices()) and bool(await world.played.events("RouteTaken"))

        await gateway.until(is_told)
        [notice] = await notices()
        assert notice.startswith(f"HTTPRoute {world.namespace}/a-second: a.example/ leads to {world.namespace}/llama")
        await world.delete("httproutes", "z-first")

        async def is_free() -> bool:
            return not await notices()

        await gateway.until(is_free)


async def test_a_route_that_asks_for_more_is_refused_as_a_whole(defined: None, world: World) -> None:
    await world.gateway()
    async with notes(world.played.plane, world.namespace):
        await world.create("httproutes", "route", {
            "parentRefs": [{"name": "edge"}], "rules": [{**rule("/", "llama"), "timeouts": {"request": "10s"}}],
        })  # fmt: skip
        said = await world.verdicts("route")
        assert said["Accepted"] == "False UnsupportedValue"
        status = await world.status_of("httproutes", "route", bool)
        messages = [one["message"] for one in status["parents"][0]["conditions"]]
        assert any(message.startswith("rules[0].timeouts is not supported") for message in messages)


async def test_a_parent_that_others_keep_stays_as_they_wrote_it(defined: None, world: World) -> None:
    await world.gateway()
    await world.route("route", {"/": "llama"}, "a.example")
    theirs = {
        "parentRef": {"name": "theirs"}, "controllerName": "example.org/other",
        "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }  # fmt: skip
    path = f"{API}/namespaces/{world.namespace}/httproutes/route/status"
    await world._ask("patch", path, {"status": {"parents": [theirs]}})
    async with notes(world.played.plane, world.namespace):
        status = await world.status_of("httproutes", "route", lambda one: len(one["parents"]) == 2)
        assert [one["controllerName"] for one in status["parents"]] == ["example.org/other", "zerogate.dev/gateway"]
        await world.patch("httproutes", "route", {"parentRefs": [{"name": "theirs"}]})
        status = await world.status_of("httproutes", "route", lambda one: len(one["parents"]) == 1)
        assert status["parents"][0]["controllerName"] == "example.org/other"
        assert status["parents"][0]["conditions"] == theirs["conditions"]
