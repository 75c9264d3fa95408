"""What must hold at any scale, with a crowd small enough for every run; the figures are `make bench-kubernetes`.

The autoscaler is the real process (`observed.py`), the API server is a real one, and the crowd is put into its store.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.kubernetes.crowd import Workload
from tests.kubernetes.harness import fake_nodes as fake
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.stand import Observed, Stand, stand

WORKLOADS, PODS = 200, 400
MORE_EACH = 12
MOST_BYTES = 4096
"""Of a watched pod, with all that is kept about it: the struct, its replica, who reports for it."""

pytestmark = pytest.mark.may_block("the client of the tests and their processes wait")


@pytest.fixture
def nodes(crowded_api_server: ControlPlane) -> Iterator[list[str]]:
    with fake.fake_nodes(crowded_api_server, 1) as names:
        yield names


@pytest.fixture
async def crowd(crowded_api_server: ControlPlane, nodes: list[str]) -> AsyncIterator[Stand]:
    async with stand(crowded_api_server, nodes, workloads=WORKLOADS, pods=PODS) as one:
        yield one


async def test_a_list_after_a_410_loses_nothing_and_doubles_nothing(crowd: Stand) -> None:
    process = crowd.observed()
    await process.until_told("led", within_s=60)
    await process.until(lambda told: (told.services, told.pods) == (WORKLOADS, PODS), what="all known", within_s=30)

    gone = [one for one in crowd.crowd if one.replicas][:3]
    lost = [source for source in crowd.sidecars if source.service in {one.service for one in gone}]
    taken = [source for source in crowd.sidecars if source not in lost][:20]
    new = [Workload("crowd-0", f"new-{number}", 2) for number in range(5)]
    async with crowd.without_server():
        await crowd.maker.remove(gone, [*lost, *taken])
        added = await crowd.maker.put(new)
    told = await process.until_relisted(within_s=60)

    services = {one.service for one in (*crowd.crowd, *new)} - {one.service for one in gone}
    pods = [source for source in (*crowd.sidecars, *added) if source not in lost and source not in taken]
    assert await _shown(process) == {one: sorted(pod.pod for pod in pods if pod.service == one) for one in services}
    assert (told.relists["pods"][0], told.relists["deployments"][0]) == (1, 1)
    assert told.writes == 0


async def test_a_watched_pod_costs_less_than_4_kib(crowd: Stand) -> None:
    process = crowd.observed()
    await process.until_told("led", within_s=60)
    await process.until(lambda told: told.pods == PODS, what="all known", within_s=30)
    await _measured_bytes(crowd, process, range(100, 100 + MORE_EACH), PODS)  # what is made once, and free space
    before = PODS + MORE_EACH * WORKLOADS // 2
    grown_bytes = await _measured_bytes(crowd, process, range(200, 200 + MORE_EACH), before)
    assert 0 < grown_bytes / (MORE_EACH * WORKLOADS // 2) <= MOST_BYTES


async def _measured_bytes(crowd: Stand, process: Observed, numbers: range, before: int) -> int:
    """By how much the process grows when each workload that runs gets more pods."""
    bytes_before = process.memory_bytes()
    added = await crowd.maker.add_pods([one for one in crowd.crowd if one.replicas], numbers)
    await process.until(lambda told: told.pods == before + len(added), what="more pods known", within_s=60)
    return process.memory_bytes() - bytes_before


async def _shown(process: Observed) -> dict[str, list[str]]:
    """The replicas of each service, as the process tells people."""
    status, body = await asyncio.to_thread(process.ask, "/api/services")
    assert status == 200
    return {one["name"]: sorted(replica["id"] for replica in one["replicas"]) for one in body}
