"""When who is decided about: one timer, slices, wakes first."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from autoscaler.agenda import Agenda
from tests.autoscaler.virtual import VirtualLoop
from zerogate.clock import now as real_now


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    assert isinstance(made, asyncio.SelectorEventLoop)
    yield made
    made.close()


def test_everybody_is_called_once_at_his_time(loop: VirtualLoop) -> None:
    called: dict[str, float] = {}

    def act(name: str) -> None:
        assert name not in called
        called[name] = loop.time()

    agenda = Agenda(act, loop=loop, clock=loop.time)
    agenda.plan("late", 1300.0)
    agenda.plan("moved", 1010.0)
    agenda.plan("moved", 1020.0)
    agenda.plan("never", 1005.0)
    agenda.plan("never", None)
    agenda.plan_by("late", 1400.0)
    assert len(loop.planned()) == 1
    loop.run_for(400.0)
    assert called == pytest.approx({"moved": 1020.0, "late": 1300.0}, abs=0.01)
    assert loop.planned() == []


def test_a_wake_goes_before_all_that_is_due(loop: VirtualLoop) -> None:
    called: list[str] = []
    agenda = Agenda(called.append, loop=loop, clock=loop.time)
    for name in ("a", "b", "c"):
        agenda.soon(name)
    agenda.soon("woken", first=True)
    agenda.soon("a")
    loop.run_for(0.01)
    assert called == ["woken", "a", "b", "c"]


def test_a_crowd_is_worked_off_in_slices_with_others_in_between(loop: VirtualLoop) -> None:
    others: list[int] = []
    called: list[str] = []

    def act(name: str) -> None:
        end_s = real_now() + 0.0002
        while real_now() < end_s:
            pass
        called.append(name)

    agenda = Agenda(act, loop=loop, clock=loop.time)
    for number in range(100):
        agenda.soon(str(number))

    def other() -> None:
        others.append(len(called))
        if len(called) < 100:
            loop.call_soon(other)

    loop.call_soon(other)
    loop.run_for(0.01)
    assert len(called) == 100
    assert len(others) > 10


def test_one_failure_does_not_stop_the_others(loop: VirtualLoop, caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []

    def act(name: str) -> None:
        if name == "broken":
            raise ValueError("broken")
        called.append(name)

    agenda = Agenda(act, loop=loop, clock=loop.time)
    agenda.soon("broken")
    agenda.soon("fine")
    with caplog.at_level(logging.ERROR):
        loop.run_for(0.01)
    assert called == ["fine"]
    assert "broken" in caplog.text


def test_plans_that_move_all_the_time_leave_nothing_behind(loop: VirtualLoop) -> None:
    agenda = Agenda(lambda name: None, loop=loop, clock=loop.time)
    for number in range(10_000):
        agenda.plan("chat", 2000.0 + number)
    assert len(agenda._heap) <= 67


def test_after_close_nobody_is_called(loop: VirtualLoop) -> None:
    called: list[str] = []
    agenda = Agenda(called.append, loop=loop, clock=loop.time)
    agenda.soon("a")
    agenda.plan("b", 1001.0)
    agenda.close()
    loop.run_for(5.0)
    assert called == []
