"""CPU of a warm request through zerogate and through nginx, side by side: `python -m bench proxy`.

An nginx answers; wrk (one thread) asks it through an nginx as a reverse proxy and through `zerogate up` with
`endpoint:` services, in turns. Both keep connections to the backend, set the same forwarding fields and write no
access log. What counts is the processor time of the proxy's process per request, as the scheduler counted it, and the
ratio within one turn: the machine may be shared, and a turn is short. It takes 2½ minutes.
"""

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.table import Figure, at_most

TURNS: Final = 7
SECONDS: Final = 2
"""Of one run: a request costs some 10 µs, so the mean is over 100,000 of them."""
START_S: Final = 15.0
GOAL_RATIO: Final = 2.1
LARGE_BYTES: Final = 10 * 1024 * 1024
_TICK_US: Final = 1e6 / os.sysconf("SC_CLK_TCK")

# the fields of the openai client 2.x, with a short chat
_CHAT: Final = """
wrk.method = "POST"
wrk.body = '{"messages":[{"role":"user","content":"Say hello."}],"model":"m","stream":false}'
local fields = {
  ["Accept-Encoding"] = "gzip, deflate", ["Accept"] = "application/json", ["Content-Type"] = "application/json",
  ["User-Agent"] = "OpenAI/Python 2.8.1", ["X-Stainless-Lang"] = "python",
  ["X-Stainless-Package-Version"] = "2.8.1", ["X-Stainless-OS"] = "Linux", ["X-Stainless-Arch"] = "x64",
  ["X-Stainless-Runtime"] = "CPython", ["X-Stainless-Runtime-Version"] = "3.11.7", ["X-Stainless-Async"] = "false",
  ["Authorization"] = "Bearer sk-0123456789abcdef0123456789abcdef0123456789abcdef",
  ["X-Stainless-Retry-Count"] = "0", ["X-Stainless-Read-Timeout"] = "600", ["Connection"] = "keep-alive",
}
for name, value in pairs(fields) do wrk.headers[name] = value end
"""


class Case(msgspec.Struct, frozen=True):
    """What wrk asks for."""

    key: str
    name: str
    path: str = "/"
    script: str = ""
    connections: int = 32
    is_judged: bool = False
    """Whether the goal is about it."""


CASES: Final = (
    Case("small", "small GET, 2 fields", is_judged=True),
    Case("chat", "chat POST, 18 fields", path="/chat", script=_CHAT),
    Case("model", "the same, routed by its model", path="/v1/chat/completions", script=_CHAT),
    Case("large", "GET of 10 MiB", path="/large", connections=4),
)


class Cost(msgspec.Struct, frozen=True):
    """What one run took of a proxy, in microseconds of processor time per request."""

    user_us: float
    system_us: float
    total_us: float
    requests_per_s: float


def _nginx_conf(folder: Path, name: str, server: str) -> str:
    return f"""
worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log; daemon off;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; sendfile on;
  client_body_temp_path {folder}/{name}.body; proxy_temp_path {folder}/{name}.proxy;
  fastcgi_temp_path {folder}/{name}.f; uwsgi_temp_path {folder}/{name}.u; scgi_temp_path {folder}/{name}.s;
  {server}
}}
"""


def _backend(folder: Path, port: int) -> str:
    return _nginx_conf(
        folder,
        "backend",
        f"""server {{
    listen 127.0.0.1:{port}; root {folder}/files; lingering_close off;
    location / {{ return 200 "hello world\\n"; }}
    location = /large {{ }}
  }}""",
    )


def _proxy(folder: Path, port: int, backend: int) -> str:
    fields = {
        "Connection": '""', "Host": "$http_host", "X-Forwarded-For": "$proxy_add_x_forwarded_for",
        "X-Forwarded-Proto": "$scheme", "X-Forwarded-Host": "$http_host",
        "Forwarded": '"for=$remote_addr;host=\\"$http_host\\";proto=$scheme"',
    }  # fmt: skip
    lines = "".join(f"proxy_set_header {name} {value};" for name, value in fields.items())
    return _nginx_conf(
        folder,
        "proxy",
        f"""upstream b {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port}; client_max_body_size 0;
    location / {{ proxy_pass http://b; proxy_http_version 1.1;
      {lines} }} }}""",
    )


def _box(folder: Path, port: int, admin: int, backend: int) -> str:
    return (
        f"listen: 127.0.0.1:{port}\nadmin: 127.0.0.1:{admin}\nstate-dir: {folder}/state\naccess-log: 'off'\n"
        f"services:\n  web: {{endpoint: 'http://127.0.0.1:{backend}', path-prefix: /}}\n"
        f"  llm: {{endpoint: 'http://127.0.0.1:{backend}', models: [m]}}\n"
    )


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with ExitStack() as open_:
        sockets = [open_.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@contextmanager
def process(argv: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens on `port`, ended with the block."""
    child = subprocess.Popen(argv, stderr=subprocess.PIPE)
    try:
        _wait_for(child, argv[0], port)
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        assert child.stderr is not None
        child.stderr.close()


def _wait_for(child: subprocess.Popen[bytes], name: str, port: int) -> None:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s:
        if child.poll() is not None:
            assert child.stderr is not None
            raise RuntimeError(f"{name} ended at once:\n{child.stderr.read().decode(errors='replace')}")
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{name} did not listen within {START_S:g} s")


def _worker_of(master: int) -> int:
    """The process of an nginx that serves."""
    for _ in range(100):
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.05)
    raise RuntimeError("nginx started no worker")


def _processor_us(pid: int) -> tuple[float, float, float]:
    """(user, system, both) so far; the last is exact, the others are counted in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    exact = float(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1000
    return int(fields[11]) * _TICK_US, int(fields[12]) * _TICK_US, exact


def _load(case: Case, pid: int, port: int, seconds: int, folder: Path) -> Cost:
    """One run of wrk against the proxy with this process."""
    argv = ["wrk", "-t1", f"-c{case.connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}{case.path}"]
    if case.script:
        script = folder / "wrk.lua"
        script.write_text(case.script)
        argv[1:1] = ["-s", str(script)]
    before = _processor_us(pid)
    said = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
    after = _processor_us(pid)
    counted = re.search(r"(\d+) requests in ([\d.]+)s", said)
    if counted is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"wrk was not served:\n{said}")
    requests = int(counted[1])
    user_us, system_us, total_us = ((b - a) / requests for a, b in zip(before, after, strict=True))
    # the ticks only tell how the exact sum is shared
    share = total_us / ((user_us + system_us) or 1.0)
    return Cost(user_us * share, system_us * share, total_us, requests / float(counted[2]))


def measure(turns: int, seconds: int, cases: tuple[Case, ...]) -> dict[str, Any]:
    """All cases, in turns: per case the medians of both proxies and of their ratio."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zerogate-bench-")))
        folder.chmod(0o755)
        (folder / "files").mkdir()
        (folder / "files" / "large").write_bytes(b"x" * LARGE_BYTES)
        backend, proxy, gateway, admin = free_ports(4)
        (folder / "backend.conf").write_text(_backend(folder, backend))
        (folder / "proxy.conf").write_text(_proxy(folder, proxy, backend))
        (folder / "zerogate.yaml").write_text(_box(folder, gateway, admin, backend))
        stack.enter_context(process(["nginx", "-c", str(folder / "backend.conf")], backend))
        master = stack.enter_context(process(["nginx", "-c", str(folder / "proxy.conf")], proxy))
        serving = [sys.executable, "-m", "cli", "up", str(folder / "zerogate.yaml")]
        box = stack.enter_context(process(serving, gateway))
        sides = {"nginx": (_worker_of(master.pid), proxy), "zerogate": (box.pid, gateway)}
        for case in cases:
            for pid, port in sides.values():
                _load(case, pid, port, 1, folder)
        costs: dict[str, dict[str, list[Cost]]] = {case.name: {side: [] for side in sides} for case in cases}
        for _ in range(turns):
            for case in cases:
                for side, (pid, port) in sides.items():
                    costs[case.name][side].append(_load(case, pid, port, seconds, folder))
    return {name: _summary(by_side) for name, by_side in costs.items()}


def _summary(by_side: dict[str, list[Cost]]) -> dict[str, Any]:
    ratios = [
        ours.total_us / theirs.total_us for ours, theirs in zip(*(by_side["zerogate"], by_side["nginx"]), strict=True)
    ]
    medians = {
        side: {field: statistics.median(getattr(cost, field) for cost in costs) for field in Cost.__struct_fields__}
        for side, costs in by_side.items()
    }
    return {**medians, "ratio": statistics.median(ratios), "ratios": ratios}


def run() -> list[Figure]:
    """All figures of this file; where a tool is missing, what to install."""
    missing = [tool for tool in ("nginx", "wrk") if shutil.which(tool) is None]
    if missing:
        note = f"needs {' and '.join(missing)}: apt install {' '.join(missing)}"
        return [Figure(name="CPU of a warm request beside nginx", value="not measured", note=note)]
    found = measure(TURNS, SECONDS, CASES)
    return [_figure(case, found[case.name]) for case in CASES]


def _figure(case: Case, row: dict[str, Any]) -> Figure:
    ours, theirs = row["zerogate"], row["nginx"]
    note = (
        f"{ours['total_us']:.1f} µs beside {theirs['total_us']:.1f}; {min(row['ratios']):.2f} to "
        f"{max(row['ratios']):.2f}; {ours['requests_per_s']:,.0f} requests/s beside {theirs['requests_per_s']:,.0f}"
    )
    name = f"CPU per warm request, {case.name}"
    if case.is_judged:
        return at_most(name, row["ratio"], GOAL_RATIO, "× nginx", digits=2, note=note)
    return Figure(name=name, value=f"{row['ratio']:.2f} × nginx", note=note)
