"""The sidecar in front of a real server of gRPC."""

import asyncio

import grpc
import pytest

from tests.grpc_client import calls
from tests.grpc_server import Health, serve
from tests.queueproxy.world import start_sidecar

pytestmark = [pytest.mark.slow, pytest.mark.may_block("grpcio sets itself up at its first channel")]


async def test_the_sidecar_limits_calls_and_refuses_in_grpcs_own_terms() -> None:
    server, port, seen = serve(0, health=Health(lambda: True))
    sidecar = await start_sidecar(
        "--upstream", str(port), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--protocol", "h2c",
        "--probe-path", "/grpc.health.v1.Health/Check", "--concurrency-limit", "1", "--queue-depth", "1",
    )  # fmt: skip
    try:
        listening = int((await sidecar.line_with("requests on")).split("127.0.0.1:")[1].split(",")[0])
        await sidecar.line_with("the model server is ready: its health service says SERVING")
        async with calls(listening) as client:
            assert await client.unary("Unary", b"x") == b"x"
            waiting = [client.unary("Wait"), client.unary("Unary")]
            while not seen.seen["waiting"]:
                await asyncio.sleep(0.01)
            refused = [client.unary("Unary") for _ in range(4)]
            codes = [await call.code() for call in refused]
            assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
            seen.release.set()
            await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        seen.release.set()
        sidecar.signal()
        assert await sidecar.end() == 0
        server.stop(0)
