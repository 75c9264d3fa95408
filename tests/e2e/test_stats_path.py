"""What runs and waits in real gateways and sidecars, as an autoscaler hears it: nothing missed, nothing twice."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.activator.fleet import Replica, replica, sidecar_of
from tests.autoscaler.ear import Ear, ear
from tests.gateway.test_workers import Gateway, gateway
from tests.zerogate.http.rig import Clients
from zerogate.clock import now
from zerogate.policy import Policy

pytestmark = [pytest.mark.slow, pytest.mark.uvloop]

MANY = Policy(max_replicas=50, target_concurrency=1.0, min_replicas=0)


@asynccontextmanager
async def gateways(
    path: Path, count: int, *ears: Ear, replicas: tuple[Replica, ...] = ()
) -> AsyncIterator[list[Gateway]]:  # fmt: skip
    """So many gateways of one worker each, in front of the same replicas."""
    targets = ",".join(f"127.0.0.1:{one.port}" for one in ears)
    async with AsyncExitStack() as stack:
        made = []
        for number in range(count):
            folder = path / str(number)
            folder.mkdir()
            flags = ("--workers", "1", "--stats", targets, "--drain-deadline", "60s")
            made.append(await stack.enter_async_context(gateway(folder, *flags, replicas=replicas, ready=1)))
        for one in ears:
            while len(one.sources) < count:
                await asyncio.sleep(0.01)
        yield made


def reporting(it: Ear, name: str, *flags: str) -> tuple[str, ...]:
    """Flags of a sidecar that reports."""
    return ("--service", "chat", "--stats", f"127.0.0.1:{it.port}", "--stats-source", name, *flags)


async def begin(port: int, clients: Clients, count: int) -> None:
    """So many streams that go on until their clients go; they may be held."""
    for _ in range(count):
        client = await clients.connect("127.0.0.1", port)
        await client.send(b"GET /sse?events=100000&gap_ms=50 HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_n6_the_sum_over_three_gateways_is_what_the_clients_have_in_flight(tmp_path: Path) -> None:
    async with (
        ear(MANY) as it,
        replica(*reporting(it, "chat-1", "--concurrency-limit", "4")) as one,
        replica(*reporting(it, "chat-2", "--concurrency-limit", "4")) as other,
        gateways(tmp_path, 3, it, replicas=(one, other)) as three,
        Clients() as clients,
    ):
        for place, count in enumerate((15, 10, 5)):
            await begin(three[place].port, clients, count)
        await it.until(lambda: (it.traffic.in_flight, it.traffic.held) == (8, 22))
        assert it.traffic.is_fresh
        it.sums.clear()
        await it.until(lambda: len(it.sums) > 10)
        assert set(it.sums) == {30}
        await clients.aclose()
        await it.until(lambda: (it.traffic.in_flight, it.traffic.held) == (0, 0))
        arrivals: dict[str, int] = {}
        for stat in it.reports:
            arrivals[stat.source] = stat.arrivals
        assert sum(arrivals.values()) == 30


async def test_each_worker_says_how_many_its_gateway_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, int] = {}
    async with ear(MANY) as it:
        monkeypatch.setattr(it.receiver.listener, "on_holder", lambda name, _, workers: said.update({name: workers}))
        flags = ("--workers", "3", "--stats", f"127.0.0.1:{it.port}")
        async with gateway(tmp_path, *flags, replicas=(), ready=3):
            await it.until(lambda: len(said) == 3)
    assert list(said.values()) == [3, 3, 3]


async def test_n5_a_held_request_counts_once_while_it_is_handed_over(tmp_path: Path) -> None:
    async with (
        ear(MANY) as it,
        replica(*reporting(it, "chat-1", "--concurrency-limit", "6")) as one,
        gateways(tmp_path, 3, it) as three,
        Clients() as clients,
    ):
        for place in three:
            await begin(place.port, clients, 2)
        await it.until(lambda: it.traffic.held == 6)
        assert it.traffic.in_flight == 0
        it.sums.clear()
        for place in three:
            place.write(one)
            assert (await place.admin("/reload", "POST"))[0] == 200
        await it.until(lambda: (it.traffic.in_flight, it.traffic.held) == (6, 0))
        assert max(it.sums) <= 6
        await clients.aclose()


async def test_n1_what_streams_or_waits_in_a_gateway_that_drains_still_counts(tmp_path: Path) -> None:
    async with (
        ear(MANY) as it,
        replica(*reporting(it, "chat-1", "--concurrency-limit", "20")) as one,
        gateways(tmp_path, 1, it, replicas=(one,)) as [place],
        Clients() as clients,
    ):
        await begin(place.port, clients, 23)
        await it.until(lambda: (it.traffic.in_flight, it.traffic.held) == (20, 3))
        place.program.signal(signal.SIGTERM)
        count = len(it.reports)
        await it.until(lambda: len(it.reports) > count + 6)
        assert (it.traffic.in_flight, it.traffic.held) == (20, 3)
        await clients.aclose()
        assert await place.program.end() == 0
        await it.until(lambda: (it.traffic.in_flight, it.traffic.held) == (0, 0))
        # it said goodbye: nobody waits for its word any more
        await it.until(lambda: it.sources == {"chat-1"})
        assert it.traffic.is_fresh


async def test_n1_what_streams_in_a_sidecar_that_drains_still_counts() -> None:
    async with ear(MANY) as it, replica(*reporting(it, "chat-1")) as one, Clients() as clients:
        await it.until(lambda: it.sources == {"chat-1"})
        await begin(one.port, clients, 20)
        await it.until(lambda: it.traffic.in_flight == 20)
        one.sidecar.signal(signal.SIGTERM)
        count = len(it.reports)
        await it.until(lambda: len(it.reports) > count + 2)
        assert it.traffic.in_flight == 20
        await clients.aclose()
        await one.sidecar.end()
        await it.until(lambda: it.traffic.in_flight == 0)


async def test_n2_counters_that_begin_anew_are_neither_a_spike_nor_a_hole() -> None:
    async with ear(MANY) as it, replica(*reporting(it, "chat-1")) as one, Clients() as clients:
        await it.until(lambda: it.sources == {"chat-1"})
        began_s = now()

        async def ask(count: int) -> None:
            for _ in range(count):
                client = await clients.connect("127.0.0.1", one.port)
                await client.get()
                clients.disown(client)

        def counted() -> float:
            """Arrivals in the window, which is longer than the test."""
            rate = it.traffic.arrival_rate_stable
            return (rate or 0.0) * max(6.0, now() - began_s)

        await one.sidecar.line_with("is ready")
        # what comes in the first second falls partly before the window, which begins where anybody was heard
        await it.until(lambda: now() > began_s + 2.5)
        await ask(200)
        await it.until(lambda: it.reports[-1:] != [] and it.reports[-1].arrivals == 200)
        one.sidecar.signal(signal.SIGKILL)
        await one.sidecar.end()
        one.sidecar, _, _ = await sidecar_of(one.stub_port, *reporting(it, "chat-1"), port=one.port)
        await one.sidecar.line_with("is ready")
        await ask(30)
        await it.until(lambda: it.reports[-1].arrivals == 30)
        assert len({stat.incarnation for stat in it.reports}) == 2
        highest = 0.0

        def is_all_counted() -> bool:
            nonlocal highest
            highest = max(highest, counted())
            return counted() > 225

        await it.until(is_all_counted)
        assert highest < 240


async def test_n4_a_dead_source_that_is_listed_is_kept_for_a_stated_time_and_then_absent_but_never_zero() -> None:
    async with ear(MANY, speed=10.0) as it, replica(*reporting(it, "chat-1")) as one, Clients() as clients:
        it.autoscaler.expect({"chat-1": "chat"})
        await it.until(lambda: it.sources == {"chat-1"})
        await begin(one.port, clients, 5)
        await it.until(lambda: it.traffic.in_flight == 5)
        await it.until(lambda: it.asked >= 5)
        heard_s = it.clock()
        one.sidecar.signal(signal.SIGKILL)
        await it.until(lambda: not it.traffic.is_fresh)
        assert it.traffic.in_flight == 5
        assert it.clock() - heard_s > 5.0
        await it.until(lambda: it.traffic.in_flight == 0)
        assert it.clock() - heard_s > 50.0
        assert it.traffic.mean_running_stable is None
        assert it.asked >= 5
        await clients.aclose()


async def test_f8_where_one_reporter_is_stopped_the_others_are_acted_on_in_time() -> None:
    async with (
        ear(MANY, speed=5.0) as it,
        replica(*reporting(it, "chat-1")) as one,
        replica(*reporting(it, "chat-2")) as other,
        Clients() as clients,
    ):
        await it.until(lambda: len(it.sources) == 2)
        await begin(one.port, clients, 2)
        await begin(other.port, clients, 2)
        await it.until(lambda: it.traffic.in_flight == 4)
        other.sidecar.signal(signal.SIGSTOP)
        await it.until(lambda: not it.traffic.is_fresh)
        await begin(one.port, clients, 6)
        # with the two of whom nobody hears: later they count no more, and it never comes to ten
        await it.until(lambda: it.traffic.in_flight == 10 and it.asked >= 10)
        other.sidecar.signal(signal.SIGCONT)
        await it.until(lambda: it.traffic.is_fresh)
        assert it.traffic.in_flight == 10
        await clients.aclose()


async def test_f9_when_all_reporters_are_gone_nothing_is_scaled_down(tmp_path: Path) -> None:
    async with (
        ear(MANY, speed=20.0) as it,
        replica(*reporting(it, "chat-1")) as one,
        gateways(tmp_path, 1, it, replicas=(one,)) as [place],
        Clients() as clients,
    ):
        await begin(place.port, clients, 4)
        await it.until(lambda: it.asked >= 4)
        workers = place.pids()
        place.program.signal(signal.SIGKILL)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        one.sidecar.signal(signal.SIGKILL)
        wanted = it.asked
        end_s = it.clock() + 150.0
        await it.until(lambda: it.clock() > end_s)
        assert it.asked == wanted
        assert [scale.replicas for scale in it.runtime.scales] == sorted(scale.replicas for scale in it.runtime.scales)
        await place.program.end()
        await clients.aclose()


async def test_a_request_that_waits_wakes_the_leader_and_tells_the_follower(tmp_path: Path) -> None:
    async with (
        ear() as leader,
        ear(leads=False) as follower,
        gateways(tmp_path, 1, leader, follower) as [place],
        Clients() as clients,
    ):
        began_s = now()
        await begin(place.port, clients, 1)
        await leader.until(lambda: leader.asked == 1)
        assert now() - began_s < 0.5
        await follower.until(lambda: follower.traffic.held == 1)
        assert follower.woken == []
        await clients.aclose()
