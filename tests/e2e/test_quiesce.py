"""A replica is taken out of traffic by its sidecar on the leader's word: real processes, and nothing fails."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

import autoscaler.gates
from tests.activator.fleet import Replica, replica, sidecar_of
from tests.autoscaler.sidecars import leader
from tests.e2e.test_stats_path import reporting
from tests.gateway.test_workers import gateway, load
from tests.zerogate.http.rig import Clients
from zerogate.clock import now

pytestmark = [pytest.mark.slow, pytest.mark.uvloop]


async def entered(one: Replica) -> int:
    """Requests that its model server ever had."""
    _, _, body = (await asked(one.stub_port, "/stats")).partition(b"\r\n\r\n")
    return int(json.loads(body)["requests"])


async def asked(port: int, path: str) -> bytes:
    """The whole answer of whoever listens there, to one who knows of no gateway."""
    async with Clients() as clients:
        client = await clients.connect("127.0.0.1", port)
        await client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return await client.rest()


async def until_it_gets_requests(one: Replica) -> None:
    """From now on."""
    before = await entered(one)
    async with asyncio.timeout(10):
        while await entered(one) <= before:
            await asyncio.sleep(0.02)


async def test_one_of_two_is_quiesced_under_load_and_used_again_and_no_request_fails(tmp_path: Path) -> None:
    async with (
        leader("chat-1", "chat-2") as (it, fleet, quiescer),
        replica(*reporting(it, "chat-1", "--concurrency-limit", "4")) as one,
        replica(*reporting(it, "chat-2", "--concurrency-limit", "4")) as other,
        gateway(tmp_path, replicas=(one, other)) as place,
    ):
        await it.until(lambda: it.sources == {"chat-1", "chat-2"})
        async with load(place, clients=12) as requests:
            for _ in range(3):
                await until_it_gets_requests(one)
                await until_it_gets_requests(other)
                quiescer.close_gate("r-chat-1")
                await it.until(lambda: "r-chat-1" in fleet.idle, within_s=2.0)
                count = await entered(one)
                await requests.until_answers(200)
                assert (await entered(one), fleet.idle) == (count, {"r-chat-1"})
                assert (await place.ask("/readyz", port=one.admin_port))[0] == 200, "the kubelet is not to mind"
                quiescer.reopen_gate("r-chat-1")
                fleet.idle.clear()
            await until_it_gets_requests(one)
        assert requests.others == []
        assert quiescer.shut == 0
        assert [word for word, _ in fleet.told] == ["idle"] * 3


async def test_a_gate_whose_leader_has_gone_opens_when_its_lease_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoscaler.gates, "LEASE_S", 3.0)
    monkeypatch.setattr(autoscaler.gates, "RENEW_S", 1.0)
    async with (
        leader("chat-1", "chat-2") as (it, fleet, quiescer),
        replica(*reporting(it, "chat-1")) as one,
        replica(*reporting(it, "chat-2")) as other,
        gateway(tmp_path, replicas=(one, other)) as place,
    ):
        await it.until(lambda: it.sources == {"chat-1", "chat-2"})
        async with load(place, clients=4) as requests:
            quiescer.close_gate("r-chat-1")
            await it.until(lambda: fleet.idle != set())
            count, closed_s = await entered(one), now()
            await it.until(lambda: now() > closed_s + 4.5)
            assert (await entered(one), fleet.idle) == (count, {"r-chat-1"}), "it is renewed"
            quiescer.close()
            it.receiver.close()
            gone_s = now()
            await until_it_gets_requests(one)
            assert 1.9 < now() - gone_s < 3.5
        assert requests.others == []


async def test_the_only_replica_is_not_idle_before_its_streams_end_and_what_comes_is_held(tmp_path: Path) -> None:
    async with (
        leader("chat-1") as (it, fleet, quiescer),
        replica(*reporting(it, "chat-1", "--concurrency-limit", "4")) as one,
        gateway(tmp_path, replicas=(one,)) as place,
    ):
        await it.until(lambda: it.sources == {"chat-1"})
        client, stream = await place.stream(events=100)
        quiescer.close_gate("r-chat-1")
        held = it.nursery.start(place.ask("/"), name="held")
        why = "chat-1 has 1 inside, which may finish; then it is stopped."
        await it.until(lambda: quiescer.waits("chat") == (why,))
        assert fleet.told == []
        await it.until(lambda: fleet.idle == {"r-chat-1"})
        assert not held.done()
        quiescer.reopen_gate("r-chat-1")
        assert (await held)[0] == 200
        client.close()
        assert (await stream).endswith(b"0\r\n\r\n"), "nothing was cut"


async def test_who_comes_without_a_gateway_is_served_by_a_closed_gate_and_makes_it_busy() -> None:
    async with (
        leader("chat-1") as (it, fleet, quiescer),
        replica(*reporting(it, "chat-1", "--concurrency-limit", "1")) as one,
    ):
        await it.until(lambda: it.sources == {"chat-1"})
        await one.sidecar.line_with("is ready")
        quiescer.close_gate("r-chat-1")
        await it.until(lambda: fleet.idle == {"r-chat-1"})
        answers = await asyncio.gather(*(asked(one.port, "/sleep?ms=200") for _ in range(3)))
        assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 3
        await it.until(lambda: fleet.idle == {"r-chat-1"})
        assert [word for word, _ in fleet.told] == ["idle", "busy", "idle"]


async def test_a_sidecar_that_dies_is_not_idle_and_one_that_comes_back_is_shut_again() -> None:
    async with (
        leader("chat-1") as (it, fleet, quiescer),
        replica(*reporting(it, "chat-1")) as one,
    ):
        await it.until(lambda: it.sources == {"chat-1"})
        quiescer.close_gate("r-chat-1")
        await it.until(lambda: fleet.idle == {"r-chat-1"})
        one.sidecar.signal(signal.SIGKILL)
        await it.until(lambda: fleet.idle == set())
        assert "has not been heard" in quiescer.waits("chat")[0]
        await one.sidecar.end()
        one.sidecar, _, _ = await sidecar_of(one.stub_port, *reporting(it, "chat-1"), port=one.port)
        await it.until(lambda: fleet.idle == {"r-chat-1"})
