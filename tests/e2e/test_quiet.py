"""What must not wake a service, and must not keep it awake."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Box, soon, stub, zerogate

pytestmark = [pytest.mark.slow, pytest.mark.may_block]

PROBES = ["kube-probe/1.31", "ELB-HealthChecker/2.0", "GoogleHC/1.0"]


async def expect_asleep(box: Box, service: str) -> None:
    """Nothing was started, nothing was counted. A wake would have been acted on before this is answered."""
    status = await box.status(service)
    assert (status["state"], status["desired"], status["replicas"], status["requests"]) == ("zero", 0, [], 0)


@pytest.mark.parametrize("path", ["/health", "/health?verbose=1", "/ping", "/v1/ready"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_p1_health_checks_and_configured_paths_are_answered_without_waking(
    tmp_path: Path, path: str, method: str
) -> None:
    async with zerogate({"chat": stub(health_paths=["/ping", "/v1/ready"]), "other": stub()}, tmp_path) as box:
        answer = await box.client.request(method, path, headers={"Host": "chat"})
        assert answer.status_code == 200
        if method == "GET":
            assert answer.json() == {"service": "chat", "state": "zero"}
        await expect_asleep(box, "chat")


async def test_p1_a_posted_request_to_a_health_path_is_a_request(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(health_paths="/ping"), "other": stub()}, tmp_path) as box:
        assert (await box.post("chat", "/ping", b"{}")).json()["path"] == "/ping"


async def test_p1_a_health_check_of_a_service_that_cannot_start_says_so(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--crash-after", "0")}, tmp_path) as box:
        assert (await box.get("chat")).status_code == 503
        await box.until("chat", lambda status: status["back_off"] is not None)
        answer = await box.get("chat", "/health")
        assert (answer.status_code, answer.json()["state"]) == (503, "failing")


async def test_p1_own_health_is_answered_where_no_service_takes_the_path(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(), "other": stub()}, tmp_path) as box:
        for path in ("/health", "/healthz", "/livez", "/readyz", "/healthz?full=1"):
            answer = await box.client.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        await expect_asleep(box, "chat")


@pytest.mark.parametrize("agent", PROBES)
async def test_p3_probes_of_platforms_are_answered_and_wake_nothing(tmp_path: Path, agent: str) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box:
        assert (await box.get("chat", "/", headers={"User-Agent": agent})).status_code == 200
        await expect_asleep(box, "chat")


async def test_p5_a_monitor_that_never_stops_asking_lets_it_sleep(tmp_path: Path) -> None:
    """Thirty seconds between two checks and an idle timeout of minutes, scaled to a fifth and one second."""
    async with zerogate({"chat": stub(idle_timeout="1s", health_paths="/ping")}, tmp_path) as box:
        states: list[Any] = []

        async def monitor() -> None:
            while True:
                for path, headers in (("/health", {}), ("/ping", {}), ("/", {"User-Agent": PROBES[0]})):
                    states.append((await box.get("chat", path, headers=headers)).json()["state"])
                await asyncio.sleep(0.2)

        watching = soon(monitor())
        assert (await box.get("chat")).status_code == 200
        await box.until_zero("chat", within_s=5)
        seen = len(states)
        await box.until("chat", lambda _: len(states) >= seen + 10)
        assert (await box.status("chat"))["state"] == "zero"
        assert (await box.stats("chat")) == []
        watching.cancel()
        assert "ready" in states
        assert states[-1] == "zero"
        assert await box.ended("chat") == {"served": 1}


async def test_listing_models_and_asking_for_what_does_not_exist_wakes_nothing(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(definition={"models": ["tiny"]}), "other": stub()}, tmp_path) as box:
        for path in ("/v1/models", "/v1/models/tiny", "/v1/models/none", "/nothing", "/"):
            await box.client.get(path)
        await box.client.post("/v1/chat/completions", json={"model": "none"})
        await expect_asleep(box, "chat")
        await expect_asleep(box, "other")
