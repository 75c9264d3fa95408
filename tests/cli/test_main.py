"""Ctrl-C while a command is still being loaded: one line and 130, whatever the moment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.may_block]

_SLOW = """
import os, sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.write(1, b"importing")
            time.sleep(30)

sys.meta_path.insert(0, Slow())
sys.argv = ["zerogate", *{words!r}]
from cli.__main__ import main
main()
"""
"""The console script, in the middle of importing `module`."""


@pytest.mark.parametrize(
    ("module", "words"),
    [("typer", ["--help"]), ("cli.exits", ["version"]), ("cli.up", ["up"]), ("uvloop", ["up"]), ("yaml", ["check"])],
)
def test_ctrl_c_during_an_import_is_one_line_and_130(module: str, words: list[str]) -> None:
    code = _SLOW.format(module=module, words=words)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 100) == b"importing"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (130, b"zerogate: interrupted\n")


@pytest.mark.parametrize("words", [["--help"], ["version"]])
def test_an_output_that_takes_nothing_is_one_line_and_1(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "cli", *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_module_that_hears_it_first_loads_nothing() -> None:
    code = "import os, signal, sys; before = set(sys.modules); import cli.__main__; print(set(sys.modules) - before)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path.cwd()).stdout
    assert seen.strip() in ("{'cli', 'cli.__main__'}", "{'cli.__main__', 'cli'}")
