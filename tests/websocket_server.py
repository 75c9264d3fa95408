"""A model server that speaks WebSocket: echoes messages, on the port in $PORT. Run as a process of its own.

With `--silent` it asks nobody whether they are still there.
"""

import asyncio
import os
import sys
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response


async def echo(ws: ServerConnection) -> None:
    """Each message comes back; `stream` starts an endless stream of big ones."""
    async for message in ws:
        if message == "stream":
            while True:
                await ws.send(bytes(300_000))
        await ws.send(message)


def health(ws: ServerConnection, request: Request) -> Response | None:
    """The readiness probe."""
    return ws.respond(HTTPStatus.OK, "ready\n") if request.path == "/health" else None


async def main() -> None:
    ping_s = None if "--silent" in sys.argv else 20
    async with serve(
        echo, "127.0.0.1", int(os.environ["PORT"]), process_request=health, compression=None, ping_interval=ping_s
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
