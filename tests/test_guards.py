"""The guards that hold every test see what they are meant to see."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tests import guards
from tests.conftest import RUN_TOKEN


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> guards.BlockingCalls:
    calls = guards.BlockingCalls()
    calls.install(monkeypatch)
    return calls


def _sleep() -> None:
    time.sleep(0.001)


def _run() -> None:
    subprocess.run(["true"])


def _connect() -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", 9))


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("block", [_sleep, _connect], ids=["time.sleep", "socket.connect"])
@pytest.mark.may_block("it is the point")
def test_a_blocking_call_on_a_running_loop_raises_and_is_remembered(
    calls: guards.BlockingCalls, block: Callable[[], None], factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> None:
        with pytest.raises(guards.BlockingCallError):
            block()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert len(calls.seen) == 1


def test_a_child_waited_for_on_the_loop_is_remembered(calls: guards.BlockingCalls) -> None:
    child = subprocess.Popen(["true"])

    async def main() -> None:
        with pytest.raises(guards.BlockingCallError):
            child.wait()

    asyncio.run(main())
    child.wait()
    assert calls.seen == ["subprocess.Popen.wait"]


def test_the_same_calls_are_free_off_the_loop(calls: guards.BlockingCalls) -> None:
    _sleep()
    _run()
    assert calls.seen == []


def _busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.mark.may_block("it is the point")
@pytest.mark.parametrize(
    ("hold", "limit_s"),
    [(time.sleep, guards.LONGEST_WAIT_S), (_busy, guards.LONGEST_CALLBACK_S)],
    ids=["waiting", "computing"],
)
def test_a_callback_over_the_limit_is_remembered_and_a_short_one_is_not(
    monkeypatch: pytest.MonkeyPatch, hold: Callable[[float], None], limit_s: float
) -> None:
    callbacks = guards.SlowCallbacks()
    callbacks.install(monkeypatch)

    async def main() -> None:
        await asyncio.sleep(0)
        hold(limit_s * 1.2)

    asyncio.run(main())
    assert len(callbacks.seen) == 1
    asyncio.run(asyncio.sleep(limit_s * 1.2))
    assert len(callbacks.seen) == 1
    callbacks.uninstall()


def test_children_grandchildren_and_zombies_are_seen() -> None:
    code = (
        "import sys; from subprocess import *; c = Popen(['sh', '-c', 'echo; read x'], stdin=PIPE, stdout=PIPE); "
        "c.stdout.readline(); print(c.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        seen = guards.descendants()
        guards.kill([grandchild])
    assert {child.pid, grandchild} <= seen.keys()
    assert "read x" in seen[grandchild]
    assert child.pid not in guards.descendants()


def test_a_failed_test_does_not_wait_for_its_process() -> None:
    with pytest.raises(AssertionError), subprocess.Popen(["sleep", "60"]) as child:
        raise AssertionError
    assert child.returncode == -signal.SIGKILL


def test_an_orphan_is_found_by_the_mark_of_the_run() -> None:
    script = "sleep 60 >/dev/null 2>&1 & echo $!"
    orphan = int(subprocess.run(["setsid", "sh", "-c", script], capture_output=True, text=True, check=True).stdout)
    try:
        assert orphan in guards.marked(RUN_TOKEN)
    finally:
        guards.kill([orphan])
    assert os.getpid() not in guards.marked(RUN_TOKEN)


@pytest.mark.uvloop
async def test_a_test_marked_uvloop_runs_on_it() -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)


async def test_other_tests_run_on_the_stock_loop() -> None:
    assert not isinstance(asyncio.get_running_loop(), uvloop.Loop)


BODIES = """
import asyncio
import pytest

pytestmark = pytest.mark.uvloop


async def opened() -> list[asyncio.StreamWriter]:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    server.close()
    return [writer for _, writer in streams]


async def test_fails() -> None:
    writers = await opened()
    assert writers == "its own error"


async def test_leaks() -> None:
    assert await opened()


async def test_closes() -> None:
    for writer in await opened():
        writer.close()
"""


@pytest.mark.slow
def test_a_failed_test_shows_its_own_error_and_one_that_passes_shows_what_it_left_open(tmp_path: Path) -> None:
    (tmp_path / "test_bodies.py").write_text(BODIES)
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "pytest", "-c", str(root / "pyproject.toml"), "-p", "tests.conftest", "-q"]
    run = subprocess.run([*command, str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=60)
    summary = run.stdout.rpartition("short test summary info")[2]
    told = [line.split(" - ")[0] for line in summary.splitlines() if line.startswith(("ERROR", "FAILED"))]
    assert [line.split()[0] for line in told if line.endswith("test_fails")] == ["FAILED"], run.stdout
    assert [line for line in told if line.endswith("test_leaks")], run.stdout
    assert not [line for line in told if line.endswith("test_closes")], run.stdout


@pytest.mark.slow
def test_signals_that_whoever_began_the_run_ignores_reach_what_a_test_starts(tmp_path: Path) -> None:
    (tmp_path / "test_child.py").write_text(
        "import signal, subprocess, sys\n"
        "def test_child() -> None:\n"
        "    says = 'import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)'\n"
        "    assert subprocess.check_output([sys.executable, '-c', says], text=True) == 'True\\n'\n"
    )
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "pytest", "-c", str(root / "pyproject.toml"), "-p", "tests.conftest", "-q"]
    begun = ["sh", "-c", 'trap "" INT HUP; exec "$@"', "sh", *command, str(tmp_path)]
    run = subprocess.run(begun, cwd=root, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout
