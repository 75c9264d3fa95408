"""Standard output that is never waited for."""

import os
from collections.abc import Iterator

import pytest

from zerogate.output import Output


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_reader_that_is_behind_is_not_waited_for_and_misses_nothing(pipe: tuple[int, int]) -> None:
    read, write = pipe
    data = os.urandom(300_000)
    output = Output(write)
    taken = output.write(data)
    assert 0 < taken < len(data)
    assert output.write(data[taken:]) == 0
    received = b""
    while len(received) < len(data):
        received += os.read(read, 65536)
        taken += output.write(data[taken:])
    assert received == data


def test_each_write_ends_with_a_line_so_that_several_processes_share_a_pipe(pipe: tuple[int, int]) -> None:
    read, write = pipe
    line = b"x" * 1499 + b"\n"
    taken = Output(write).write(line * 100)
    assert 0 < taken < 100 * len(line)
    assert taken % len(line) == 0
    assert os.read(read, 1 << 20) == line * (taken // len(line))


def test_a_reader_that_is_gone_is_told() -> None:
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(BrokenPipeError):
        Output(write).write(b"x")
    os.close(write)


def test_a_file_takes_all(tmp_path: os.PathLike[str]) -> None:
    descriptor = os.open(os.path.join(tmp_path, "log"), os.O_WRONLY | os.O_CREAT)
    assert Output(descriptor).write(b"x" * 100_000) == 100_000
    os.close(descriptor)
