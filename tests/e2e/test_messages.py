"""What a client and a model server say to each other arrives as it was said, and when it was said."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.e2e.harness import Latch, stub, zerogate
from tests.e2e.wire import chunk, request

pytestmark = [pytest.mark.slow, pytest.mark.may_block]

CONTINUE = "100-continue"


async def test_r9_100_continue_comes_when_there_is_a_slot_and_only_once(tmp_path: Path) -> None:
    latch = Latch(tmp_path)
    async with zerogate({"chat": stub(*latch.flags)}, tmp_path) as box, box.wire() as one:
        await one.send(request("POST", "/echo", host="chat", Content_Length="5", Expect=CONTINUE))
        await box.until_held("chat", 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.reader.read(1), 0.3)
        latch.open()
        assert (await one.head()).status == 100
        await one.send(b"hello")
        head = await one.head()
        assert head.status == 200
        assert (await one.body(head))[0] == b"hello"


async def test_r9_100_continue_comes_at_once_where_the_model_is_in_the_body(tmp_path: Path) -> None:
    latch = Latch(tmp_path)
    body = b'{"input": "x", "model": "tiny"}'
    service = stub(*latch.flags, definition={"models": "tiny"})
    async with zerogate({"chat": service}, tmp_path) as box, box.wire() as one:
        await one.send(request("POST", "/v1/echo", host="any", Content_Length=str(len(body)), Expect=CONTINUE))
        assert (await one.head()).status == 100
        await one.send(body)
        await box.until_held("chat", 1)
        latch.open()
        head = await one.head()
        assert head.status == 200
        assert (await one.body(head))[0] == body


async def test_r9_100_continue_is_not_said_to_a_request_that_is_refused(tmp_path: Path) -> None:
    services = {"chat": stub("--never-ready", queue_limit=0), "other": stub()}
    async with zerogate(services, tmp_path) as box, box.wire() as one:
        await one.send(request("POST", "/echo", host="chat", Content_Length="100000000", Expect=CONTINUE))
        head = await one.head()
        assert (head.status, head.fields["connection"]) == (429, "close")
        await one.body(head)
        assert await one.is_ended()


async def test_r9_trailers_arrive_in_both_directions(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--ready-after", "0.2")}, tmp_path) as box, box.wire() as one:
        await one.send(request("GET", "/trailers", host="chat"))
        answer = await one.answer()
        assert (answer.body, answer.fields["trailer"]) == (b"body", "x-checksum, x-tokens")
        assert answer.trailers == {"x-checksum": "abc123", "x-tokens": "1"}
        await one.send(request("POST", "/echo?stream=1", host="chat", Transfer_Encoding="chunked"))
        await one.send(chunk(b"one ") + chunk(b"two") + b"0\r\nX-Checksum: def456\r\n\r\n")
        answer = await one.answer()
        assert (answer.body, answer.trailers) == (b"one two", {"x-checksum": "def456"})


async def test_r9_a_head_request_is_answered_without_a_body_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--ready-after", "0.2")}, tmp_path) as box, box.wire() as one:
        for _ in ("cold", "warm"):
            await one.send(request("HEAD", "/head", host="chat"))
            head = await one.head()
            assert head.status == 200
            assert int(head.fields["content-length"]) > 0
            await one.send(request("GET", "/x", host="chat"))
            assert json.loads((await one.answer()).body)["path"] == "/x"
        assert (await box.stats("chat"))[0]["requests"] == 4


@pytest.mark.parametrize("code", [204, 304])
async def test_r9_answers_that_have_no_body_leave_the_connection_usable(tmp_path: Path, code: int) -> None:
    async with zerogate({"chat": stub("--ready-after", "0.2")}, tmp_path) as box, box.wire() as one:
        await one.send(request("GET", f"/status?code={code}", host="chat"))
        head = await one.head()
        assert (head.status, head.fields["x-empty"]) == (code, "yes")
        await one.send(request("GET", "/x", host="chat"))
        assert (await one.answer()).status == 200


async def test_r9_early_hints_are_passed_on(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--ready-after", "0.2")}, tmp_path) as box, box.wire() as one:
        await one.send(request("GET", "/early-hints", host="chat"))
        hints = await one.head()
        assert (hints.status, hints.fields) == (103, {"link": "</style.css>; rel=preload"})
        assert (await one.answer()).body == b"{}"


async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box, box.wire() as one:
        await one.send(request("GET", "/cut?bytes=1000", host="chat"))
        head = await one.head()
        assert head.fields["content-length"] == "2000"
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await one.body(head)
        await box.until("chat", lambda status: status["in_flight"] == 0, within_s=2)
        assert await box.ended("chat") == {"cut": 1}


async def test_an_answer_without_a_length_ends_where_it_ended(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box, box.wire() as one:
        await one.send(request("GET", "/until-close?bytes=300000", host="chat"))
        assert (await one.answer()).body == b"x" * 300_000
        await one.send(request("GET", "/x", host="chat"))
        assert (await one.answer()).status == 200


async def test_the_model_server_is_told_who_asked_and_for_what(tmp_path: Path) -> None:
    async with zerogate({"chat": stub(definition={"hosts": "llm.example.org"})}, tmp_path) as box:
        sent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Authorization": "Bearer x"}
        seen = (await box.get("llm.example.org", "/head?a=1", headers=sent)).json()
        fields = {name.lower(): value for name, value in seen["headers"]}
        assert (seen["method"], seen["target"], fields["host"]) == ("GET", "/head?a=1", "llm.example.org")
        assert fields["x-forwarded-for"] == "127.0.0.1"
        assert fields["x-forwarded-host"] == "llm.example.org"
        assert fields["forwarded"] == 'for=127.0.0.1;host="llm.example.org";proto=http'
        assert (fields["traceparent"], fields["authorization"]) == (sent["traceparent"], "Bearer x")
