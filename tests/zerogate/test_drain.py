"""The order in which a process leaves, and that one step that fails keeps no other from being taken."""

import asyncio
import logging
from typing import Any

import pytest

from zerogate.drain import Steps, leave

ORDER = [
    "readiness_off", "wait_for_senders", "close_listeners", "refuse_held", "finish_running", "stop_replicas",
    "close_infrastructure",
]  # fmt: skip


def steps(taken: list[str], **others: Any) -> Steps:
    """Steps that note themselves, when they begin and, where they wait, when they end."""

    def at_once(name: str) -> Any:
        return lambda: taken.append(name)

    def waiting(name: str) -> Any:
        async def step() -> None:
            taken.append(f"{name} begins")
            await asyncio.sleep(0)
            taken.append(name)

        return step

    made = {name: (at_once if name in ("readiness_off", "refuse_held") else waiting)(name) for name in ORDER}
    return Steps(**{**made, **others})


async def test_each_step_ends_before_the_next_one_begins() -> None:
    taken: list[str] = []
    await leave(steps(taken))
    assert [name for name in taken if not name.endswith(" begins")] == ORDER
    assert all(taken[place - 1] == f"{name} begins" for place, name in enumerate(taken) if f"{name} begins" in taken)


async def test_where_nobody_has_to_notice_the_listeners_are_closed_at_once() -> None:
    taken: list[str] = []
    await leave(steps(taken, wait_for_senders=None, close_listeners=lambda: taken.append("close_listeners")))
    assert taken[:3] == ["readiness_off", "close_listeners", "refuse_held"]


@pytest.mark.parametrize("broken", ORDER)
async def test_a_step_that_fails_is_said_and_the_others_are_taken(
    broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise OSError("no")

    async def fail_later() -> None:
        fail()

    taken: list[str] = []
    with caplog.at_level(logging.ERROR):
        await leave(steps(taken, **{broken: fail if broken in ("readiness_off", "refuse_held") else fail_later}))
    assert [name for name in taken if not name.endswith(" begins")] == [name for name in ORDER if name != broken]
    assert f"leaving: {broken.replace('_', ' ')} failed" in caplog.text
