"""R4: a real server of gRPC behind a real `zerogate up`, called by a real client, from zero and warm."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.e2e.harness import Box, Service, soon, zerogate
from tests.grpc_client import CHECK, Calls, calls
from tests.grpc_server import GRPC_SERVER

pytestmark = [pytest.mark.slow, pytest.mark.may_block("grpcio sets itself up at its first channel")]


def grpc_service(*flags: str, **policy: Any) -> Service:
    keys = {name.replace("_", "-"): value for name, value in policy.items()}
    return {"command": [*GRPC_SERVER, *flags], "policy": {"protocol": "h2c", "idle-timeout": "1h", **keys}}


@asynccontextmanager
async def echo(folder: Path, *flags: str, **policy: Any) -> AsyncIterator[tuple[Box, Calls]]:
    """A box with the echo service at zero, and a client of it."""
    async with zerogate({"echo": grpc_service(*flags, **policy)}, folder) as box, calls(box.listen) as client:
        yield box, client


async def test_r4_a_unary_call_wakes_the_service_and_keeps_its_fields_and_trailers(tmp_path: Path) -> None:
    async with echo(tmp_path) as (box, client):
        call = client.unary("Unary", b"hello" * 10_000)
        assert await call == b"hello" * 10_000
        assert ("x-first", "1") in tuple(await call.initial_metadata())
        trailers = dict(await call.trailing_metadata())
        assert (trailers["x-length"], trailers["x-raw-bin"]) == ("50000", b"\0\xff")
        assert await box.ended("echo") == {"served": 1}


async def test_r4_a_stream_of_answers_from_zero_comes_message_by_message(tmp_path: Path) -> None:
    async with echo(tmp_path) as (_, client):
        assert [piece async for piece in client.split(b"abcdef")] == [b"a", b"b", b"c", b"d", b"e", b"f"]


async def test_r4_a_stream_of_requests_from_zero_arrives_as_a_whole(tmp_path: Path) -> None:
    async with echo(tmp_path) as (_, client):
        assert await client.join([b"%d," % number for number in range(200)]) == b"".join(
            b"%d," % number for number in range(200)
        )


async def test_r4_both_directions_of_a_call_from_zero_flow_at_the_same_time(tmp_path: Path) -> None:
    async with echo(tmp_path) as (_, client):
        call = client.chat()
        for word in (b"one", b"two", b"three"):
            await call.write(word)
            assert await call.read() == word.upper()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def code_of(call: Any) -> grpc.StatusCode:
    """The status that a call ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_ten_parallel_first_calls_share_one_cold_start(tmp_path: Path) -> None:
    async with echo(tmp_path) as (box, client):
        answers = await asyncio.gather(*(client.unary("Unary", b"%d" % number) for number in range(10)))
        assert answers == [b"%d" % number for number in range(10)]
        assert len((await box.status("echo"))["replicas"]) == 1


async def test_an_error_of_the_server_is_the_clients_error(tmp_path: Path) -> None:
    async with echo(tmp_path) as (box, client):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.unary("Fail")
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.details() == "100 % häßlich"
        assert await code_of(client.unary("Nothing")) is grpc.StatusCode.UNIMPLEMENTED
        assert await box.ended("echo") == {"served": 2}


async def test_a_deadline_is_kept_while_the_service_starts(tmp_path: Path) -> None:
    latch = tmp_path / "serving"
    async with echo(tmp_path, "--serving-file", str(latch)) as (box, client):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.unary("Unary", timeout=1.0)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await box.until("echo", lambda status: status["held"] == 0)
        latch.touch()
        assert await client.unary("Unary", b"now") == b"now"


async def test_a_deadline_is_kept_with_the_replica_and_shrinks_by_the_time_held(tmp_path: Path) -> None:
    latch = tmp_path / "serving"
    async with echo(tmp_path, "--serving-file", str(latch)) as (box, client):
        call = soon(_awaited(client.unary("Left", timeout=20)))
        await box.until_held("echo", 1)
        await asyncio.sleep(1.0)
        latch.touch()
        left_s = float(await call)
        assert 10 < left_s < 19
        assert await code_of(client.unary("Wait", timeout=0.5)) is grpc.StatusCode.DEADLINE_EXCEEDED
        await _until_seen(client, "cancelled", 1)


async def _awaited(call: Any) -> Any:
    return await call


async def _rest_of(stream: Any) -> bytes:
    """What is left of a stream of answers that was read from before."""
    got = b""
    while (piece := await stream.read()) is not grpc.aio.EOF:
        got += piece
    return got


async def _until_seen(client: Calls, name: str, count: int) -> None:
    async with asyncio.timeout(20):
        while (await client.seen()).get(name, 0) < count:
            await asyncio.sleep(0.02)


async def test_a_cancelled_call_frees_its_slot_and_ends_on_the_replica(tmp_path: Path) -> None:
    async with echo(tmp_path, concurrency_limit=2) as (box, client):
        await client.unary("Unary")
        call = client.unary("Wait")
        waiting = soon(code_of(call))
        await _until_seen(client, "waiting", 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await box.until("echo", lambda status: status["in_flight"] == 0, within_s=5)
        await _until_seen(client, "cancelled", 1)
        assert (await box.ended("echo"))["abandoned"] == 1


async def test_a_full_queue_is_resource_exhausted_with_a_pushback(tmp_path: Path) -> None:
    async with echo(tmp_path, "--serving-file", str(tmp_path / "never"), queue_limit=1) as (box, client):
        held = soon(code_of(client.unary("Unary")))
        await box.until_held("echo", 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.unary("Unary")
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "queue of echo is full" in (caught.value.details() or "")
        assert int(dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1000
        held.cancel()


async def test_the_end_of_the_hold_is_unavailable(tmp_path: Path) -> None:
    async with echo(tmp_path, "--serving-file", str(tmp_path / "never"), hold_timeout="1s") as (_, client):
        assert await code_of(client.unary("Unary")) is grpc.StatusCode.UNAVAILABLE


async def test_a_health_check_says_serving_and_wakes_nothing(tmp_path: Path) -> None:
    async with echo(tmp_path) as (box, client):
        assert await client.unary(CHECK, b"") == b"\x08\x01"
        assert await client.unary(CHECK, b"\x0a\x09test.Echo") == b"\x08\x01"
        watch = client.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert await watch.code() is grpc.StatusCode.UNIMPLEMENTED
        assert (await box.status("echo"))["replicas"] == []


async def test_a_server_without_a_health_service_is_ready_when_it_answers(tmp_path: Path) -> None:
    async with echo(tmp_path, "--no-health") as (_, client):
        assert await client.unary("Unary", b"x") == b"x"


async def test_a_flood_is_held_back_by_a_client_that_does_not_read(tmp_path: Path) -> None:
    async with echo(tmp_path) as (_, client):
        call = client.split(b"4000", "Flood")
        await call.read()
        await asyncio.sleep(0.5)
        early = (await client.seen())["flooded"]
        assert early < 2000, "125 MiB lie somewhere between"
        pieces = 1
        while await call.read() is not grpc.aio.EOF:
            pieces += 1
        assert pieces == 4000


async def test_calls_that_run_are_finished_when_the_server_leaves_and_others_wake_it_again(tmp_path: Path) -> None:
    async with echo(tmp_path) as (box, client):
        await client.unary("Unary")
        (replica,) = (await box.status("echo"))["replicas"]
        stream = client.split(b"y" * 100)
        assert await stream.read() == b"y"
        os.kill(replica["pid"], signal.SIGTERM)
        assert await _rest_of(stream) == b"y" * 99
        assert await client.unary("Unary", b"again") == b"again"


async def test_zerogate_leaves_only_when_its_streams_have_ended(tmp_path: Path) -> None:
    async with echo(tmp_path) as (box, client):
        stream = client.split(b"z" * 100)
        assert await stream.read() == b"z"
        stopping = soon(box.stop())
        assert await _rest_of(stream) == b"z" * 99
        assert await stopping == 0


async def test_a_limit_of_streams_that_the_server_sets_is_kept(tmp_path: Path) -> None:
    async with echo(tmp_path, "--max-streams", "2") as (_, client):
        answers = await asyncio.gather(*(client.unary("Unary", b"%d" % number) for number in range(100)))
        assert answers == [b"%d" % number for number in range(100)]
