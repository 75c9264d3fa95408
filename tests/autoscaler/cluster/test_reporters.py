"""Who should report, as pods of gateways come and go and their workers are heard."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing

import pytest

from autoscaler.cluster import reporters
from autoscaler.cluster.coverage import Coverage
from autoscaler.cluster.reporters import Reporters
from tests.autoscaler.cluster.test_coverage import SERVICE, pod
from zerogate.kube.access import Access
from zerogate.kube.client import KubeClient
from zerogate.kube.objects import Pod
from zerogate.kube.watching import Change
from zerogate.tasks import Nursery

RUNNING = {"name": "gateway", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}

ENDED = {"name": "gateway", "state": {"terminated": {"exitCode": 137}}}


class World:
    """An autoscaler's view of its sources."""

    def __init__(self, client: KubeClient) -> None:
        self.coverage = Coverage(lambda _: False)
        self.heard: list[str] = []
        self.expected: dict[str, str | None] = {}
        self.turns = 0
        self.holders: list[str] = []
        self.it = Reporters(
            client, self.coverage,
            namespace="system", heard=lambda: self.heard, expect=self._expect, on_holders=self._hold,
        )  # fmt: skip

    def _expect(self, added: Mapping[str, str | None], gone: Iterable[str]) -> None:
        self.turns += 1
        self.expected.update(added)
        for name in gone:
            del self.expected[name]

    def _hold(self, pods: Iterable[str]) -> None:
        self.holders = list(pods)

    def show(self, one: Pod) -> None:
        self.it.on_pod(Change.CHANGED, None, one)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with aclosing(KubeClient(Access(server="http://127.0.0.1:1"))) as client:
        yield World(client)


async def test_a_worker_that_is_heard_later_is_expected_though_no_pod_has_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporters, "TELL_S", 0.0)
    world.show(pod("gw"))
    await world.it.tell()
    assert world.expected == {"ml/gw": None}
    world.heard.append("ml/gw/worker-1")
    nursery = Nursery()
    nursery.start(world.it.run(), name="who should report")
    async with asyncio.timeout(30):
        while world.expected != {"ml/gw/worker-1": None}:
            await asyncio.sleep(0)
    await nursery.aclose()


async def test_those_whose_container_runs_hold_requests_until_their_pod_is_gone(world: World) -> None:
    starting = pod("gw")
    world.show(starting)
    assert not world.holders
    world.show(pod("gw", containerStatuses=[RUNNING]))
    assert world.holders == ["ml/gw"]
    world.show(pod("gw", containerStatuses=[ENDED]))
    assert not world.holders, "its container is started anew, with nothing inside"
    world.show(pod("gw", containerStatuses=[RUNNING]))
    world.it.on_pod(Change.REMOVED, starting, None)
    await world.it.tell()
    assert not world.holders
    assert world.expected == {}


async def test_thousands_are_told_in_slices_and_all_before_it_returns(world: World) -> None:
    for number in range(2 * reporters.AT_ONCE + 1):
        world.coverage.set_pod(SERVICE, pod(f"llama-{number}"))
    await world.it.tell()
    assert len(world.expected) == 2 * reporters.AT_ONCE + 1
    assert world.turns == 3
