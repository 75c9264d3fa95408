"""How zerogate begins and ends on bad days: ports taken, two of them, Ctrl-C, killed and started again."""

import asyncio
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.crowd import answers, crowd, events, pids, until
from tests.e2e.harness import (
    ROOT,
    UP,
    Box,
    close,
    free_port,
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
    assert not (tmp_path / "state" / "logs").exists()


async def test_a_second_zerogate_on_the_same_state_folder_leaves_and_disturbs_nothing(tmp_path: Path) -> None:
    box = await start({"chat": stub(max_replicas=2)}, tmp_path)
    try:
        await box.ask("POST", "/api/services/chat/pin", json={"replicas": 2})
        before = pids(await box.until_ready("chat", 2))
        await until((tmp_path / "state" / "learned.json").exists, within_s=40)
        write_file(box.file, free_port(), free_port(), {"chat": stub(max_replicas=2)})
        code, said = await run_in_vain(tmp_path)
        assert (code, is_one_sentence(said), "already runs" in said) == (1, True, True), said
        assert pids(await box.status("chat")) == before
        write_file(box.file, box.listen, box.admin, {"chat": stub(max_replicas=2)})
    finally:
        await close(box)
    again = await start_again(tmp_path, box.listen, box.admin)
    try:
        assert (await again.status("chat"))["pin"] is not None
    finally:
        await close(again)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
async def test_told_to_leave_once_it_finishes_streams_stops_children_and_says_zero(tmp_path: Path, number: int) -> None:
    box = await start({"chat": stub("--escapee", definition=SHORT), "idle": stub(min_replicas=1)}, tmp_path)
    async with crowd(box, 1, "chat", "/sse?events=20&gap_ms=100") as ((reader, _),):
        await events(reader, 2)
        await box.until_ready("idle")
        (seen,) = await box.stats("chat")
        box.process.send_signal(number)
        rest = await reader.readuntil(b"[DONE]")
        assert rest.count(b"data: {") >= 15
    await close_with(box, 0)
    assert not lives(seen["pid"])
    assert not lives(seen["escapee_pid"])


async def close_with(box: Box, code: int, *, within_s: float = 45) -> None:
    """Wait for its end."""
    try:
        assert await asyncio.wait_for(box.process.wait(), within_s) == code, box.output
    except TimeoutError:
        raise AssertionError(f"it did not end within {within_s} s\n{box.output}") from None
    finally:
        if box.process.returncode is None:
            box.process.kill()
        await close(box)


async def test_told_to_leave_it_answers_what_waits_and_takes_nothing_new(tmp_path: Path) -> None:
    box = await start({"chat": stub(concurrency_limit=1, target_concurrency=1)}, tmp_path)
    async with (
        crowd(box, 1, "chat", "/sse?events=20&gap_ms=50") as ((reader, _),),
        crowd(box, 3, "chat", "/held") as held,
    ):
        await events(reader, 1)
        await box.until("chat", lambda status: status["held"] == 3)
        box.process.send_signal(signal.SIGINT)
        heads = await asyncio.gather(*(connection[0].readuntil(b"\r\n\r\n") for connection in held))
        assert {head.split(b" ", 2)[1] for head in heads} == {b"503"}
        assert all(b"retry-after" in head.lower() for head in heads)
        with pytest.raises(OSError, match=r"."):
            await box.connect()
        await reader.readuntil(b"[DONE]")
    await close_with(box, 0)


async def test_told_twice_it_leaves_at_once_and_without_orphans(tmp_path: Path) -> None:
    service = stub(*STUBBORN, definition={"stop-grace": "60s"})
    starting = stub("--never-ready", *STUBBORN, min_replicas=1)
    box = await start({"chat": service, "starting": starting}, tmp_path)
    async with crowd(box, 1, "chat", "/sse?events=1000&gap_ms=100") as ((reader, _),):
        await events(reader, 2)
        seen = [*await box.stats("chat"), *await box.stats("starting")]
        assert len(seen) == 2
        box.process.send_signal(signal.SIGINT)
        await until(lambda: "leaving" in box.output)
        began_s = time.perf_counter()
        box.process.send_signal(signal.SIGINT)
        await asyncio.wait_for(box.process.wait(), 10)
        assert time.perf_counter() - began_s < 5
    await close(box)
    await until(lambda: not any(lives(one["pid"]) or lives(one["escapee_pid"]) for one in seen), within_s=2)


async def test_told_twice_while_it_waits_for_the_children_it_ends_them(tmp_path: Path) -> None:
    box = await start({"chat": stub(*STUBBORN, min_replicas=1, definition={"stop-grace": "60s"})}, tmp_path)
    await box.until_ready("chat")
    (seen,) = await box.stats("chat")
    box.process.send_signal(signal.SIGINT)
    await box.until("chat", lambda status: status["state"] == "draining")
    box.process.send_signal(signal.SIGINT)
    await asyncio.wait_for(box.process.wait(), 5)
    await close(box)
    assert not lives(seen["pid"])
    assert not lives(seen["escapee_pid"])


async def killed(services: dict[str, Any], folder: Path) -> tuple[Box, list[dict[str, Any]]]:
    """A box that had a replica of `chat` and was ended by SIGKILL, and what the replica said of itself."""
    box = await start(services, folder, env={"E2E_FOLDER": str(folder)})
    await box.get("chat")
    seen = await box.stats("chat")
    box.process.kill()
    await box.process.wait()
    assert lives(seen[0]["pid"])
    return box, seen


async def reborn(box: Box) -> Box:
    """Another zerogate in the place of one that was killed."""
    await box.client.aclose()
    await box._admin_client.aclose()
    return await start_again(box.folder, box.listen, box.admin)


async def test_after_a_kill_the_next_zerogate_adopts_what_runs(tmp_path: Path) -> None:
    box, (seen,) = await killed({"chat": stub("--escapee", idle_timeout="3s", definition=SHORT)}, tmp_path)
    box = await reborn(box)
    try:
        assert pids(await box.status("chat")) == [seen["pid"]]
        answer = await box.get("chat")
        assert (answer.json()["port"], "server-timing" in answer.headers) == (seen["port"], False)
        await box.until_zero("chat", within_s=15)
        assert not lives(seen["pid"])
        assert not lives(seen["escapee_pid"])
        assert (await box.get("chat")).status_code == 200
    finally:
        await close(box)


async def test_after_a_kill_what_has_another_definition_is_reaped_and_started_anew(tmp_path: Path) -> None:
    box, (seen,) = await killed({"chat": stub("--escapee", definition=SHORT)}, tmp_path)
    box.write({"chat": stub("--models", "new", definition=SHORT)})
    box = await reborn(box)
    try:
        answer = await box.get("chat", "/v1/models")
        assert answer.json()["data"][0]["id"] == "new"
        await until(lambda: not lives(seen["pid"]) and not lives(seen["escapee_pid"]), within_s=10)
        assert len((await box.status("chat"))["replicas"]) == 1
    finally:
        await close(box)


async def test_after_a_kill_what_is_no_longer_in_the_file_is_reaped(tmp_path: Path) -> None:
    box, (seen,) = await killed({"chat": stub("--escapee-polite")}, tmp_path)
    box.write({"other": stub()})
    box = await reborn(box)
    try:
        await until(lambda: not lives(seen["pid"]) and not lives(seen["escapee_pid"]), within_s=10)
    finally:
        await close(box)


async def test_after_a_kill_while_it_started_nothing_is_left_twice(tmp_path: Path) -> None:
    gate = tmp_path / "ready"
    service = stub("--ready-file", str(gate))
    box = await start({"chat": service}, tmp_path, env={"E2E_FOLDER": str(tmp_path)})
    async with crowd(box, 1, "chat"):
        status = await box.until("chat", lambda status: bool(status["replicas"]))
        pid = status["replicas"][0]["pid"]
        box.process.kill()
        await box.process.wait()
    box = await reborn(box)
    try:
        asking = asyncio.ensure_future(box.get("chat"))  # noqa: TID251 - awaited below
        gate.touch()
        assert (await asking).status_code == 200
        (now_pid,) = pids(await box.until_ready("chat"))
        assert now_pid == pid or not lives(pid)
        assert len(model_servers(tmp_path)) <= 1
    finally:
        await close(box)


async def test_a_leader_that_died_while_nobody_watched_leaves_no_worker_behind(tmp_path: Path) -> None:
    box, (seen,) = await killed({"chat": stub("--escapee", definition=SHORT)}, tmp_path)
    os.kill(seen["pid"], signal.SIGKILL)
    box = await reborn(box)
    try:
        assert (await box.get("chat")).status_code == 200
        await until(lambda: not lives(seen["escapee_pid"]), within_s=10)
    finally:
        await close(box)


async def test_an_idle_kept_alive_connection_does_not_delay_the_end(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box, crowd(box, 1, "chat") as clients:
        assert await answers(clients) == [200]
        began_s = time.perf_counter()
        assert await box.stop() == 0
        assert time.perf_counter() - began_s < 3
