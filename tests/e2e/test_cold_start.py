"""From zero to an answer, with a stub as the model server."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.harness import stub, zerogate

pytestmark = [pytest.mark.slow, pytest.mark.may_block]


async def test_c1_the_first_get_at_zero_is_answered(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--ready-after", "0.3")}, tmp_path) as box:
        answer = await box.get("chat", "/x")
        assert (answer.status_code, answer.json()["path"]) == (200, "/x")
        assert "hold;dur=" in answer.headers["server-timing"]


async def test_c3_it_is_back_at_zero_after_the_idle_timeout(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(idle_timeout="1s")}, tmp_path) as box:
        await box.get("chat")
        await box.until_zero("chat", within_s=5)


async def test_c7_ten_first_requests_at_once_are_all_answered(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--ready-after", "0.3")}, tmp_path) as box:
        answers = await asyncio.gather(*(box.get("chat", f"/{number}") for number in range(10)))
        assert [answer.status_code for answer in answers] == [200] * 10
        assert (await box.metrics())['zerogate_requests_total{service="chat",result="served"}'] == 10
