"""Replicas that nobody's traffic asked for: minimum, calendar, pins."""

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.crowd import answers, crowd, pids
from tests.e2e.harness import close, ready, start, start_again, stub, zerogate

pytestmark = [pytest.mark.slow, pytest.mark.may_block]


async def test_the_minimum_runs_without_traffic_and_a_lost_replica_is_replaced(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(min_replicas=2, max_replicas=2, idle_timeout="1s")}, tmp_path) as box:
        before = await box.until_ready("chat", 2)
        await box.tell(before["replicas"][0], "/control/print")
        crashed = before["replicas"][0]
        with pytest.raises(Exception, match=r"."):
            await box.tell(crashed, "/control/crash?code=-9")
        after = await box.until(
            "chat", lambda status: ready(status) == 2 and crashed["pid"] not in pids(status), within_s=20
        )
        assert before["replicas"][1]["pid"] in pids(after)


def window_around_now(floor: str) -> str:
    """A weekly window in UTC that was opened an hour ago and closes in an hour."""
    begin, end = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
    return f"{begin:%a} {begin:%H:%M}-{end:%H:%M} UTC = {floor}"


async def test_a_calendar_window_that_is_open_gives_its_floor_without_traffic_and_the_plan_says_so(
    tmp_path: Path,
) -> None:
    schedule = window_around_now("2")
    async with zerogate({"chat": stub(max_replicas=3, schedule=schedule, idle_timeout="1s")}, tmp_path) as box:
        status = await box.until_ready("chat", 2)
        assert "calendar" in status["why"]
        plan = (await box.ask("GET", "/api/services/chat/plan")).json()
        assert (plan["has_schedule"], plan["floor"]) == (True, 2)
        closes, opens = plan["transitions"][:2]
        assert (closes["floor"], opens["floor"]) == (0, 2)
        assert 0 < closes["at"] - datetime.now(UTC).timestamp() <= 3600
        decision = (await box.decisions("chat"))["decision"]
        assert (decision["desired"], decision["winner"]) == (2, "schedule")


async def test_a_calendar_ceiling_holds_against_traffic(tmp_path: Path) -> None:
    service = stub(max_replicas=4, schedule=window_around_now("0..1"), target_concurrency=1, concurrency_limit=1)
    async with zerogate({"chat": service}, tmp_path) as box:
        async with crowd(box, 4, "chat", "/sleep?ms=300") as clients:
            assert await answers(clients) == [200] * 4
        stats = await box.stats("chat")
        assert [one["requests"] for one in stats] == [4]


async def test_a_pin_holds_its_number_without_traffic_until_it_expires(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(max_replicas=3, idle_timeout="1s")}, tmp_path) as box:
        answer = await box.ask("POST", "/api/services/chat/pin", json={"replicas": 3, "for_s": 4})
        assert answer.status_code == 200
        status = await box.until_ready("chat", 3)
        assert (status["pin"]["replicas"], "pin" in status["why"]) == (3, True)
        after = await box.until_zero("chat", within_s=15)
        assert after["pin"] is None


async def test_a_pin_to_zero_holds_requests_back_until_it_is_taken_away(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(idle_timeout="1s")}, tmp_path) as box:
        await box.ask("POST", "/api/services/chat/pin", json={"replicas": 0})
        async with crowd(box, 3, "chat") as clients:
            status = await box.until("chat", lambda status: status["held"] == 3)
            assert (status["replicas"], status["state"]) == ([], "zero")
            await box.ask("DELETE", "/api/services/chat/pin")
            assert await answers(clients) == [200] * 3


async def test_a_pin_above_the_maximum_is_refused_with_the_number_allowed(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(max_replicas=2)}, tmp_path) as box:
        answer = await box.ask("POST", "/api/services/chat/pin", json={"replicas": 3})
        assert (answer.status_code, "max-replicas 2" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["stopped", "killed"])
async def test_a_pin_survives_a_restart(tmp_path: Path, number: int) -> None:
    box = await start({"chat": stub(max_replicas=2, idle_timeout="1s")}, tmp_path)
    await box.ask("POST", "/api/services/chat/pin", json={"replicas": 2})
    await box.until_ready("chat", 2)
    await box.stop(number)
    await close(box)
    again = await start_again(tmp_path, box.listen, box.admin)
    try:
        status = await again.until_ready("chat", 2)
        assert status["pin"]["replicas"] == 2
    finally:
        await close(again)
