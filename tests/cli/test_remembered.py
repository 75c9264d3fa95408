"""The small file of a state folder."""

import logging
from pathlib import Path

import pytest

from autoscaler.decision import Pin
from autoscaler.status import Saved
from cli.remembered import Remembered

PINNED = {"chat": Saved(pin=Pin(replicas=2))}


def test_what_was_saved_is_loaded_by_the_next(tmp_path: Path) -> None:
    first = Remembered(tmp_path)
    assert first.load() == {}
    first.save(PINNED)
    assert Remembered(tmp_path).load() == PINNED


def test_one_that_never_loaded_does_not_forget_for_the_one_that_runs(tmp_path: Path) -> None:
    running = Remembered(tmp_path)
    running.load()
    running.save(PINNED)
    Remembered(tmp_path).save({})
    assert Remembered(tmp_path).load() == PINNED


def test_it_is_saved_at_most_every_half_minute(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path)
    remembered.load()
    remembered.save_if_due(dict, 100.0)
    remembered.save_if_due(lambda: PINNED, 129.0)
    assert Remembered(tmp_path).load() == {}
    remembered.save_if_due(lambda: PINNED, 130.0)
    assert Remembered(tmp_path).load() == PINNED


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    remembered = Remembered(tmp_path / "missing")
    remembered.load()
    with caplog.at_level(logging.WARNING):
        remembered.save(PINNED)
        remembered.save(PINNED)
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/missing/learned.json cannot be written: No such file or directory"
    ]


def test_a_file_that_is_no_json_costs_only_what_was_learned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "learned.json").write_text("{")
    assert Remembered(tmp_path).load() == {}
    assert "cannot be read" in caplog.text
