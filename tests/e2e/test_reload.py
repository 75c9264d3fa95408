"""A changed file: applied as a whole or not at all, and nobody's request is lost over it."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.crowd import crowd, events, pids, until
from tests.e2e.harness import Box, stub, write_file, zerogate

pytestmark = [pytest.mark.slow, pytest.mark.may_block]


async def hang_up(box: Box) -> None:
    """SIGHUP, and wait until the log says what came of it."""
    before = box.output.count("reloaded:") + box.output.count("the file is wrong")
    box.process.send_signal(signal.SIGHUP)
    await until(lambda: box.output.count("reloaded:") + box.output.count("the file is wrong") > before)


async def test_services_that_did_not_change_keep_running_and_new_ones_are_reached(tmp_path: Path) -> None:
    old = {"kept": stub(), "tuned": stub()}
    async with zerogate(old, tmp_path) as box:
        await box.get("kept")
        await box.get("tuned")
        before = [pids(await box.status(name)) for name in ("kept", "tuned")]
        box.write({"new": stub(), "kept": stub(), "tuned": stub(idle_timeout="30s")})
        await hang_up(box)
        assert (await box.get("new")).status_code == 200
        assert [pids(await box.status(name)) for name in ("kept", "tuned")] == before
        assert (await box.status("tuned"))["idle_timeout_s"] == 30


async def test_a_changed_policy_acts_on_what_runs(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box:
        await box.get("chat")
        box.write({"chat": stub(idle_timeout="1s")})
        assert (await box.ask("POST", "/api/reload")).json()["changed"] == ["chat"]
        await box.until_zero("chat", within_s=5)


@pytest.mark.parametrize("most", [1, 2], ids=["one replica at most", "room for two"])
async def test_a_changed_command_replaces_the_replica_and_loses_no_request(tmp_path: Path, most: int) -> None:
    async with zerogate({"chat": stub("--models", "old", max_replicas=most)}, tmp_path) as box:
        first = (await box.get("chat", "/v1/models")).json()["data"][0]["id"]
        (old_pid,) = pids(await box.status("chat"))
        seen: Counter[tuple[int, str]] = Counter()
        is_over = asyncio.Event()

        async def client() -> None:
            while not is_over.is_set():
                answer = await box.post("chat", "/echo?stream=1", b"x" * 2000)
                models = await box.get("chat", "/v1/models")
                name = models.json()["data"][0]["id"] if models.status_code == 200 else "?"
                seen[max(answer.status_code, models.status_code), name] += len(answer.content) == 2000

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(client())
            stream = box.get("chat", "/sse?events=15&gap_ms=100")
            streaming = group.create_task(stream)
            await until(lambda: seen[200, "old"] > 20)
            box.write({"chat": stub("--models", "new", "--ready-after", "0.5", max_replicas=most)})
            await hang_up(box)
            await box.until("chat", lambda status: bool(pids(status)) and old_pid not in pids(status))
            await until(lambda: seen[200, "new"] > 50)
            is_over.set()
        assert (first, streaming.result().text.count("data: {")) == ("old", 15)
        assert {status for status, _ in seen} == {200}
        assert set(seen) == {(200, "old"), (200, "new")}


@pytest.mark.parametrize("way", ["signal", "api"])
async def test_a_bad_file_changes_nothing_and_says_why(tmp_path: Path, way: str) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box:
        await box.get("chat")
        before = pids(await box.status("chat"))
        bad = stub("--models", "new", max_replicas=3, idle_timout="3s")
        box.write({"chat": bad, "other": stub()})
        if way == "signal":
            await hang_up(box)
            said = box.output
        else:
            answer = await box.ask("POST", "/api/reload")
            assert answer.status_code == 422
            said = answer.text
        assert "zerogate.yaml:" in said
        assert "idle-timout" in said
        assert "idle-timeout" in said
        status = await box.status("chat")
        assert (pids(status), status["max_replicas"]) == (before, 1)
        assert (await box.ask("GET", "/api/services/other")).status_code == 404
        assert (await box.get("chat")).status_code == 200


async def test_a_file_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box:
        content = box.file.read_text()
        box.file.unlink()
        await hang_up(box)
        assert (await box.get("chat")).status_code == 200
        box.file.write_text(content)
        assert (await box.ask("POST", "/api/reload")).status_code == 200


async def test_what_cannot_change_while_it_runs_is_said_and_nothing_else_is_changed(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box:
        write_file(box.file, box.listen + 1, box.admin, {"chat": stub(max_replicas=4)})
        answer = await box.ask("POST", "/api/reload")
        assert (answer.status_code, "listen" in answer.text) == (422, True)
        assert (await box.status("chat"))["max_replicas"] == 1


async def test_requests_of_a_removed_service_get_404_and_its_stream_is_finished(tmp_path: Path) -> None:
    async with (
        zerogate({"kept": stub(), "gone": stub()}, tmp_path) as box,
        crowd(box, 1, "gone", "/sse?events=20&gap_ms=100") as ((reader, _),),
    ):
        await events(reader, 2)
        (pid,) = pids(await box.status("gone"))
        box.write({"kept": stub(), "also-kept": stub()})
        await hang_up(box)
        assert (await box.get("gone")).status_code == 404
        assert (await box.ask("GET", "/api/services/gone")).status_code == 404
        await reader.readuntil(b"[DONE]")
        await until(lambda: not Path(f"/proc/{pid}").exists())
        assert (await box.get("kept")).status_code == 200


async def test_held_requests_of_a_removed_service_are_told_at_once(tmp_path: Path) -> None:
    async with zerogate({"kept": stub(), "gone": stub("--never-ready")}, tmp_path) as box:
        asking = asyncio.gather(*(box.get("gone", f"/{number}") for number in range(3)))
        await box.until("gone", lambda status: status["held"] == 3)
        box.write({"kept": stub()})
        await hang_up(box)
        async with asyncio.timeout(2):
            assert {answer.status_code for answer in await asking} == {404}
