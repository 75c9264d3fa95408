"""What the adapter must do with an API server: run against the double here, and against a real one in tests/kubernetes.

A test module derives from `AdapterContract` and gives an `api` fixture.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import pytest

from zerogate.kube.client import KubeClient
from zerogate.kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ServerFault,
    TooManyRequests,
    Unreachable,
)
from zerogate.kube.event_book import About, Bounds, Happening
from zerogate.kube.following import Pace
from zerogate.kube.happenings import Happenings
from zerogate.kube.lease_book import Terms
from zerogate.kube.leases import Leadership
from zerogate.kube.objects import CONFIG_MAPS, DEPLOYMENTS, EVENTS, LEASES, ConfigMap
from zerogate.kube.scaling import NotScalable, ReplicasDiffer, Scales
from zerogate.kube.watching import Change, Watched

QUICK = Pace(
    silence_s=30,
    relist_spread_s=0.05,
    resume_spread_s=0.05,
    first_pause_s=0.05,
    longest_pause_s=0.2,
)
TERMS = Terms(duration_s=2, renew_deadline_s=1.2, retry_s=0.2)


class Api(Protocol):
    """An API server with faults."""

    namespace: str

    async def client(self) -> KubeClient:
        """A client of one who may do everything, by way of the faults; closed at the end of the test."""

    async def limited_client(self) -> KubeClient:
        """One who may get config maps in the namespace, and nothing else."""

    async def fault(self, name: str, *args: Any, **more: Any) -> Any:
        """One of `ApiDouble`'s and `FaultProxy`'s common methods."""


class Told:
    """What a watch told, in order."""

    def __init__(self, watched: Watched[ConfigMap]) -> None:
        self.watched = watched
        self.changes: list[tuple[Change, str]] = []
        self._news = asyncio.Event()

    def on_change(self, change: Change, old: ConfigMap | None, new: ConfigMap | None) -> None:
        about = new or old
        assert about is not None
        assert (old is None) == (change is Change.ADDED)
        assert (new is None) == (change is Change.REMOVED)
        self.changes.append((change, about.metadata.name))
        self._news.set()

    async def until(self, holds: Callable[[], object], within_s: float = 20.0) -> None:
        async with asyncio.timeout(within_s):
            while not holds():
                self._news.clear()
                if holds():
                    return
                try:
                    async with asyncio.timeout(0.05):
                        await self._news.wait()
                except TimeoutError:
                    continue

    def names(self) -> set[str]:
        return {name for _, name in self.watched.items if name != "kube-root-ca.crt"}


def config_map(name: str, **data: str) -> dict[str, Any]:
    labels = {"part": "contract"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}


def deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "one", "image": "none"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


class AdapterContract:
    @pytest.fixture(params=[True, False], ids=["watch-list", "pages"])
    async def told(self, api: Api, request: pytest.FixtureRequest) -> Any:
        """The config maps of the test's namespace, two of them from the start."""
        client = await api.client()
        for name in ("one", "two"):
            await client.create(CONFIG_MAPS, config_map(name), namespace=api.namespace)
        watched = Watched(
            client, CONFIG_MAPS, namespace=api.namespace, labels="part=contract", pace=QUICK, by_watch=request.param
        )
        told = Told(watched)
        watched.start(told.on_change)
        async with asyncio.timeout(20):
            await watched.wait_synced()
        # A fault meets only a watch that is under way: one that has told something is.
        await client.merge_patch(CONFIG_MAPS, "one", {"data": {"seen": "yes"}}, namespace=api.namespace)
        await told.until(lambda: told.changes[2:] == [(Change.CHANGED, "one")])
        told.changes.pop()
        yield told
        # asyncio leaves a transport behind when it is cancelled within a TLS handshake: end a watch that has begun.
        await client.create(CONFIG_MAPS, config_map("last"), namespace=api.namespace)
        await told.until(lambda: told.changes[-1] == (Change.ADDED, "last"))
        await watched.aclose()

    async def test_what_was_created_is_read_and_deleted(self, api: Api) -> None:
        client = await api.client()
        made = await client.create(CONFIG_MAPS, config_map("one", key="value"), namespace=api.namespace)
        found = await client.get(CONFIG_MAPS, "one", namespace=api.namespace)
        assert (found.data, found.metadata) == ({"key": "value"}, made.metadata)
        with pytest.raises(AlreadyExists):
            await client.create(CONFIG_MAPS, config_map("one"), namespace=api.namespace)
        with pytest.raises(Conflict):
            await client.delete(CONFIG_MAPS, "one", namespace=api.namespace, uid="another")
        await client.delete(CONFIG_MAPS, "one", namespace=api.namespace, uid=found.metadata.uid)
        with pytest.raises(NotFound, match="get configmaps"):
            await client.get(CONFIG_MAPS, "one", namespace=api.namespace)

    async def test_a_list_is_read_page_by_page(self, api: Api) -> None:
        client = await api.client()
        for number in range(7):
            await client.create(CONFIG_MAPS, config_map(f"map-{number}"), namespace=api.namespace)
        sizes, token = [], ""
        while True:
            page = await client.page(CONFIG_MAPS, namespace=api.namespace, labels="part=contract", limit=3, token=token)
            sizes.append(len(page.items or ()))
            if not (token := page.metadata.continue_token):
                break
        everything, version = await client.list(CONFIG_MAPS, namespace=api.namespace, labels="part=contract")
        assert sizes == [3, 3, 1]
        assert [one.metadata.name for one in everything] == [f"map-{number}" for number in range(7)]
        assert version == page.metadata.resource_version

    async def test_a_merge_patch_of_an_old_version_is_a_conflict(self, api: Api) -> None:
        client = await api.client()
        old = await client.create(CONFIG_MAPS, config_map("one"), namespace=api.namespace)
        await client.merge_patch(CONFIG_MAPS, "one", {"data": {"a": "1"}}, namespace=api.namespace)
        patch = {"metadata": {"resourceVersion": old.metadata.resource_version}, "data": {"a": "2"}}
        with pytest.raises(Conflict):
            await client.merge_patch(CONFIG_MAPS, "one", patch, namespace=api.namespace)

    async def test_a_json_patch_whose_test_fails_changes_nothing(self, api: Api) -> None:
        client = await api.client()
        await client.create(CONFIG_MAPS, config_map("one", key="old"), namespace=api.namespace)
        patch = [
            {"op": "test", "path": "/data/key", "value": "other"},
            {"op": "replace", "path": "/data/key", "value": "new"},
        ]
        with pytest.raises(Invalid):
            await client.json_patch(CONFIG_MAPS, "one", patch, namespace=api.namespace)
        assert (await client.get(CONFIG_MAPS, "one", namespace=api.namespace)).data == {"key": "old"}

    async def test_apply_makes_an_object_and_changes_it(self, api: Api) -> None:
        client = await api.client()
        for value in ("1", "2"):
            await client.apply(CONFIG_MAPS, "one", config_map("one", key=value), namespace=api.namespace)
        assert (await client.get(CONFIG_MAPS, "one", namespace=api.namespace)).data == {"key": "2"}

    async def test_what_is_not_permitted_names_the_rule_that_is_missing(self, api: Api) -> None:
        client = await api.limited_client()
        with pytest.raises(Forbidden) as caught:
            await Scales(client).patch(DEPLOYMENTS, "one", namespace=api.namespace, was=0, to=1)
        assert caught.value.rule == '{apiGroups: ["apps"], resources: ["deployments/scale"], verbs: ["patch"]}'
        assert caught.value.rule in str(caught.value)
        assert f"a Role in namespace {api.namespace}" in str(caught.value)

    async def test_a_busy_server_is_asked_again_when_it_said(self, api: Api) -> None:
        client = await api.client()
        await client.create(CONFIG_MAPS, config_map("one"), namespace=api.namespace)
        await api.fault("answer", "GET .*/configmaps/one", 429, times=2, retry_after_s=0)
        assert (await client.get(CONFIG_MAPS, "one", namespace=api.namespace)).metadata.name == "one"
        await api.fault("answer", "GET .*/configmaps/one", 429, times=3, retry_after_s=0)
        with pytest.raises(TooManyRequests):
            await client.get(CONFIG_MAPS, "one", namespace=api.namespace)

    async def test_a_server_that_is_down_is_unreachable(self, api: Api) -> None:
        client = await api.client()
        await api.fault("down")
        with pytest.raises(Unreachable, match="did not answer"):
            await client.get(CONFIG_MAPS, "one", namespace=api.namespace)
        await api.fault("up")
        with pytest.raises(NotFound):
            await client.get(CONFIG_MAPS, "one", namespace=api.namespace)

    async def test_replicas_are_written_only_over_the_number_that_was_seen(self, api: Api) -> None:
        client = await api.client()
        scales = Scales(client)
        await client.create(DEPLOYMENTS, deployment("one", 0), namespace=api.namespace)
        resource = await scales.find("apps/v1", "Deployment")
        for was, to in ((0, 3), (3, 5), (5, 0)):
            assert (await scales.patch(resource, "one", namespace=api.namespace, was=was, to=to)).spec.replicas == to
        for was in (2, 5):
            with pytest.raises(ReplicasDiffer) as caught:
                await scales.patch(resource, "one", namespace=api.namespace, was=was, to=7)
            assert caught.value.found == 0
        await scales.patch(resource, "one", namespace=api.namespace, was=0, to=1)
        with pytest.raises(ReplicasDiffer) as caught:
            await scales.patch(resource, "one", namespace=api.namespace, was=0, to=7)
        assert caught.value.found == 1
        assert (await scales.read(resource, "one", namespace=api.namespace)).spec.replicas == 1

    async def test_of_many_that_wake_at_once_one_writes(self, api: Api) -> None:
        client = await api.client()
        scales = Scales(client)
        await client.create(DEPLOYMENTS, deployment("one", 0), namespace=api.namespace)
        wakes = [scales.patch(DEPLOYMENTS, "one", namespace=api.namespace, was=0, to=4) for _ in range(30)]
        outcomes = Counter(type(outcome).__name__ for outcome in await asyncio.gather(*wakes, return_exceptions=True))
        assert outcomes == {"Scale": 1, "ReplicasDiffer": 29}

    async def test_what_has_no_scale_is_said(self, api: Api) -> None:
        scales = Scales(await api.client())
        with pytest.raises(NotScalable, match="has no /scale"):
            await scales.find("v1", "ConfigMap")
        with pytest.raises(NotScalable, match="no kind Statue"):
            await scales.find("apps/v1", "Statue")
        with pytest.raises(NotScalable, match="is what defines CloneSet installed"):
            await scales.find("apps.kruise.io/v1alpha1", "CloneSet")

    async def test_a_watch_tells_what_is_there_and_what_changes(self, api: Api, told: Told) -> None:
        client = await api.client()
        assert sorted(told.changes) == [(Change.ADDED, "one"), (Change.ADDED, "two")]
        await client.merge_patch(CONFIG_MAPS, "one", {"data": {"a": "1"}}, namespace=api.namespace)
        await client.delete(CONFIG_MAPS, "two", namespace=api.namespace)
        await client.create(CONFIG_MAPS, config_map("three"), namespace=api.namespace)
        await told.until(lambda: len(told.changes) == 5)
        assert told.changes[2:] == [(Change.CHANGED, "one"), (Change.REMOVED, "two"), (Change.ADDED, "three")]
        assert told.watched.items[api.namespace, "one"].data == {"a": "1", "seen": "yes"}
        assert told.watched.age_s < 10
        assert told.watched.fault is None

    @pytest.mark.parametrize("how", ["end", "cut"])
    async def test_a_watch_that_ends_goes_on_where_it_was(self, api: Api, told: Told, how: str) -> None:
        client = await api.client()
        lists = await api.fault("count", "sendInitialEvents|limit=")
        await asyncio.sleep(1.1)  # a shorter watch counts as failed
        await api.fault(how, "watch=")
        await client.create(CONFIG_MAPS, config_map("three"), namespace=api.namespace)
        await told.until(lambda: told.names() == {"one", "two", "three"})
        assert len(told.changes) == 3
        assert await api.fault("count", "sendInitialEvents|limit=") == lists

    @pytest.mark.parametrize("how", ["inside", "as a status"])
    async def test_a_version_that_is_gone_is_listed_anew_and_only_differences_are_told(
        self, api: Api, told: Told, how: str
    ) -> None:
        client = await api.client()
        await api.fault("answer", "sendInitialEvents|limit=", 503)
        if how == "inside":
            await api.fault("tell_gone", "watch=")
        else:
            await api.fault("answer", "watch=.*resourceVersion=", 410)
            await api.fault("cut", "watch=")
        await told.until(lambda: isinstance(told.watched.fault, ServerFault))
        await client.delete(CONFIG_MAPS, "two", namespace=api.namespace)
        await client.delete(CONFIG_MAPS, "one", namespace=api.namespace)
        await client.create(CONFIG_MAPS, config_map("one"), namespace=api.namespace)
        await client.create(CONFIG_MAPS, config_map("three"), namespace=api.namespace)
        assert told.names() == {"one", "two"}
        await api.fault("resume")
        await told.until(lambda: told.watched.fault is None and told.names() == {"one", "three"})
        # "one" is another object of the same name: its end is told, and its beginning.
        assert Counter(told.changes[2:]) == Counter(
            [(Change.REMOVED, "two"), (Change.REMOVED, "one"), (Change.ADDED, "one"), (Change.ADDED, "three")]
        )

    async def test_a_new_list_without_differences_tells_nothing(self, api: Api, told: Told) -> None:
        client = await api.client()
        lists = await api.fault("count", "sendInitialEvents|limit=")
        await api.fault("tell_gone", "watch=")
        async with asyncio.timeout(20):
            while await api.fault("count", "sendInitialEvents|limit=") == lists:
                await asyncio.sleep(0.01)
        await client.create(CONFIG_MAPS, config_map("three"), namespace=api.namespace)
        await told.until(lambda: len(told.changes) == 3)
        assert told.changes[2:] == [(Change.ADDED, "three")]

    async def test_a_watch_that_only_seems_alive_is_noticed(self, api: Api) -> None:
        client = await api.client()
        pace = msgspec.structs.replace(QUICK, silence_s=0.3, initial_silence_s=5.0)
        told = Told(Watched(client, CONFIG_MAPS, namespace=api.namespace, labels="part=contract", pace=pace))
        told.watched.start(told.on_change)
        async with asyncio.timeout(20):
            await told.watched.wait_synced()
        await api.fault("stall", "watch=")
        await client.create(CONFIG_MAPS, config_map("one"), namespace=api.namespace)
        await told.until(lambda: isinstance(told.watched.fault, Unreachable))
        assert told.watched.age_s > 0.25
        await api.fault("resume")
        await told.until(lambda: told.names() == {"one"})
        assert told.watched.fault is None
        await told.watched.aclose()

    async def test_what_is_known_stays_known_while_the_server_is_down(self, api: Api, told: Told) -> None:
        client = await api.client()
        await api.fault("down")
        await told.until(lambda: isinstance(told.watched.fault, Unreachable))
        assert told.names() == {"one", "two"}
        assert told.watched.is_synced
        await api.fault("up")
        await client.create(CONFIG_MAPS, config_map("three"), namespace=api.namespace)
        await told.until(lambda: told.names() == {"one", "two", "three"})
        assert told.watched.fault is None
        assert len(told.changes) == 3

    async def test_a_watch_that_is_not_permitted_says_so_and_goes_on_when_it_is(self, api: Api) -> None:
        client = await api.limited_client()
        told = Told(Watched(client, CONFIG_MAPS, namespace=api.namespace, pace=QUICK))
        told.watched.start(told.on_change)
        await told.until(lambda: isinstance(told.watched.fault, Forbidden))
        assert isinstance(told.watched.fault, Forbidden)
        assert '"configmaps"' in told.watched.fault.rule
        assert not told.watched.is_synced
        await told.watched.aclose()

    async def test_one_leads_and_the_next_takes_over_when_it_is_silent(self, api: Api) -> None:
        first_client, client = await api.client(), await api.client()
        changes: list[tuple[str, bool]] = []
        news = asyncio.Event()

        def heard(who: str) -> Callable[[bool], None]:
            def on_change(leads: bool) -> None:
                changes.append((who, leads))
                news.set()

            return on_change

        async def until(expected: list[tuple[str, bool]]) -> None:
            async with asyncio.timeout(20):
                while changes != expected:
                    news.clear()
                    await news.wait()

        first = Leadership(first_client, "leader", namespace=api.namespace, identity="first", terms=TERMS)
        second = Leadership(client, "leader", namespace=api.namespace, identity="second", terms=TERMS)
        first.start(heard("first"))
        await until([("first", True)])
        second.start(heard("second"))
        await first_client.aclose()  # the first one is cut off, and hears nothing any more
        await until([("first", True), ("first", False), ("second", True)])
        assert (first.is_leader(), second.is_leader(), second.holder) == (False, True, "second")
        lease = await client.get(LEASES, "leader", namespace=api.namespace)
        assert (lease.spec.holder_identity, lease.spec.lease_transitions) == ("second", 1)
        await first.aclose()
        await second.aclose()
        lease = await client.get(LEASES, "leader", namespace=api.namespace)
        assert not lease.spec.holder_identity
        assert changes[-1] == ("second", False)

    async def test_a_lease_that_was_given_up_is_taken_at_once(self, api: Api) -> None:
        client = await api.client()
        slow = Terms(duration_s=60, renew_deadline_s=40, retry_s=0.2)
        first = Leadership(client, "leader", namespace=api.namespace, identity="first", terms=slow)
        second = Leadership(client, "leader", namespace=api.namespace, identity="second", terms=slow)
        leads = asyncio.Event()
        first.start(lambda is_leader: leads.set() if is_leader else None)
        async with asyncio.timeout(20):
            await leads.wait()
            leads.clear()
            second.start(lambda is_leader: leads.set() if is_leader else None)
            await first.aclose()
            await leads.wait()
        assert second.is_leader()
        await second.aclose()

    async def test_what_happens_again_is_one_event_that_counts(self, api: Api) -> None:
        client = await api.client()
        found = await client.create(CONFIG_MAPS, config_map("one"), namespace=api.namespace)
        about = About("v1", "ConfigMap", api.namespace, "one", found.metadata.uid)
        happenings = Happenings(
            client,
            controller="zerogate.dev/autoscaler",
            instance="tests",
            bounds=Bounds(repeat_every_s=0.1),
        )
        happenings.start()
        for _ in range(3):
            happenings.tell(Happening(about=about, reason="ScaledUp", note="from 0 to 1"))
            await asyncio.sleep(0.05)
        async with asyncio.timeout(20):
            while True:
                events, _ = await client.list(EVENTS, namespace=api.namespace)
                if [event.series.count for event in events if event.series] == [3]:
                    break
                await asyncio.sleep(0.02)
        (event,) = events
        assert (event.reason, event.note, event.regarding.name) == ("ScaledUp", "from 0 to 1", "one")
        assert happenings.fault is None
        await happenings.aclose()
