"""A real sidecar in front of a real stub model server, on loopback."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.stub_server import STUB
from tests.zerogate.http.rig import LONGEST_S, Client, Clients

COMMAND = [sys.executable, "-m", "queueproxy"]


class Program:
    """A child process whose lines are read as they come."""

    def __init__(self, process: asyncio.subprocess.Process, lines: asyncio.StreamReader | None) -> None:
        assert lines is not None
        self.process = process
        self._lines = lines

    async def line_with(self, words: str) -> str:
        """The next line with these words in it."""
        async with asyncio.timeout(LONGEST_S):
            while line := (await self._lines.readline()).decode():
                if words in line:
                    return line
        raise AssertionError(f"it ended without saying {words!r}")

    async def rest(self) -> str:
        """Everything it said until it ended."""
        return (await asyncio.wait_for(self._lines.read(), LONGEST_S)).decode()

    async def end(self) -> int:
        """The exit code."""
        return await asyncio.wait_for(self.process.wait(), LONGEST_S)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)


class World:
    """`stub` behind `sidecar`; `port` takes traffic, `admin_port` the admin's requests."""

    def __init__(self) -> None:
        self.stub_port = self.port = self.admin_port = 0
        self.stub: Program
        self.sidecar: Program
        self.clients = Clients()

    async def connect(self, port: int | None = None) -> Client:
        return await self.clients.connect("127.0.0.1", port or self.port)

    async def ask(self, port: int, path: str, *, method: str = "GET", headers: str = "") -> tuple[int, str, bytes]:
        """(status, head in lower case, body) of a request on a connection of its own."""
        client = await self.connect(port)
        try:
            await client.send(
                f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Connection: close\r\n\r\n".encode()
            )
            head, _, body = (await client.rest()).partition(b"\r\n\r\n")
        finally:
            self.clients.disown(client)
        return int(head.split()[1]), head.decode().lower(), body

    async def get(self, path: str, *, headers: str = "") -> tuple[int, str, bytes]:
        return await self.ask(self.port, path, headers=headers)

    async def admin(self, path: str, **more: str) -> tuple[int, Any]:
        status, _, body = await self.ask(self.admin_port, path, **more)
        return status, json.loads(body)

    async def tell_stub(self, path: str) -> Any:
        return json.loads((await self.ask(self.stub_port, path))[2])

    async def stat(self) -> Any:
        return (await self.admin("/stats"))[1]

    async def until(self, seen: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it is so: a state of another process that tells nothing by itself."""
        async with asyncio.timeout(LONGEST_S):
            while not await seen():
                await asyncio.sleep(0.01)

    async def until_stat(self, **wanted: int) -> None:
        async def seen() -> bool:
            stat = await self.stat()
            return all(stat[name] == value for name, value in wanted.items())

        await self.until(seen)


async def ended(program: Callable[[], Program]) -> None:
    """Kill what is this program by now, where it still runs, and wait for its end."""
    one = program()
    if one.process.returncode is None:
        one.signal(signal.SIGKILL)
    await one.end()


async def start_stub(*flags: str, port: int = 0) -> tuple[Program, int]:
    """A stub model server and its port."""
    command = [word.replace("{port}", str(port)) for word in (*STUB, *flags)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    stub = Program(process, process.stdout)
    return stub, int((await stub.line_with("listening")).split()[-1])


async def start_sidecar(
    *flags: str, python: tuple[str, ...] = (), stdout: int | None = None, **environ: str
) -> Program:  # fmt: skip
    """`python -m queueproxy` with these flags and further variables."""
    command = [COMMAND[0], *python, *COMMAND[1:], *flags]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=stdout, stderr=asyncio.subprocess.PIPE, env={**os.environ, **environ}
    )  # fmt: skip
    return Program(process, process.stderr)


@asynccontextmanager
async def world(*flags: str, stub_flags: tuple[str, ...] = (), ready: bool = True) -> AsyncIterator[World]:
    """Both processes; the sidecar has these flags, and its replica is ready unless `ready` says otherwise."""
    it = World()
    async with AsyncExitStack() as stack:
        it.stub, it.stub_port = await start_stub(*stub_flags)
        stack.push_async_callback(ended, lambda: it.stub)
        ports = ("--upstream", str(it.stub_port), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        it.sidecar = await start_sidecar(*ports, *flags)
        stack.push_async_callback(ended, lambda: it.sidecar)
        await stack.enter_async_context(it.clients)
        numbers = re.findall(r":([0-9]+)", (await it.sidecar.line_with("requests on")).partition("requests on")[2])
        it.port, it.admin_port = int(numbers[0]), int(numbers[1])
        if ready:
            await it.sidecar.line_with("is ready")
        yield it
