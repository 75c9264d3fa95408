"""WebSockets through a real sidecar."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.queueproxy.world import World, start_sidecar

pytestmark = [pytest.mark.slow, pytest.mark.may_block]


async def echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


def health(ws: ServerConnection, request: Request) -> Response | None:
    return ws.respond(HTTPStatus.OK, "ready\n") if request.path == "/health" else None


@asynccontextmanager
async def sidecar(*flags: str) -> AsyncIterator[World]:
    """A sidecar with these flags in front of a WebSocket server in this process."""
    it = World()
    async with serve(echo, "127.0.0.1", 0, process_request=health) as server:
        it.stub_port = server.sockets[0].getsockname()[1]
        ports = ("--upstream", str(it.stub_port), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        it.sidecar = await start_sidecar(*ports, *flags)
        try:
            numbers = re.findall(r":([0-9]+)", (await it.sidecar.line_with("requests on")).partition("requests on")[2])
            it.port, it.admin_port = int(numbers[0]), int(numbers[1])
            await it.sidecar.line_with("is ready")
            yield it
        finally:
            await it.clients.aclose()
            it.sidecar.signal(signal.SIGKILL)
            await it.sidecar.end()


async def test_a_drain_closes_it_with_1001_and_is_answered_when_it_is_closed() -> None:
    async with sidecar("--concurrency-limit", "1") as it:
        ws = await connect(f"ws://127.0.0.1:{it.port}/", proxy=None)
        await ws.send("hello")
        assert await ws.recv() == "hello"
        assert (await it.stat())["in_flight"] == 1
        assert await it.admin("/drain") == (200, {"drained": True, "in_flight": 0})
        with pytest.raises(ConnectionClosed) as ended:
            await asyncio.wait_for(ws.recv(), 10)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1001


async def test_one_that_is_quiet_is_not_in_flight_in_reports_and_keeps_its_slot() -> None:
    async with (
        sidecar("--websocket-quiet-after", "1s", "--concurrency-limit", "1", "--queue-depth", "0") as it,
        connect(f"ws://127.0.0.1:{it.port}/", proxy=None) as ws,
    ):
        await it.until_stat(in_flight=0, completions=1)
        assert (await it.get("/other"))[0] == 429
        await ws.send("hello")
        assert await ws.recv() == "hello"
        assert (await it.stat())["in_flight"] == 1
