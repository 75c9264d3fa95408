"""A plain streaming reverse proxy on aiohttp and uvloop, as one would write it in an hour: `PORT BACKEND`."""

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, WSMsgType, web

_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authorization"}
_BACKEND = web.AppKey("backend", str)
_SESSION = web.AppKey("session", ClientSession)


async def _pass_on(request: web.Request) -> web.StreamResponse:
    url = request.app[_BACKEND] + request.path_qs
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await _pass_messages_on(request, url)
    headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP]
    headers.append(("X-Forwarded-For", request.remote or ""))
    body = request.content if request.can_read_body else None
    session = request.app[_SESSION]
    async with session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer:
        response = web.StreamResponse(status=answer.status)
        response.headers.extend((n, v) for n, v in answer.headers.items() if n.lower() not in _HOP_BY_HOP)
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


async def _pass_messages_on(request: web.Request, url: str) -> web.WebSocketResponse:
    client = web.WebSocketResponse()
    async with request.app[_SESSION].ws_connect(url) as server:
        await client.prepare(request)

        async def relay(source: object, target: object) -> None:
            async for message in source:  # type: ignore[attr-defined]
                send = target.send_str if message.type is WSMsgType.TEXT else target.send_bytes  # type: ignore[attr-defined]
                await send(message.data)

        await asyncio.gather(relay(client, server), relay(server, client))
    return client


async def _session(app: web.Application):  # type: ignore[no-untyped-def]
    connector = TCPConnector(limit=0)
    async with ClientSession(connector=connector, timeout=ClientTimeout(None), auto_decompress=False) as session:
        app[_SESSION] = session
        yield


def main(port: int, backend: int) -> None:
    """Serve until told to end."""
    app = web.Application(client_max_size=1 << 40)
    app[_BACKEND] = f"http://127.0.0.1:{backend}"
    app.cleanup_ctx.append(_session)
    app.router.add_route("*", "/{path:.*}", _pass_on)
    web.run_app(
        app, host="127.0.0.1", port=port, access_log=None, print=None, backlog=16384,
        loop=uvloop.new_event_loop(), shutdown_timeout=0,
    )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
