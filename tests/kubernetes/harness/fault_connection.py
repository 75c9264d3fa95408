"""One client's connection through the fault proxy: requests one by one, each answered by a rule or by the API server.

What is to be done with a request is said by `Faults`, which the proxy is.
"""

import asyncio
import json
import re
from typing import Any, Protocol

import h11
import msgspec

_READ = 65536
_REASONS = {410: "Expired", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}


class Rule(msgspec.Struct):
    """Requests that match are answered by the proxy, so many times; or, with `delay_s`, passed on later."""

    match: re.Pattern[str]
    times: float
    status: int = 0
    retry_after_s: int | None = None
    delay_s: float = 0.0


class Exchange:
    """One request on its way: its words, and what is to become of it."""

    def __init__(self, what: str, number: int) -> None:
        self.what = what
        self.number = number
        self.last_words: bytes | None = None
        self.end = asyncio.Event()


class Faults(Protocol):
    """What connections ask the proxy."""

    def began(self, what: str) -> Exchange:
        """A request has come."""

    def answered(self, exchange: Exchange, status: int) -> None:
        """Its answer has begun, or has ended with that status."""

    def rules_for(self, what: str) -> list[Rule]:
        """The rules that act on a request: every delay, and the first answer."""

    async def passable(self, exchange: Exchange) -> None:
        """Returns when nothing stalls the request."""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection to the API server."""


class Connection:
    """One client's connection, and its own one to the API server."""

    def __init__(self, proxy: Faults, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._client = h11.Connection(h11.SERVER)
        self._server = h11.Connection(h11.CLIENT)
        self._upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.exchange: Exchange | None = None

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

    async def _act(self, exchange: Exchange, head: h11.Request, body: bytes) -> int:
        for rule in self._proxy.rules_for(exchange.what):
            await asyncio.sleep(rule.delay_s)
            if rule.status:
                await self._proxy.passable(exchange)
                self._answer(rule)
                return rule.status
        await self._proxy.passable(exchange)
        return await self._forward(exchange, head, body)

    def _answer(self, rule: Rule) -> None:
        content = status_object(rule.status)
        headers = [("content-type", "application/json"), ("content-length", str(len(content)))]
        if rule.retry_after_s is not None:
            headers.append(("retry-after", str(rule.retry_after_s)))
        self._tell(h11.Response(status_code=rule.status, headers=headers), h11.Data(content), h11.EndOfMessage())

    async def _forward(self, exchange: Exchange, head: h11.Request, body: bytes) -> int:
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

    async def _answer_of(self, exchange: Exchange, reader: asyncio.StreamReader) -> Any:
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


def status_object(code: int) -> bytes:
    """The body of an error as API servers write it."""
    reason = _REASONS.get(code, "Unknown")
    content = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
    return json.dumps({**content, "message": f"{reason}, said by the tests' proxy"}).encode()
