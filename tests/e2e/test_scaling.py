"""From zero to N and back, by traffic: a real zerogate, stubs as model servers, windows of seconds."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.crowd import Raw, answers, connections, crowd, events, pids, request, wanted
from tests.e2e.harness import Box, Latch, ready, soon, stub, zerogate
from zerogate.clock import now

pytestmark = [pytest.mark.slow, pytest.mark.may_block]

QUICK: dict[str, Any] = {"stable_window": "2s", "panic_window": "1s", "scale_down_delay": "1s", "idle_timeout": "1s"}
"""Windows as short as the policy allows, so that a test sees a whole day of scaling in seconds."""


async def test_s1_concurrency_takes_a_service_from_zero_to_four_and_back_to_zero(tmp_path: Path) -> None:
    service = stub(**QUICK, max_replicas=6, target_concurrency=5)
    async with zerogate({"chat": service}, tmp_path) as box:
        async with crowd(box, 20, "chat", "/sleep?ms=2500") as clients:
            await box.until_ready("chat", 4)
            assert await answers(clients) == [200] * 20
        await box.until_zero("chat", within_s=15)
        assert max(wanted(await box.decisions("chat"))) == 4


async def test_s1_the_rate_takes_a_service_from_zero_to_three_and_back_to_zero(tmp_path: Path) -> None:
    service = stub(**QUICK, max_replicas=6, metric="rps", target_rps=10)
    async with zerogate({"chat": service}, tmp_path) as box:
        driving = soon(steady(box, "chat", per_s=25))
        await box.until_ready("chat", 3)
        driving.cancel()
        await box.until_zero("chat", within_s=15)
        # while the windows fill, the rate of their first requests may read as one replica more
        assert max(wanted(await box.decisions("chat"))) in (3, 4)


async def test_s2_load_on_one_service_scales_only_that_one(tmp_path: Path) -> None:
    services = {name: stub(**QUICK, max_replicas=3, target_concurrency=2) for name in ("loaded", "quiet")}
    async with zerogate(services, tmp_path) as box:
        async with crowd(box, 6, "loaded", "/sleep?ms=1500") as clients:
            await box.until_ready("loaded", 3)
            assert await answers(clients) == [200] * 6
        quiet = await box.status("quiet")
        assert (quiet["replicas"], quiet["requests"], wanted(await box.decisions("quiet"))) == ([], 0, [0])
        assert (await box.metrics())['zerogate_replica_seconds_total{service="quiet"}'] == 0


async def test_s4_a_short_request_in_each_period_keeps_the_service_up(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(**QUICK)}, tmp_path) as box:
        assert (await box.get("chat", "/sleep?ms=20")).status_code == 200
        first = pids(await box.status("chat"))
        for _ in range(12):
            await asyncio.sleep(0.6)  # the period itself
            assert (await box.get("chat", "/sleep?ms=20")).status_code == 200
        assert pids(await box.status("chat")) == first
        assert (await box.metrics())['zerogate_cold_starts_total{service="chat"}'] == 1
        await box.until_zero("chat", within_s=5)


async def test_s5_480_held_by_a_service_that_never_ran_are_one_write_to_48_and_all_are_served(tmp_path: Path) -> None:
    latch = Latch(tmp_path)
    service = stub(*latch.flags, max_replicas=100, target_concurrency=10)
    async with zerogate({"chat": service}, tmp_path) as box:
        async with at_once(box, 480, "chat", "/sleep?ms=100") as clients:
            held = await box.until("chat", lambda status: len([x for x in status["replicas"] if x["pid"]]) == 48)
            assert (held["held"], held["desired"], len(held["replicas"])) == (480, 48, 48)
            assert wanted(await box.decisions("chat")) == [0, 48]
            latch.open()
            assert await answers(clients) == [200] * 480
        stats = await box.stats("chat")
        assert sum(one["requests"] for one in stats) == 480
        assert max(one["peak"] for one in stats) <= 10


@asynccontextmanager
async def at_once(box: Box, size: int, service: str, target: str) -> AsyncIterator[list[Raw]]:
    """A crowd whose last request is there before zerogate looks at the first: however slow this machine is."""
    async with connections(box, size) as clients:
        while (await box.metrics())["zerogate_connections"] < size:
            await asyncio.sleep(0.02)
        box.process.send_signal(signal.SIGSTOP)
        try:
            for _, writer in clients:
                writer.write(request(service, target))
                assert not writer.transport.get_write_buffer_size()
        finally:
            box.process.send_signal(signal.SIGCONT)
        yield clients


async def test_s13_sixty_idle_services_all_reach_zero(tmp_path: Path) -> None:
    names = [f"model-{number}" for number in range(60)]
    async with zerogate({name: stub(**QUICK) for name in names}, tmp_path) as box:
        first = await asyncio.gather(*(box.get(name) for name in names))
        assert [answer.status_code for answer in first] == [200] * 60
        for name in names:
            await box.until_zero(name, within_s=20)
        metrics = await box.metrics()
        assert [metrics[f'zerogate_desired_replicas{{service="{name}"}}'] for name in names] == [0] * 60


@pytest.mark.parametrize("long_one", [0, 1], ids=["the older one is busy", "the younger one is busy"])
async def test_scale_in_takes_the_idle_replica_and_cuts_no_stream(tmp_path: Path, long_one: int) -> None:
    service = stub(**QUICK, max_replicas=2, target_concurrency=1, concurrency_limit=1)
    async with zerogate({"chat": service}, tmp_path) as box:
        lengths = [100 if number == long_one else 10 for number in range(2)]
        async with connections(box, 2) as streams:
            for number, (length, (_, writer)) in enumerate(zip(lengths, streams, strict=True), 1):
                writer.write(request("chat", f"/sse?events={length}&gap_ms=100"))
                await until_in_flight(box, number)
            before = await box.until_ready("chat", 2)
            assert [one["in_flight"] for one in before["replicas"]] == [1, 1]
            busy = before["replicas"][long_one]["id"]
            await events(streams[1 - long_one][0], 11)
            after = await box.until("chat", lambda status: len(status["replicas"]) == 1)
            assert [one["id"] for one in after["replicas"]] == [busy]
            rest = await streams[long_one][0].readuntil(b"data: [DONE]")
        assert rest.count(b"data: {") == 100


async def test_with_one_replica_at_most_two_are_never_loaded_at_once(tmp_path: Path) -> None:
    service = stub("--term-after", "1", **QUICK)
    async with zerogate({"chat": service}, tmp_path) as box:
        old = (await box.get("chat")).json()["port"]
        (old_pid,) = pids(await box.status("chat"))
        handle = os.pidfd_open(old_pid)
        ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(handle, note_once, ended)
        await box.until("chat", lambda status: bool(status["replicas"]) and not ready(status))
        # it is being stopped, which takes a second: this one has to wait for the end
        answer = await box.get("chat")
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
        assert (answer.status_code, answer.json()["port"] == old) == (200, False)
        (replica,) = (await box.status("chat"))["replicas"]
        assert now() - replica["age_s"] >= ended.result()
        assert float(answer.headers["server-timing"].split("dur=")[1].split(",")[0]) > 500


async def until_in_flight(box: Box, count: int) -> None:
    """Wait until so many requests run."""
    await box.until("chat", lambda status: status["in_flight"] == count)


def note_once(ended: asyncio.Future[float]) -> None:
    """Remember the first time that it was called."""
    if not ended.done():
        ended.set_result(now())


async def steady(box: Box, service: str, *, per_s: float) -> None:
    """Short requests at a steady rate, until cancelled."""
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(box.get(service))
            await asyncio.sleep(1 / per_s)
