"""The sidecar's connect timer, from outside: a model server that is there and takes no connection any more."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.queueproxy.world import World, world
from zerogate.clock import now

pytestmark = [pytest.mark.slow, pytest.mark.uvloop]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class HungServer:
    """Answers the questions for its readiness on the first connection. Until it `recovers` it takes no other one: its
    listener is full, so that whoever knocks is neither let in nor refused."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.recovers = asyncio.Event()

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        first, _ = await loop.sock_accept(self.listener)
        with ExitStack() as stack:
            for _ in range(3):
                knocking = stack.enter_context(socket.socket())
                knocking.setblocking(False)
                knocking.connect_ex(self.listener.getsockname())
            async with asyncio.TaskGroup() as group:
                group.create_task(self._answer(first))
                await self.recovers.wait()
                while True:
                    another, _ = await loop.sock_accept(self.listener)
                    group.create_task(self._answer(another))

    async def _answer(self, taken: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with taken, suppress(ConnectionError):
            while await loop.sock_recv(taken, 4096):
                await loop.sock_sendall(taken, OK)


@asynccontextmanager
async def before_a_hung_server(*flags: str) -> AsyncIterator[tuple[World, HungServer]]:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        listener.setblocking(False)
        server = HungServer(listener)
        serving = asyncio.ensure_future(server.serve())  # noqa: TID251 - the server of one test
        try:
            async with world("--upstream", str(listener.getsockname()[1]), *flags) as it:
                yield it, server
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


def files_of(it: World) -> int:
    return len(list(Path(f"/proc/{it.sidecar.process.pid}/fd").iterdir()))


async def post(it: World) -> tuple[int, str, bytes, float]:
    """(status, head in lower case, body, seconds) of a request whose body is kept until there is a connection."""
    began_s = now()
    client = await it.connect()
    await client.send(
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\nConnection: close\r\n\r\n" + b"x" * 5000
    )
    head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    it.clients.disown(client)
    return int(head.split()[1]), head.decode().lower(), body, now() - began_s


async def test_r7_connect_gives_up_a_model_server_that_takes_no_connection_and_leaves_nothing_behind() -> None:
    async with before_a_hung_server("--connect-timeout", "1s", "--concurrency-limit", "4") as (it, server):
        await it.until_stat(in_flight=0)
        before = files_of(it)
        for status, head, body, took_s in await asyncio.gather(*(post(it) for _ in range(4))):
            assert (status, json.loads(body)["error"]["code"]) == (503, "replica_unreachable")
            assert b"no connection within 1 s" in body
            assert "zerogate-not-sent: 1" in head
            assert re.search(r"retry-after: [1-9]", head)
            assert took_s >= 1
        await it.sidecar.line_with("is not ready")
        stat = await it.stat()
        assert (stat["in_flight"], stat["held"]) == (0, 0)
        metrics = (await it.ask(it.admin_port, "/metrics"))[2]
        assert b"zerogate_body_bytes 0\n" in metrics

        async def is_closed() -> bool:
            return files_of(it) <= before

        await it.until(is_closed)
        server.recovers.set()

        async def is_served() -> bool:
            return (await it.get("/v1/models"))[0] == 200

        await it.until(is_served)
        answers = await asyncio.gather(*(post(it) for _ in range(4)))
        assert [status for status, *_ in answers] == [200] * 4
