"""A real server of HTTP/2 in the test's own loop, with WebSockets over it (RFC 8441): hypercorn, and an ASGI app."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from hypercorn.asyncio import serve
from hypercorn.config import Config

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Echo:
    """Answers requests with how they came, and WebSockets with their own messages; `closed` has their codes."""

    def __init__(self) -> None:
        self.closed: asyncio.Queue[int] = asyncio.Queue()
        self.opened: list[Message] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._talk(scope, receive, send)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        how = {"version": scope["http_version"], "scheme": scope["scheme"], "path": scope["path"], "size": len(body)}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": msgspec.json.encode(how)})

    async def _talk(self, scope: Message, receive: Receive, send: Send) -> None:
        self.opened.append(scope)
        await receive()
        if scope["path"] == "/refused":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                self.closed.put_nowait(event["code"])
                return
            if event.get("text") == "close":
                await send({"type": "websocket.close", "code": 4002, "reason": "asked"})
            elif event.get("text") is not None:
                await send({"type": "websocket.send", "text": event["text"]})
            else:
                await send({"type": "websocket.send", "bytes": event["bytes"]})


@asynccontextmanager
async def hypercorn(app: Echo, **more: Any) -> AsyncIterator[int]:
    """Its port. `more`: attributes of hypercorn's configuration, such as `certfile`."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.accesslog = config.errorlog = None
    config.graceful_timeout = 0.1
    for name, value in more.items():
        setattr(config, name, value)
    stop = asyncio.Event()
    task = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]  # noqa: TID251
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        await task
        listener.detach()
