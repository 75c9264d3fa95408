"""Fixtures that hold for every test: see tests/guards.py for what they guard against."""

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator

import pytest
import uvloop

from tests import guards

RUN_TOKEN = f"ZEROGATE_TEST_RUN={uuid.uuid4().hex}"
"""In the environment of every process that this run starts, so that orphans are found wherever they were adopted."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """`@pytest.mark.uvloop` runs a test on uvloop, `both_loops` on both, everything else on the stock loop.

    Marks of the test and its module only: those of one of its parameters are not known yet.
    """
    if item.get_closest_marker("both_loops"):
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    if item.get_closest_marker("uvloop"):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session", autouse=True)
def _run_token() -> None:
    name, _, value = RUN_TOKEN.partition("=")
    os.environ[name] = value


@pytest.fixture(scope="session", autouse=True)
def _a_failed_test_waits_for_nobody() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        guards.end_processes_of_failed_tests(patch)
        yield


@pytest.fixture(autouse=True)
def _no_process_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a child process, or (where real processes are used) an orphan of one."""
    real = any(request.node.get_closest_marker(name) for name in ("slow", "model"))

    def processes() -> dict[int, str]:
        return guards.descendants() | (guards.marked(RUN_TOKEN) if real else {})

    before = processes()
    yield
    left = {pid: command for pid, command in processes().items() if pid not in before}
    ended = {pid for pid in left if guards.is_ended(pid)}
    guards.kill(left)
    if guards.is_subreaper():
        left = {pid: command for pid, command in left.items() if pid not in ended}
    assert not left, f"processes that the test left behind: {left}"


@pytest.fixture(autouse=True)
def _loop_is_not_blocked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test in which something held the loop."""
    if request.node.get_closest_marker("may_block"):
        yield
        return
    calls, callbacks = guards.BlockingCalls(), guards.SlowCallbacks()
    with pytest.MonkeyPatch.context() as patch:
        calls.install(patch)
        callbacks.install(patch)
        yield
    callbacks.uninstall()
    assert not calls.seen, f"blocking calls on the loop: {calls.seen}"
    assert not callbacks.seen, f"the loop was held for more than 100 ms: {callbacks.seen}"
