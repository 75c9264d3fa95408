"""Triton's own client, over HTTP with binary tensors and over gRPC, against a KServe server that is at zero."""

import asyncio
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import zerogate
from tests.extras import go_without

pytestmark = [pytest.mark.slow]

if find_spec("tritonclient") is None:
    go_without("tritonclient is not here: `make environment-dev` brings it")

TESTS = Path(__file__).parents[1]
POLICY: dict[str, dict[str, Any]] = {
    "http": {"ready-path": "/v2/health/ready", "idle-timeout": "1h"},
    "grpc": {"protocol": "h2c", "idle-timeout": "1h"},
}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_tensors_come_back_as_they_should_from_the_first_call_on(tmp_path: Path, protocol: str) -> None:
    command = [sys.executable, str(TESTS / "kserve_server.py"), protocol, "--port", "{port}"]
    service: Any = {"command": command, "policy": POLICY[protocol]}
    async with zerogate({"triton": service}, tmp_path) as box:
        client = await asyncio.create_subprocess_exec(
            sys.executable, str(TESTS / "triton_client.py"), protocol, f"127.0.0.1:{box.listen}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, failed = await asyncio.wait_for(client.communicate(), 90)
        assert said == b"all right\n", failed.decode()
        ended = await box.ended("triton")
        assert set(ended) == {"served"}
        assert len((await box.status("triton"))["replicas"]) == 1
