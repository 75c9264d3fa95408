"""How services are defined: commands and their ports, and services that run elsewhere."""

import asyncio
import json
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import free_port, stub, zerogate
from tests.e2e.wire import wire
from tests.stub_server import STUB

pytestmark = [pytest.mark.slow, pytest.mark.may_block]


@asynccontextmanager
async def elsewhere() -> AsyncIterator[int]:
    """A model server that somebody else runs; its port."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *[word.replace("{port}", str(port)) for word in STUB], stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 10) == f"stub: listening on port {port}\n".encode()
    try:
        yield port
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.parametrize(
    "command",
    [STUB, shlex.join(STUB), STUB[:-2], shlex.join(STUB[:-2])],
    ids=["{port} in a list", "{port} in a string", "$PORT with a list", "$PORT with a string"],
)
async def test_a_command_gets_its_port(tmp_path: Path, command: str | list[str]) -> None:
    async with zerogate({"chat": {"command": command}}, tmp_path) as box:
        answer = await box.get("chat")
        assert answer.status_code == 200
        [replica] = (await box.status("chat"))["replicas"]
        assert replica["address"] == f"127.0.0.1:{answer.json()['port']}"


async def test_replicas_of_one_service_get_ports_of_their_own(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(min_replicas=3, max_replicas=3)}, tmp_path) as box:
        status = await box.until_ready("chat", 3)
        assert len({replica["address"] for replica in status["replicas"]}) == 3


async def test_a_command_runs_in_its_folder_with_its_environment(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    code = "import os, sys; print(os.getcwd(), os.environ['WEIGHTS'], flush=True); sys.exit(7)"
    service = {"command": [sys.executable, "-c", code], "cwd": "./models", "env": {"WEIGHTS": "1.10"}}
    async with zerogate({"chat": service}, tmp_path) as box:
        detail = (await box.get("chat")).json()["detail"]
        assert f"{tmp_path}/models 1.10" in detail
        assert "exit code 7" in detail


async def test_an_endpoint_is_routed_and_measured_and_never_scaled(tmp_path: Path) -> None:
    async with elsewhere() as port:
        services = {"away": {"endpoint": f"http://127.0.0.1:{port}", "models": ["big"]}, "other": stub()}
        async with zerogate(services, tmp_path) as box:
            answer = await box.client.post("/v1/embeddings", json={"model": "big"})
            assert answer.json() == {"path": "/v1/embeddings", "port": port}
            assert "server-timing" not in answer.headers
            status = await box.status("away")
            assert (status["kind"], status["state"], status["replicas"]) == ("endpoint", "elsewhere", [])
            assert await box.decisions("away") == {"service": "away", "decision": None, "earlier": []}
            assert (status["requests"], status["in_flight"], status["held"]) == (1, 0, 0)
            assert await box.ended("away") == {"served": 1}
            assert "zerogate_desired_replicas" not in {
                series.split("{")[0] for series in await box.metrics() if 'service="away"' in series
            }
            pinned = await box.ask("POST", "/api/services/away/pin", json={"replicas": 1})
            assert (pinned.status_code, pinned.json()["code"]) == (409, "not_applicable")
            [model] = (await box.client.get("/v1/models")).json()["data"]
            assert (model["id"], model["zerogate"]["state"]) == ("big", "ready")
        async with wire(port):
            pass  # it outlived zerogate


async def test_an_endpoint_is_told_its_own_name_and_takes_no_more_than_its_limit(tmp_path: Path) -> None:
    async with elsewhere() as port:
        policy = {"concurrency-limit": 2}
        services = {"away": {"endpoint": f"http://127.0.0.1:{port}", "policy": policy}, "other": stub()}
        async with zerogate(services, tmp_path) as box:
            seen = (await box.get("away", "/head")).json()
            fields = {name.lower(): value for name, value in seen["headers"]}
            assert (fields["host"], fields["x-forwarded-host"]) == (f"127.0.0.1:{port}", "away")
            answers = await asyncio.gather(*(box.get("away", "/sleep?ms=30") for _ in range(12)))
            assert [answer.status_code for answer in answers] == [200] * 12
            assert (await box.tell({"address": f"127.0.0.1:{port}"}, "/stats"))["peak"] == 2


async def test_a_crowd_that_asks_for_an_endpoint_that_is_down_is_told_together(tmp_path: Path) -> None:
    service = {"endpoint": f"http://127.0.0.1:{free_port()}", "policy": {"concurrency-limit": 1}}
    async with zerogate({"away": service}, tmp_path) as box:
        answers = await asyncio.wait_for(asyncio.gather(*(box.get("away") for _ in range(60))), 5)
        assert [answer.status_code for answer in answers] == [502] * 60


async def test_an_endpoint_that_is_down_is_said_clearly_and_soon_and_works_when_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    async with zerogate({"away": {"endpoint": f"http://127.0.0.1:{port}"}, "other": stub()}, tmp_path) as box:
        answer = await asyncio.wait_for(box.get("away"), 5)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (502, "replica_unreachable")
        assert "away" in problem["detail"]
        assert "refused" in problem["detail"].lower()
        assert "retry-after" in answer.headers
        assert (await box.get("other")).status_code == 200
        process = await asyncio.create_subprocess_exec(
            *[word.replace("{port}", str(port)) for word in STUB], stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            await asyncio.wait_for(process.stdout.readline(), 10)
            assert json.loads((await box.get("away")).content)["port"] == port
        finally:
            process.kill()
            await process.communicate()
