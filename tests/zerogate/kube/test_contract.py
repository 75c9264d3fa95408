"""The adapter against the double."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any, ClassVar

import msgspec
import pytest

from tests.zerogate.kube.contract import QUICK, AdapterContract, Told, config_map, deployment
from tests.zerogate.kube.double import ApiDouble
from zerogate.kube.client import PAGE, KubeClient
from zerogate.kube.errors import Forbidden, ServerFault
from zerogate.kube.objects import CONFIG_MAPS, DEPLOYMENTS, ConfigMap
from zerogate.kube.rate import Priority
from zerogate.kube.scaling import Scales
from zerogate.kube.transport import AT_ONCE
from zerogate.kube.watching import Change, Watched


class DoubledApi:
    namespace = "default"

    def __init__(self, double: ApiDouble, closing: AsyncExitStack) -> None:
        self.double = double
        self._closing = closing

    async def client(self) -> KubeClient:
        return await self._closing.enter_async_context(aclosing(KubeClient(self.double.access)))

    async def limited_client(self) -> KubeClient:
        self.double.forbidden |= {("patch", "deployments/scale"), ("list", "configmaps"), ("watch", "configmaps")}
        return await self.client()

    async def fault(self, name: str, *args: Any, **more: Any) -> Any:
        outcome = getattr(self.double, name)(*args, **more)
        return await outcome if name in ("down", "up") else outcome


@pytest.fixture
async def api() -> AsyncIterator[DoubledApi]:
    double = ApiDouble()
    await double.start()
    async with AsyncExitStack() as closing:
        yield DoubledApi(double, closing)
    await double.aclose()


class TestDouble(AdapterContract):
    """Everything that holds for a real API server."""


async def test_a_server_without_watch_list_is_asked_by_pages(api: DoubledApi) -> None:
    api.double.serves_watch_list = False
    client = await api.client()
    await client.create(CONFIG_MAPS, config_map("one"), namespace="default")
    watched = Watched(client, CONFIG_MAPS, pace=QUICK)
    watched.start()
    await watched.wait_synced()
    assert list(watched.items) == [("default", "one")]
    assert (api.double.count("sendInitialEvents"), api.double.count("limit=")) == (1, 1)
    await watched.aclose()


async def test_a_bookmark_makes_knowledge_young_and_is_where_the_watch_goes_on(api: DoubledApi) -> None:
    client = await api.client()
    now = [100.0]
    watched = Watched(client, CONFIG_MAPS, pace=QUICK, clock=lambda: now[0])
    told = Told(watched)
    watched.start(told.on_change)
    await watched.wait_synced()
    now[0] = 150.0
    assert watched.age_s == 50.0
    api.double.version = 900
    api.double.bookmark()
    await told.until(lambda: watched.age_s == 0.0)
    api.double.compact()
    api.double.end("watch=")
    await told.until(lambda: api.double.count("resourceVersion=900"))
    assert api.double.count("sendInitialEvents|limit=") == 1
    await watched.aclose()


async def test_an_object_that_cannot_be_read_stays_what_it_was_and_hides_no_other(api: DoubledApi) -> None:
    client = await api.client()
    await client.create(CONFIG_MAPS, config_map("one", key="value"), namespace="default")
    watched = Watched(client, CONFIG_MAPS, pace=QUICK)
    told = Told(watched)
    watched.start(told.on_change)
    await watched.wait_synced()
    api.double.store("v1", "configmaps", ("default", "one"), {"data": {"key": 5}})
    await client.create(CONFIG_MAPS, config_map("two"), namespace="default")
    await told.until(lambda: told.names() == {"one", "two"})
    api.double.compact()
    api.double.tell_gone("watch=")
    await told.until(lambda: watched.unreadable == 2)
    assert watched.items["default", "one"].data == {"key": "value"}
    await watched.aclose()


async def test_a_consumer_that_fails_on_one_object_hears_of_the_others(
    api: DoubledApi, caplog: pytest.LogCaptureFixture
) -> None:
    client = await api.client()
    for name in ("one", "two"):
        await client.create(CONFIG_MAPS, config_map(name), namespace="default")
    heard: list[str] = []

    def on_change(change: Any, old: Any, new: Any) -> None:
        heard.append(new.metadata.name)
        if new.metadata.name == "one":
            raise ValueError("a mistake")

    watched = Watched(client, CONFIG_MAPS, pace=QUICK)
    watched.start(on_change)
    await watched.wait_synced()
    assert heard == ["one", "two"]
    assert "a mistake" in caplog.text
    await watched.aclose()


@pytest.mark.uvloop
async def test_it_works_on_the_loop_of_production(api: DoubledApi) -> None:
    client = await api.client()
    await client.create(DEPLOYMENTS, deployment("one", 0), namespace="default")
    watched = Watched(client, DEPLOYMENTS, pace=QUICK)
    seen = asyncio.Event()
    watched.start(lambda change, old, new: seen.set() if old else None)
    await watched.wait_synced()
    await Scales(client).patch(DEPLOYMENTS, "one", namespace="default", was=0, to=1)
    await seen.wait()
    assert watched.items["default", "one"].spec.replicas == 1
    await watched.aclose()


async def test_a_wake_does_not_wait_behind_requests_that_hang(api: DoubledApi) -> None:
    client = await api.client()
    await client.create(DEPLOYMENTS, deployment("one", 0), namespace="default")
    api.double.stall("GET .*configmaps")
    async with asyncio.TaskGroup() as group:
        hanging = [group.create_task(client.list(CONFIG_MAPS)) for _ in range(AT_ONCE)]
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            scales = Scales(client)
            await scales.patch(DEPLOYMENTS, "one", namespace="default", was=0, to=1, priority=Priority.WAKE)
        assert not any(task.done() for task in hanging)
        waiting = group.create_task(scales.patch(DEPLOYMENTS, "one", namespace="default", was=1, to=2))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        api.double.resume()


class Counted(ConfigMap, frozen=True, kw_only=True):
    """Knows which of them were decoded."""

    decoded: ClassVar[list[str]] = []

    def __post_init__(self) -> None:
        self.decoded.append(self.metadata.name)


async def test_of_a_list_anew_only_what_changed_is_decoded(api: DoubledApi) -> None:
    client = await api.client()
    for name in ("one", "two", "three"):
        await client.create(CONFIG_MAPS, config_map(name), namespace="default")
    watched = Watched(client, msgspec.structs.replace(CONFIG_MAPS, shape=Counted), pace=QUICK)
    told = Told(watched)
    watched.start(told.on_change)
    await watched.wait_synced()
    kept = watched.items["default", "one"]

    await api.fault("answer", "limit=", 503)
    await api.fault("tell_gone", "watch=")
    await told.until(lambda: watched.fault is not None)
    Counted.decoded.clear()
    await client.merge_patch(CONFIG_MAPS, "two", {"data": {"a": "1"}}, namespace="default")
    await client.delete(CONFIG_MAPS, "three", namespace="default")
    await client.create(CONFIG_MAPS, config_map("three"), namespace="default")
    await told.until(lambda: watched.relists)

    assert sorted(Counted.decoded) == ["three", "two"]
    assert watched.items["default", "one"] is kept
    assert sorted(told.changes[3:]) == [(Change.ADDED, "three"), (Change.CHANGED, "two"), (Change.REMOVED, "three")]
    await watched.aclose()


async def test_a_watch_that_a_starting_server_refuses_goes_on_soon(api: DoubledApi) -> None:
    """Pauses as in the product: half a minute without news would be what a restart of the API server costs."""
    client = await api.client()
    watched = Watched(client, CONFIG_MAPS)
    told = Told(watched)
    watched.start(told.on_change)
    await watched.wait_synced()
    await api.fault("answer", "watch=.*resourceVersion=", 403)
    await api.fault("cut", "watch=")
    await told.until(lambda: isinstance(watched.fault, Forbidden))
    await api.fault("resume")
    await client.create(CONFIG_MAPS, config_map("one"), namespace="default")
    await told.until(lambda: told.changes, within_s=5)
    assert told.changes == [(Change.ADDED, "one")]
    await watched.aclose()


async def test_a_list_anew_that_breaks_off_in_the_middle_takes_nothing_away(api: DoubledApi) -> None:
    for number in range(PAGE + 10):
        api.double.store("v1", "configmaps", ("default", f"map-{number:03}"), config_map(f"map-{number:03}"))
    client = await api.client()
    watched = Watched(client, CONFIG_MAPS, pace=QUICK)
    told = Told(watched)
    watched.start(told.on_change)
    await watched.wait_synced()
    await api.fault("answer", "continue=|sendInitialEvents", 503)
    await api.fault("tell_gone", "watch=")
    await told.until(lambda: isinstance(watched.fault, ServerFault))
    for name in ("map-000", "map-255"):  # of the page that was read, and of the one that was not
        await client.delete(CONFIG_MAPS, name, namespace="default")
    assert len(watched.items) == PAGE + 10

    await api.fault("resume")
    await told.until(lambda: len(watched.items) == PAGE + 8)
    assert sorted(told.changes[PAGE + 10 :]) == [(Change.REMOVED, "map-000"), (Change.REMOVED, "map-255")]
    assert api.double.count("limit=.*continue=") > api.double.count("limit=(?!.*continue=)")
    await watched.aclose()
