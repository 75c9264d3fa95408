"""The environment's making, with scripts in the place of uv: what is asked of it, and what is said."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = """#!/bin/sh
echo "$@" >> "$ASKED"
case "$*" in
  venv*) mkdir -p .venv/bin && ln -s "$4" .venv/bin/python && ln -s "$0" .venv/bin/uv ;;
  *sync*--offline) [ "$CACHE" = full ] || { echo "not in the cache" >&2; exit 2; } ;;
  *sync*) [ "$NETWORK" = up ] || { echo "dns error" >&2; exit 2; } ;;
esac
"""


class Folder:
    """A copy of what the script needs, and a `uv` on PATH that does as it is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked_file = path / "asked"
        (path / "tools").mkdir()
        shutil.copy(ROOT / "tools" / "environment.py", path / "tools")
        shutil.copytree(ROOT / "locks", path / "locks")
        shutil.copy(ROOT / "pyproject.toml", path)
        (path / "bin").mkdir()
        (path / "bin" / "uv").write_text(UV)
        (path / "bin" / "uv").chmod(0o755)

    def make(self, kind: str, *, cache: str = "empty", network: str = "up") -> subprocess.CompletedProcess[str]:
        """Run it; `asked` is what it asked of uv this time."""
        self.asked_file.write_text("")
        told = {"ASKED": str(self.asked_file), "CACHE": cache, "NETWORK": network}
        env = {**os.environ, "PATH": f"{self.path / 'bin'}:{os.environ['PATH']}", **told}
        command = [sys.executable, "tools/environment.py", kind]
        return subprocess.run(command, cwd=self.path, env=env, capture_output=True, text=True)

    @property
    def asked(self) -> list[str]:
        return [line.replace(f"{self.path}/", "") for line in self.asked_file.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


SYNC = "pip sync --require-hashes locks/tools.lock locks/demo.lock"


def test_what_the_cache_has_is_installed_without_a_network(folder: Folder) -> None:
    done = folder.make("demo", cache="full", network="down")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in folder.asked if "sync" in line] == [f"{SYNC} --offline"]
    assert "MB" not in done.stdout
    assert folder.asked[-1].endswith(f"--editable {folder.path}")


def test_what_the_cache_has_not_is_fetched_and_its_size_is_said_before(folder: Folder) -> None:
    done = folder.make("demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in folder.asked if "sync" in line] == [f"{SYNC} --offline", SYNC]
    assert "fetching what is not in the cache yet (about 340 MB" in done.stdout


def test_without_cache_and_network_it_says_what_it_needs_and_tries_again_the_next_time(folder: Folder) -> None:
    done = folder.make("demo", network="down")
    assert done.returncode == 1
    assert done.stderr.startswith("dns error\nzerogate: this step failed: ")
    assert done.stderr.endswith("is the network up, and the proxy right? Then try again.\n")
    again = folder.make("demo")
    assert again.returncode == 0
    assert folder.asked[0] == f"{SYNC} --offline", "the folder itself was made before"


def test_an_environment_that_is_current_is_left_alone_without_a_word(folder: Folder) -> None:
    for kind, asks in (("dev", True), ("dev", False), ("demo", False)):
        done = folder.make(kind, cache="full")
        assert (done.returncode, bool(done.stdout), bool(folder.asked)) == (0, asks, asks), kind


def test_an_installation_that_failed_half_way_does_not_count_as_the_one_before(folder: Folder) -> None:
    folder.make("demo", cache="full")
    assert folder.make("dev", network="down").returncode == 1
    folder.make("demo", cache="full")
    assert folder.asked[0] == f"{SYNC} --offline"


def test_a_changed_lock_installs_anew(folder: Folder) -> None:
    folder.make("dev", cache="full")
    with (folder.path / "locks" / "dev.lock").open("a") as lock:
        lock.write("# another one\n")
    assert "locks/dev.lock" in folder.make("dev", cache="full").stdout
