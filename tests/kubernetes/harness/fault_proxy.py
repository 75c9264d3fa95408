"""A proxy between a client and the real API server that does what networks and servers do on bad days.

    with fault_proxy(api_server) as proxy:  # proxy.access has the kubeconfig that leads through it
        proxy.answer("GET .*watch=", 410, times=1)                # the next watch is answered 410
        proxy.tell_gone("watch=")                                 # an open watch hears ERROR 410 and ends
        proxy.stall("watch="); proxy.resume()                     # half-open: nothing comes and nothing ends
        proxy.cut(); proxy.end("watch="); proxy.slow("PATCH", 0.5); proxy.down(); proxy.up()

Requests are chosen by a regular expression that is searched in `METHOD /path?query`. The proxy ends TLS and speaks
HTTP/1.1 on both sides; as it cannot show a client's certificate, it stands for one user: upstream it shows that user's
pair, and a token passes through. It runs on a loop in a thread of its own, so that a test's loop is not its clock; its
methods return when the fault is in force.
"""

import asyncio
import json
import re
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

import h11
import msgspec

from tests.e2e.harness import free_port
from tests.kubernetes.harness.access import Access
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.processes import until

T = TypeVar("T")

_READ = 65536
_REASONS = {410: "Expired", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}


class Seen(msgspec.Struct, frozen=True):
    """A request that came, and what was answered: 0 as long as nothing is, or when it was cut before."""

    what: str
    status: int


class Rule(msgspec.Struct):
    """Requests that match are answered by the proxy, so many times; or, with `delay_s`, passed on later."""

    match: re.Pattern[str]
    times: float
    status: int = 0
    retry_after_s: int | None = None
    delay_s: float = 0.0


class _Exchange:
    """One request on its way: its words, and what is to become of it."""

    def __init__(self, what: str, number: int) -> None:
        self.what = what
        self.number = number
        self.last_words: bytes | None = None
        self.end = asyncio.Event()


class _Connection:
    """One client's connection, and its own one to the API server."""

    def __init__(self, proxy: "FaultProxy", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._client = h11.Connection(h11.SERVER)
        self._server = h11.Connection(h11.CLIENT)
        self._upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.exchange: _Exchange | None = None

    def abort(self) -> None:
        """End both sides at once; the client sees a reset or an end in the middle."""
        self._writer.transport.abort()
        if self._upstream:
            self._upstream[1].transport.abort()

    async def serve(self) -> None:
        """Requests one after the other, until either side closes."""
        while (request := await self._next_request()) is not None:
            head, body = request
            what = f"{head.method.decode()} {head.target.decode()}"
            self.exchange = exchange = self._proxy.began(what)
            status = await self._act(exchange, head, body)
            self._proxy.answered(exchange, status)
            self.exchange = None
            if self._client.our_state is not h11.DONE or self._client.their_state is not h11.DONE:
                return
            self._client.start_next_cycle()

    async def _next_request(self) -> tuple[h11.Request, bytes] | None:
        head, body = None, b""
        while True:
            event = self._client.next_event()
            if event is h11.NEED_DATA:
                self._client.receive_data(await self._reader.read(_READ))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return head, body
            else:
                return None

    async def _act(self, exchange: _Exchange, head: h11.Request, body: bytes) -> int:
        for rule in self._proxy.rules_for(exchange.what):
            await asyncio.sleep(rule.delay_s)
            if rule.status:
                await self._proxy.passable(exchange)
                self._answer(rule)
                return rule.status
        await self._proxy.passable(exchange)
        return await self._forward(exchange, head, body)

    def _answer(self, rule: Rule) -> None:
        content = _status(rule.status)
        headers = [("content-type", "application/json"), ("content-length", str(len(content)))]
        if rule.retry_after_s is not None:
            headers.append(("retry-after", str(rule.retry_after_s)))
        self._tell(h11.Response(status_code=rule.status, headers=headers), h11.Data(content), h11.EndOfMessage())

    async def _forward(self, exchange: _Exchange, head: h11.Request, body: bytes) -> int:
        reader, writer = await self._to_server()
        for event in (head, h11.Data(body) if body else None, h11.EndOfMessage()):
            if event is not None:
                writer.write(self._server.send(event) or b"")
        status = 0
        async for event in self._answer_of(exchange, reader):
            await self._proxy.passable(exchange)
            if isinstance(event, h11.Response):
                status = event.status_code
                self._proxy.answered(exchange, status)
            self._tell(event)
            await self._writer.drain()
        if exchange.end.is_set() and self._client.our_state is h11.SEND_BODY:
            self._tell(*([h11.Data(exchange.last_words)] if exchange.last_words else []), h11.EndOfMessage())
            self._drop_server()
        elif self._server.our_state is h11.DONE and self._server.their_state is h11.DONE:
            self._server.start_next_cycle()
        else:
            self._drop_server()
        return status

    async def _answer_of(self, exchange: _Exchange, reader: asyncio.StreamReader) -> Any:
        """Events of the answer as they come; ends early when the exchange was ended."""
        ended = asyncio.ensure_future(exchange.end.wait())  # noqa: TID251 - the product's tasks are not the tests'
        try:
            while not exchange.end.is_set():
                event = self._server.next_event()
                if event is h11.NEED_DATA:
                    reading = asyncio.ensure_future(reader.read(_READ))  # noqa: TID251
                    await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
                    if reading.done():
                        self._server.receive_data(reading.result())
                    else:
                        reading.cancel()
                elif isinstance(event, h11.ConnectionClosed):
                    return
                else:
                    yield event
                    if isinstance(event, h11.EndOfMessage):
                        return
        finally:
            ended.cancel()

    def _tell(self, *events: Any) -> None:
        for event in events:
            self._writer.write(self._client.send(event) or b"")

    async def _to_server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._upstream is None:
            self._upstream = await self._proxy.connect()
        return self._upstream

    def _drop_server(self) -> None:
        if self._upstream:
            self._upstream[1].transport.abort()
        self._upstream, self._server = None, h11.Connection(h11.CLIENT)


class FaultProxy:
    """One user's way to the API server; see the module for what it does to requests."""

    def __init__(self, plane: ControlPlane, user: Access) -> None:
        self._upstream = urlsplit(user.url)
        self._client_side = ssl.create_default_context(cafile=user.authority)
        if user.pair is not None:
            self._client_side.load_cert_chain(user.pair.certificate, user.pair.key)
        pair = plane.authority.issue(plane.folder, "fault-proxy")
        self._server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server_side.load_cert_chain(pair.certificate, pair.key)
        self._server_side.set_alpn_protocols(["http/1.1"])
        self._port = free_port()
        self.access = user.through(f"https://127.0.0.1:{self._port}")
        self._rules: list[Rule] = []
        self._stalled: list[re.Pattern[str]] = []
        self._moved: asyncio.Event | None = None
        self._seen: list[Seen] = []
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    # what a test does

    @property
    def requests(self) -> list[Seen]:
        """Every request so far, in the order in which they came."""
        return list(self._seen)

    def count(self, match: str) -> int:
        """How many requests so far match."""
        return sum(bool(re.search(match, seen.what)) for seen in self.requests)

    def until_asked(self, match: str, times: int = 1, *, within_s: float = 30) -> None:
        """Wait until so many requests that match came in all."""
        until(lambda: self.count(match) >= times, within_s=within_s, what=f"{times} requests {match!r}")

    def answer(self, match: str, status: int, *, times: float = float("inf"), retry_after_s: int | None = None) -> None:
        """Answer the next so many requests that match, without asking the API server."""
        self._do(lambda: self._rules.append(Rule(re.compile(match), times, status, retry_after_s)))

    def slow(self, match: str, delay_s: float) -> None:
        """Pass requests that match on only after so many seconds."""
        self._do(lambda: self._rules.append(Rule(re.compile(match), float("inf"), delay_s=delay_s)))

    def stall(self, match: str = "") -> None:
        """Let nothing more through of what matches; its connections stay open, whatever the API server does."""
        self._do(lambda: self._stalled.append(re.compile(match)))

    def resume(self) -> None:
        """End every `answer`, `slow` and `stall`; what was stalled goes on."""
        self._do(self._resume)

    def cut(self, match: str = "") -> None:
        """Break off the connections that carry a request that matches; without `match`, idle ones too."""
        self._do(lambda: self._cut(match))

    def end(self, match: str) -> None:
        """End answers under way that match properly, as an API server does with a watch after its timeout."""
        self._do(lambda: self._end(match, None))

    def tell_gone(self, match: str) -> None:
        """Say ERROR 410 in the watches under way that match, and end them."""
        event = {"type": "ERROR", "object": json.loads(_status(410))}
        self._do(lambda: self._end(match, json.dumps(event).encode() + b"\n"))

    def down(self) -> None:
        """Refuse connections, and break off those that there are."""
        self._do(self._down)

    def up(self) -> None:
        """Take connections again, on the same port."""
        self._run(self._listen())

    # what its connections ask

    def began(self, what: str) -> _Exchange:
        self._seen.append(Seen(what, 0))
        return _Exchange(what, len(self._seen) - 1)

    def answered(self, exchange: _Exchange, status: int) -> None:
        self._seen[exchange.number] = Seen(exchange.what, status)

    def rules_for(self, what: str) -> list[Rule]:
        """The rules that act on a request: every delay, and the first answer."""
        found = []
        for rule in self._rules:
            if rule.times > 0 and rule.match.search(what):
                rule.times -= 1
                found.append(rule)
                if rule.status:
                    break
        return found

    async def passable(self, exchange: _Exchange) -> None:
        """Returns when nothing stalls the request."""
        while any(pattern.search(exchange.what) for pattern in self._stalled):
            self._moved = self._moved or asyncio.Event()
            await self._moved.wait()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            self._upstream.hostname, self._upstream.port, ssl=self._client_side, limit=2**20
        )

    # life

    def start(self) -> None:
        self._thread.start()
        self.up()

    def close(self) -> None:
        self.down()
        self._run(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._on_client, "127.0.0.1", self._port, ssl=self._server_side)

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections.add(connection)
        try:
            with suppress(OSError, ssl.SSLError, h11.RemoteProtocolError, asyncio.CancelledError):
                await connection.serve()
        finally:
            self._connections.discard(connection)
            self._tasks.discard(task)
            connection.abort()

    async def _finish(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.sleep(0.01)

    def _resume(self) -> None:
        self._rules.clear()
        self._stalled.clear()
        if self._moved:
            self._moved.set()
            self._moved = None

    def _cut(self, match: str) -> None:
        for connection in list(self._connections):
            if not match or (connection.exchange and re.search(match, connection.exchange.what)):
                connection.abort()

    def _end(self, match: str, last_words: bytes | None) -> None:
        for connection in self._connections:
            if connection.exchange and re.search(match, connection.exchange.what):
                connection.exchange.last_words = last_words
                connection.exchange.end.set()

    def _down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._cut("")

    def _do(self, act: Callable[[], None]) -> None:
        async def acting() -> None:
            act()

        self._run(acting())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


@contextmanager
def fault_proxy(plane: ControlPlane, user: Access | None = None) -> Iterator[FaultProxy]:
    """One for `user`, the administrator where none is given."""
    proxy = FaultProxy(plane, user or plane.cluster.access)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()


def _status(code: int) -> bytes:
    """The body of an error as API servers write it."""
    reason = _REASONS.get(code, "Unknown")
    content = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
    return json.dumps({**content, "message": f"{reason}, said by the tests' proxy"}).encode()
