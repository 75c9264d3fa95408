"""A real `zerogate up` in a process of its own, with stub model servers behind it, on ports of its own.

    async with zerogate({"chat": stub("--ready-after", "1", **{"idle-timeout": "2s"})}, tmp_path) as box:
        answer = await box.get("chat", "/echo")

Traffic goes through real sockets with httpx (`box.client`) or raw ones (`box.wire`); what zerogate thinks is read
from its admin API, what a model server saw from the stub's own `/stats`, asked directly and not through zerogate.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpcore  # noqa: F401 - httpx loads it with its first client, which would be on a loop
import httpx
import yaml

from tests.e2e.wire import Wire, wire
from tests.stub_server import STUB

ROOT = Path(__file__).resolve().parents[2]
UP = [sys.executable, "-m", "cli", "up"]

Service = dict[str, Any]
T = TypeVar("T")


def stub(*flags: str, definition: Mapping[str, Any] | None = None, **policy: Any) -> Service:
    """A service that runs the stub with `flags`; policy keys with `_` for `-`, other keys in `definition`.

    It is told apart by its name as a host unless `definition` gives models, hosts or a path prefix.
    """
    keys = {name.replace("_", "-"): value for name, value in policy.items()}
    return {"command": [*STUB, *flags], "policy": {"idle-timeout": "1h", **keys}, **(definition or {})}


def soon(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Begin `work`, usually a request, and go on beside it; the caller awaits it later."""
    return asyncio.get_running_loop().create_task(work)


class Latch:
    """Stubs started with its flags are not ready before it is opened: a cold start as long as a test needs it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "latch"

    @property
    def flags(self) -> tuple[str, str]:
        return "--ready-file", str(self._file)

    def open(self) -> None:
        self._file.touch()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Box:
    """A running zerogate. `output` is what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, listen: int, admin: int) -> None:
        self.process = process
        self.folder = folder
        self.file = folder / "zerogate.yaml"
        self.listen = listen
        self.admin = admin
        self.url = f"http://127.0.0.1:{listen}"
        self.admin_url = f"http://127.0.0.1:{admin}"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self.client = httpx.AsyncClient(base_url=self.url, timeout=60, limits=limits, verify=False)
        self._admin_client = httpx.AsyncClient(base_url=self.admin_url, timeout=10, verify=False)

    @property
    def output(self) -> str:
        return (self.folder / "up.log").read_text()

    # traffic

    async def get(self, service: str, path: str = "/", **more: Any) -> httpx.Response:
        """A GET to a service by its name as a host."""
        headers = {"Host": service, **more.pop("headers", {})}
        return await self.client.get(path, headers=headers, **more)

    async def post(self, service: str, path: str, content: Any, **more: Any) -> httpx.Response:
        """A POST to a service by its name as a host."""
        headers = {"Host": service, **more.pop("headers", {})}
        return await self.client.post(path, content=content, headers=headers, **more)

    def wire(self) -> AbstractAsyncContextManager[Wire]:
        """A raw connection to the traffic port."""
        return wire(self.listen)

    # what zerogate says

    async def status(self, service: str) -> dict[str, Any]:
        """`/api/services/NAME`."""
        answer = await self._admin_client.get(f"/api/services/{service}")
        answer.raise_for_status()
        return dict(answer.json())

    async def decisions(self, service: str) -> dict[str, Any]:
        """`/api/services/NAME/decisions`."""
        return dict((await self._admin_client.get(f"/api/services/{service}/decisions")).json())

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Any request to the admin API."""
        return await self._admin_client.request(method, path, **more)

    async def metrics(self) -> dict[str, float]:
        """All samples of `/metrics` by their series, as printed: `name{label="x"}` → value."""
        text = (await self._admin_client.get("/metrics")).text
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {series: float(value) for series, value in lines}

    async def until(
        self, service: str, holds: Callable[[dict[str, Any]], bool], *, within_s: float = 30
    ) -> dict[str, Any]:
        """Ask for the service's status until `holds` says so. The pause between two looks races with nothing."""
        try:
            async with asyncio.timeout(within_s):
                while not holds(status := await self.status(service)):
                    await asyncio.sleep(0.02)
                return status
        except TimeoutError:
            now = json.dumps(await self.status(service), indent=1)
            raise AssertionError(f"it did not come to pass within {within_s} s\n{now}\n{self.output}") from None

    async def until_held(self, service: str, count: int, *, within_s: float = 30) -> dict[str, Any]:
        """Wait until exactly so many requests are held."""
        return await self.until(service, lambda status: status["held"] == count, within_s=within_s)

    async def ended(self, service: str) -> dict[str, int]:
        """How many requests ended, by result; those of no request are left out."""
        found = {}
        for series, value in (await self.metrics()).items():
            if series.startswith(f'zerogate_requests_total{{service="{service}"') and value:
                found[series.split('result="')[1].split('"')[0]] = int(value)
        return found

    async def refusals(self, service: str) -> dict[str, int]:
        """How many requests were refused, by code."""
        start = f'zerogate_refusals_total{{service="{service}",code="'
        metrics = await self.metrics()
        return {series[len(start) : -2]: int(value) for series, value in metrics.items() if series.startswith(start)}

    async def until_zero(self, service: str, *, within_s: float = 30) -> dict[str, Any]:
        """Wait until the service has no replica in any state."""
        return await self.until(service, lambda status: not status["replicas"], within_s=within_s)

    async def until_ready(self, service: str, count: int = 1, *, within_s: float = 30) -> dict[str, Any]:
        """Wait until so many replicas are ready."""
        return await self.until(service, lambda status: ready(status) >= count, within_s=within_s)

    # what the model servers saw

    async def stats(self, service: str) -> list[dict[str, Any]]:
        """Each replica's `/stats`, asked directly."""
        return [await self.tell(one, "/stats") for one in (await self.status(service))["replicas"]]

    async def tell(self, replica: Mapping[str, Any], path: str) -> dict[str, Any]:
        """A request to a replica itself, for the stub's control paths."""
        answer = await self._admin_client.get(f"http://{replica['address']}{path}")
        return dict(answer.json()) if answer.headers.get("content-type", "").startswith("application/json") else {}

    # life

    def write(self, services: Mapping[str, Service], **top: Any) -> None:
        """Write the file anew; `reload` or SIGHUP applies it."""
        write_file(self.file, self.listen, self.admin, services, **top)

    async def stop(self, number: int = signal.SIGINT) -> int:
        """Send the signal and wait for the end; the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 60)


def ready(status: Mapping[str, Any]) -> int:
    """Ready replicas in a status."""
    return sum(replica["state"] == "ready" for replica in status["replicas"])


def write_file(path: Path, port: int, admin: int, services: Mapping[str, Service], **top: Any) -> None:
    """A box file; `top` adds keys at its top level, with `_` for `-`."""
    content = {
        "admin": f"127.0.0.1:{admin}",
        "state-dir": str(path.parent / "state"),
        **{name.replace("_", "-"): value for name, value in top.items()},
        "listen": top.get("listen") or f"127.0.0.1:{port}",
        "services": dict(services),
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@asynccontextmanager
async def zerogate(
    services: Mapping[str, Service], folder: Path, *, env: Mapping[str, str] | None = None, **top: Any
) -> AsyncIterator[Box]:
    """Start it, wait until it takes traffic, hand it over, stop it. Fails where it leaves with another code than 0."""
    box = await start(services, folder, env=env, **top)
    try:
        yield box
    finally:
        await close(box)


async def start(
    services: Mapping[str, Service], folder: Path, *, env: Mapping[str, str] | None = None, **top: Any
) -> Box:
    """A running box; the caller closes it."""
    port, admin = free_port(), free_port()
    write_file(folder / "zerogate.yaml", port, admin, services, **top)
    return await start_again(folder, port, admin, env=env)


async def start_again(folder: Path, listen: int, admin: int, *, env: Mapping[str, str] | None = None) -> Box:
    """A box from the file that lies in `folder` already."""
    with (folder / "up.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *UP, str(folder / "zerogate.yaml"), cwd=ROOT, env={**os.environ, **(env or {})}, stdout=log, stderr=log
        )  # fmt: skip
    box = Box(process, folder, listen, admin)
    async with asyncio.timeout(30):
        while not await _takes_traffic(box):
            assert process.returncode is None, f"zerogate left with {process.returncode}:\n{box.output}"
            await asyncio.sleep(0.02)
    return box


async def close(box: Box) -> None:
    """Stop it if it still runs, and close the clients."""
    was_running = box.process.returncode is None
    try:
        code = await box.stop()
    finally:
        await box.client.aclose()
        await box._admin_client.aclose()
    assert code == 0 or not was_running, f"zerogate left with {code}:\n{box.output}"


async def _takes_traffic(box: Box) -> bool:
    try:
        return (await box.ask("GET", "/readyz")).status_code == 200
    except httpx.TransportError:
        return False
