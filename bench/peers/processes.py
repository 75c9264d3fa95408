"""Processes of a benchmark: started on a core of their own, ended with their block, and what they used.

Processor time is what the scheduler counted for every thread of a process and of its children (`schedstat`,
nanoseconds), so programs with workers or threads are counted whole. Memory is proportional (PSS): pages that several
processes share are shared out among them; what the kernel keeps for sockets is in nobody's figure.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

START_S: Final = 30.0
END_S: Final = 3.0
"""Knative's queue-proxy sleeps for 30 s when told to leave; nobody waits for that here."""


class StartError(RuntimeError):
    """A program did not come up: what it said."""


class Cores:
    """Which core carries what. The proxy is alone on the first; load and backend share the second of two."""

    def __init__(self) -> None:
        allowed = sorted(os.sched_getaffinity(0))
        self.proxy = allowed[0]
        self.load = allowed[min(1, len(allowed) - 1)]
        self.backend = allowed[min(2, len(allowed) - 1)]

    def __str__(self) -> str:
        if self.proxy == self.load:
            return "one core for everything: CPU per request holds, requests/s and latencies do not"
        shared = "load and backend share another" if self.load == self.backend else "load and backend on one each"
        return f"the proxy alone on one core, {shared}"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with ExitStack() as open_:
        sockets = [open_.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@contextmanager
def process(
    argv: list[str], core: int, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program on this core that writes into `log`, ended with the block."""
    with log.open("wb") as file:
        child = subprocess.Popen(
            ["taskset", "-c", str(core), *argv],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_until_served(child: subprocess.Popen[bytes], port: int, log: Path, path: str = "/") -> None:
    """Until a GET is answered with 200. Raises StartError with what the program said."""
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s:
        if child.poll() is not None:
            break
        if status_of(port, path) == 200:
            return
        time.sleep(0.005)
    said = log.read_text(errors="replace").strip().splitlines()
    raise StartError(" / ".join(said[-3:]) or f"no answer on port {port} within {START_S:g} s")


def wait_until_open(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until the port takes connections. Raises StartError with what the program said."""
    until_s = time.monotonic() + START_S
    while child.poll() is None and time.monotonic() < until_s:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.005)
    said = log.read_text(errors="replace").strip().splitlines()
    raise StartError(" / ".join(said[-3:]) or f"port {port} did not open within {START_S:g} s")


def status_of(port: int, path: str) -> int:
    """The status of a GET, 0 where there was no answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


def tree(pid: int) -> list[int]:
    """The process, its children and theirs."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*"):
            found += map(int, (task / "children").read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """Processor seconds of the process so far, its threads and children included."""
    stats = [stat for member in tree(pid) for stat in Path(f"/proc/{member}/task").glob("*/schedstat")]
    return sum(int(stat.read_text().split()[0]) for stat in stats) / 1e9


def pss_bytes(pid: int) -> int:
    """Proportional resident memory of the process and its children."""
    total = 0
    for member in tree(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def rss_bytes(pid: int) -> int:
    """Resident memory of the process and its children, shared pages counted in each."""
    page = os.sysconf("SC_PAGE_SIZE")
    return sum(int(Path(f"/proc/{member}/statm").read_text().split()[1]) * page for member in tree(pid))
