"""Readiness over HTTP/2: what counts, against scripted replicas and a real server of gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.grpc_server import Health, serve
from tests.zerogate.http.h2.replica import Headers, Peer, Replica
from tests.zerogate.http.rig import answering, replica
from zerogate.http.grpc import HEALTH_CHECK, HEALTH_NOT_SERVING, HEALTH_SERVING
from zerogate.http.h2 import frames as f
from zerogate.http.probe import Probe, answers
from zerogate.runtime.interface import Address

CHECK = HEALTH_CHECK.decode()
OK: Headers = [(":status", "200")]
GRPC: Headers = [*OK, ("content-type", "application/grpc")]


async def told(port: int, path: str) -> tuple[bool, str]:
    """What a probe makes of one question."""
    told: asyncio.Queue[bool] = asyncio.Queue()
    probe = Probe(Address("127.0.0.1", port), path, told.put_nowait, interval_s=0.005, protocol="h2c")
    probe.start()
    try:
        async with asyncio.timeout(10):
            while probe.last == "it was not asked yet":
                await asyncio.sleep(0.005)
    finally:
        probe.close()
    return probe.is_ready, probe.last


@asynccontextmanager
async def replying(
    headers: Headers, body: bytes = b"", trailers: Headers | None = None, reset: int | None = None
) -> AsyncIterator[tuple[int, Replica]]:
    async def script(peer: Peer) -> None:
        asked = await peer.request()
        if reset is not None:
            peer.reset(asked.stream, reset)
        elif not body and trailers is None:
            peer.head_of_answer(asked.stream, headers, end=True)
        else:
            peer.answer(asked.stream, body, headers, trailers)

    one = Replica(script)
    async with replica(one) as port:
        yield port, one


@pytest.mark.parametrize(
    ("headers", "is_ready", "last"),
    [
        (OK, True, "it answers 200"),
        ([(":status", "404")], True, "it answers 404"),
        ([(":status", "503")], False, "it answers 503"),
    ],
)
async def test_a_path_is_ready_below_500(headers: Headers, is_ready: bool, last: str) -> None:
    async with replying(headers) as (port, _):
        assert await told(port, "/health") == (is_ready, last)


@pytest.mark.parametrize(
    ("headers", "body", "trailers", "is_ready", "last"),
    [
        pytest.param(
            GRPC, HEALTH_SERVING, [("grpc-status", "0")], True, "its health service says SERVING", id="serving"
        ),
        pytest.param(
            GRPC, HEALTH_NOT_SERVING, [("grpc-status", "0")], False, "its health service says NOT_SERVING", id="not"
        ),
        pytest.param(
            [*GRPC, ("grpc-status", "12")], b"", None, True, "its health service answers with grpc-status 12", id="none"
        ),
        pytest.param(
            [*GRPC, ("grpc-status", "14")], b"", None, False, "its health service answers with grpc-status 14",
            id="unavailable",
        ),
        pytest.param([(":status", "404")], b"", None, True, "it answers 404", id="not-grpc"),
        pytest.param([(":status", "502")], b"", None, False, "it answers 502", id="not-grpc-and-broken"),
    ],
)  # fmt: skip
async def test_the_health_service_is_ready_unless_it_says_otherwise(
    headers: Headers, body: bytes, trailers: Headers | None, is_ready: bool, last: str
) -> None:
    async with replying(headers, body, trailers) as (port, _):
        assert await told(port, CHECK) == (is_ready, last)


async def test_a_question_that_is_reset_is_not_ready_and_says_what_may_be_wrong() -> None:
    async with replying(OK, reset=f.INTERNAL_ERROR) as (port, _):
        is_ready, last = await told(port, "/health")
    assert not is_ready
    assert last.startswith("it reset the question: INTERNAL_ERROR (a server of gRPC has no such path")


async def test_a_server_of_http_1_is_told_apart() -> None:
    async with replica(answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")) as port:
        is_ready, last = await told(port, "/health")
    assert not is_ready
    assert "does not speak HTTP/2" in last


@pytest.mark.may_block("grpcio starts its threads")
async def test_a_real_server_of_grpc_is_asked_until_it_serves() -> None:
    serving = False
    server, port, _ = serve(0, health=Health(lambda: serving))
    try:
        address = Address("127.0.0.1", port)
        assert not await answers(address, CHECK, timeout_s=0.3, protocol="h2c")
        serving = True
        assert await answers(address, CHECK, timeout_s=10, protocol="h2c")
    finally:
        server.stop(0)
