"""Model servers that do not start, and clients that do not wait."""

import asyncio
import os
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import UP, Box, Latch, Service, free_port, ready, stub, write_file, zerogate
from tests.e2e.wire import request
from tests.stub_server import STUB
from zerogate.clock import now

pytestmark = [pytest.mark.slow, pytest.mark.may_block]

REASON = "CUDA error: out of memory"


def failing(folder: Path, **policy: Any) -> Service:
    """A service that cannot start while `folder/fixed` does not exist."""
    flags = ("--fail-unless", str(folder / "fixed"), "--crash-code", "3", "--crash-message", REASON)
    return stub(*flags, **policy)


def is_suspended(status: dict[str, Any]) -> bool:
    return status["back_off"] is not None


async def test_c12_who_was_held_for_the_hold_timeout_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with zerogate({"chat": stub("--never-ready", hold_timeout="1s")}, tmp_path) as box:
        began_s = now()
        answer = await box.get("chat")
        assert 1 <= now() - began_s < 5
        assert (answer.status_code, answer.json()["code"]) == (503, "hold_timeout")
        assert int(answer.headers["retry-after"]) >= 1
        status = await box.status("chat")
        assert (status["held"], status["in_flight"]) == (0, 0)


async def test_a_start_whose_command_is_not_told_its_port_is_noted_while_it_lasts(tmp_path: Path) -> None:
    untold: Service = {"command": ["sleep", "60"], "policy": {"min-replicas": 1}}
    services = {"untold": untold, "told": stub("--never-ready", min_replicas=1)}
    async with zerogate(services, tmp_path) as box:
        for service, notices in (("untold", 1), ("told", 0)):
            status = await box.until(service, lambda status: bool(status["replicas"]))
            assert [note.endswith("another one at each start.") for note in status["notices"]] == [True] * notices


async def test_c12_the_time_that_a_body_takes_to_name_its_model_is_no_hold(tmp_path: Path) -> None:
    service = stub("--never-ready", hold_timeout="1s", definition={"models": "big"})
    body = b'{"model": "big"}'
    async with zerogate({"chat": service, "other": stub()}, tmp_path) as box, box.wire() as one:
        head = request("POST", "/v1/echo", host="any", Content_Length=str(len(body)))
        await one.send(head + body[:8])
        await asyncio.sleep(1.5)  # a client on a slow line
        began_s = now()
        await one.send(body[8:])
        answer = await one.answer()
        assert 1 <= now() - began_s < 3
        assert answer.status == 503
        said = re.search(r"held for ([0-9.]+) s", answer.body.decode())
        counted = re.search(r"hold;dur=([0-9.]+)", answer.fields["server-timing"])
        assert said is not None
        assert counted is not None
        assert float(said[1]) == pytest.approx(float(counted[1]) / 1000, abs=0.06)
        assert 1 <= float(said[1]) < 1.4


async def test_c12_prefer_wait_shortens_the_hold_and_does_not_lengthen_it(tmp_path: Path) -> None:
    services = {"long": stub("--never-ready", hold_timeout="1h"), "short": stub("--never-ready", hold_timeout="1s")}
    async with zerogate(services, tmp_path) as box:
        for service, prefer in (("long", "wait=1"), ("short", "wait=3600"), ("long", "respond-async, wait=1")):
            began_s = now()
            answer = await box.get(service, headers={"Prefer": prefer})
            assert 1 <= now() - began_s < 5
            assert (answer.status_code, answer.json()["code"]) == (503, "hold_timeout")
            assert "retry-after" in answer.headers


@pytest.mark.parametrize(
    ("flags", "definition", "cause", "printed"),
    [
        (("--crash-after", "0", "--crash-message", REASON), {}, "ended with exit code 3", REASON),
        (("--never-ready", "--crash-after", "0.4", "--crash-message", REASON), {}, "exit code 3", REASON),
        (("--crash-after", "0.2", "--crash-code", "-9", "--never-ready"), {}, "SIGKILL", "stub: told to crash"),
        (("--never-ready", "--print-lines", "3"), {"start-timeout": "1s"}, "1 s", "line 3"),
    ],
    ids=["ends at once", "ends while it loads", "is killed", "is never ready"],
)
async def test_c13_what_waits_for_a_start_that_fails_is_told_the_cause_and_what_was_printed(
    tmp_path: Path, flags: tuple[str, ...], definition: dict[str, Any], cause: str, printed: str
) -> None:
    async with zerogate({"chat": stub(*flags, definition=definition)}, tmp_path) as box:
        waiting = asyncio.gather(*(box.get("chat") for _ in range(3)), box.get("chat", "/v1/models"))
        await box.until("chat", lambda status: status["last_ending"] is not None)
        answers = await asyncio.wait_for(waiting, 1)
        for answer in answers[:3]:
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (503, "start_failed")
            assert "chat" in problem["detail"]
            assert cause in problem["detail"]
            assert printed in problem["detail"]
            assert int(answer.headers["retry-after"]) >= 1
        assert printed in answers[3].json()["error"]["message"]


async def test_c13_while_starts_are_suspended_requests_are_refused_at_once_and_status_says_when_the_next_try_is(
    tmp_path: Path,
) -> None:
    async with zerogate({"chat": failing(tmp_path)}, tmp_path) as box:
        status = await _fail_until(box, lambda status: status["back_off"]["next_try_s"] > 2.5)
        assert status["state"] == "suspended"
        assert status["back_off"]["next_try_s"] <= 4
        assert status["back_off"]["failures"] >= 3
        assert status["back_off"]["last"]["last_lines"] == [REASON]
        began_s = now()
        answer = await box.get("chat")
        assert now() - began_s < 1
        assert (answer.status_code, answer.json()["code"]) == (503, "start_failed")
        assert 1 <= int(answer.headers["retry-after"]) <= 4
        assert REASON in answer.json()["detail"]


async def test_c13_a_request_after_the_back_off_tries_again(tmp_path: Path) -> None:
    async with zerogate({"chat": failing(tmp_path)}, tmp_path) as box:
        assert (await box.get("chat")).status_code == 503
        (tmp_path / "fixed").touch()
        await box.until("chat", lambda status: status["back_off"] is None, within_s=5)
        assert (await box.get("chat")).status_code == 200
        assert (await box.status("chat"))["back_off"] is None


async def test_c13_a_service_that_cannot_start_is_not_tried_again_for_nobody(tmp_path: Path) -> None:
    async with zerogate({"chat": failing(tmp_path)}, tmp_path) as box:
        assert (await box.get("chat")).status_code == 503
        await box.until("chat", lambda status: status["back_off"] is None and status["desired"] == 0, within_s=5)
        endings = (await box.metrics())['zerogate_replica_endings_total{service="chat",cause="start-failed"}']
        assert endings == 1


@pytest.mark.parametrize("how", ["pin", "policy", "definition"])
async def test_c13_a_person_who_changes_something_does_not_wait_for_the_back_off(tmp_path: Path, how: str) -> None:
    async with zerogate({"chat": failing(tmp_path)}, tmp_path) as box:
        await _fail_until(box, lambda status: status["back_off"]["next_try_s"] > 3)
        (tmp_path / "fixed").touch()
        began_s = now()
        if how == "pin":
            assert (await box.ask("POST", "/api/services/chat/pin", json={"replicas": 1})).is_success
        else:
            changed = failing(tmp_path, hold_timeout="1h") if how == "policy" else stub()
            box.write({"chat": changed})
            assert (await box.ask("POST", "/api/reload")).is_success
        assert (await box.get("chat")).status_code == 200
        assert now() - began_s < 2.5


async def _fail_until(box: Box, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask for the service until its back-off is as long as `holds` says."""
    async with asyncio.timeout(30):
        while True:
            assert (await box.get("chat")).status_code == 503
            status = await box.status("chat")
            if is_suspended(status) and holds(status):
                return status
            await box.until("chat", lambda status: not is_suspended(status))


async def test_c13_another_service_is_not_touched_by_one_that_cannot_start(tmp_path: Path) -> None:
    async with zerogate({"bad": failing(tmp_path), "good": stub()}, tmp_path) as box:
        bad, good = await asyncio.gather(box.get("bad"), box.get("good"))
        assert (bad.status_code, good.status_code) == (503, 200)


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_c15_who_leaves_while_it_is_cold_frees_the_demand_and_is_counted_as_abandoned(
    tmp_path: Path, how: str
) -> None:
    latch = Latch(tmp_path)
    async with zerogate({"chat": stub(*latch.flags, idle_timeout="1s")}, tmp_path) as box, box.wire() as one:
        await one.send(request("POST", "/", host="chat", body=b"{}"))
        await box.until_held("chat", 1)
        if how == "closes":
            one.hang_up()
        else:
            one.reset()
        await box.until_held("chat", 0, within_s=1)
        assert await box.ended("chat") == {"abandoned": 1}
        assert await box.refusals("chat") == {}
        latch.open()
        await box.until_ready("chat")
        assert (await box.stats("chat"))[0]["requests"] == 0
        await box.until_zero("chat", within_s=5)


async def test_c15_no_second_start_is_made_for_nobody(tmp_path: Path) -> None:
    """The first start fails after its client has gone; nothing is tried for the client that is not there."""
    async with zerogate({"chat": stub("--never-ready", "--crash-after", "0.5", idle_timeout="1s")}, tmp_path) as box:
        async with box.wire() as one:
            await one.send(request("GET", "/", host="chat"))
            await box.until_held("chat", 1)
        await box.until("chat", lambda status: status["desired"] == 0 and not status["replicas"], within_s=15)
        assert await box.ended("chat") == {"abandoned": 1}


async def test_a_command_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    services = {"good": stub(min_replicas=1), "chat": {"command": "llama-serverr --port {port}"}}
    write_file(tmp_path / "zerogate.yaml", free_port(), free_port(), services)
    process = await asyncio.create_subprocess_exec(
        *UP, str(tmp_path / "zerogate.yaml"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    said = (out + err).decode()
    assert "services.chat.command" in said
    assert "llama-serverr" in said
    assert "PATH" in said
    assert "Traceback" not in said
    assert not (tmp_path / "state" / "logs").exists()


async def test_a_command_that_went_away_after_the_start_is_named_to_the_client(tmp_path: Path) -> None:
    program = tmp_path / "server.sh"
    program.write_text(f"#!/bin/sh\nexec {shlex.join(STUB[:-2])}\n")
    program.chmod(0o755)
    async with zerogate({"chat": {"command": "./server.sh", "policy": {"idle-timeout": "1s"}}}, tmp_path) as box:
        assert (await box.get("chat")).status_code == 200
        await box.until_zero("chat", within_s=10)
        program.unlink()
        answer = await box.get("chat")
        assert (answer.status_code, answer.json()["code"]) == (503, "start_failed")
        assert "server.sh" in answer.json()["detail"]


async def test_a_program_that_is_missing_inside_a_shell_is_told_with_the_shells_own_words(tmp_path: Path) -> None:
    command = ["sh", "-c", "exec no-such-model-server --port {port}"]
    async with zerogate({"chat": {"command": command}}, tmp_path) as box:
        answer = await box.get("chat")
        assert answer.status_code == 503
        assert "no-such-model-server" in answer.json()["detail"]
        assert "127" in answer.json()["detail"]


async def test_a_replica_that_is_killed_between_requests_is_replaced_for_the_next_one(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box:
        await box.get("chat")
        [replica] = (await box.status("chat"))["replicas"]
        os.kill(replica["pid"], signal.SIGKILL)
        assert (await box.get("chat")).status_code == 200
        status = await box.until("chat", lambda status: ready(status) == 1)
        assert status["replicas"][0]["id"] != replica["id"]
        assert status["last_ending"]["exit_code"] == -signal.SIGKILL
