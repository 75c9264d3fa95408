"""R3: WebSockets through a real `zerogate up`: from zero, drained, quiet, and losing their replica."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.harness import ROOT, Box, Service, soon, zerogate

pytestmark = [pytest.mark.slow, pytest.mark.may_block("beginning a process takes long on a busy machine")]

SERVER = [sys.executable, str(ROOT / "tests" / "websocket_server.py")]


def speaking(**policy: Any) -> Service:
    keys = {name.replace("_", "-"): value for name, value in policy.items()}
    return {"command": SERVER, "policy": {"idle-timeout": "1h", **keys}}


def client(box: Box) -> connect:
    return connect(f"ws://127.0.0.1:{box.listen}/", proxy=None, compression=None, max_size=None)


async def end_of(ws: ClientConnection) -> int | None:
    """The code of the Close that it was sent; None where it ended without one."""
    try:
        while True:
            await asyncio.wait_for(ws.recv(), 30)
    except ConnectionClosed as end:
        return end.rcvd.code if end.rcvd is not None else None


async def test_r3_from_zero_it_waits_for_the_start_and_echoes(tmp_path: Path) -> None:
    async with zerogate({"chat": speaking(hosts="127.0.0.1")}, tmp_path) as box:
        async with client(box) as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"
            status = await box.status("chat")
            assert status["in_flight"] == 1
            assert (await box.metrics())['zerogate_websockets{service="chat"}'] == 1
        await box.until("chat", lambda status: status["in_flight"] == 0)
        assert await box.ended("chat") == {"served": 1}
        assert (await box.metrics())['zerogate_responses_total{service="chat",class="1xx"}'] == 1


async def test_r3_a_drain_closes_all_with_1001_between_frames(tmp_path: Path) -> None:
    services = {"chat": speaking(hosts="127.0.0.1")}
    async with zerogate(services, tmp_path) as box, client(box) as idle, client(box) as streaming:
        await streaming.send("stream")
        assert await streaming.recv() == bytes(300_000)
        leaving = soon(box.stop(signal.SIGTERM))
        assert await end_of(streaming) == await end_of(idle) == 1001
        async with asyncio.timeout(20):
            assert await leaving == 0


async def test_r3_a_quiet_socket_lets_its_service_sleep_and_is_told_to_go(tmp_path: Path) -> None:
    services = {"chat": speaking(hosts="127.0.0.1", idle_timeout="1s", idle_websocket="quiet")}
    async with zerogate(services, tmp_path) as box, client(box) as ws:
        await ws.send("hello")
        assert await ws.recv() == "hello"
        assert await end_of(ws) == 1001
        await box.until_zero("chat")


async def test_r3_a_busy_socket_keeps_its_service_up(tmp_path: Path) -> None:
    async with zerogate({"chat": speaking(hosts="127.0.0.1", idle_timeout="1s")}, tmp_path) as box, client(box) as ws:
        await ws.send("hello")
        assert await ws.recv() == "hello"
        await asyncio.sleep(3)  # longer than the idle timeout and a report
        assert (await box.status("chat"))["desired"] == 1
        await ws.send("still here")
        assert await ws.recv() == "still here"


async def test_f2_a_killed_replica_leaves_its_clients_without_a_close_and_the_next_one_gets_a_new_replica(
    tmp_path: Path,
) -> None:
    async with zerogate({"chat": speaking(hosts="127.0.0.1")}, tmp_path) as box:
        async with client(box) as ws:
            await ws.send("hello")
            await ws.recv()
            (replica,) = (await box.status("chat"))["replicas"]
            os.kill(replica["pid"], signal.SIGKILL)
            assert await end_of(ws) is None
            assert ws.close_code == 1006
        async with client(box) as ws:
            await ws.send("again")
            assert await ws.recv() == "again"
        assert (await box.ended("chat"))["cut"] == 1
