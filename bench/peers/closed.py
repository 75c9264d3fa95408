"""Loads that ask again as soon as they are answered: wrk for HTTP/1.1, h2load for gRPC."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import msgspec

from bench import openai_client
from bench.peers.contestants import Running, UnavailableError
from bench.peers.processes import cpu_s

GRPC_PATH: Final = "/bench.Echo/Unary"
MOST_FAILED_RATIO: Final = 0.001
"""Of gRPC calls, and shown: nginx was seen to fail one in 20,000. Of wrk's requests none may fail."""
GRPC_MESSAGE: Final = b"\0\0\0\0\x10" + b"x" * 16
"""Not compressed, 16 bytes long."""

_CHAT: Final = openai_client.wrk_script()
_UPLOAD: Final = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.body = string.rep("x", 65536)
"""


class Ask(msgspec.Struct, frozen=True):
    """What wrk asks for."""

    path: str = "/"
    script: str = ""
    connections: int = 32
    body_bytes: int = 0
    """Of the request or the answer, where the throughput is of interest."""


ASKS: Final = {
    "small-1": Ask(connections=1),
    "small": Ask(),
    "small-256": Ask(connections=256),
    "chat": Ask(path="/chat", script=_CHAT),
    "model": Ask(path="/v1/chat/completions", script=_CHAT),
    "upload": Ask(path="/upload", script=_UPLOAD, body_bytes=64 * 1024),
    "large": Ask(path="/large", connections=4, body_bytes=10 * 1024 * 1024),
}


class Cost(msgspec.Struct, frozen=True):
    """What came of one run. `busy_ratio`: of the proxy's core; well below 1, something else was the bottleneck."""

    cpu_us: float
    per_s: float
    busy_ratio: float
    mib_per_s: float = 0.0
    failed_percent: float = 0.0


def ask(what: Ask, running: Running, *, seconds: float, core: int, folder: Path) -> Cost:
    """One run of wrk. Raises UnavailableError where an answer was not 200."""
    argv = [
        "taskset",
        "-c",
        str(core),
        "wrk",
        "-t1",
        "--timeout",
        "10s",
        f"-c{what.connections}",
        f"-d{max(1, round(seconds))}s",
    ]
    if what.script:
        script = folder / "wrk.lua"
        script.write_text(what.script)
        argv += ["-s", str(script)]
    before_s = cpu_s(running.pid)
    said = _output([*argv, f"http://127.0.0.1:{running.port}{what.path}"], seconds)
    used_s = cpu_s(running.pid) - before_s
    counted = re.search(r"(\d+) requests in ([\d.]+)s", said)
    if counted is None or "Non-2xx" in said or "Socket errors" in said or counted[1] == "0":
        raise UnavailableError(f"not every request was answered: {_telling(said)}")
    return _cost(int(counted[1]), float(counted[2]), used_s, what.body_bytes)


def call(running: Running, *, seconds: float, core: int, folder: Path) -> Cost:
    """One run of unary calls, 10 connections with 10 calls each under way. Raises UnavailableError."""
    if shutil.which("h2load") is None:
        raise UnavailableError("h2load is missing: install nghttp2-client")
    message = folder / "message"
    message.write_bytes(GRPC_MESSAGE)
    argv = ["taskset", "-c", str(core), "h2load", "-t1", "-c10", "-m10", f"-D{max(1, round(seconds))}", "-d"]
    argv += [str(message), "-H", "content-type: application/grpc", "-H", "te: trailers"]
    before_s = cpu_s(running.pid)
    said = _output([*argv, f"http://127.0.0.1:{running.port}{GRPC_PATH}"], seconds)
    used_s = cpu_s(running.pid) - before_s
    counted = re.search(r"finished in ([\d.]+)(m?)s.*?(\d+) succeeded, (\d+) failed.*?(\d+) 2xx", said, re.DOTALL)
    served, failed = (int(counted[3]), int(counted[4])) if counted is not None else (0, 0)
    if counted is None or not served or int(counted[5]) < served or failed > served * MOST_FAILED_RATIO:
        raise UnavailableError(f"not every call was answered: {_telling(said)}")
    cost = _cost(served, float(counted[1]) / (1000 if counted[2] else 1), used_s, 0)
    return msgspec.structs.replace(cost, failed_percent=failed / (served + failed) * 100)


def _output(argv: list[str], seconds: float) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 20, check=True).stdout
    except subprocess.TimeoutExpired as error:
        raise UnavailableError("the load did not come to its end") from error
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"{error.stderr}{error.stdout}"[-200:]) from error


def _telling(said: str) -> str:
    """Of the output of a load, the lines about what failed."""
    words = ("errors", "Non-2xx", "requests:", "requests in", "status codes")
    return ", ".join(" ".join(line.split()) for line in said.splitlines() if any(word in line for word in words))


def _cost(requests: int, duration_s: float, used_s: float, body_bytes: int) -> Cost:
    per_s = requests / duration_s
    return Cost(used_s / requests * 1e6, per_s, used_s / duration_s, per_s * body_bytes / 1024 / 1024)
