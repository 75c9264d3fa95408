"""Fixtures that hold for every test: see tests/guards.py for what they guard against."""

import asyncio
import gc
import os
import signal
import sys
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator

import pytest

from tests import fuzz, guards
from tests.loops import StockLoop, UvLoop

RUN_TOKEN = f"ZEROGATE_TEST_RUN={uuid.uuid4().hex}"
"""In the environment of every process that this run starts, so that orphans are found wherever they were adopted."""
HAS_FAILED = pytest.StashKey[bool]()


def pytest_configure() -> None:
    fuzz.load_profile()
    _hand_on_signals()


def _hand_on_signals() -> None:
    """Signals that whoever began this run has ignored, as `nohup` and `&` in a script do, reach what tests start.

    A child inherits what is ignored and not what is handled. This run itself goes on ignoring them.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[HAS_FAILED] = True
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """A test that failed left things open where it stood: that is no news beside what it failed of."""
    with warnings.catch_warnings():
        if item.stash.get(HAS_FAILED, False):
            warnings.simplefilter("ignore")
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What the frames of a failure hold open goes with it, and does not warn in another test."""
    done = yield
    if item.stash.get(HAS_FAILED, False):
        sys.last_type = sys.last_value = sys.last_traceback = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
    return done


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """`@pytest.mark.uvloop` runs a test on uvloop, `both_loops` on both, everything else on the stock loop.

    Marks of the test and its module only: those of one of its parameters are not known yet.
    """
    if item.get_closest_marker("both_loops"):
        return {"asyncio": StockLoop, "uvloop": UvLoop}
    if item.get_closest_marker("uvloop"):
        return {"uvloop": UvLoop}
    return {"asyncio": StockLoop}


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
