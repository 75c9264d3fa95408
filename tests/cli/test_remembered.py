"""The small file of a state folder."""

import asyncio
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from autoscaler.decision import Pin
from autoscaler.status import Saved
from cli.remembered import Remembered
from zerogate.tasks import Nursery

PINNED = {"chat": Saved(pin=Pin(replicas=2))}


async def test_what_was_saved_is_loaded_by_the_next(tmp_path: Path) -> None:
    first = Remembered(tmp_path)
    assert first.load() == {}
    await first.save(PINNED)
    assert Remembered(tmp_path).load() == PINNED


async def test_one_that_never_loaded_does_not_forget_for_the_one_that_runs(tmp_path: Path) -> None:
    running = Remembered(tmp_path)
    running.load()
    await running.save(PINNED)
    await Remembered(tmp_path).save({})
    assert Remembered(tmp_path).load() == PINNED


async def test_it_is_saved_at_most_every_half_minute(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path)
    remembered.load()
    await remembered.save_if_due(dict, 100.0)
    await remembered.save_if_due(lambda: PINNED, 129.0)
    assert Remembered(tmp_path).load() == {}
    await remembered.save_if_due(lambda: PINNED, 130.0)
    assert Remembered(tmp_path).load() == PINNED


async def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    remembered = Remembered(tmp_path / "missing")
    remembered.load()
    with caplog.at_level(logging.WARNING):
        await remembered.save(PINNED)
        await remembered.save(PINNED)
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/missing/learned.json cannot be written: No such file or directory"
    ]


def test_a_file_that_is_no_json_costs_only_what_was_learned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "learned.json").write_text("{")
    assert Remembered(tmp_path).load() == {}
    assert "cannot be read" in caplog.text


async def test_writes_follow_each_other_and_the_last_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on, under_way, most = threading.Event(), 0, 0
    replace = os.replace

    def slow_replace(*paths: Any) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        may_go_on.wait(10)
        replace(*paths)
        under_way -= 1

    monkeypatch.setattr(os, "replace", slow_replace)
    remembered = Remembered(tmp_path)
    remembered.load()
    nursery = Nursery()
    pinned = [{"chat": Saved(pin=Pin(replicas=count))} for count in range(1, 9)]
    saves = [nursery.start(remembered.save(one), name="save") for one in pinned]
    async with asyncio.timeout(30):
        while not under_way:
            await asyncio.sleep(0.01)  # the loop goes on meanwhile
    saves[-1].cancel()  # as its owner does when the process leaves
    may_go_on.set()
    await asyncio.gather(*saves, return_exceptions=True)
    await remembered.save(PINNED)
    assert most == 1
    assert Remembered(tmp_path).load() == PINNED
    assert list(tmp_path.iterdir()) == [tmp_path / "learned.json"]
