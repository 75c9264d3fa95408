"""The wrong Python is one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from zerogate.interpreter import check_interpreter

ROOT = Path(__file__).resolve().parents[2]


def test_the_right_one_passes() -> None:
    check_interpreter()


def test_an_old_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer, and .* is 3\.10\.13\."):
        check_interpreter()


def test_one_without_the_packages_is_told_how_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(SystemExit, match=r"not installed for .*pip install \."):
        check_interpreter()


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["cli", "cli.kubectl", "gateway", "activator", "queueproxy", "autoscaler"])
def test_every_entry_asks_before_it_imports_anything(entry: str) -> None:
    """Without site-packages, as of a checkout that nobody installed."""
    done = subprocess.run([sys.executable, "-S", "-m", entry], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("zerogate's packages are not installed for ")
    assert done.stderr.count("\n") == 1
