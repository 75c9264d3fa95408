"""A server, a hold and a scripted replica on real sockets: bytes in, bytes out."""

import asyncio
import random
import ssl
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self

from activator.hold import Hold
from zerogate.clock import now
from zerogate.gate import Gate
from zerogate.http.certificates import ServerContexts
from zerogate.http.dial import Secured
from zerogate.http.entrance import NOBODY, Entrance, TrustedSenders
from zerogate.http.exchange import Exchange
from zerogate.http.pools import make_pool
from zerogate.http.server import Server
from zerogate.http.sweep import Sweep
from zerogate.http.upstream import Upstream
from zerogate.policy import Policy
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery

LONGEST_S: Final = 30.0
"""For what comes at once where nothing else runs: a limit that is reached means that it does not come."""

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Client:
    """One connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until(self, end: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(end), LONGEST_S)

    async def rest(self) -> bytes:
        """All bytes up to the end of the connection; raises ConnectionResetError where it was reset."""
        return await asyncio.wait_for(self.reader.read(), LONGEST_S)

    async def get(self, path: str = "/") -> bytes:
        """A GET whose answer has a Content-Length; the body."""
        await self.send(b"GET %b HTTP/1.1\r\nHost: chat\r\n\r\n" % path.encode())
        return await self.answer()

    async def answer(self) -> bytes:
        head = await self.until(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        return await asyncio.wait_for(self.reader.readexactly(length), LONGEST_S)

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the connection is closed, in whichever way."""
        with suppress(OSError):
            await asyncio.wait_for(self.writer.wait_closed(), LONGEST_S)


class Clients:
    """The connections that a test opens; they end with its `async with`, also where the test fails."""

    def __init__(self) -> None:
        self._open: list[Client] = []

    async def connect(self, host: str, port: int, **more: Any) -> Client:
        """One more; `more` is as for `asyncio.open_connection`."""
        return self.own(*await asyncio.open_connection(host, port, limit=1 << 20, **more))

    def own(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Client:
        """One that was opened elsewhere."""
        client = Client(reader, writer)
        self._open.append(client)
        return client

    def part(self) -> None:
        """Reset them all."""
        for client in self._open:
            client.abort()

    def disown(self, client: Client) -> None:
        """Close one and forget it."""
        client.close()
        self._open.remove(client)

    async def aclose(self) -> None:
        """Reset them all and wait until they are gone."""
        self.part()
        while self._open:
            await self._open.pop().gone()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def settled(amount: Callable[[], int], *, quiet_s: float = 0.2) -> int:
    """What has begun to grow, once it has not grown for so long: every buffer on the way is full."""
    async with asyncio.timeout(LONGEST_S):
        before = -1
        while (found := amount()) != before or not found:
            before = found
            await asyncio.sleep(quiet_s)
    return found


class Rig:
    """What a test needs of the whole: `hold`, `server`, the events of the listener, and `connect`."""

    def __init__(self, policy: Policy) -> None:
        loop = asyncio.get_running_loop()
        self.wakes: list[str] = []
        self.idle: list[str] = []
        self.ended: list[Exchange] = []
        self.ended_event = asyncio.Event()
        self.sweep = Sweep()
        self.nursery = Nursery()
        self.hold = Hold(
            "chat", policy, self, choose=random.Random(1).randrange, call_later=loop.call_later, clock=now
        )  # fmt: skip
        self.server = Server(self.hold.place, self.sweep)
        self.entrance = Entrance(self.server)
        self.address: tuple[str, int] = ("", 0)
        self.clients = Clients()
        self.scripted: Any = None

    def on_wake(self, service: str) -> None:
        self.wakes.append(service)

    def on_activity(self, service: str) -> None: ...

    def on_idle(self, replica_id: str) -> None:
        self.idle.append(replica_id)

    def on_exchange_ended(self, service: str, exchange: Exchange) -> None:
        self.ended.append(exchange)
        self.ended_event.set()

    async def end_of(self, count: int) -> list[Exchange]:
        """Wait until so many exchanges have ended."""
        async with asyncio.timeout(LONGEST_S):
            while len(self.ended) < count:
                self.ended_event.clear()
                await self.ended_event.wait()
        return self.ended

    def add_replica(
        self, port: int, name: str = "chat-1", *, limit: int | None = None, secured: Secured | None = None
    ) -> Upstream:
        gate = Gate(limit=self.hold.policy.concurrency_limit if limit is None else limit, release_limit=8)
        pool = make_pool(
            self.hold.policy.protocol, Address("127.0.0.1", port), self.sweep, self.nursery, secured=secured
        )
        upstream = Upstream(service="chat", id=name, gate=gate, pool=pool, start_s=1.0)
        self.hold.add(upstream, now())
        return upstream

    async def connect(self, tls: ssl.SSLContext | None = None, name: str | None = None) -> Client:
        """A connection, over TLS with a context; `name` is the one asked for and verified."""
        name = name or ("127.0.0.1" if tls is not None else None)
        return await self.clients.connect(*self.address, ssl=tls, server_hostname=name)


@asynccontextmanager
async def rig(
    policy: Policy | None = None,
    script: Script | None = None,
    *,
    contexts: ServerContexts | None = None,
    trusted: TrustedSenders = NOBODY,
) -> AsyncIterator[Rig]:
    """A rig whose one replica runs `script` on each connection; without a script there is no replica yet."""
    loop = asyncio.get_running_loop()
    one = Rig(policy or Policy())
    one.entrance = Entrance(one.server, contexts=contexts, trusted=trusted)
    listener = await loop.create_server(one.entrance.connection, "127.0.0.1", 0)
    one.address = listener.sockets[0].getsockname()
    async with replica(script) as port:
        if port:
            one.add_replica(port)
        try:
            yield one
        finally:
            one.clients.part()
            listener.close()
            one.entrance.abort_waiting()
            for connection in list(one.server.connections):
                connection.abort()
            await one.nursery.aclose()
            for upstream in one.hold.replicas.values():
                upstream.pool.close()
            await one.clients.aclose()
            async with asyncio.timeout(LONGEST_S):
                while one.server.connections:
                    await asyncio.sleep(0)


@asynccontextmanager
async def replica(
    script: Script | None, *, tls: ssl.SSLContext | None = None, path: str | None = None
) -> AsyncIterator[int]:
    """A server that runs `script` on each connection; its port, which is 0 for one on a Unix socket."""
    if script is None:
        yield 0
        return
    tasks: set[asyncio.Task[None]] = set()
    writers: weakref.WeakSet[asyncio.StreamWriter] = weakref.WeakSet()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.add(writer)
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    if path is None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20, ssl=tls)
    else:
        server = await asyncio.start_unix_server(serve, path)
    try:
        yield 0 if path is not None else server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with Clients() as clients:
            for writer in writers:
                clients.own(asyncio.StreamReader(), writer)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """(head, body) of one request with a Content-Length or none."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    return head, await reader.readexactly(length)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each request with its own body, or its target where it has none."""
    while True:
        head, body = await read_request(reader)
        content = body or head.split(b" ")[1]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))


def answering(*answers: bytes, then_close: bool = False) -> Script:
    """Answers the requests of a connection with these bytes, one after the other."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            writer.write(answer)
            await writer.drain()
        if not then_close:
            await reader.read()

    return script
