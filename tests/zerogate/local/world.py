"""A local runtime with the stub server, for the tests of this folder."""

import asyncio
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from tests.stub_server import STUB
from tests.zerogate.runtime.contract import CEILINGS, World
from zerogate.local.definition import LocalDefinition
from zerogate.local.runtime import LocalRuntime
from zerogate.runtime.interface import Address, Replica


def definition(folder: Path, service: str = "a", *flags: str, **more: Any) -> LocalDefinition:
    """The stub with `flags` as a service."""
    command = tuple(more.pop("command", (*STUB, *flags)))
    env = more.pop("env", {})
    cwd = more.pop("cwd", None)
    return LocalDefinition(
        service=service,
        command=command,
        env=env,
        cwd=cwd,
        definition_hash=f"{crc32(repr((command, env, cwd)).encode()):x}",
        log_file=more.pop("log_file", folder / "logs" / f"{service}.log"),
        stop_grace_s=more.pop("stop_grace_s", 5.0),
        **more,
    )


@contextmanager
def open_files_used_up() -> Iterator[None]:
    """No further descriptor can be opened by this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open("/dev/null", os.O_RDONLY)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def ask(address: Address, target: str) -> dict[str, Any]:
    """A small HTTP client; tries again while nobody listens."""
    async with asyncio.timeout(10):
        while True:
            try:
                reader, writer = await asyncio.open_connection(address.host, address.port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.005)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: stub\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    body = answer.partition(b"\r\n\r\n")[2]
    return dict(json.loads(body)) if body else {}


class LocalWorld(World):
    """Services a and b of the contract as stubs that become ready when told to."""

    def __init__(
        self, folder: Path, *flags: str, instance: str | None = None, adopts: bool = False, **more: Any
    ) -> None:
        super().__init__(is_late=adopts)
        self.folder = folder
        self.instance = instance or str(folder)
        self.definitions = {
            service: definition(folder, service, *(flags or ("--never-ready",)), max_replicas=ceiling, **more)
            for service, ceiling in CEILINGS.items()
        }
        self.runtime: LocalRuntime = LocalRuntime(self.definitions, instance=self.instance, state_dir=folder / "state")

    async def start(self) -> None:
        self.runtime.subscribe(self.seen)
        self.runtime.set_quiescer(self.gates)
        await self.runtime.start()

    def replica(self, replica_id: str) -> Replica:
        return self.seen.now[replica_id]

    async def make_ready(self, replica_id: str) -> None:
        await ask(self.replica(replica_id).address, "/control/ready")

    async def crash(self, replica_id: str, message: str = "told to crash") -> None:
        await ask(self.replica(replica_id).address, f"/control/crash?code=3&message={message.replace(' ', '+')}")
