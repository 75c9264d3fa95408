"""Which service a request reaches, seen by who answers it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.harness import Box, Service, stub, zerogate

pytestmark = [pytest.mark.slow, pytest.mark.may_block]

ROUTES: dict[str, dict[str, Any]] = {
    "chat": {"models": ["gemma3-270m", "small"]},
    "embed": {"models": ["e5"]},
    "whisper": {"path-prefix": "/asr", "models": ["whisper-1"]},
    "large": {"path-prefix": "/asr/large"},
    "sdxl": {"hosts": ["images.example.org", "*.images.example.org"]},
    "queue": {"hosts": ["images.example.org"], "path-prefix": "/queue"},
    "notes": {},
}


def services() -> dict[str, Service]:
    return {name: stub(definition=routes) for name, routes in ROUTES.items()}


async def who_answered(box: Box, answer: httpx.Response) -> str:
    """The service whose replica the answer came from, by the port that the stub says it has."""
    assert answer.status_code == 200, answer.text
    port = answer.json()["port"]
    for name in ROUTES:
        for replica in (await box.status(name))["replicas"]:
            if replica["address"].endswith(f":{port}"):
                return name
    raise AssertionError(f"nobody has port {port}")


async def test_r1_requests_are_routed_by_host_wildcard_and_longest_prefix(tmp_path: Path) -> None:
    expected = {
        ("images.example.org", "/generate"): "sdxl",
        ("IMAGES.example.org.:8080", "/generate"): "sdxl",
        ("images.example.org", "/queue/jobs"): "queue",
        ("images.example.org", "/queueing"): "sdxl",
        ("eu.images.example.org", "/queue/jobs"): "sdxl",
        ("a.b.images.example.org", "/"): "sdxl",
        ("127.0.0.1", "/asr"): "whisper",
        ("127.0.0.1", "/asr?task=translate"): "whisper",
        ("127.0.0.1", "/asr/v1/audio"): "whisper",
        ("127.0.0.1", "/asr/largest"): "whisper",
        ("127.0.0.1", "/asr/large/v3"): "large",
        ("127.0.0.1", "/%61sr/large"): "large",
        ("notes", "/anything"): "notes",
        ("notes.localhost:8080", "/v1/chat/completions"): "notes",
    }
    async with zerogate(services(), tmp_path) as box:
        for (host, path), service in expected.items():
            answer = await box.get(host, path)
            if service == "notes" and path.startswith("/v1"):
                assert answer.json()["model"] == "stub"
                continue
            assert await who_answered(box, answer) == service, (host, path)
        assert {name: (await box.status(name))["state"] for name in ("chat", "embed")} == {
            "chat": "zero",
            "embed": "zero",
        }


async def test_r1_requests_are_routed_by_the_model_in_json_and_in_forms_and_by_aliases(tmp_path: Path) -> None:
    async with zerogate(services(), tmp_path) as box:
        for model, service in (("gemma3-270m", "chat"), ("small", "chat"), ("e5", "embed"), ("whisper-1", "whisper")):
            in_json = await box.client.post("/v1/embeddings", json={"input": ["model"], "model": model})
            assert await who_answered(box, in_json) == service
            speech = {"file": ("speech.wav", b"\0\1" * 50_000)}
            in_form = await box.client.post("/v1/audio/transcriptions", files=speech, data={"model": model})
            assert await who_answered(box, in_form) == service


async def test_r1_a_form_is_passed_on_byte_for_byte(tmp_path: Path) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(range(256)) * 4000
    body += b'\r\n--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x--\r\nepilogue'
    async with zerogate(services(), tmp_path) as box:
        kind = "multipart/form-data; boundary=x"
        answer = await box.client.post("/v1/echo", content=body, headers={"Content-Type": kind})
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.content == body


async def test_r1_what_no_service_takes_is_answered_with_404_and_the_names_that_exist(tmp_path: Path) -> None:
    async with zerogate(services(), tmp_path) as box:
        for host, path in (("unknown.example.org", "/"), ("127.0.0.1", "/asrx"), ("example.org", "/queue")):
            answer = await box.get(host, path)
            problem = answer.json()
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
            assert problem["code"] == "no_route"
            for name in ("images.example.org", "/asr", "gemma3-270m"):
                assert name in problem["detail"]
        answer = await box.client.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": []})
        error = answer.json()["error"]
        assert (answer.status_code, answer.headers["x-should-retry"]) == (404, "false")
        assert (error["code"], error["type"], error["param"]) == ("model_not_found", "invalid_request_error", "model")
        for name in ("gpt-4o", "gemma3-270m", "small", "e5", "whisper-1"):
            assert name in error["message"]
        answer = await box.client.post("/v1/chat/completions", json={"messages": []})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_required")
        assert all([(await box.status(name))["state"] == "zero" for name in ROUTES])


async def test_r1_models_are_listed_over_all_services_with_their_state(tmp_path: Path) -> None:
    async with zerogate(services(), tmp_path) as box:
        listed = (await box.client.get("/v1/models")).json()
        assert listed["object"] == "list"
        states = {model["id"]: model["zerogate"]["state"] for model in listed["data"]}
        assert states == dict.fromkeys(("gemma3-270m", "small", "e5", "whisper-1"), "zero")
        await box.client.post("/v1/embeddings", json={"model": "small"})
        alias = (await box.client.get("/v1/models/small")).json()
        assert (alias["id"], alias["object"], alias["owned_by"]) == ("small", "model", "zerogate")
        assert alias["zerogate"] == {
            "service": "chat", "state": "ready", "replicas": 1, "alias_of": "gemma3-270m"
        }  # fmt: skip
        listed = (await box.client.get("/v1/models")).json()
        states = {model["id"]: model["zerogate"]["state"] for model in listed["data"]}
        assert states == {"gemma3-270m": "ready", "small": "ready", "e5": "zero", "whisper-1": "zero"}
        missing = await box.client.get("/v1/models/gpt-4o")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
        head = await box.client.head("/v1/models")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 0
        assert (await box.client.post("/v1/models", json={})).status_code == 405


async def test_r1_a_model_that_is_loading_is_shown_as_starting_and_one_that_fails_as_failing(tmp_path: Path) -> None:
    services = {
        "slow": stub("--never-ready", definition={"models": "slow"}, hold_timeout="1s"),
        "broken": stub("--crash-after", "0", definition={"models": "broken"}),
    }
    async with zerogate(services, tmp_path) as box:
        asked = [box.client.post("/v1/embeddings", json={"model": name}) for name in services]
        assert [answer.status_code for answer in await asyncio.gather(*asked)] == [503, 503]
        slow = (await box.client.get("/v1/models/slow")).json()
        assert slow["zerogate"]["state"] == "starting"
        # its start was suspended for one second, which are over; this time it is for two
        await box.client.post("/v1/embeddings", json={"model": "broken"})
        assert (await box.client.get("/v1/models/broken")).json()["zerogate"]["state"] == "failing"


async def test_a_service_that_is_alone_takes_every_request(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box:
        for host, path in (("127.0.0.1", "/"), ("anything.example.org", "/v1/embeddings")):
            assert (await box.get(host, path)).json()["path"] == path


async def test_r9_a_request_in_absolute_form_is_routed_by_its_target(tmp_path: Path) -> None:
    async with zerogate(services(), tmp_path) as box, box.wire() as one:
        await one.send(b"GET http://notes.localhost/x HTTP/1.1\r\nHost: images.example.org\r\n\r\n")
        answer = await one.answer()
        assert (answer.status, json.loads(answer.body)["path"]) == (200, "/x")
        assert (await box.status("notes"))["requests"] == 1


@pytest.mark.parametrize("path", ["/api/services", "/metrics", "/openapi.json", "/api/reload", "/api/services/chat"])
async def test_the_admin_api_is_not_reachable_through_the_traffic_port(tmp_path: Path, path: str) -> None:
    async with zerogate({"chat": stub(), "other": stub()}, tmp_path) as box:
        for host in ("127.0.0.1", f"127.0.0.1:{box.admin}", f"localhost:{box.admin}"):
            for method in ("GET", "POST"):
                assert (await box.client.request(method, path, headers={"Host": host})).status_code == 404
        async with box.wire() as one:
            await one.send(f"GET {box.admin_url}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert (await one.answer()).status == 404
        async with box.wire() as one:
            await one.send(f"CONNECT 127.0.0.1:{box.admin} HTTP/1.1\r\nHost: 127.0.0.1:{box.admin}\r\n\r\n".encode())
            assert (await one.answer()).status == 405
        for name in ("chat", "other"):
            assert (await box.status(name))["requests"] == 0
