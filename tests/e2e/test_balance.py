"""Three replicas of one service: one that fails is left out, and a session stays where it is."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from activator.affinity import LEAD_BYTES
from activator.health import FAILURES
from tests.e2e.harness import Box, Service, stub, zerogate

pytestmark = [pytest.mark.slow, pytest.mark.may_block]


def three(**policy: Any) -> dict[str, Service]:
    return {"chat": stub(min_replicas=3, max_replicas=3, **policy)}


async def one_of_three(box: Box, how: str) -> dict[str, Any]:
    """A replica that fails from now on."""
    replica: dict[str, Any] = (await box.until_ready("chat", 3))["replicas"][0]
    await box.tell(replica, f"/control/fail?how={how}")
    return replica


async def port_of(box: Box, session: str) -> int:
    return int((await box.get("chat", headers={"X-Session": session})).json()["port"])


async def test_a_replica_that_answers_503_costs_five_requests_and_comes_back_when_it_does_not(tmp_path: Path) -> None:
    async with zerogate(three(), tmp_path) as box:
        bad = await one_of_three(box, "503")
        statuses: list[int] = []
        while statuses.count(503) < FAILURES:
            statuses.append((await box.get("chat")).status_code)
        (notice,) = (await box.status("chat"))["notices"]
        assert notice.startswith(f"{bad['id']} failed 5 requests in a row (it answered 503). New requests go to other")
        assert (await box.metrics())['zerogate_ejections_total{service="chat",why="status"}'] == 1
        crowd = await asyncio.gather(*(box.get("chat") for _ in range(20)))
        assert {answer.status_code for answer in crowd} == {200}
        await box.tell(bad, "/control/fail")
        await box.until("chat", lambda status: "still gets" in str(status["notices"]), within_s=10)
        port = int(bad["address"].rsplit(":", 1)[1])
        async with asyncio.timeout(20):
            while (await box.get("chat", "/sleep?ms=50")).status_code and not await asked(box, port):
                await asyncio.gather(*(box.get("chat", "/sleep?ms=50") for _ in range(10)))
        assert not (await box.status("chat"))["notices"]


async def asked(box: Box, port: int) -> bool:
    """Whether the replica has served something."""
    stats = {one["port"]: one["requests"] for one in await box.stats("chat")}
    return bool(stats[port] > FAILURES)


async def test_a_replica_that_resets_costs_posts_five_errors_and_gets_nothing_but_a_line_in_the_log(
    tmp_path: Path,
) -> None:
    async with zerogate(three(), tmp_path, access_log="on") as box:
        bad = await one_of_three(box, "reset")
        gets = [await box.get("chat") for _ in range(12)]
        assert {answer.status_code for answer in gets} == {200}, "what may be repeated is"
        statuses = [(await box.post("chat", "/", b"{}")).status_code for _ in range(60)]
        again = (await box.metrics())['zerogate_retries_total{service="chat",why="lost"}']
        ejected = (await box.metrics())['zerogate_ejections_total{service="chat",why="lost"}']
        assert ejected >= 1
        assert 1 <= again + statuses.count(502) <= FAILURES + ejected - 1
        assert set(statuses) <= {200, 502}
        stats = {one["port"]: one["requests"] for one in await box.stats("chat")}
        assert stats[int(bad["address"].rsplit(":", 1)[1])] == again + statuses.count(502)
    lines = [json.loads(line) for line in box.output.splitlines() if line.startswith("{")]
    assert sum(line.get("attempts", 1) - 1 for line in lines) == again
    assert {line["attempts"] for line in lines if "attempts" in line} <= {2, 3}


async def test_a_session_sticks_and_only_those_of_a_replica_that_goes_move(tmp_path: Path) -> None:
    async with zerogate(three(affinity="header:X-Session", scale_down_delay="1s"), tmp_path) as box:
        await box.until_ready("chat", 3)
        sessions = [f"s{number}" for number in range(60)]
        before = {session: await port_of(box, session) for session in sessions}
        assert {session: await port_of(box, session) for session in sessions} == before
        assert len(set(before.values())) == 3
        assert min(Counter(before.values()).values()) >= 5, "of twenty"
        await box.ask("POST", "/api/services/chat/pin", json={"replicas": 2})
        status = await box.until("chat", lambda status: len(status["replicas"]) == 2)
        left = {int(replica["address"].rsplit(":", 1)[1]) for replica in status["replicas"]}
        after = {session: await port_of(box, session) for session in sessions}
        assert set(after.values()) == left
        assert all(after[session] == before[session] for session in sessions if before[session] in left)


async def test_prompts_with_the_same_begin_meet_the_same_replica_and_arrive_whole(tmp_path: Path) -> None:
    async with zerogate(three(affinity="prompt:256"), tmp_path) as box:
        await box.until_ready("chat", 3)

        def body(conversation: int, turn: int) -> bytes:
            system = {"role": "system", "content": f"You are number {conversation}. " * 20}
            return json.dumps(
                {"model": f"m{turn}", "messages": [system, {"role": "user", "content": "x" * turn}]}
            ).encode()

        for turn in (1, LEAD_BYTES, 300_000):
            for conversation in range(6):
                answer = await box.post("chat", "/echo", body(conversation, turn), headers={"Expect": "100-continue"})
                assert answer.content == body(conversation, turn)
        ports = [
            {int((await box.post("chat", "/", body(conversation, turn))).json()["port"]) for turn in range(6)}
            for conversation in range(12)
        ]
        assert all(len(found) == 1 for found in ports)
        assert len(set.union(*ports)) > 1


async def test_a_body_over_its_limit_is_refused_before_and_while_it_comes(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(body_limit="64Ki")}, tmp_path) as box:
        assert (await box.post("chat", "/echo", bytes(65536))).status_code == 200
        async with box.wire() as wire:
            await wire.send(b"POST /echo HTTP/1.1\r\nHost: chat\r\nContent-Length: 65537\r\n\r\n")
            announced = await wire.answer()
        assert (announced.status, json.loads(announced.body)["code"]) == (413, "body_over_limit")

        async def pieces() -> Any:
            for _ in range(5):
                yield bytes(16384)

        late = await box.post("chat", "/echo", pieces())
        assert (late.status_code, late.json()["code"]) == (413, "body_over_limit")
        async with box.wire() as wire:  # an answer that has begun cannot be taken back
            await wire.send(b"POST /echo?stream=1 HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(4):
                await wire.send(b"4000\r\n" + bytes(16384) + b"\r\n")
            assert (await wire.head()).status == 200
            await wire.send(b"4000\r\n" + bytes(16384) + b"\r\n")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                [piece async for piece in wire.chunks()]
        assert await box.refusals("chat") == {"body_over_limit": 2}
        assert (await box.ended("chat"))["cut"] == 1


async def test_over_http_2_bodies_have_the_same_limit_and_prompts_the_same_replica(tmp_path: Path) -> None:
    async with (
        zerogate(three(affinity="prompt:256", body_limit="32Ki"), tmp_path) as box,
        httpx.AsyncClient(
            base_url=box.url, http1=False, http2=True, trust_env=False, headers={"Host": "chat"}
        ) as client,
    ):
        await box.until_ready("chat", 3)

        async def pieces() -> Any:
            for _ in range(5):
                yield bytes(8192)

        for content in (
            bytes(32769),
            pieces(),
        ):  # within the window that a stream begins with: httpx sends before it reads
            refused = await client.post("/echo", content=content)
            assert (refused.status_code, refused.json()["code"]) == (413, "body_over_limit")
        found: dict[int, set[int]] = {}
        for turn in range(3):
            for conversation in range(9):
                body = b'{"model":"m%d","prompt":"%b' % (turn, b"conversation %d " % conversation * 1500)
                assert (await client.post("/echo", content=body)).content == body
                port = int((await client.post("/", content=body)).json()["port"])
                found.setdefault(conversation, set()).add(port)
        assert all(len(ports) == 1 for ports in found.values())
        assert len(set.union(*found.values())) > 1


async def test_with_no_memory_for_bodies_left_one_that_would_wait_is_refused_at_once(tmp_path: Path) -> None:
    services = {"chat": stub("--never-ready")}
    async with zerogate(services, tmp_path, body_memory="1Mi") as box:
        waiting = asyncio.gather(*(box.post("chat", "/echo", bytes(1 << 19)) for _ in range(2)), return_exceptions=True)
        await box.until("chat", lambda status: status["held"] == 2)
        async with asyncio.timeout(10):
            while (await box.metrics())["zerogate_body_bytes"] < (7 << 20) // 8:  # the last eighth is for answers
                await asyncio.sleep(0.01)
        answer = await box.post("chat", "/echo", b"x")
        assert (answer.status_code, answer.json()["code"]) == (503, "memory_full")
        assert int(answer.headers["retry-after"]) >= 1
        waiting.cancel()
