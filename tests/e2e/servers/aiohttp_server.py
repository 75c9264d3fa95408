"""The model server of the client tests on aiohttp: on the port in $PORT. See `served.py` for its paths."""

import asyncio
import os

from aiohttp import WSMsgType, web

allowed = asyncio.Semaphore(0)


async def echo(request: web.Request) -> web.StreamResponse:
    """Piece by piece, in chunks."""
    answer = web.StreamResponse(headers={"Content-Type": request.headers.get("Content-Type", "text/plain")})
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    async for piece in request.content.iter_any():
        await answer.write(piece)
    await answer.write_eof()
    return answer


async def events(request: web.Request) -> web.StreamResponse:
    """Each after the first when it is allowed."""
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await answer.prepare(request)
    first = int(request.headers.get("Last-Event-ID", "-1")) + 1
    for number in range(first, int(request.query["n"])):
        if number > first:
            await allowed.acquire()
        await answer.write(f"retry: 50\nid: {number}\ndata: event {number}\n\n".encode())
    await answer.write(b"data: [DONE]\n\n")
    return answer


async def speak(request: web.Request) -> web.WebSocketResponse:
    """Echo, and close as told."""
    socket = web.WebSocketResponse(protocols=request.headers.get("Sec-WebSocket-Protocol", "").split(", "))
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        elif message.data.startswith("close "):
            _, code, reason = message.data.split(" ", 2)
            await socket.close(code=int(code), message=reason.encode())
        else:
            await socket.send_str(message.data)
    return socket


async def refused(_: web.Request) -> web.Response:
    """No WebSocket here."""
    return web.Response(status=403)


async def anything(request: web.Request) -> web.Response:
    """What was asked."""
    if request.path == "/allow":
        allowed.release()
    return web.json_response({"path": request.path, "fields": [list(field) for field in request.headers.items()]})


def main() -> None:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/echo", echo)
    app.router.add_get("/events", events)
    app.router.add_get("/socket", speak)
    app.router.add_get("/refused", refused)
    app.router.add_route("*", "/{path:.*}", anything)
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None, shutdown_timeout=1)


if __name__ == "__main__":
    main()
