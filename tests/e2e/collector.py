"""An OpenTelemetry collector for tests: takes OTLP over HTTP, decodes it, and can be slow or refuse.

async with collector() as taken:
    ...                           # zerogate with trace_to=taken.url
    spans = await taken.until(lambda spans: len(spans) >= 4)
"""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT"}


class Span(msgspec.Struct, frozen=True):
    """A span as it came; ids as hexadecimal digits, times in seconds since 1970."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    start_at: float
    end_at: float
    attributes: dict[str, Any]
    is_error: bool
    resource: dict[str, Any]


class Collector:
    """`spans` is what came so far, in the order of its coming."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.requests = 0
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self.status = 200
        self.is_open = asyncio.Event()
        """While it is not set, requests wait for their answer."""
        self.is_open.set()
        self._came = asyncio.Condition()

    async def take(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        await self.is_open.wait()
        if self.status == 200:
            self.headers.append(dict(request.headers))
            message = ExportTraceServiceRequest()
            message.ParseFromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
            self.spans += _spans(message)
        async with self._came:
            self._came.notify_all()
        return web.Response(status=self.status, content_type="application/x-protobuf")

    async def until(self, holds: Callable[[list[Span]], bool]) -> list[Span]:
        """Wait until what came is so."""
        async with asyncio.timeout(15), self._came:
            await self._came.wait_for(lambda: holds(self.spans))
        return self.spans

    async def until_asked(self, count: int) -> None:
        """Wait until so many requests have come, answered or not."""
        async with asyncio.timeout(15):
            while self.requests < count:
                await asyncio.sleep(0.01)

    def of(self, trace_id: str) -> dict[str, Span]:
        """The spans of a trace by their kind and name."""
        return {f"{one.kind} {one.name}": one for one in self.spans if one.trace_id == trace_id}


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """One that takes what comes, on a port of its own."""
    it = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", it.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        it.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield it
    finally:
        it.is_open.set()
        await runner.cleanup()


def _spans(message: Any) -> list[Span]:
    return [
        Span(
            name=one.name,
            kind=KINDS[one.kind],
            trace_id=one.trace_id.hex(),
            span_id=one.span_id.hex(),
            parent_id=one.parent_span_id.hex(),
            state=one.trace_state,
            start_at=one.start_time_unix_nano / 1e9,
            end_at=one.end_time_unix_nano / 1e9,
            attributes=_attributes(one.attributes),
            is_error=one.status.code == 2,
            resource=_attributes(group.resource.attributes),
        )
        for group in message.resource_spans
        for scope in group.scope_spans
        for one in scope.spans
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
