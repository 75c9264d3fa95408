"""What a machine and its clients can do to zerogate: it says so, and goes on."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.crowd import answers, connections, crowd, events, pids, request, until
from tests.e2e.harness import Box, soon, stub, zerogate
from tests.stub_server import STUB

pytestmark = [pytest.mark.slow, pytest.mark.may_block]


async def test_f2_a_replica_killed_while_streaming_is_a_reset_and_the_next_request_wakes_it_again(
    tmp_path: Path,
) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box:
        async with crowd(box, 1, "chat", "/sse?events=100&gap_ms=50") as ((reader, _),):
            await events(reader, 3)
            (old,) = pids(await box.status("chat"))
            os.kill(old, signal.SIGKILL)
            seen = await reader.read()  # to the end of the connection
        # chunked, and without the last chunk: no client takes it for a whole answer
        assert not seen.endswith(b"0\r\n\r\n")
        assert b"[DONE]" not in seen
        again = await box.get("chat")
        assert again.status_code == 200
        status = await box.status("chat")
        assert old not in pids(status)
        assert status["last_ending"]["exit_code"] == -9
        assert (await box.metrics())['zerogate_requests_total{service="chat",result="cut"}'] == 1


async def test_what_was_answered_while_zerogate_was_stopped_is_no_timeout(tmp_path: Path) -> None:
    timers: dict[str, Any] = {"first_byte_timeout": "2s", "idle_stream_timeout": "2s"}
    async with zerogate({"chat": stub(**timers)}, tmp_path) as box:
        assert (await box.get("chat")).status_code == 200
        stream = soon(box.get("chat", "/sse?events=20&gap_ms=250"))
        answer = soon(box.get("chat", "/sleep?ms=700"))
        await box.until("chat", lambda status: status["in_flight"] == 2)
        box.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(4)  # the gap itself: longer than both timers
        box.process.send_signal(signal.SIGCONT)
        assert (await answer).status_code == 200
        assert "[DONE]" in (await stream).text


async def test_f2_of_two_replicas_the_one_that_lives_takes_over(tmp_path: Path) -> None:
    service = stub(min_replicas=2, max_replicas=2)
    async with zerogate({"chat": service}, tmp_path) as box:
        await box.until_ready("chat", 2)
        first, _ = pids(await box.status("chat"))
        os.kill(first, signal.SIGKILL)
        results = [await box.get("chat", f"/{number}") for number in range(50)]
        assert {result.status_code for result in results} == {200}
        await box.until("chat", lambda status: len(pids(status)) == 2 and first not in pids(status))


async def test_a_replica_that_hangs_is_said_passed_over_and_taken_back(tmp_path: Path) -> None:
    service = stub(min_replicas=2, max_replicas=2)
    async with zerogate({"chat": service}, tmp_path) as box:
        await box.until_ready("chat", 2)
        by_pid = {one["pid"]: one["id"] for one in (await box.status("chat"))["replicas"]}
        for pid in by_pid:
            os.kill(pid, signal.SIGSTOP)
        stuck = soon(box.get("chat"))
        await box.until("chat", lambda status: status["in_flight"] == 1)
        (hung,) = [one for one in (await box.status("chat"))["replicas"] if one["in_flight"]]
        for pid in by_pid:
            if pid != hung["pid"]:
                os.kill(pid, signal.SIGCONT)
        status = await box.until("chat", lambda status: bool(status["notices"]))
        (notice,) = status["notices"]
        assert notice.startswith(f"{hung['id']} does not answer its ready path /health since 1")
        assert "1 request inside. New requests go to other replicas." in notice
        assert (status["state"], {one["id"] for one in status["replicas"] if one["state"] == "doubted"}) == (
            "ready", {hung["id"]},
        )  # fmt: skip
        assert (await box.metrics())['zerogate_replicas_doubted{service="chat"}'] == 1
        for number in range(20):
            assert (await box.get("chat", f"/{number}")).status_code == 200
        os.kill(hung["pid"], signal.SIGCONT)
        assert (await stuck).status_code == 200
        await box.until("chat", lambda status: not status["notices"])
        assert (await box.metrics())['zerogate_replicas_doubted{service="chat"}'] == 0


async def test_a_disk_full_for_logs_keeps_no_model_from_running(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--print-lines", "5", definition={"log-file": "/dev/full"})}, tmp_path) as box:
        assert (await box.get("chat")).status_code == 200
        (notice,) = (await box.status("chat"))["notices"]
        assert "/dev/full" in notice
        assert "No space left" in notice
        assert "No space left" in box.output


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own without a free byte."""
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        with (folder / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_state_folder_on_a_full_disk_is_said_and_survived(tmp_path: Path, full_disk: Path) -> None:
    async with zerogate({"chat": stub(idle_timeout="1s")}, tmp_path, state_dir=str(full_disk / "state")) as box:
        assert (await box.get("chat")).status_code == 200
        assert "No space left" in (await box.status("chat"))["notices"][0]
        await box.ask("POST", "/api/services/chat/pin", json={"replicas": 1, "for_s": 1})
        assert "learned.json cannot be written: No space left" in box.output
        await box.until_zero("chat", within_s=15)
        assert (await box.get("chat")).status_code == 200


def open_files(box: Box) -> int:
    return len(os.listdir(f"/proc/{box.process.pid}/fd"))


async def test_when_file_descriptors_are_used_up_it_says_so_and_serves_again_afterwards(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box:
        async with crowd(box, 1, "chat", "/sse?events=200&gap_ms=20") as ((stream, _),):
            await events(stream, 2)
            _, most = resource.prlimit(box.process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(box.process.pid, resource.RLIMIT_NOFILE, (open_files(box) + 20, most))
            async with connections(box, 100) as crowded:
                for _, writer in crowded:
                    writer.write(request("chat", "/sleep?ms=50"))
                await until(lambda: "Too many open files" in box.output, why=lambda: box.output)
                # what it has is served all the same
                await events(stream, 5)
            await until(lambda: open_files(box) < 40)
            assert (await box.get("chat")).status_code == 200
            rest = await stream.readuntil(b"[DONE]")
            assert rest.count(b"data: {") > 100
        assert len(box.output.splitlines()) < 60


ROBBED = """
import os, sys, time
port, mark, then, *command = sys.argv[1:]
if not os.path.exists(mark):
    with open(mark + ".new", "w") as file:
        file.write(port)
    os.rename(mark + ".new", mark)
    while not os.path.exists(mark + ".taken"):
        time.sleep(0.01)
    if then == "wait":
        time.sleep(600)
os.execv(command[0], command)
"""
"""A model server whose port somebody takes before it does, the first time: it finds out at once, or much later."""


@pytest.mark.parametrize("then", ["end", "wait"])
async def test_a_port_stolen_by_another_server_is_said_and_costs_the_first_request_no_more_than_a_second_start(
    tmp_path: Path, then: str
) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nthief")
        writer.close()

    mark = tmp_path / "mark"
    service = stub()
    service["command"] = [sys.executable, "-S", "-E", "-c", ROBBED, "{port}", str(mark), then, *STUB]
    async with zerogate({"chat": service}, tmp_path) as box:
        first = soon(box.get("chat", "/mine"))
        await until(mark.exists)
        async with await asyncio.start_server(answer, "127.0.0.1", int(mark.read_text())):
            (tmp_path / "mark.taken").touch()
            result = await first
        assert (result.status_code, result.json()["path"]) == (200, "/mine")
        ending = (await box.status("chat"))["last_ending"]
        assert ending["cause"] == "port-taken"
        assert f"listened on its port {mark.read_text()}, " in ending["detail"]
        assert f"(pid {os.getpid()}) did." in ending["detail"]


async def test_clients_that_drip_their_heads_hold_up_nobody_else(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box:
        await box.get("chat")
        head = request("chat", "/slow", fields="X-Filler: " + "y" * 40 + "\r\n")
        async with connections(box, 150) as slow:
            slowest_s = 0.0
            for sign in range(len(head)):
                for _, writer in slow:
                    writer.write(head[sign : sign + 1])
                began_s = time.perf_counter()
                assert (await box.get("chat")).status_code == 200
                slowest_s = max(slowest_s, time.perf_counter() - began_s)
            assert await answers(slow) == [200] * 150
            assert slowest_s < 1


async def test_a_client_that_never_reads_costs_no_memory_and_frees_everything_when_it_leaves(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box:
        await box.get("chat")
        before = resident_bytes(box)
        async with crowd(box, 8, "chat", "/sse?events=200000&size=1000") as clients:
            for _, writer in clients:
                writer.transport.pause_reading()  # type: ignore[attr-defined]
            await box.until("chat", lambda status: status["in_flight"] == 8)
            await _until_it_stands_still(box)
            assert resident_bytes(box) - before < 16 * MIB
            assert (await box.get("chat")).status_code == 200
        await box.until("chat", lambda status: status["in_flight"] == 0, within_s=5)
        async with asyncio.timeout(10):
            while (await box.stats("chat"))[0]["inside"]:
                await asyncio.sleep(0.02)
        assert (await box.metrics())['zerogate_requests_total{service="chat",result="abandoned"}'] == 8


async def _until_it_stands_still(box: Box) -> None:
    """Every buffer between the model server and its clients is full: no byte moves for half a second."""
    before, received = -1, -2
    async with asyncio.timeout(20):
        while before != received:
            before = received
            await asyncio.sleep(0.5)
            received = io_bytes(box)


def io_bytes(box: Box) -> int:
    """What the process has read and written so far, sockets included; small reports are rounded away."""
    lines = Path(f"/proc/{box.process.pid}/io").read_text().splitlines()
    return sum(int(line.split(":")[1]) for line in lines[:2]) // (1 << 16)


MIB = 1024 * 1024


def resident_bytes(box: Box) -> int:
    return int(Path(f"/proc/{box.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
