"""R3: WebSocket clients of two libraries through a real `zerogate up`, with uvicorn and aiohttp behind it."""

import asyncio
import os
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.certificates import Authority
from tests.e2e.harness import free_port, zerogate
from tests.e2e.servers.served import COMMANDS, behind

pytestmark = [pytest.mark.slow, pytest.mark.may_block("beginning a process takes long on a busy machine")]

by_server = pytest.mark.parametrize("server", COMMANDS)
MESSAGES = ("hello", "", "ü" * 70_000, b"", os.urandom(1 << 20))


@by_server
@pytest.mark.parametrize("way", ["ws", "wss"])
async def test_r3_r5_websockets_echoes_from_zero_and_reads_the_close_code(
    server: str, way: str, tmp_path: Path
) -> None:
    authority, port = Authority(), free_port()
    authority.issue(tmp_path, "server")
    pair = [{"certificate": "server.crt", "key": "server.key"}]
    async with zerogate({"chat": behind(server)}, tmp_path, listen_tls=f"127.0.0.1:{port}", tls=pair) as box:
        url = f"ws://127.0.0.1:{box.listen}" if way == "ws" else f"wss://127.0.0.1:{port}"
        trusted = authority.trusted() if way == "wss" else None
        async with connect(
            f"{url}/socket", ssl=trusted, subprotocols=["tokens.v1"], proxy=None, max_size=None  # type: ignore[list-item]
        ) as ws:  # fmt: skip
            assert ws.subprotocol == "tokens.v1"
            assert ws.protocol.extensions != []
            for message in MESSAGES:
                await ws.send(message)
                assert await asyncio.wait_for(ws.recv(), 10) == message
            await ws.send(iter(["in ", "three ", "pieces"]))
            assert await ws.recv() == "in three pieces"
            await (await ws.ping())
            await ws.send("close 4321 enough")
            with pytest.raises(ConnectionClosed) as ended:
                await asyncio.wait_for(ws.recv(), 10)
            assert ended.value.rcvd is not None
            assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (4321, "enough")
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{url}/refused", ssl=trusted, proxy=None)
        assert refused.value.response.status_code == 403
        await box.until("chat", lambda status: status["in_flight"] == 0)
        assert await box.ended("chat") == {"served": 2}


@by_server
async def test_r3_aiohttp_echoes_from_zero_and_reads_the_close_code(server: str, tmp_path: Path) -> None:
    async with zerogate({"chat": behind(server)}, tmp_path) as box, aiohttp.ClientSession(box.url) as session:
        async with session.ws_connect("/socket", protocols=["tokens.v1"], max_msg_size=0, compress=15) as ws:
            assert ws.protocol == "tokens.v1"
            assert ws.compress
            for message in MESSAGES:
                if isinstance(message, str):
                    await ws.send_str(message)
                    assert await ws.receive_str(timeout=10) == message
                else:
                    await ws.send_bytes(message)
                    assert await ws.receive_bytes(timeout=10) == message
            await ws.send_str("close 4321 enough")
            last = await ws.receive(timeout=10)
            assert (last.type, last.data, last.extra) == (aiohttp.WSMsgType.CLOSE, 4321, "enough")
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await session.ws_connect("/refused")
        await box.until("chat", lambda status: status["in_flight"] == 0)
        assert await box.ended("chat") == {"served": 2}
