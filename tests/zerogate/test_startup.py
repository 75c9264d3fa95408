"""How a process ends: with which code, and after which words."""

import asyncio
import signal

import pytest

from zerogate.errors import DefinitionError, DefinitionErrors, MachineError
from zerogate.startup import run, told_to_leave


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's own process keeps the limits that it has."""
    monkeypatch.setattr("zerogate.startup.raise_open_files", lambda: None)


def test_a_process_that_leaves_in_order_ends_with_0() -> None:
    done: list[int] = []
    assert run("role", lambda: 7, done.append) == 0
    assert done == [7]


def test_what_is_done_may_say_the_code() -> None:
    assert run("role", lambda: 7, lambda settings: settings) == 7


def test_all_that_is_wrong_with_the_settings_is_said_and_nothing_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    def read() -> int:
        raise DefinitionErrors([DefinitionError("is wrong", key="--a"), DefinitionError("is missing", key="--b")])

    def act(_: int) -> None:
        raise AssertionError("it was started")

    assert run("role", read, act) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("role: --") for line in lines] == [True, True]
    assert "is wrong" in lines[0]
    assert "is missing" in lines[1]


def test_what_the_machine_lacks_is_one_line_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def act(_: int) -> None:
        raise MachineError("The port is taken.")

    assert run("role", lambda: 1, act) == 1
    assert capsys.readouterr().err == "role: The port is taken.\n"


@pytest.mark.both_loops
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_signal_says_to_leave_and_the_second_to_do_so_at_once(number: signal.Signals) -> None:
    at_once = asyncio.Event()
    left = told_to_leave(at_once.set)
    signal.raise_signal(number)
    async with asyncio.timeout(5):
        await left.wait()
        assert not at_once.is_set()
        signal.raise_signal(signal.SIGTERM)
        await at_once.wait()
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().remove_signal_handler(one)


async def test_who_cannot_leave_at_once_takes_further_signals_for_the_first() -> None:
    left = told_to_leave()
    for _ in range(2):
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert await left.wait()
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().remove_signal_handler(one)
