"""Who is told to leave before there is a loop, or after it."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

_IN_AN_IMPORT = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "asyncio":
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Finder())
runpy.run_module({role!r}, run_name="__main__", alter_sys=True)
"""
_AFTER_THE_LOOP = """
import atexit, os, runpy, signal, sys

atexit.register(os.kill, os.getpid(), {number})
sys.argv[1:] = ["--flag"]
runpy.run_module({role!r}, run_name="__main__", alter_sys=True)
"""
ROLES = ["gateway", "activator", "autoscaler", "queueproxy"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_is_told_to_leave_while_it_imports_leaves_without_a_word(role: str, number: signal.Signals) -> None:
    done = _run(_IN_AN_IMPORT.format(role=role, number=int(number)))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("role", ROLES)
def test_a_signal_at_the_very_end_changes_no_exit_code(role: str, number: signal.Signals) -> None:
    done = _run(_AFTER_THE_LOOP.format(role=role, number=int(number)))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
