"""The model server of the client tests as an ASGI application, for uvicorn. `served.py` says what its paths do."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

allowed = asyncio.Semaphore(0)


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """One request, one WebSocket, or the process's life."""
    if scope["type"] == "websocket":
        await _socket(scope, receive, send)
    elif scope["type"] == "http":
        await _request(scope, receive, send)


async def _request(scope: Message, receive: Receive, send: Send) -> None:
    path, query = scope["path"], parse_qs(scope["query_string"].decode())
    if path == "/echo":
        await _echo(scope, receive, send)
    elif path == "/events":
        last = next((int(value) for name, value in scope["headers"] if name == b"last-event-id"), -1)
        await _events(last + 1, int(query["n"][0]), send)
    else:
        if path == "/allow":
            allowed.release()
        await _head(send, 200, {"content-type": "application/json"})
        seen = {"path": path, "fields": [[name.decode(), value.decode()] for name, value in scope["headers"]]}
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


async def _echo(scope: Message, receive: Receive, send: Send) -> None:
    """Piece by piece, in chunks."""
    kind = next((value.decode() for name, value in scope["headers"] if name == b"content-type"), "text/plain")
    await _head(send, 200, {"content-type": kind})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def _events(first: int, count: int, send: Send) -> None:
    await _head(send, 200, {"content-type": "text/event-stream", "cache-control": "no-cache"})
    for number in range(first, count):
        if number > first:
            await allowed.acquire()
        event = f"retry: 50\nid: {number}\ndata: event {number}\n\n".encode()
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def _socket(scope: Message, receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    if scope["path"] == "/refused":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text is not None and text.startswith("close "):
            _, code, reason = text.split(" ", 2)
            await send({"type": "websocket.close", "code": int(code), "reason": reason})
            return
        await send({"type": "websocket.send", "text": text, "bytes": message.get("bytes")})


async def _head(send: Send, status: int, fields: dict[str, str]) -> None:
    lines = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
