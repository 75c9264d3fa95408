"""nginx on both sides of a real `zerogate up`: as the server behind it, and as the proxy in front."""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.e2e.harness import free_port, zerogate
from tests.e2e.servers.served import allow, behind, nginx
from tests.e2e.wire import request
from tests.programs import needs_nginx

pytestmark = [
    pytest.mark.slow,
    pytest.mark.may_block("beginning a process takes long on a busy machine"),
    needs_nginx,
]

FILES = """
    root %s; default_type application/octet-stream; etag on; keepalive_requests 5;
    location = /health { return 200 'ready'; }
    location = /nothing { return 204; }
    location = /closes { keepalive_timeout 0; return 200 'bye'; }
"""
PROXY = """
    location / {
      proxy_pass http://127.0.0.1:%d; proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;
      proxy_set_header Host chat;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }
"""


async def test_files_of_nginx_come_as_it_sends_them_ranges_and_revalidation_and_gzip_included(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    body = random.Random(6).randbytes(5 << 20)
    (files / "model.bin").write_bytes(body)
    (files / "words.html").write_text("word " * 10_000)
    async with zerogate({"chat": nginx(tmp_path, FILES % files)}, tmp_path) as box:
        answer = await box.get("chat", "/model.bin")
        assert (answer.status_code, answer.content == body) == (200, True)
        part = await box.get("chat", "/model.bin", headers={"Range": "bytes=1000000-3999999"})
        assert (part.status_code, part.content == body[1_000_000:4_000_000]) == (206, True)
        parts = await box.get("chat", "/model.bin", headers={"Range": "bytes=0-4,10-14"})
        assert parts.headers["content-type"].startswith("multipart/byteranges")
        same = await box.get("chat", "/model.bin", headers={"If-None-Match": answer.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        packed = await box.get("chat", "/words.html", headers={"Accept-Encoding": "gzip"})
        assert (packed.headers["content-encoding"], packed.text) == ("gzip", "word " * 10_000)
        assert packed.headers["transfer-encoding"] == "chunked"
        head = await box.client.head("/model.bin", headers={"Host": "chat"})
        assert (head.headers["content-length"], head.content) == (str(len(body)), b"")
        assert (await box.get("chat", "/nothing")).status_code == 204
        assert (await box.get("chat", "/missing")).status_code == 404


async def test_a_server_that_closes_every_few_requests_costs_no_client_an_answer(tmp_path: Path) -> None:
    """nginx closes after `keepalive_requests`, and always at `/closes`: no request may fall into that gap."""
    async with zerogate({"chat": nginx(tmp_path, FILES % tmp_path)}, tmp_path) as box:
        paths = ["/health", "/closes", "/nothing"] * 40
        answers = await asyncio.gather(*(box.get("chat", path) for path in paths))
        assert [answer.status_code for answer in answers] == [200, 200, 204] * 40
        async with box.wire() as one:
            for path in paths:
                await one.send(request("GET", path, host="chat"))
                head = await one.head()
                assert head.status == (204 if path == "/nothing" else 200)
                if head.status == 200:
                    await one.body(head)


@contextlib.asynccontextmanager
async def in_front(folder: Path, port: int) -> AsyncIterator[str]:
    """nginx as a proxy to `port`; its URL."""
    folder.mkdir()
    service = nginx(folder, PROXY % port)
    upgrade = "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }\n  server {"
    conf = folder / "nginx.conf.in"
    conf.write_text(conf.read_text().replace("server {", upgrade, 1))
    own = free_port()
    process = await asyncio.create_subprocess_exec(
        *service["command"], cwd=folder, env={**os.environ, "PORT": str(own)}
    )
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", own)
                    break
                except OSError:
                    await asyncio.sleep(0.02)
            writer.close()
        yield f"127.0.0.1:{own}"
    finally:
        process.terminate()
        await process.wait()


async def test_behind_nginx_bodies_events_and_websockets_pass_as_without_it(tmp_path: Path) -> None:
    body = random.Random(7).randbytes(5 << 20)
    async with (
        zerogate({"chat": behind("uvicorn")}, tmp_path) as box,
        in_front(tmp_path / "front", box.listen) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=30, verify=False) as client,
    ):
        answer = await client.post("/echo", content=body)
        assert (answer.status_code, answer.content == body) == (200, True)
        async with client.stream("GET", "/events?n=5") as events:
            number = 0
            async for line in events.aiter_lines():
                if line == f"data: event {number}":
                    number += 1
                    await allow(box)
            assert number == 5
        async with connect(f"ws://{address}/socket", proxy=None) as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"
            await ws.close(4000)
            assert ws.close_code == 4000
