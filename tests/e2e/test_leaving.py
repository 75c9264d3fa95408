"""How zerogate begins and ends on bad days: ports taken, two of them, Ctrl-C, killed and started again."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.crowd import answers, connect, connections, crowd, events, pids, request, until
from tests.e2e.harness import (
    ROOT,
    UP,
    Box,
    Service,
    free_port,
    soon,
    start,
    start_again,
    stub,
    write_file,
    zerogate,
)
from tests.guards import marked
from tests.stub_server import STUB

pytestmark = [pytest.mark.slow, pytest.mark.may_block]

STUBBORN = ("--ignore-sigterm", "--escapee")
"""A model server that only SIGKILL ends, with a worker that left its process group and ignores SIGTERM too."""
SHORT = {"stop-grace": "1s"}


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def model_servers(folder: Path) -> list[int]:
    """Processes of stubs anywhere on the machine that were started with this folder as their environment's word."""
    stub_path = STUB[-3]
    return [pid for pid, command in marked(f"E2E_FOLDER={folder}").items() if stub_path in command]


@asynccontextmanager
async def running(services: Mapping[str, Service], folder: Path) -> AsyncIterator[Box]:
    """A box that the test ends itself, in whatever way; where it did not, it is killed."""
    box = await start(services, folder, env={"E2E_FOLDER": str(folder)})
    try:
        yield box
    finally:
        await let_go(box)


@asynccontextmanager
async def reborn(box: Box) -> AsyncIterator[Box]:
    """Another zerogate in the place of one that has ended; it leaves in order."""
    again = await start_again(box.folder, box.listen, box.admin)
    try:
        yield again
        assert await again.stop() == 0, again.output
    finally:
        await let_go(again)


async def let_go(box: Box) -> None:
    """End what is left of it."""
    if box.process.returncode is None:
        box.process.kill()
        await box.process.wait()
    await box.client.aclose()
    await box._admin_client.aclose()


async def run_in_vain(folder: Path) -> tuple[int, str]:
    """`zerogate up` with the file in `folder`, which should refuse: (exit code, what it said)."""
    process = await asyncio.create_subprocess_exec(
        *UP,
        str(folder / "zerogate.yaml"),
        cwd=ROOT,
        env={**os.environ, "E2E_FOLDER": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 20)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, said.decode()


def is_one_sentence(said: str) -> bool:
    """One paragraph for a person, without a traceback."""
    return 0 < len(said.strip().splitlines()) <= 3 and "Traceback" not in said


@pytest.mark.parametrize("what", ["listen", "admin"])
async def test_a_port_that_is_taken_is_said_and_nothing_is_started(tmp_path: Path, what: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ports = {"listen": free_port(), "admin": free_port(), what: other.getsockname()[1]}
        write_file(tmp_path / "zerogate.yaml", ports["listen"], ports["admin"], {"chat": stub(min_replicas=1)})
        code, said = await run_in_vain(tmp_path)
    assert (code, is_one_sentence(said)) == (1, True), said
    assert f"{what}: 127.0.0.1:{ports[what]} is taken" in said
    assert f"(pid {os.getpid()})." in said, "whose it is"
    assert not (tmp_path / "state" / "logs").exists()


async def test_a_second_zerogate_on_the_same_state_folder_leaves_and_disturbs_nothing(tmp_path: Path) -> None:
    services = {"chat": stub(max_replicas=2)}
    async with running(services, tmp_path) as box:
        await box.ask("POST", "/api/services/chat/pin", json={"replicas": 2})
        before = pids(await box.until_ready("chat", 2))
        write_file(box.file, free_port(), free_port(), services)
        code, said = await run_in_vain(tmp_path)
        assert (code, is_one_sentence(said), "Another zerogate (pid " in said) == (1, True, True), said
        assert pids(await box.status("chat")) == before
        write_file(box.file, box.listen, box.admin, services)
        assert await box.stop() == 0
        async with reborn(box) as again:
            assert (await again.status("chat"))["pin"]["replicas"] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
async def test_told_to_leave_once_it_finishes_streams_stops_children_and_says_zero(tmp_path: Path, number: int) -> None:
    services = {"chat": stub("--escapee", definition=SHORT), "idle": stub(min_replicas=1)}
    async with (
        running(services, tmp_path) as box,
        crowd(box, 1, "chat", "/sse?events=20&gap_ms=100") as ((reader, _),),
    ):
        await events(reader, 2)
        await box.until_ready("idle")
        (seen,) = await box.stats("chat")
        box.process.send_signal(number)
        rest = await reader.readuntil(b"[DONE]")
        assert rest.count(b"data: {") >= 15
        assert await ended(box) == 0
        assert not lives(seen["pid"])
        assert not lives(seen["escapee_pid"])


async def ended(box: Box, *, within_s: float = 20) -> int:
    """Wait for its end; the exit code."""
    try:
        return await asyncio.wait_for(box.process.wait(), within_s)
    except TimeoutError:
        raise AssertionError(f"it did not end within {within_s} s\n{box.output}") from None


async def test_told_to_leave_it_answers_what_waits_and_takes_nothing_new(tmp_path: Path) -> None:
    async with (
        running({"chat": stub(concurrency_limit=1, target_concurrency=1)}, tmp_path) as box,
        crowd(box, 1, "chat", "/sse?events=40&gap_ms=50") as ((reader, _),),
        connections(box, 3) as held,
    ):
        await events(reader, 1)
        for _, writer in held:
            writer.write(request("chat", "/held"))
        await box.until("chat", lambda status: status["held"] == 3)
        box.process.send_signal(signal.SIGINT)
        heads = await asyncio.gather(*(connection[0].readuntil(b"\r\n\r\n") for connection in held))
        assert {head.split(b" ", 2)[1] for head in heads} == {b"503"}
        assert all(b"retry-after" in head.lower() for head in heads)
        with pytest.raises(OSError, match=r"."):
            await connect(box)
        await reader.readuntil(b"[DONE]")
        assert await ended(box) == 0


async def test_told_twice_it_leaves_at_once_and_without_orphans(tmp_path: Path) -> None:
    service = stub(*STUBBORN, definition={"stop-grace": "60s"})
    starting = stub("--never-ready", *STUBBORN, min_replicas=1)
    async with (
        running({"chat": service, "starting": starting}, tmp_path) as box,
        crowd(box, 1, "chat", "/sse?events=1000&gap_ms=100") as ((reader, _),),
    ):
        await events(reader, 2)
        seen = [*await box.stats("chat"), *await box.stats("starting")]
        assert len(seen) == 2
        box.process.send_signal(signal.SIGINT)
        await until(lambda: "leaving" in box.output)
        box.process.send_signal(signal.SIGINT)
        await ended(box, within_s=5)
        await until(lambda: not any(lives(one["pid"]) or lives(one["escapee_pid"]) for one in seen), within_s=2)


async def test_told_twice_while_it_waits_for_the_children_it_ends_them(tmp_path: Path) -> None:
    service = stub(*STUBBORN, min_replicas=1, definition={"stop-grace": "60s"})
    async with running({"chat": service}, tmp_path) as box:
        await box.until_ready("chat")
        (seen,) = await box.stats("chat")
        box.process.send_signal(signal.SIGINT)
        await box.until("chat", lambda status: status["state"] == "draining")
        box.process.send_signal(signal.SIGINT)
        await ended(box, within_s=5)
        assert not lives(seen["pid"])
        assert not lives(seen["escapee_pid"])


@asynccontextmanager
async def killed(service: Service, folder: Path) -> AsyncIterator[tuple[Box, dict[str, Any]]]:
    """A box that had a replica of `chat` and was ended by SIGKILL, and what the replica said of itself."""
    async with running({"chat": service}, folder) as box:
        await box.get("chat")
        (seen,) = await box.stats("chat")
        box.process.kill()
        await box.process.wait()
        assert lives(seen["pid"])
        yield box, seen


async def test_after_a_kill_the_next_zerogate_adopts_what_runs(tmp_path: Path) -> None:
    service = stub("--escapee", idle_timeout="3s", definition=SHORT)
    async with killed(service, tmp_path) as (box, seen), reborn(box) as again:
        assert pids(await again.status("chat")) == [seen["pid"]]
        answer = await again.get("chat")
        assert (answer.json()["port"], "server-timing" in answer.headers) == (seen["port"], False)
        await again.until_zero("chat", within_s=15)
        assert not lives(seen["pid"])
        assert not lives(seen["escapee_pid"])
        assert (await again.get("chat")).status_code == 200


async def test_after_a_kill_what_has_another_definition_is_reaped_and_started_anew(tmp_path: Path) -> None:
    async with killed(stub("--escapee", definition=SHORT), tmp_path) as (box, seen):
        box.write({"chat": stub("--models", "new", definition=SHORT)})
        async with reborn(box) as again:
            answer = await again.get("chat", "/v1/models")
            assert answer.json()["data"][0]["id"] == "new"
            await until(lambda: not lives(seen["pid"]) and not lives(seen["escapee_pid"]), within_s=10)
            assert len((await again.status("chat"))["replicas"]) == 1


async def test_after_a_kill_what_is_no_longer_in_the_file_is_reaped(tmp_path: Path) -> None:
    async with killed(stub("--escapee-polite"), tmp_path) as (box, seen):
        box.write({"other": stub()})
        async with reborn(box) as again:
            await until(lambda: not lives(seen["pid"]) and not lives(seen["escapee_pid"]), within_s=10)
            assert "is stopped: an earlier zerogate left it behind and it is of no use" in again.output
            assert model_servers(tmp_path) == []


async def test_after_a_kill_what_is_no_longer_in_the_file_has_the_grace_that_it_was_started_with(
    tmp_path: Path,
) -> None:
    async with killed(stub(*STUBBORN, definition=SHORT), tmp_path) as (box, seen):
        box.write({"other": stub()})
        async with reborn(box):
            began_s = time.monotonic()
            await until(lambda: not lives(seen["pid"]) and not lives(seen["escapee_pid"]))
            assert time.monotonic() - began_s < 10, "its second, and not the half minute that is usual"
            assert model_servers(tmp_path) == []


async def test_after_a_kill_while_it_started_nothing_is_left_twice(tmp_path: Path) -> None:
    gate = tmp_path / "ready"
    async with running({"chat": stub("--ready-file", str(gate))}, tmp_path) as box:
        async with crowd(box, 1, "chat"):
            status = await box.until("chat", lambda status: bool(status["replicas"]))
            (pid,) = [one["pid"] for one in status["replicas"]]
            box.process.kill()
            await box.process.wait()
        async with reborn(box) as again, crowd(again, 1, "chat") as clients:
            gate.touch()
            assert await answers(clients) == [200]
            (now_pid,) = pids(await again.until_ready("chat"))
            assert now_pid == pid or not lives(pid)
            assert len(model_servers(tmp_path)) <= 1


async def test_a_leader_that_died_while_nobody_watched_leaves_no_worker_behind(tmp_path: Path) -> None:
    async with killed(stub("--escapee", definition=SHORT), tmp_path) as (box, seen):
        os.kill(seen["pid"], signal.SIGKILL)
        async with reborn(box) as again:
            assert (await again.get("chat")).status_code == 200
            await until(lambda: not lives(seen["escapee_pid"]), within_s=10)


async def test_half_a_head_does_not_delay_the_end_and_one_that_comes_is_answered(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box, connections(box, 2) as (silent, slow):
        for _, writer in (silent, slow):
            writer.write(request("chat")[:-2])
        assert (await box.get("chat")).status_code == 200
        began_s = time.perf_counter()
        leaving = soon(box.stop())
        await until(lambda: "leaving" in box.output)
        slow[1].write(b"\r\n")
        assert (await answers([slow])) == [200]
        assert await leaving == 0
        assert 1 < time.perf_counter() - began_s < 6


async def test_an_idle_kept_alive_connection_does_not_delay_the_end(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box, crowd(box, 1, "chat") as clients:
        assert await answers(clients) == [200]
        began_s = time.perf_counter()
        assert await box.stop() == 0
        assert time.perf_counter() - began_s < 3
