"""Clients and replicas choose their HTTP version apart from each other: every mix, from zero and warm."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.harness import Box, Service, stub, zerogate
from tests.e2e.wire import chunk, request
from tests.h2c_server import H2C_SERVER
from tests.programs import needs_curl

pytestmark = pytest.mark.slow

BODY = bytes(range(256)) * 4096


def services() -> dict[str, Service]:
    two = {"command": [*H2C_SERVER], "policy": {"protocol": "h2c", "ready-path": "/up", "idle-timeout": "1h"}}
    return {"one": stub(), "two": two}


def client(box: Box, version: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=box.url, http1=version == "HTTP/1.1", http2=version == "HTTP/2", timeout=60, verify=False
    )  # fmt: skip


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
async def test_a_client_of_either_version_reaches_a_replica_of_either_from_zero(version: str, tmp_path: Path) -> None:
    async with zerogate(services(), tmp_path) as box, client(box, version) as it:
        one = await it.post("/echo", content=BODY, headers={"Host": "one"})
        two = await it.post("/any", content=BODY, headers={"Host": "two"})
        assert (one.http_version, one.status_code, one.content) == (version, 200, BODY)
        assert (two.http_version, two.status_code, two.content) == (version, 200, BODY)
        assert two.headers["x-length"] == str(len(BODY))
        warm = await asyncio.gather(*(it.get(f"/{number}", headers={"Host": "two"}) for number in range(30)))
        assert [answer.text for answer in warm] == [f"/{number}" for number in range(30)]
        head = await it.head("/x", headers={"Host": "one"})
        assert (head.status_code, head.content) == (200, b"")


async def test_trailers_pass_between_the_versions(tmp_path: Path) -> None:
    async with zerogate(services(), tmp_path) as box, box.wire() as one:
        await one.send(request("POST", "/x", host="two", transfer_encoding="chunked", te="trailers", connection="te"))
        await one.send(chunk(b"abc") + b"0\r\nX-Trailer: seven\r\n\r\n")
        answer = await one.answer()
        assert (answer.status, answer.body) == (200, b"abc")
        assert (answer.fields["x-trailer"], answer.trailers) == ("seven", {"x-done": "1"})


@needs_curl
@pytest.mark.parametrize("flag", ["--http1.1", "--http2-prior-knowledge"])
async def test_curl_wakes_replicas_of_both_versions(flag: str, tmp_path: Path) -> None:
    async with zerogate(services(), tmp_path) as box:
        for name, path in (("one", "/echo"), ("two", "/any")):
            arguments: list[Any] = [
                "curl", "-sS", "--max-time", "30", flag, "-H", f"Host: {name}", "--data-binary", "@-",
                "-w", "%{http_code} %{http_version}", f"{box.url}{path}",
            ]  # fmt: skip
            process = await asyncio.create_subprocess_exec(
                *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )  # fmt: skip
            printed, _ = await process.communicate(b"hello " * 50_000)
            assert printed == b"hello " * 50_000 + (b"200 2" if "2" in flag else b"200 1.1")


async def test_a_replica_that_does_not_speak_http_2_says_so_in_its_error(tmp_path: Path) -> None:
    service = stub(protocol="h2c", ready_path="/health")
    service["start-timeout"] = "2s"
    async with zerogate({"one": service}, tmp_path) as box:
        answer = await box.get("one")
        assert answer.status_code == 503
        assert "does not speak HTTP/2" in answer.json()["detail"]
