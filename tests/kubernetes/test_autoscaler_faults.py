"""An autoscaler as a whole on bad days of its API server: its process survives what the adapter does."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.autoscalers import Autoscaler, Crowd, reporting
from tests.kubernetes.harness.control_plane import ControlPlane, control_plane
from tests.kubernetes.harness.fault_proxy import FaultProxy, fault_proxy
from tests.kubernetes.test_autoscaler_process import Place, leads, metric, placed, wake
from zerogate.clock import now

pytestmark = pytest.mark.may_block("the client of the tests and their processes wait")

IS_LONG = os.environ.get("ZEROGATE_LONG", "") not in ("", "0")
"""With `make soak-kubernetes`: what takes minutes, too."""
PODS = r"/api/v1/pods\?.*watch="
"""The watch of them all."""


@pytest.fixture
def place(controllers: ControlPlane, tmp_path: Path) -> Iterator[Place]:
    with placed(controllers, tmp_path) as place:
        yield place


@pytest.fixture
def proxy(place: Place) -> Iterator[FaultProxy]:
    with fault_proxy(place.plane, place.account) as proxy:
        yield proxy


@pytest.fixture
async def one(place: Place, proxy: FaultProxy) -> Autoscaler:
    """Leads, by way of the proxy."""
    one = place.autoscaler("one", by=proxy.access)
    await place.until(lambda: leads(one))
    return one


async def test_when_all_its_watches_are_gone_it_reads_anew_and_goes_on(
    place: Place, proxy: FaultProxy, one: Autoscaler
) -> None:
    service = place.deploy("llama", min_replicas="1", max_replicas="3", idle_timeout="1h")
    async with reporting(Crowd(service), [one.stats], place.gateway_token):
        await place.until(lambda: place.number("llama") == 1)
        asked = proxy.count("watch=")
        proxy.tell_gone("watch=")
        await place.until(lambda: proxy.count("watch=") > asked)
        place.annotate("llama", min_replicas="2")
        await place.until(lambda: place.number("llama") == 2)
        assert leads(one)
        assert place.events("ForeignScale") == place.events("ScaledDown") == []


async def test_while_its_watches_only_seem_alive_it_wakes_and_it_sees_afterwards_what_it_missed(
    place: Place, proxy: FaultProxy, one: Autoscaler
) -> None:
    service = place.deploy("llama", max_replicas="3", idle_timeout="1h")
    await place.until(lambda: place.notes("llama").get("state.zerogate.dev/replicas") == "0")
    crowd = Crowd(service)
    async with reporting(crowd, [one.stats], place.gateway_token) as sender:
        await place.until(lambda: sender.leader_age_s < 60)
        proxy.stall("watch=")
        asked = proxy.count("watch=")
        wake(crowd, sender)
        await place.until(lambda: place.number("llama") == 1)
        crowd.meter.unhold(now())  # nobody is there any more, and nothing is known of the pod that starts
        place.annotate("llama", min_replicas="2")
        if IS_LONG:  # it notices by itself: a bookmark is due once a minute
            await place.until(lambda: proxy.count("watch=") > asked, within_s=150)
            await asyncio.to_thread(proxy.resume)
        else:
            await asyncio.sleep(7)  # longer than what is not there is waited for
            await asyncio.to_thread(proxy.resume)
            await asyncio.to_thread(proxy.cut, "watch=")
        await place.until(lambda: place.number("llama") == 2)
        assert leads(one)
        assert place.events("ForeignScale") == place.events("ScaledDown") == []


async def test_while_only_its_watch_of_pods_seems_alive_what_was_woken_is_not_taken_for_what_never_came(
    place: Place, proxy: FaultProxy, one: Autoscaler
) -> None:
    """The workload's own status says that there is a pod."""
    service = place.deploy("llama", idle_timeout="1s")
    await place.until(lambda: place.notes("llama").get("state.zerogate.dev/replicas") == "0")
    crowd = Crowd(service)
    async with reporting(crowd, [one.stats], place.gateway_token) as sender:
        await place.until(lambda: sender.leader_age_s < 60)
        proxy.stall(PODS)
        wake(crowd, sender)
        await place.until(lambda: place.number("llama") == 1 and place.pods("llama"))
        crowd.meter.unhold(now())
        await asyncio.sleep(8)  # longer than what is not there is waited for, and than until the next look
        status = one.ask(f"/api/services/{service.replace('/', '%2F')}")[1]
        assert (status["replicas"], status["desired"], place.number("llama")) == ([], 1, 1)
        assert "has not shown yet" in status["why"]
        await asyncio.to_thread(proxy.resume)
        await asyncio.to_thread(proxy.cut, PODS)
        await place.until(lambda: one.ask(f"/api/services/{service.replace('/', '%2F')}")[1]["replicas"])
        assert place.number("llama") == 1
    assert place.events("ForeignScale") == place.events("ScaledDown") == []


async def test_when_the_store_behind_the_api_server_starts_anew_nothing_goes_down(tmp_path: Path) -> None:
    with control_plane(with_controllers=True) as plane, placed(plane, tmp_path) as place:
        assert await _writes_when_the_store_starts_anew(place, plane) == 1


async def _writes_when_the_store_starts_anew(place: Place, plane: ControlPlane) -> float:
    service = place.deploy("llama", replicas=1, min_replicas="1", max_replicas="3", idle_timeout="1s")
    one = place.autoscaler("one")
    await place.until(lambda: leads(one))
    async with reporting(Crowd(service), [one.stats], place.gateway_token):
        plane.etcd.stop()
        await asyncio.sleep(3)
        assert one.ask("/readyz")[0] == 200, "who answers the webhook stays in rotation"
        plane.etcd.start()
        await place.until(plane.cluster.is_ready, within_s=60)
        place.annotate("llama", min_replicas="2")
        await place.until(lambda: place.number("llama") == 2, within_s=60)
        await place.until(lambda: leads(one), within_s=30)
        assert place.events("ForeignScale") == place.events("ScaledDown") == []
        return metric(one, "zerogate_scale_writes_total")
