"""Gateways in front of real sidecars: holds with links, each with a port of its own, wired as a composition root would.

A gateway here is what `gateway` is made of where replicas have sidecars. It can be run as a process of its own too:
`python -m tests.activator.fleet NAME REPLICA_PORT...` says its port and serves until it is ended.
"""

import asyncio
import random
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from activator.hold import Hold
from activator.links import Links
from activator.tries import Newcomers
from tests.queueproxy.world import Program, ended, start_sidecar, start_stub
from tests.zerogate.http.rig import LONGEST_S, Clients
from zerogate.clock import now
from zerogate.http.exchange import Exchange
from zerogate.http.listener import Listener, bind
from zerogate.http.server import Server
from zerogate.http.sweep import Sweep
from zerogate.policy import Policy
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery


class Gateway:
    """A hold with links to sidecars; `port` takes requests."""

    def __init__(self, name: str, policy: Policy) -> None:
        loop = asyncio.get_running_loop()
        self.sweep = Sweep(loop)
        self.nursery = Nursery()
        chance = random.Random(name)
        self.hold = Hold("chat", policy, self, choose=chance.randrange, call_later=loop.call_later, clock=now)
        self.links = Links(
            self.hold, name, sweep=self.sweep, nursery=self.nursery, jitter=chance.random, newcomers=Newcomers()
        )  # fmt: skip
        sock = bind(Address("127.0.0.1", 0), what="listen")
        self.port = int(sock.getsockname()[1])
        self.listener = Listener(Server(self.hold.place, self.sweep), sock)
        self.ended: list[Exchange] = []
        self.changed = asyncio.Event()

    async def __aenter__(self) -> "Gateway":
        await self.listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.stop_accepting()
        self.listener.abort()
        self.links.close()
        await self.nursery.aclose()
        await asyncio.sleep(0)

    def on_wake(self, service: str) -> None: ...
    def on_activity(self, service: str) -> None: ...
    def on_idle(self, replica_id: str) -> None: ...

    def on_exchange_ended(self, service: str, exchange: Exchange) -> None:
        self.ended.append(exchange)

    async def until_ready(self, count: int = 1) -> None:
        """Wait until so many replicas take requests."""
        async with asyncio.timeout(LONGEST_S):
            while self.hold.ready != count:
                await asyncio.sleep(0.005)

    async def get(self, path: str) -> bytes:
        """The whole answer to a GET on a connection of its own."""
        return await self._ask(f"GET {path} HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n".encode())

    async def post(self, body: bytes) -> bytes:
        """The whole answer to a POST of `body`, which the stub says back."""
        head = f"POST /echo HTTP/1.1\r\nHost: chat\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        return await self._ask(head.encode() + body)

    async def _ask(self, request: bytes) -> bytes:
        async with Clients() as clients:
            client = await clients.connect("127.0.0.1", self.port)
            await client.send(request)
            return await asyncio.wait_for(client.reader.read(), 60)


class Replica:
    """A stub model server behind a sidecar."""

    def __init__(self, stub: Program, stub_port: int, sidecar: Program, port: int, admin_port: int) -> None:
        self.stub = stub
        self.stub_port = stub_port
        self.sidecar = sidecar
        self.port = port
        self.admin_port = admin_port
        self.address = Address("127.0.0.1", port)


async def sidecar_of(stub_port: int, *flags: str, port: int = 0) -> tuple[Program, int, int]:
    """A sidecar in front of a stub, its port and its admin's."""
    ports = ("--upstream", str(stub_port), "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0")
    sidecar = await start_sidecar(*ports, *flags)
    told = (await sidecar.line_with("requests on")).partition("requests on")[2]
    numbers = re.findall(r":([0-9]+)", told)
    return sidecar, int(numbers[0]), int(numbers[1])


@asynccontextmanager
async def replica(*flags: str, stub_flags: tuple[str, ...] = ()) -> AsyncIterator[Replica]:
    """A replica whose sidecar has these flags."""
    async with AsyncExitStack() as stack:
        stub, stub_port = await start_stub(*stub_flags)
        stack.push_async_callback(ended, lambda: stub)
        sidecar, port, admin_port = await sidecar_of(stub_port, *flags)
        it = Replica(stub, stub_port, sidecar, port, admin_port)
        stack.push_async_callback(ended, lambda: it.sidecar)
        yield it


async def _serve(name: str, ports: list[int]) -> None:
    async with Gateway(name, Policy(concurrency_limit=4, target_concurrency=4)) as gateway:
        for port in ports:
            gateway.links.add(f"chat-{port}", Address("127.0.0.1", port))
        print(f"listening {gateway.port}", flush=True)  # noqa: T201 - told to the test that started it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], [int(port) for port in sys.argv[2:]]))
