"""A call of gRPC that runs out of its time after its answer has begun."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import h2.events
import pytest

from tests.grpc_client import Calls, calls
from tests.zerogate.http.h2.replica import Peer, Replica
from tests.zerogate.http.h2.test_server import Peer as Client
from tests.zerogate.http.h2.test_server import asking
from tests.zerogate.http.rig import Rig, replica, rig
from zerogate.http.grpc import message
from zerogate.http.h2 import frames as f
from zerogate.policy import Policy

pytestmark = [pytest.mark.uvloop, pytest.mark.may_block("grpcio sets itself up at its first channel")]

HEAD = [(":status", "200"), ("content-type", "application/grpc")]
FIRST = message(b"first")


@asynccontextmanager
async def answering(body: bytes, head: list[tuple[str, str]] = HEAD, **policy: Any) -> AsyncIterator[Rig]:
    """A replica that begins its answers with this body and never ends them; how they ended is in `rig.scripted`."""
    ends: asyncio.Queue[int] = asyncio.Queue()

    async def script(it: Peer) -> None:
        asked = await it.head()
        it.head_of_answer(asked.stream, head)
        await it.send(asked.stream, body)
        await it.flush()
        ends.put_nowait(await it.was_reset(asked.stream))

    one = Replica(script)
    async with rig(Policy(protocol="h2c", **policy)) as it, replica(one) as port:
        it.add_replica(port)
        it.scripted = ends
        yield it
        assert not one.failures, one.failures


def stream_of(client: Calls, timeout: float | None = None) -> Any:
    return client.channel.unary_stream("/test.Echo/Split")(b"x", timeout=timeout)


async def heard(call: Any) -> tuple[list[bytes], grpc.StatusCode]:
    """The messages that a client of grpcio was given, and how it was told that the call ended."""
    got: list[bytes] = []
    try:
        async for piece in call:
            got.append(piece)  # noqa: PERF401 (what came before the error counts)
    except grpc.aio.AioRpcError as error:
        return got, error.code()
    return got, grpc.StatusCode.OK


async def ask(client: Client, *, path: str = "/p.S/M", more: list[tuple[str, str]] = []) -> int:  # noqa: B006
    fields = [("content-type", "application/grpc"), ("te", "trailers"), *more]
    return await client.ask(path, body=b"\0\0\0\0\0", more=fields)


@pytest.mark.parametrize("key", ["total_timeout_s", "idle_stream_timeout_s"])
async def test_a_client_of_grpcio_keeps_whole_messages_and_is_told_of_our_timer(key: str) -> None:
    policy: dict[str, Any] = {key: 0.3}
    async with answering(FIRST * 3, **policy) as one, calls(one.address[1]) as client:
        assert await heard(stream_of(client)) == ([b"first"] * 3, grpc.StatusCode.DEADLINE_EXCEEDED)
        assert await asyncio.wait_for(one.scripted.get(), 10) == f.CANCEL
        (exchange,) = await one.end_of(1)
        assert exchange.result == "cut"
        assert one.hold.replicas["chat-1"].gate.in_flight == 0


async def test_a_client_of_grpcio_is_never_given_half_a_message() -> None:
    async with answering(FIRST + FIRST[:-1], total_timeout_s=0.3) as one, calls(one.address[1]) as client:
        assert await heard(stream_of(client)) == ([b"first"], grpc.StatusCode.CANCELLED)


async def test_the_clients_own_deadline_is_its_own_word_in_both_cases() -> None:
    for body in (FIRST, FIRST[:-1]):
        async with answering(body) as one, calls(one.address[1]) as client:
            assert (await heard(stream_of(client, 0.3)))[1] is grpc.StatusCode.DEADLINE_EXCEEDED
            await one.end_of(1)


async def test_the_deadline_of_grpc_timeout_ends_with_trailers_at_the_end_of_a_message() -> None:
    async with answering(FIRST) as one, asking(one) as client:
        stream = await ask(client, more=[("grpc-timeout", "300m")])
        await client.until(h2.events.StreamEnded, stream)
        assert client.body_of(stream) == FIRST
        trailers = next(event for event in client.events if isinstance(event, h2.events.TrailersReceived))
        named = {str(name): str(value) for name, value in trailers.headers or ()}
        assert named["grpc-status"] == "4"
        assert named["grpc-message"].endswith("(deadline_exceeded).")


async def test_it_is_trailers_behind_a_head_alone_too() -> None:
    async with answering(b"", total_timeout_s=0.3) as one, asking(one) as client:
        stream = await ask(client)
        await client.until(h2.events.StreamEnded, stream)
        assert client.body_of(stream) == b""


@pytest.mark.parametrize(
    ("body", "head", "code"),
    [
        pytest.param(FIRST[:3], HEAD, f.CANCEL, id="within-a-prefix"),
        pytest.param(FIRST[:5], HEAD, f.CANCEL, id="behind-a-prefix"),
        pytest.param(FIRST * 2 + FIRST[:7], HEAD, f.CANCEL, id="within-a-message"),
        pytest.param(FIRST, [HEAD[0], ("content-type", "application/grpc-web")], f.INTERNAL_ERROR, id="grpc-web"),
        pytest.param(FIRST, [HEAD[0], ("content-type", "text/html")], f.INTERNAL_ERROR, id="no-grpc"),
        pytest.param(FIRST, [*HEAD, ("content-length", "100")], f.INTERNAL_ERROR, id="with-a-length"),
    ],
)
async def test_anything_else_is_reset(body: bytes, head: list[tuple[str, str]], code: int) -> None:
    async with answering(body, head, total_timeout_s=0.3) as one, asking(one) as client:
        stream = await ask(client)
        reset = await client.until(h2.events.StreamReset, stream)
        assert isinstance(reset, h2.events.StreamReset)
        assert reset.error_code == code


async def test_a_replica_that_vanishes_between_messages_is_a_reset_and_no_timer() -> None:
    async def script(it: Peer) -> None:
        asked = await it.head()
        it.head_of_answer(asked.stream, HEAD)
        await it.send(asked.stream, FIRST)
        await it.flush()
        it.writer.transport.abort()

    async with rig(Policy(protocol="h2c")) as one, replica(Replica(script)) as port, asking(one) as client:
        one.add_replica(port)
        stream = await ask(client)
        reset = await client.until(h2.events.StreamReset, stream)
        assert isinstance(reset, h2.events.StreamReset)
        assert reset.error_code == f.INTERNAL_ERROR
        assert client.body_of(stream) == FIRST
        assert not any(isinstance(event, h2.events.TrailersReceived) for event in client.events)
        (exchange,) = await one.end_of(1)
        assert (exchange.result, exchange.code) == ("cut", "replica_lost")


async def test_a_client_that_still_sends_hears_the_trailers_first() -> None:
    async with answering(FIRST, total_timeout_s=0.3) as one, asking(one) as client:
        fields = [("content-type", "application/grpc"), ("te", "trailers")]
        stream = await client.ask("/p.S/M", body=FIRST, end=False, more=fields)
        await client.until(h2.events.StreamReset, stream)
        kinds = [type(event) for event in client.events if getattr(event, "stream_id", None) == stream]
        assert kinds.index(h2.events.TrailersReceived) < kinds.index(h2.events.StreamReset)
