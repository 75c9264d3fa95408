"""The admin API as a client sees it: answers, problems, and whom it does not answer."""

import asyncio
import json
import os
from typing import Any

import msgspec
import pytest
from aiohttp import ClientPayloadError, ClientResponse, ClientSession, web
from jsonschema import Draft202012Validator

from tests.cli.fake_box import CHAT, DECISION, FakeBox, service_sample
from zerogate.admin.api import DecisionView, PinRequest, ServiceStatus
from zerogate.admin.app import make_app
from zerogate.admin.openapi import OPERATIONS
from zerogate.errors import DefinitionError

JSON = {"Content-Type": "application/json"}


async def _problem(answer: ClientResponse, status: int) -> dict[str, Any]:
    assert answer.status == status
    assert answer.content_type == "application/problem+json"
    problem: dict[str, Any] = json.loads(await answer.read())
    assert problem["status"] == status
    return problem


async def test_services_come_in_the_order_of_the_file(admin: ClientSession) -> None:
    async with admin.get("/api/services") as answer:
        statuses = msgspec.json.decode(await answer.read(), type=list[ServiceStatus])
    assert [status.name for status in statuses] == ["chat", "broken", "whisper"]
    assert statuses[0] == CHAT


async def test_no_services_are_an_empty_list(admin: ClientSession, box: FakeBox) -> None:
    box.statuses.clear()
    async with admin.get("/api/services") as answer:
        assert await answer.json() == []


async def test_a_thousand_services_do_not_hold_the_loop(admin: ClientSession, box: FakeBox) -> None:
    box.statuses = {f"s{n}": msgspec.structs.replace(CHAT, name=f"s{n}") for n in range(1000)}
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.get_running_loop().create_task(count_turns())
    async with admin.get("/api/services") as answer:
        statuses = await answer.json()
    counting.cancel()
    assert len(statuses) == 1000
    assert turns > 5


async def test_decisions_carry_the_whole_record(admin: ClientSession) -> None:
    async with admin.get("/api/services/chat/decisions") as answer:
        explanation = await answer.json()
    assert msgspec.convert(explanation["decision"], DecisionView) == DECISION
    assert [earlier["winner"] for earlier in explanation["earlier"]] == ["idle"]


async def test_the_plan_is_as_long_as_asked_for(admin: ClientSession, box: FakeBox) -> None:
    async with admin.get("/api/services/chat/plan?count=1") as answer:
        assert len((await answer.json())["transitions"]) == 1
    async with admin.get("/api/services/chat/plan") as answer:
        assert len((await answer.json())["transitions"]) == 2
    assert box.asked == [("plan", "chat", 1), ("plan", "chat", 20)]


@pytest.mark.parametrize(
    "count", ["0", "1001", "-1", "x", "", "1e2", "9" * 30, "0" * 8 + "5" * 9, "0" * 9 + "1" * 5000]
)
async def test_a_count_out_of_range_is_refused_with_the_range(admin: ClientSession, count: str) -> None:
    async with admin.get("/api/services/chat/plan", params={"count": count}) as answer:
        problem = await _problem(answer, 400)
    assert "from 1 to 1000" in problem["detail"]


async def test_a_pin_is_taken_and_given_back(admin: ClientSession, box: FakeBox) -> None:
    async with admin.post("/api/services/chat/pin", json={"replicas": 2, "for_s": 60}) as answer:
        assert (await answer.json())["pin"]["replicas"] == 2
    async with admin.delete("/api/services/chat/pin") as answer:
        assert (await answer.json())["pin"] is None
    assert box.asked == [("pin", "chat", PinRequest(replicas=2, for_s=60.0)), ("unpin", "chat")]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(b"{", "truncated", id="not JSON"),
        pytest.param(b'{"replicas": -1}', "replicas", id="negative"),
        pytest.param(b'{"replicas": 1, "for_s": 0}', "for_s", id="no time"),
        pytest.param(b'{"replicas": 1, "for_s": 1e300}', "for_s", id="for longer than there are years"),
        pytest.param(b'{"replicas": 1, "hours": 2}', "hours", id="unknown field"),
        pytest.param(b"{}", "replicas", id="missing"),
        pytest.param(b'{"replicas": 99}', "2 replicas at most", id="over the maximum"),
    ],
)
async def test_a_wrong_pin_says_what_is_wrong_and_changes_nothing(
    admin: ClientSession, box: FakeBox, body: bytes, says: str
) -> None:
    async with admin.post("/api/services/chat/pin", data=body, headers=JSON) as answer:
        problem = await _problem(answer, 400)
    assert says in problem["detail"]
    assert box.asked == []


async def test_a_pin_that_is_not_json_is_refused(admin: ClientSession) -> None:
    async with admin.post("/api/services/chat/pin", data={"replicas": "2"}) as answer:
        problem = await _problem(answer, 400)
    assert "application/json" in problem["detail"]


async def test_an_endpoint_cannot_be_pinned(admin: ClientSession) -> None:
    async with admin.post("/api/services/whisper/pin", json={"replicas": 1}) as answer:
        assert (await _problem(answer, 409))["code"] == "not_applicable"


@pytest.mark.parametrize("path", ["", "/decisions", "/plan", "/logs"])
async def test_an_unknown_service_is_404_and_the_nearest_name_is_told(admin: ClientSession, path: str) -> None:
    async with admin.get(f"/api/services/chta{path}") as answer:
        problem = await _problem(answer, 404)
    assert problem["code"] == "unknown_service"
    assert problem["detail"] == "There is no service chta. Did you mean chat?"


async def test_a_reload_reports_what_it_did(admin: ClientSession) -> None:
    async with admin.post("/api/reload") as answer:
        assert await answer.json() == {"added": ["new"], "changed": ["chat"], "removed": [], "unchanged": 2}


async def test_a_wrong_file_is_422_with_every_place(admin: ClientSession, box: FakeBox) -> None:
    box.reload_error = DefinitionError("7x is not a duration", key="idle-timeout", source="zerogate.yaml", line=3)
    async with admin.post("/api/reload") as answer:
        problem = await _problem(answer, 422)
    assert problem["errors"] == ["zerogate.yaml:3: idle-timeout: 7x is not a duration."]


@pytest.mark.parametrize(("is_ready", "status"), [(True, 200), (False, 503)])
async def test_readiness_says_why_not(admin: ClientSession, box: FakeBox, is_ready: bool, status: int) -> None:
    box.is_ready = is_ready
    async with admin.get("/readyz") as answer:
        assert answer.status == status
        assert (await answer.json())["ready"] is is_ready
    async with admin.get("/healthz") as answer:
        assert answer.status == 200


async def test_metrics_are_served_as_prometheus_text(admin: ClientSession, box: FakeBox) -> None:
    box.samples = [service_sample("chat", has_traffic=True)]
    async with admin.get("/metrics") as answer:
        text = await answer.text()
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'zerogate_requests_total{service="chat",result="served"} 2\n' in text


async def test_metrics_are_openmetrics_for_those_who_ask_for_it(admin: ClientSession, box: FakeBox) -> None:
    box.samples = [service_sample("chat", has_traffic=True)]
    async with admin.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}) as answer:
        assert answer.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert (await answer.text()).endswith("\n# EOF\n")


async def test_an_unknown_path_and_a_wrong_method_are_problems(admin: ClientSession) -> None:
    async with admin.get("/api/nothing") as answer:
        assert "/openapi.json" in (await _problem(answer, 404))["detail"]
    async with admin.put("/api/services") as answer:
        await _problem(answer, 405)
        assert "GET" in answer.headers["Allow"]


async def test_what_nobody_foresaw_is_a_problem_without_a_traceback(
    admin: ClientSession, box: FakeBox, caplog: pytest.LogCaptureFixture
) -> None:
    box.crash = ZeroDivisionError("division by zero")
    async with admin.get("/api/services/chat") as answer:
        problem = await _problem(answer, 500)
    assert "division" not in problem["detail"]
    assert "failed to answer GET /api/services/chat" in caplog.text


async def test_a_failure_half_way_through_a_list_cuts_the_answer(
    admin: ClientSession, box: FakeBox, caplog: pytest.LogCaptureFixture
) -> None:
    box.crash = ZeroDivisionError()
    async with admin.get("/api/services") as answer:
        with pytest.raises(ClientPayloadError):
            await answer.read()
    assert "half way" in caplog.text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8081", "127.0.0.1.evil.example", "10.0.0.7"])
async def test_a_name_that_was_pointed_here_is_refused(admin: ClientSession, host: str) -> None:
    async with admin.get("/api/services", headers={"Host": host}) as answer:
        assert (await _problem(answer, 403))["code"] == "refused"


@pytest.mark.parametrize("host", ["localhost:8081", "127.0.0.1", "[::1]:8081"])
async def test_loopback_under_its_names_is_answered(admin: ClientSession, host: str) -> None:
    async with admin.get("/healthz", headers={"Host": host}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
    ids=["origin", "hidden origin", "fetch metadata"],
)
async def test_a_page_of_another_site_changes_nothing(
    admin: ClientSession, box: FakeBox, headers: dict[str, str]
) -> None:
    async with admin.post("/api/reload", headers=headers) as answer:
        await _problem(answer, 403)
    async with admin.delete("/api/services/chat/pin", headers=headers) as answer:
        await _problem(answer, 403)
    assert box.asked == []


async def test_a_page_of_its_own_may(admin: ClientSession, box: FakeBox) -> None:
    async with admin.get("/healthz") as answer:
        own = f"http://{answer.url.authority}"
    async with admin.post("/api/reload", headers={"Origin": own, "Sec-Fetch-Site": "same-origin"}) as answer:
        assert answer.status == 200


async def test_a_log_ends_with_its_last_lines(admin: ClientSession, box: FakeBox) -> None:
    (box.logs / "chat.log").write_text("".join(f"line {n}\n" for n in range(500)))
    async with admin.get("/api/services/chat/logs?lines=2") as answer:
        assert answer.content_type == "text/plain"
        assert await answer.text() == "line 498\nline 499\n"
    async with admin.get("/api/services/chat/logs") as answer:
        assert len((await answer.text()).splitlines()) == 200


async def test_a_service_that_never_ran_has_an_empty_log(admin: ClientSession) -> None:
    async with admin.get("/api/services/chat/logs") as answer:
        assert (answer.status, await answer.text()) == (200, "")


async def test_a_followed_log_goes_on_across_a_rotation(admin: ClientSession, box: FakeBox) -> None:
    path = box.logs / "chat.log"
    path.write_text("old\n")
    async with admin.get("/api/services/chat/logs?follow=1") as answer:
        assert await answer.content.readline() == b"old\n"
        with path.open("a") as file:
            file.write("last of the old file\n")
        os.rename(path, box.logs / "chat.log.1")
        path.write_text("first of the new file\n")
        assert await answer.content.readline() == b"last of the old file\n"
        assert await answer.content.readline() == b"first of the new file\n"


async def test_followers_end_when_the_server_does(box: FakeBox) -> None:
    (box.logs / "chat.log").write_text("here\n")
    runner = web.AppRunner(make_app(box, bound_to="127.0.0.1"), shutdown_timeout=30.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    async with (
        ClientSession(f"http://{host}:{port}") as session,
        session.get("/api/services/chat/logs?follow=1") as answer,
    ):
        assert await answer.content.readline() == b"here\n"
        async with asyncio.timeout(30):
            await runner.cleanup()
            assert await answer.content.read() == b""


async def test_the_document_names_every_route_and_describes_every_answer(admin: ClientSession) -> None:
    async with admin.get("/openapi.json") as answer:
        document = await answer.json()
    named = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert named == {(operation.method, operation.path) for operation in OPERATIONS}
    for path in ("/api/services", "/api/services/chat", "/api/services/chat/decisions", "/api/services/chat/plan"):
        async with admin.get(path) as answer:
            value = await answer.json()
        template = path.replace("chat", "{name}")
        schema = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        Draft202012Validator({**schema, "components": document["components"]}).validate(value)
    async with admin.get("/api/services/none") as answer:
        schema = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
        Draft202012Validator(schema).validate(json.loads(await answer.read()))
