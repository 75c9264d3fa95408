import os
from pathlib import Path

import pytest

from zerogate.local import logs


def write(log: logs.OpenLog, text: str) -> None:
    os.write(log.fd, text.encode())


def opened(path: Path) -> logs.OpenLog:
    """A log as a child has it, with zerogate's own descriptor closed by the test."""
    return logs.open_log(path, "header")


def test_the_tail_is_what_this_replica_wrote(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.log"
    first = opened(path)
    write(first, "of the first\n")
    os.close(first.fd)
    second = opened(path)
    assert logs.tail(path, second.offset) == ()
    write(second, "one\ntwo\n\nthree without an end")
    os.close(second.fd)
    assert logs.tail(path, second.offset) == ("one", "two", "three without an end")


def test_the_tail_is_bounded_in_lines_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("".join(f"line {n}\n" for n in range(100)))
    assert logs.tail(path, 0) == tuple(f"line {n}" for n in range(80, 100))
    path.write_text("x" * 1_000_000)
    assert logs.tail(path, 0) == ("x" * logs.LINE_CHARACTERS,)


def test_the_tail_shows_what_a_person_would_have_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"loading 10%\rloading 100%\r\n\x1b[31mred\x1b[0m\n\xff\x00\n")
    assert logs.tail(path, 0) == ("loading 100%", "red", "\N{REPLACEMENT CHARACTER}")


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    os.mkfifo(path)
    log = opened(path)
    os.close(log.fd)
    assert log.warning is not None
    assert "it is a pipe" in log.warning
    assert logs.tail(path, 0) == ()


def test_a_missing_file_has_no_tail(tmp_path: Path) -> None:
    assert logs.tail(tmp_path / "none", 0) == ()


def test_a_large_file_is_moved_aside_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LIMIT_BYTES", 100)
    path = tmp_path / "a.log"
    path.write_text("x" * 101)
    log = opened(path)
    os.close(log.fd)
    assert path.read_text() == "header\n"
    assert (tmp_path / "a.log.1").read_text() == "x" * 101


def test_a_file_in_use_is_truncated_and_its_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LIMIT_BYTES", 100)
    path = tmp_path / "a.log"
    log = opened(path)
    assert not logs.trim(path)
    write(log, "x" * 200)
    assert logs.trim(path)
    write(log, "after\n")
    os.close(log.fd)
    assert path.read_text() == "after\n"
    assert "x" * 200 in (tmp_path / "a.log.1").read_text()
    assert logs.tail(path, log.offset + 1000) == ("after",), "an offset beyond the end is one from before"


def test_a_log_that_cannot_be_opened_goes_nowhere_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = opened(tmp_path / "file" / "a.log")
    assert os.readlink(f"/proc/self/fd/{log.fd}") == os.devnull
    os.close(log.fd)
    assert log.warning is not None
    assert "a.log cannot be written" in log.warning


def test_slots_are_told_apart_by_a_number() -> None:
    assert [logs.slot_path(Path("/l/chat.log"), n).name for n in (1, 2)] == ["chat.log", "chat.2.log"]
    assert logs.slot_path(Path("/l/chat"), 3).name == "chat.3"
