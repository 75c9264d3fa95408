"""A slow reader never makes memory grow, whatever the body: 4 GiB through a client, and to a replica, that stall.

Bytes that are under way lie in six buffers: the kernel's four, and ours to the reader. Everybody in front of the one
who does not read has to come to a stop, and nothing of what is sent may stay with zerogate.
"""

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.certificates import Authority
from tests.e2e.harness import Box, free_port, soon, zerogate
from tests.e2e.torrent import MIB, Client, Torrent, torrent, until_it_stops
from tests.programs import CURL, needs_curl

pytestmark = [pytest.mark.slow, pytest.mark.may_block, pytest.mark.timeout(240)]

GIB: Final = 1 << 30
UNDER_WAY_BYTES: Final = 256 * MIB
"""A sixteenth of it. The kernel's four buffers grow as the machine allows (`tcp_rmem`, `tcp_wmem`: 72 MiB where it was
written, of which 44 were seen to be used). How much of it lies with us, `Peak` says."""
GROWTH_BYTES: Final = 2 * MIB
"""Two marks of 64 KiB and a read of 256 KiB are ours; the rest is the allocator's. Measured: 0.1 to 0.6 MiB."""


class Peak:
    """The most memory that a process had at once since this was made."""

    def __init__(self, box: Box) -> None:
        self._folder = Path(f"/proc/{box.process.pid}")
        (self._folder / "clear_refs").write_text("5")
        self._before = self._bytes()

    def growth(self) -> int:
        return self._bytes() - self._before

    def _bytes(self) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


async def warm(box: Box, server: Torrent) -> None:
    """What is imported and allocated with the first bytes of a kind is no growth."""
    size, server.size = server.size, 8 * MIB
    for method in ("GET", "POST"):
        server.reads.set()
        content = bytes(8 * MIB) if method == "POST" else None
        answer = await box.client.request(method, "/", headers={"Host": "chat"}, content=content)
        assert answer.status_code == 200
    server.size, server.sent, server.read = size, 0, 0
    server.reads.clear()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_an_answer_of_4_gib_waits_for_a_client_that_stalls_and_leaves_memory_as_it_was(
    tmp_path: Path, chunked: bool
) -> None:
    with torrent(4 * GIB, chunked=chunked) as server:
        async with zerogate({"chat": {"endpoint": server.url}}, tmp_path) as box:
            await warm(box, server)
            peak = Peak(box)
            with await asyncio.to_thread(Client, box.listen) as client:
                await asyncio.to_thread(client.begin, "GET", "chat")
                assert await until_it_stops(server) < UNDER_WAY_BYTES
                assert peak.growth() < GROWTH_BYTES
                status, fields = await asyncio.to_thread(client.answer)
                assert status == 200
                assert await asyncio.to_thread(client.download, fields) == 4 * GIB
                assert peak.growth() < GROWTH_BYTES


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_request_of_4_gib_waits_for_a_replica_that_stalls_and_leaves_memory_as_it_was(
    tmp_path: Path, chunked: bool
) -> None:
    with torrent(4 * GIB) as server:
        async with zerogate({"chat": {"endpoint": server.url}}, tmp_path) as box:
            await warm(box, server)
            peak = Peak(box)
            with await asyncio.to_thread(Client, box.listen) as client:
                framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {4 * GIB}"
                await asyncio.to_thread(client.begin, "POST", "chat", framing)
                upload = soon(asyncio.to_thread(client.upload, 4 * GIB, chunked=chunked))
                assert await until_it_stops(client) < UNDER_WAY_BYTES
                assert peak.growth() < GROWTH_BYTES
                server.reads.set()
                await upload
                status, fields = await asyncio.to_thread(client.answer)
                assert (status, await asyncio.to_thread(client.text, fields)) == (200, b"%d" % (4 * GIB))
                assert peak.growth() < GROWTH_BYTES


async def test_over_tls_too_an_answer_waits_for_a_client_that_stalls(tmp_path: Path) -> None:
    authority = Authority()
    authority.issue(tmp_path, "server")
    port, size = free_port(), 512 * MIB
    top: dict[str, Any] = {
        "listen_tls": f"127.0.0.1:{port}",
        "tls": [{"certificate": "server.crt", "key": "server.key"}],
    }
    with torrent(size) as server:
        async with zerogate({"chat": {"endpoint": server.url}}, tmp_path, **top) as box:
            await warm(box, server)
            peak = Peak(box)
            with await asyncio.to_thread(Client, port, authority.trusted()) as client:
                await asyncio.to_thread(client.begin, "GET", "chat")
                assert await until_it_stops(server) < UNDER_WAY_BYTES
                status, fields = await asyncio.to_thread(client.answer)
                assert status == 200
                assert await asyncio.to_thread(client.download, fields) == size
                assert peak.growth() < GROWTH_BYTES


@contextlib.asynccontextmanager
async def curl(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """curl over HTTP/2 without TLS; it can be stopped and told to go on by signals, as a client that stalls."""
    process = await asyncio.create_subprocess_exec(
        str(CURL), "-sS", "--http2-prior-knowledge", "-H", "Host: chat", *words,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@needs_curl
async def test_over_http_2_too_an_answer_waits_for_a_client_that_stalls(tmp_path: Path) -> None:
    size = 512 * MIB
    with torrent(size) as server:
        async with zerogate({"chat": {"endpoint": server.url}}, tmp_path) as box:
            await warm(box, server)
            peak = Peak(box)
            async with curl("-o", "/dev/null", "-w", "%{size_download}", box.url) as client:
                async with asyncio.timeout(20):
                    while not server.sent:
                        await asyncio.sleep(0.001)
                client.send_signal(signal.SIGSTOP)
                assert await until_it_stops(server) < size
                assert peak.growth() < GROWTH_BYTES
                client.send_signal(signal.SIGCONT)
                out, err = await client.communicate()
                assert (out, err) == (b"%d" % size, b"")
            assert peak.growth() < GROWTH_BYTES


@needs_curl
async def test_over_http_2_too_a_request_waits_for_a_replica_that_stalls(tmp_path: Path) -> None:
    size = 512 * MIB
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(size)
    with torrent(size) as server:
        async with zerogate({"chat": {"endpoint": server.url}}, tmp_path) as box:
            await warm(box, server)
            peak = Peak(box)
            async with curl("-X", "POST", "-T", file.name, box.url) as client:
                await box.until("chat", lambda status: status["in_flight"] == 1)
                await asyncio.sleep(2)  # longer than 512 MiB need to be read where nothing holds them up
                assert peak.growth() < GROWTH_BYTES
                server.reads.set()
                assert await client.communicate() == (b"%d" % size, b"")
            assert peak.growth() < GROWTH_BYTES
