"""From zero to an answer, with a stub as the model server."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Latch, soon, stub, zerogate
from tests.e2e.wire import chunk, request
from zerogate.clock import now

pytestmark = [pytest.mark.slow, pytest.mark.may_block]

MIB = 1 << 20


async def test_c1_the_first_get_at_zero_is_answered(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--ready-after", "0.3")}, tmp_path) as box:
        answer = await box.get("chat", "/x")
        assert (answer.status_code, answer.json()["path"]) == (200, "/x")
        assert "hold;dur=" in answer.headers["server-timing"]


@pytest.mark.parametrize("size", [1 * MIB, 8 * MIB], ids=["1 MiB", "8 MiB"])
async def test_c2_a_posted_body_arrives_as_it_was_sent(tmp_path: Path, size: int) -> None:
    body = random.Random(size).randbytes(size)
    async with zerogate({"chat": stub("--ready-after", "0.3")}, tmp_path) as box:
        answer = await box.post("chat", "/echo", body, headers={"Content-Type": "image/png"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert answer.content == body


async def test_c2_a_body_whose_model_stands_behind_20_mib_arrives_as_it_was_sent(tmp_path: Path) -> None:
    picture = random.Random(2).randbytes(10 * MIB).hex()
    body = json.dumps({"messages": [{"content": picture}], "stream": True, "model": "tiny"}).encode()
    services = {"chat": stub("--ready-after", "0.3", definition={"models": ["tiny"]}), "other": stub()}
    async with zerogate(services, tmp_path) as box:
        answer = await box.post("127.0.0.1", "/v1/echo", body)
        assert answer.status_code == 200
        assert answer.content == body
        assert (await box.status("other"))["requests"] == 0


async def test_c3_it_is_back_at_zero_after_the_idle_timeout_and_wakes_again(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(idle_timeout="1s")}, tmp_path) as box:
        for _ in range(2):
            assert (await box.get("chat")).status_code == 200
            status = await box.until_zero("chat", within_s=5)
            assert (status["state"], status["desired"]) == ("zero", 0)


async def test_c3_it_is_not_stopped_before_the_idle_timeout_is_over(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(idle_timeout="2s")}, tmp_path) as box:
        await box.get("chat")
        last_byte_s = now()
        await box.until("chat", lambda status: status["state"] in ("draining", "zero"), within_s=10)
        assert now() - last_byte_s >= 1.9


async def test_c7_ten_first_requests_at_once_are_all_answered(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--ready-after", "0.3")}, tmp_path) as box:
        answers = await asyncio.gather(*(box.get("chat", f"/{number}") for number in range(10)))
        assert [answer.status_code for answer in answers] == [200] * 10
        assert [answer.json()["path"] for answer in answers] == [f"/{number}" for number in range(10)]
        assert await box.ended("chat") == {"served": 10}


async def test_c8_ten_kept_alive_connections_survive_zero_and_are_all_answered_again(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(idle_timeout="1s")}, tmp_path) as box, AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(box.wire()) for _ in range(10)]
        for turn in ("first", "again"):
            for one in wires:
                await one.send(request("POST", f"/{turn}", host="chat", body=b"{}"))
            answers = [await one.answer() for one in wires]
            assert [answer.status for answer in answers] == [200] * 10
            assert {json.loads(answer.body)["path"] for answer in answers} == {f"/{turn}"}
            await box.until_zero("chat", within_s=10)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_c10_a_body_that_drips_across_the_start_arrives_whole(tmp_path: Path, framing: str) -> None:
    pieces = [b"held ", b"still held ", b"running ", b"the end"]
    latch = Latch(tmp_path)
    async with zerogate({"chat": stub(*latch.flags)}, tmp_path) as box, box.wire() as one:
        if framing == "length":
            await one.send(request("POST", "/echo", host="chat", Content_Length=str(sum(map(len, pieces)))))
        else:
            await one.send(request("POST", "/echo", host="chat", Transfer_Encoding="chunked"))
            pieces = [*map(chunk, pieces), chunk(b"")]
        await one.send(pieces[0])
        await box.until_held("chat", 1)
        await one.send(pieces[1])
        latch.open()
        await box.until("chat", lambda status: status["in_flight"] == 1)
        for piece in pieces[2:]:
            await one.send(piece)
        assert (await one.answer()).body == b"held still held running the end"


async def test_c10_a_large_body_that_is_still_coming_in_when_the_model_is_ready_arrives_whole(tmp_path: Path) -> None:
    body = random.Random(3).randbytes(MIB)
    latch = Latch(tmp_path)
    async with zerogate({"chat": stub(*latch.flags)}, tmp_path) as box:

        async def halves() -> AsyncIterator[bytes]:
            yield body[: MIB // 2]
            await box.until_held("chat", 1)
            latch.open()
            await box.until_ready("chat")
            yield body[MIB // 2 :]

        answer = await box.post("chat", "/echo", halves())
        assert answer.content == body


async def test_c10_a_stream_of_a_thousand_lines_comes_whole_from_a_cold_start(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--ready-after", "0.3")}, tmp_path) as box:
        answers = await asyncio.gather(*(box.get("chat", "/lines?n=1000") for _ in range(5)))
        expected = "".join(f"line {number}\n" for number in range(1000))
        assert [answer.text for answer in answers] == [expected] * 5


async def test_c16_a_hundred_and_fifty_at_once_never_exceed_the_limit_of_a_replica(tmp_path: Path) -> None:
    policy: dict[str, Any] = {"concurrency_limit": 10, "max_replicas": 3}
    async with zerogate({"chat": stub("--ready-after", "0.3", **policy)}, tmp_path) as box:
        answers = await asyncio.gather(*(box.get("chat", "/sleep?ms=50") for _ in range(150)))
        assert [answer.status_code for answer in answers] == [200] * 150
        await _expect(await box.stats("chat"), peak=10, requests=150)


async def test_c16_a_crowd_that_was_held_is_let_in_by_target_concurrency_where_there_is_no_limit(
    tmp_path: Path,
) -> None:
    latch = Latch(tmp_path)
    policy: dict[str, Any] = {"target_concurrency": 10, "max_replicas": 2}
    async with zerogate({"chat": stub(*latch.flags, **policy)}, tmp_path) as box:
        crowd = asyncio.gather(*(box.get("chat", "/sleep?ms=50") for _ in range(150)))
        await box.until_held("chat", 150)
        latch.open()
        assert [answer.status_code for answer in await crowd] == [200] * 150
        await _expect(await box.stats("chat"), peak=10, requests=150)


async def _expect(stats: Sequence[dict[str, int]], *, peak: int, requests: int) -> None:
    assert sum(one["requests"] for one in stats) == requests
    assert max(one["peak"] for one in stats) <= peak


async def test_c17_a_held_request_reaches_the_model_server_at_its_first_ready_answer_and_not_before(
    tmp_path: Path,
) -> None:
    async with zerogate({"chat": stub("--ready-after", "0.5")}, tmp_path) as box:
        answer = await box.get("chat", "/sse?events=1")
        first = json.loads(answer.text.split("\n")[0].removeprefix("data: "))
        [stats] = await box.stats("chat")
        assert first["t"] >= stats["ready_at_s"]
        assert stats["ready_answers"] == 1, "the first one lets it go, nothing is asked twice"
        timing = dict(part.strip().split(";dur=") for part in answer.headers["server-timing"].split(","))
        assert float(timing["hold"]) >= 400
        assert float(timing["start"]) >= 400


async def test_c18_a_load_longer_than_the_idle_timeout_is_not_ended(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--ready-after", "2.5", idle_timeout="1s")}, tmp_path) as box:
        answer = soon(box.get("chat"))
        [starting] = (await box.until("chat", lambda status: bool(status["replicas"])))["replicas"]
        assert (await answer).status_code == 200
        [ready] = (await box.status("chat"))["replicas"]
        assert ready["id"] == starting["id"]


async def test_c18_a_load_that_nobody_waits_for_any_more_is_not_ended_either(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--ready-after", "2.5", idle_timeout="1s")}, tmp_path) as box:
        async with box.wire() as one:
            await one.send(request("GET", "/", host="chat"))
            [starting] = (await box.until("chat", lambda status: bool(status["replicas"])))["replicas"]
        status = await box.until("chat", lambda status: status["state"] != "starting")
        assert [replica["id"] for replica in status["replicas"]] == [starting["id"]]
        assert status["state"] == "ready"
        await box.until_zero("chat", within_s=5)
