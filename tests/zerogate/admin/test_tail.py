"""A log is read from its last lines on, whole across rotations and truncations."""

from pathlib import Path

import pytest

from zerogate.admin import tail
from zerogate.admin.tail import Tail


def _rest(tail: Tail) -> bytes:
    return b"".join(iter(tail.read, b""))


@pytest.mark.parametrize(
    ("content", "lines", "last"),
    [
        pytest.param(b"a\nb\nc\n", 2, b"b\nc\n", id="last two"),
        pytest.param(b"a\nb\nc", 2, b"b\nc", id="an unfinished line counts"),
        pytest.param(b"a\nb\n", 5, b"a\nb\n", id="fewer than asked for"),
        pytest.param(b"a\nb\n", 0, b"", id="none"),
        pytest.param(b"", 3, b"", id="empty file"),
        pytest.param(b"\n\n\n", 2, b"\n\n", id="empty lines"),
        pytest.param(b"x" * 70_000 + b"\n" + b"y" * 70_000 + b"\n", 1, b"y" * 70_000 + b"\n", id="over a block"),
        pytest.param(
            b"a\n" + b"y" * (64 * 1024 - 1) + b"\n", 1, b"y" * (64 * 1024 - 1) + b"\n", id="at a block's edge"
        ),
    ],
)
def test_it_begins_with_the_last_lines(tmp_path: Path, content: bytes, lines: int, last: bytes) -> None:
    (tmp_path / "log").write_bytes(content)
    with Tail(tmp_path / "log") as log:
        log.skip_to_last(lines)
        assert _rest(log) == last


def test_it_looks_back_only_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "_FURTHEST_BYTES", 100)
    (tmp_path / "log").write_bytes(b"z" * 1000)
    with Tail(tmp_path / "log") as log:
        log.skip_to_last(1)
        assert _rest(log) == b"z" * 100


def test_what_is_appended_comes_next(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Tail(path) as log, path.open("ab", buffering=0) as writer:
        writer.write(b"one\n")
        assert log.read() == b"one\n"
        assert log.read() == b""
        writer.write(b"two\n")
        assert log.read() == b"two\n"


def test_a_file_that_appears_later_is_read_from_its_start(tmp_path: Path) -> None:
    with Tail(tmp_path / "log") as log:
        log.skip_to_last(10)
        assert log.read() == b""
        (tmp_path / "log").write_bytes(b"first\n")
        assert log.read() == b"first\n"


def test_a_rotated_file_is_read_to_its_end_before_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    with Tail(path) as log:
        log.skip_to_last(0)
        with path.open("ab") as writer:
            writer.write(b"last of the old\n")
        path.rename(tmp_path / "log.1")
        path.write_bytes(b"new\n")
        assert log.read() == b"last of the old\n"
        assert log.read() == b"new\n"


def test_between_two_files_nothing_is_lost_or_raised(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    with Tail(path) as log:
        assert log.read() == b"old\n"
        path.rename(tmp_path / "log.1")
        assert log.read() == b""
        path.write_bytes(b"new\n")
        assert log.read() == b"new\n"


def test_a_file_that_was_cut_short_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a long first life\n")
    with Tail(path) as log:
        assert log.read() == b"a long first life\n"
        path.write_bytes(b"short\n")
        assert log.read() == b"short\n"
