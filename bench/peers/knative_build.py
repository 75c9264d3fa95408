"""Knative's queue-proxy, built from its released source with Go: `bench/peers/knative/` names the version.

The program is kept in the user's cache directory and built anew when the version changes.
"""

import hashlib
import os
import subprocess
import time
from pathlib import Path
from typing import Final

MODULE: Final = Path(__file__).parent / "knative"
PACKAGE: Final = "knative.dev/serving/cmd/queue"
TELL_EVERY_S: Final = 10.0


class BuildError(RuntimeError):
    """The build failed: what Go said."""


def version() -> str:
    """Of Knative serving, as the module file requires it."""
    for line in (MODULE / "go.mod").read_text().splitlines():
        words = line.split()
        if words[:1] == ["knative.dev/serving"]:
            return words[1]
    raise BuildError(f"{MODULE / 'go.mod'} does not require knative.dev/serving")


def program() -> Path:
    """Where the program is kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256((MODULE / "go.sum").read_bytes()).hexdigest()[:12]
    return cache / "zerogate" / "bench" / f"knative-queue-{version()}-{key}"


def built() -> Path:
    """The program, built first where it is not there yet. Raises BuildError."""
    target = program()
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}")
    argv = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(partial), PACKAGE]
    print(f"Building Knative's queue-proxy {version()}, once: about two minutes, 500 MB of sources …", flush=True)
    began_s = time.monotonic()
    with subprocess.Popen(
        argv, cwd=MODULE, env={**os.environ, "CGO_ENABLED": "0"}, stderr=subprocess.PIPE, text=True
    ) as build:
        _wait(build, began_s)
    partial.rename(target)
    return target


def _wait(build: subprocess.Popen[str], began_s: float) -> None:
    while True:
        try:
            _, said = build.communicate(timeout=TELL_EVERY_S)
        except subprocess.TimeoutExpired:
            print(f"  … {time.monotonic() - began_s:.0f} s", flush=True)
            continue
        if build.returncode:
            raise BuildError("go build failed:\n" + "\n".join(said.splitlines()[-5:]))
        return
