import os
import signal
from pathlib import Path

import pytest

from tests.zerogate.local.world import definition, open_files_used_up
from zerogate.local import spawn as module
from zerogate.local.launch import Launched, LaunchFailure, launch
from zerogate.local.ports import Ports
from zerogate.local.spawn import SpawnError, spawn

ENV = {"PATH": "/usr/bin:/bin", "GREETING": "good morning"}


def output_of(command: list[str], folder: Path, *, cwd: Path | None = None, code: int = 0) -> str:
    """Run it to its end; what it wrote."""
    fd = os.open(folder / "out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        pid = spawn(command, env=ENV, cwd=cwd, output_fd=fd)
    finally:
        os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
    return (folder / "out").read_text()


def test_arguments_environment_and_exit_code_pass_through(tmp_path: Path) -> None:
    said = output_of(["sh", "-c", 'echo "$1, $GREETING"; echo oops >&2; exit 3', "sh", "a b"], tmp_path, code=3)
    assert said == "a b, good morning\noops\n"


@pytest.mark.parametrize("has_chdir", [True, False], ids=["this C library", "one that cannot change directories"])
def test_it_starts_in_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_chdir: bool) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    script = folder / "here"
    script.write_text('#!/bin/sh\necho "$PWD $1"\n')
    script.chmod(0o755)
    if not has_chdir:
        libc = module._libc()

        class Old:
            def __getattr__(self, name: str) -> object:
                if name.endswith("addchdir_np"):
                    raise AttributeError(name)
                return getattr(libc, name)

        monkeypatch.setattr(module, "_libc", Old)
    assert output_of(["./here", "x y"], tmp_path, cwd=folder) == f"{folder} x y\n"


def test_signals_that_python_ignores_are_not_ignored_by_the_child(tmp_path: Path) -> None:
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    status = dict(line.split(":\t", 1) for line in output_of(["cat", "/proc/self/status"], tmp_path).splitlines())
    assert int(status["SigIgn"], 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0
    assert int(status["SigBlk"], 16) == 0


def test_nothing_but_the_three_descriptors_is_inherited(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        open_ones = output_of(["ls", "/proc/self/fd"], tmp_path).split()
    finally:
        os.close(read)
        os.close(write)
    assert open_ones == ["0", "1", "2", "3"], "3 is the listed folder itself"


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        ("#!/no/such/interpreter\n", 0o755, "the interpreter that its first line names"),
        ("echo hello\n", 0o755, "not a program for this machine"),
        ("#!/bin/sh\n", 0o644, "Check its permissions"),
    ],
    ids=["interpreter", "format", "permission"],
)
def test_a_file_that_is_no_program_says_why(tmp_path: Path, content: str, mode: int, words: str) -> None:
    script = tmp_path / "script"
    script.write_text(content)
    script.chmod(mode)
    with pytest.raises(SpawnError, match=words):
        output_of([str(script)], tmp_path)


def test_too_long_arguments_are_told() -> None:
    with pytest.raises(SpawnError, match="too long"):
        spawn(["true", "x" * 10_000_000], env=ENV, cwd=None, output_fd=1)


def test_with_all_descriptors_used_the_start_fails_with_a_sentence(tmp_path: Path) -> None:
    ports = Ports()
    with open_files_used_up():
        _, result = launch(definition(tmp_path), "i", "a-1", tmp_path / "a.log", ports)
    assert isinstance(result, LaunchFailure)
    assert "ulimit -n" in result.detail


def test_a_launch_is_a_process_with_a_log(tmp_path: Path) -> None:
    mark, result = launch(definition(tmp_path, command=["true"]), "i", "a-1", tmp_path / "a.log", Ports())
    assert isinstance(result, Launched)
    assert result.leader is not None
    os.waitid(os.P_PID, result.leader.pid, os.WEXITED | os.WNOWAIT)
    assert result.leader.exit_code(reap=False) == 0
    result.leader.close()
    header = (tmp_path / "a.log").read_text()
    assert header.endswith(f"Z a-1 on port {mark.port}: true\n")
    assert result.log_offset == len(header)
