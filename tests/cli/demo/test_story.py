"""The story with a stub as the model: what it tells, and how it fails when something does not happen."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from cli.demo import child
from cli.demo.cast import Cast
from cli.demo.errors import StoryError
from cli.demo.story import run
from tests.stub_server import STUB

pytestmark = pytest.mark.slow

STUBBED = Cast(
    title="A stub",
    model="stub",
    command=(*STUB, "--ready-after", "0.3", "--tokens", "5"),
    cold_question="One?",
    warm_question="Two?",
    idle_timeout="2s",
    needs_weights=False,
)


@pytest.fixture(autouse=True)
def _own_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual ports may be taken by whoever uses this machine: then the story has one line more."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = (first.getsockname()[1], second.getsockname()[1])
    monkeypatch.setattr(child, "USUAL_PORTS", ports)


def _told(cast: Cast, *, width: int = 100, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False)
    assert run(keep=False, cast=cast, console=console) == 0
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _variant(*flags: str, start_timeout: str = "1m") -> Cast:
    return msgspec.structs.replace(STUBBED, command=(*STUB, *flags), start_timeout=start_timeout)


def test_it_tells_zero_held_ready_tokens_warm_idle_and_zero_in_this_order() -> None:
    story = _told(STUBBED)
    scenes = ["zerogate is up", "at zero", "“One?”", "held:", "ready after", "token0 token1", "first token after"]
    scenes += ["“Two?”", "token0 token1", "idle: zero in 2 s", "zero: process", "warm first token", "has left"]
    position = 0
    for scene in scenes:
        position = story.index(scene, position)
    assert story.count("held:") == 1, "the warm request is not held"


def test_into_a_pipe_it_writes_lines_without_control_codes() -> None:
    story = _told(STUBBED)
    assert not [sign for sign in story if sign != "\n" and not sign.isprintable()]


def test_on_a_terminal_of_80_columns_no_line_is_longer_and_what_moved_is_gone() -> None:
    story = _told(msgspec.structs.replace(STUBBED, idle_timeout="3s"), width=80, terminal=True)
    assert re.search(r"zero in \d\.\d s", story), "looked at once in three seconds at least"
    assert "\x1b[?25h" in story, "the cursor is shown again"
    assert max(len(line.split("\r")[-1]) for line in story.split("\n") if "\x1b" not in line) <= 80


def test_taken_ports_are_said_and_others_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(child, "USUAL_PORTS", (port, child.USUAL_PORTS[1]))
            story = _told(STUBBED)
    assert f"taken on this machine: port {port};" in story
    assert f"traffic on http://127.0.0.1:{port}," not in story


def test_a_port_that_is_lost_after_it_was_found_free_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as quicker:
        taken = (quicker.getsockname()[1], child.USUAL_PORTS[1])
        answers = iter([taken, child._ports()])
        monkeypatch.setattr(child, "_ports", lambda: next(answers))
        assert "has left" in _told(STUBBED)


@pytest.mark.parametrize(
    ("cast", "reason"),
    [
        (
            _variant("--crash-after", "0", "--crash-message", "CUDA is sulking"),
            r"(?s)answered with 503 \(start_failed\).*CUDA is sulking",
        ),
        (_variant("--never-ready", start_timeout="1s"), r"answered with 503 \(start_failed\)"),
        (msgspec.structs.replace(_variant("--tokens", "0"), most_tokens=0), "without a single token"),
        (msgspec.structs.replace(STUBBED, command=("/no/such/program",)), r"(?s)exit code 2.*/no/such/program"),
    ],
    ids=["it crashes", "it is never ready", "no token", "no such program"],
)
def test_what_does_not_happen_ends_the_story_with_its_reason(cast: Cast, reason: str) -> None:
    with pytest.raises(StoryError, match=reason):
        _told(cast)


def test_a_model_that_is_not_stopped_in_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.demo.story._ZERO_SLACK_S", 0.5)
    with pytest.raises(StoryError, match="not at zero 0 s after its idle timeout"):
        _told(_variant("--ignore-sigterm"))


SCRIPT = """
import sys, msgspec
from cli.demo import child
from cli.demo.story import run
from tests.cli.demo.test_story import STUBBED
child.USUAL_PORTS = (0, 0)
sys.exit(run(keep="keep" in sys.argv, cast=STUBBED))
"""


@contextmanager
def _started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """One that does not outlive the test, nor a minute."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        killer = threading.Timer(60, process.kill)
        killer.start()
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        finally:
            killer.cancel()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("scene", ["held:", "idle: zero"])
def test_it_can_be_interrupted_anywhere_and_leaves_nothing(scene: str, number: signal.Signals) -> None:
    """That no process stays is what the fixture of every test looks at."""
    with _started() as process:
        assert process.stdout is not None
        assert any(scene in line for line in process.stdout)
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode not in (0, None)
    assert "has left" not in rest


def test_kept_it_prints_what_to_type_and_stays_until_ctrl_c() -> None:
    with _started("keep") as process:
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told.append(line)
            if "explain chat" in line:
                break
        assert process.poll() is None
        models = next(line.split()[1] for line in told if line.startswith("curl") and "/v1/models" in line)
        answer = subprocess.run(["curl", "-sf", models], capture_output=True, text=True, timeout=10)
        assert '"id":"stub"' in answer.stdout
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "has left" in rest
