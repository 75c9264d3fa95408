"""A real client of gRPC for tests, without code made from definitions: messages are plain bytes.

async with calls(box.listen, authority="echo") as echo:
    assert await echo.unary("Unary", b"x") == b"x"
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

CHECK = "/grpc.health.v1.Health/Check"
DEADLINE_S = 30


class Calls:
    """The methods of `tests.grpc_server`; each call gives up after `DEADLINE_S` unless it says otherwise."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def unary(self, method: str, message: bytes = b"", *, timeout: float | None = DEADLINE_S, **more: Any) -> Any:
        """A call with one message each way; await it, or ask it for its trailers."""
        path = method if method.startswith("/") else f"/test.Echo/{method}"
        return self.channel.unary_unary(path)(message, timeout=timeout, **more)

    def split(self, message: bytes, method: str = "Split") -> Any:
        """One message there, many back."""
        return self.channel.unary_stream(f"/test.Echo/{method}")(message, timeout=DEADLINE_S)

    def join(self, messages: Iterable[bytes] | AsyncIterator[bytes]) -> Any:
        """Many messages there, one back."""
        return self.channel.stream_unary("/test.Echo/Join")(messages, timeout=DEADLINE_S)

    def chat(self) -> Any:
        """Both ways at the same time: `write`, `read`, `done_writing`."""
        return self.channel.stream_stream("/test.Echo/Chat")(timeout=DEADLINE_S)

    async def seen(self) -> dict[str, int]:
        """What the server counted."""
        lines = (await self.unary("Stats")).decode().splitlines()
        return {name: int(count) for name, count in (line.split() for line in lines)}


@asynccontextmanager
async def calls(port: int, *, authority: str | None = None) -> AsyncIterator[Calls]:
    """Calls to a server on loopback; `authority` is the host that it is asked for."""
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    if authority is not None:
        options.append(("grpc.default_authority", authority))  # type: ignore[arg-type]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield Calls(channel)
