"""What the gateway's workers speak: HTTP/2 without TLS by real clients, and gRPC as far as its server and back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import httpx
import pytest

from tests.activator.fleet import replica, sidecar_of
from tests.gateway.test_workers import Gateway, gateway
from tests.grpc_client import CHECK, Calls, calls
from tests.grpc_server import GRPC_SERVER
from tests.queueproxy.world import Program
from zerogate.runtime.interface import Address

pytestmark = [
    pytest.mark.slow,
    pytest.mark.uvloop,
    pytest.mark.may_block("grpcio sets itself up at its first channel"),
]


async def test_clients_of_http_2_by_prior_knowledge_are_served_by_every_worker(tmp_path: Path) -> None:
    async with replica() as one, gateway(tmp_path, replicas=(one,)) as it:

        async def ask(client: httpx.AsyncClient, number: int) -> None:
            answer = await client.post(f"http://127.0.0.1:{it.port}/echo", content=b"%d" % number * 1000)
            assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
            assert answer.content == b"%d" % number * 1000

        for _ in range(8):
            async with httpx.AsyncClient(http1=False, http2=True, trust_env=False) as client:
                await asyncio.gather(*(ask(client, number) for number in range(20)))
        cpu = [int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in it.pids()]
        assert min(cpu) > max(cpu) / 20

        async def counted() -> bool:
            return await it.served() == 160

        await it.until(counted)


@asynccontextmanager
async def echo(folder: Path) -> AsyncIterator[tuple[Gateway, Calls]]:
    """A gateway of two workers before a sidecar before the echo service of gRPC, and a client of it."""
    with_port = [word.replace("{port}", "0") for word in GRPC_SERVER]
    process = await asyncio.create_subprocess_exec(*with_port, stdout=asyncio.subprocess.PIPE)
    server = Program(process, process.stdout)
    try:
        port = int((await server.line_with("listen")).split()[-1].rpartition(":")[2])
        sidecar, sidecar_port, _ = await sidecar_of(port, "--protocol", "h2c", "--probe-path", CHECK)
        try:
            async with gateway(folder) as it:
                it.write_addresses(Address("127.0.0.1", sidecar_port))
                assert (await it.admin("/reload", "POST"))[0] == 200
                async with calls(it.port) as client:
                    yield it, client
        finally:
            sidecar.signal()
            await sidecar.end()
    finally:
        process.kill()
        await process.wait()


async def test_r4_a_unary_call_that_was_held_keeps_its_fields_and_trailers(tmp_path: Path) -> None:
    async with echo(tmp_path) as (_, client):
        call = client.unary("Unary", b"hello" * 10_000)
        assert await call == b"hello" * 10_000
        assert ("x-first", "1") in tuple(await call.initial_metadata())
        trailers = dict(await call.trailing_metadata())
        assert (trailers["x-length"], trailers["x-raw-bin"]) == ("50000", b"\0\xff")
        assert await client.unary(CHECK) == b"\x08\x01"
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await client.unary("Fail", b"5")
        assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_r4_streams_flow_in_both_directions_at_the_same_time(tmp_path: Path) -> None:
    async with echo(tmp_path) as (_, client):
        assert [piece async for piece in client.split(b"abc")] == [b"a", b"b", b"c"]
        assert await client.join([b"%d," % number for number in range(50)]) == b"".join(
            b"%d," % number for number in range(50)
        )
        call = client.chat()
        for word in (b"one", b"two", b"three"):
            await call.write(word)
            assert await call.read() == word.upper()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
