"""The bounds of the hold: what is over them is refused at once, and nobody else notices."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.harness import Latch, soon, stub, zerogate
from tests.e2e.wire import request
from zerogate.clock import now

pytestmark = [pytest.mark.slow, pytest.mark.may_block]

MIB = 1 << 20
AT_ONCE_S = 1.0
"""Generous for a machine that does other things too; a refusal that waited for anything would take the whole hold."""


def assert_refused(answer: httpx.Response) -> None:
    """It was told that the queue is full, and when to come back."""
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) >= 1


async def test_b1_one_more_than_the_queue_holds_is_refused_at_once_and_the_others_are_served(tmp_path: Path) -> None:
    latch = Latch(tmp_path)
    async with zerogate({"chat": stub(*latch.flags, queue_limit=5)}, tmp_path) as box:
        waiting = asyncio.gather(*(box.get("chat") for _ in range(5)))
        await box.until_held("chat", 5)
        began_s = now()
        assert_refused(await box.get("chat"))
        assert now() - began_s < AT_ONCE_S
        latch.open()
        assert [answer.status_code for answer in await waiting] == [200] * 5
        assert await box.ended("chat") == {"served": 5, "refused": 1}


@pytest.mark.parametrize("bound", ["requests", "bytes"])
async def test_b2_b3_a_service_at_its_bound_neither_delays_nor_starves_another(tmp_path: Path, bound: str) -> None:
    latch = Latch(tmp_path)
    policy: dict[str, Any] = {"queue_limit": 3} if bound == "requests" else {"queue_bytes": "3200Ki"}
    async with zerogate({"full": stub(*latch.flags, **policy), "other": stub()}, tmp_path) as box:
        body = bytes(MIB)
        waiting = asyncio.gather(*(box.post("full", "/echo", body) for _ in range(3)))
        await box.until_held("full", 3)
        assert_refused(await box.post("full", "/echo", body))
        others = asyncio.gather(*(box.post("other", "/echo", body) for _ in range(20)))
        assert [answer.status_code for answer in await asyncio.wait_for(others, 10)] == [200] * 20
        began_s = now()
        assert (await box.get("other")).status_code == 200
        assert now() - began_s < AT_ONCE_S
        assert (await box.status("full"))["held"] == 3
        latch.open()
        assert [answer.status_code for answer in await waiting] == [200] * 3


@pytest.mark.parametrize("announced", [True, False], ids=["length", "chunked"])
async def test_b4_the_queue_is_bounded_in_bytes_too(tmp_path: Path, announced: bool) -> None:
    """Of bodies with a length the queue reserves all; of chunked ones only what is kept, and the rest stays outside."""
    latch = Latch(tmp_path)
    body = random.Random(4).randbytes(8 * MIB)
    async with zerogate({"chat": stub(*latch.flags, queue_bytes="33Mi")}, tmp_path) as box:

        async def pieces() -> AsyncIterator[bytes]:
            yield body

        def post() -> asyncio.Task[httpx.Response]:
            return soon(box.post("chat", "/echo", body if announced else pieces()))

        tasks = [post() for _ in range(6)]
        if announced:
            refused, waiting = await _first(tasks, 2)
            for answer in refused:
                assert_refused(answer)
        else:
            waiting = set(tasks)
        await box.until_held("chat", len(waiting))
        assert (await box.metrics())["process_resident_memory_bytes"] < 200 * MIB
        latch.open()
        answers = await asyncio.gather(*waiting)
        assert [answer.status_code for answer in answers] == [200] * len(waiting)
        assert all(answer.content == body for answer in answers)


async def _first(
    tasks: list[asyncio.Task[httpx.Response]], count: int
) -> tuple[list[httpx.Response], set[asyncio.Task[httpx.Response]]]:
    """(the first answers, who still waits)."""
    answers: list[httpx.Response] = []
    waiting = set(tasks)
    while len(answers) < count:
        done, waiting = await asyncio.wait(waiting, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        assert done
        answers += [task.result() for task in done]
    return answers, waiting


async def test_b5_who_leaves_while_it_runs_frees_the_slot_and_the_model_server_hears_of_it(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(concurrency_limit=1)}, tmp_path) as box, box.wire() as one:
        await one.send(request("GET", "/sleep?ms=60000", host="chat"))
        await box.until("chat", lambda status: status["in_flight"] == 1)
        next_one = soon(box.get("chat", "/sleep?ms=1"))
        await box.until_held("chat", 1)
        one.hang_up()
        assert (await asyncio.wait_for(next_one, 2)).status_code == 200
        status = await box.status("chat")
        assert (status["in_flight"], status["held"]) == (0, 0)
        assert await box.ended("chat") == {"served": 1, "abandoned": 1}
        assert (await box.stats("chat"))[0]["abandoned"] == 1


async def test_b5_who_leaves_in_the_middle_of_a_stream_frees_the_slot(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(concurrency_limit=1)}, tmp_path) as box, box.wire() as one:
        await one.send(request("GET", "/sse?events=100000&gap_ms=10", host="chat"))
        await one.head()
        one.reset()
        await box.until("chat", lambda status: status["in_flight"] == 0, within_s=AT_ONCE_S)
        assert await box.ended("chat") == {"abandoned": 1}
        assert (await box.get("chat")).status_code == 200


@pytest.mark.parametrize("size", [1 * MIB, 64 * MIB], ids=["read to its end", "not read any further"])
async def test_b5_who_leaves_while_it_is_held_frees_its_place_and_its_bytes(tmp_path: Path, size: int) -> None:
    """A reset, because a goodbye would wait in the client's kernel behind what is not read any further."""
    latch = Latch(tmp_path)
    policy: dict[str, Any] = {"queue_limit": 1, "queue_bytes": "2Mi"}
    async with zerogate({"chat": stub(*latch.flags, **policy)}, tmp_path) as box, box.wire() as one:
        await one.send(request("POST", "/echo", host="chat", Content_Length=str(size)) + bytes(MIB // 2))
        await box.until_held("chat", 1)
        assert_refused(await box.get("chat"))
        one.reset()
        await box.until_held("chat", 0, within_s=AT_ONCE_S)
        body = bytes(MIB)
        waiting = soon(box.post("chat", "/echo", body))
        await box.until_held("chat", 1)
        latch.open()
        assert (await waiting).content == body


async def test_b6_of_a_burst_of_105_on_a_bound_of_100_exactly_100_are_served(tmp_path: Path) -> None:
    latch = Latch(tmp_path)
    async with zerogate({"chat": stub(*latch.flags, queue_limit=100)}, tmp_path) as box:
        tasks = [soon(box.get("chat")) for _ in range(105)]
        refused, waiting = await _first(tasks, 5)
        for answer in refused:
            assert_refused(answer)
        await box.until_held("chat", 100)
        latch.open()
        answers = await asyncio.gather(*waiting)
        assert [answer.status_code for answer in answers] == [200] * 100
        assert await box.ended("chat") == {"served": 100, "refused": 5}
        assert (await box.stats("chat"))[0]["requests"] == 100


async def test_r8_with_a_limit_of_one_never_two_are_inside(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--ready-after", "0.2", concurrency_limit=1)}, tmp_path) as box:

        async def client() -> list[int]:
            return [(await box.get("chat", "/sleep?ms=20")).status_code for _ in range(4)]

        assert await asyncio.gather(*(client() for _ in range(5))) == [[200] * 4] * 5
        [stats] = await box.stats("chat")
        assert (stats["peak"], stats["requests"]) == (1, 20)


async def test_the_priority_header_orders_who_is_released_first(tmp_path: Path) -> None:
    latch = Latch(tmp_path)
    service = stub(*latch.flags, concurrency_limit=1, priority="x-priority")
    served: list[str] = []
    async with zerogate({"chat": service}, tmp_path) as box:

        async def ask(name: str, priority: str | None) -> None:
            headers = {} if priority is None else {"X-Priority": priority}
            assert (await box.get("chat", f"/sleep?ms=20&name={name}", headers=headers)).status_code == 200
            served.append(name)

        asked = [("plain", None), ("low", "-5"), ("high", "7"), ("also plain", "0"), ("also high", "7"), ("odd", "x")]
        tasks = []
        for place, (name, priority) in enumerate(asked):
            tasks.append(soon(ask(name, priority)))
            await box.until_held("chat", place + 1)
        latch.open()
        await asyncio.gather(*tasks)
    assert served == ["high", "also high", "plain", "also plain", "odd", "low"]


async def test_a_large_upload_that_is_refused_early_can_still_read_its_refusal(tmp_path: Path) -> None:
    """Each client first sends all of its body, as simple ones do, and only then reads."""
    async with zerogate({"chat": stub("--never-ready", queue_limit=0), "other": stub()}, tmp_path) as box:
        async with AsyncExitStack() as stack:
            for host, status in (("chat", 429), ("nobody", 404)):
                one = await stack.enter_async_context(box.wire())
                await one.send(request("POST", "/echo", host=host, body=bytes(32 * MIB)))
                answer = await one.answer()
                assert (answer.status, answer.fields["connection"]) == (status, "close")
                assert await one.is_ended()
        for size in (10, 100_000):
            async with box.wire() as one:
                await one.send(request("POST", "/echo", host="chat", body=bytes(size)))
                assert (await one.answer()).status == 429
                await one.send(request("GET", "/", host="other"))
                assert (await one.answer()).status == 200
