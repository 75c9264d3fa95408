"""Autoscalers of a real API server as processes, and sources that report to them."""

import json
import os
import random
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.e2e.harness import free_port
from tests.kubernetes.harness.access import Access
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.processes import Process, until
from zerogate.kube.rights import rights_of
from zerogate.meter import Meter
from zerogate.reporting.sender import Sender, Target
from zerogate.reporting.wire import Kind
from zerogate.runtime.interface import Address
from zerogate.stats import Stat
from zerogate.tasks import Nursery

AUDIENCE = "zerogate-stats"


def rules(*, at_home: bool) -> list[dict[str, Any]]:
    """What the role may do, as the chart gives it, in zerogate's own namespace or in all."""
    found: list[dict[str, Any]] = []
    for right in rights_of("autoscaler", has_webhook=False):
        if right.at_home is at_home:
            if right.is_path:
                found.append({"nonResourceURLs": list(right.resources), "verbs": list(right.verbs)})
                continue
            rule: dict[str, Any] = {
                "apiGroups": [right.group], "resources": list(right.resources), "verbs": list(right.verbs)
            }  # fmt: skip
            found.append(rule | ({"resourceNames": list(right.names)} if right.names else {}))
    return found


class Autoscaler:
    """One process. Its ports are known before it starts. `module`: what is run, with arguments before all others."""

    def __init__(
        self, plane: ControlPlane, account: Access, *, home: str, name: str, flags: Sequence[str] = (),
        module: Sequence[str] = ("autoscaler",), clock_off_s: float = 0.0,
    ) -> None:  # fmt: skip
        """`clock_off_s`: how far its wall clock is ahead of the world's."""
        self.name = name
        self.stats, self.admin = free_port(), free_port()
        command = [
            sys.executable, "-m", *module, f"--kubeconfig={account.kubeconfig}", f"--pod-namespace={home}",
            f"--pod-name={name}", f"--stats-listen=127.0.0.1:{self.stats}", f"--admin=127.0.0.1:{self.admin}",
            "--unproven-sources=taken", *flags,
        ]  # fmt: skip
        skewed = plane.folder / f"clock-{self.stats}"
        skewed.mkdir()
        (skewed / "sitecustomize.py").write_text(
            f"import time\nreal = time.time\ntime.time = lambda: real() + {clock_off_s}\n"
        )
        self.process = Process(name, command, plane.folder, {"PYTHONPATH": f"{skewed}:{os.getcwd()}"})

    def start(self) -> None:
        self.process.start()

    def wait_ready(self) -> None:
        until(lambda: self.ask("/readyz")[0] == 200, within_s=30, what=f"{self.name}", process=self.process)

    def ask(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        """Status and body of an answer of the admin port; (0, None) where there is none."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin}{path}", data=data, method=method,
            headers={"Content-Type": "application/json"} if data else {},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, _read(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _read(error.read())
        except OSError:
            return 0, None

    def stop(self) -> None:
        self.process.stop(grace_s=10)


def _read(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode()


class Crowd:
    """The book of a gateway whose one service has requests that wait, or a sidecar whose one has some inside."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.meter = Meter()

    def take_changed(self) -> list[str]:
        return [self.service]

    def read(self, service: str, now_s: float) -> Stat | None:
        if service != self.service:
            return None
        return self.meter.read(now_s, service=service, source="", incarnation="")


@asynccontextmanager
async def reporting(
    book: Crowd,
    ports: list[int],
    token_file: Path,
    *,
    kind: Kind = "gateway",
    source: str = "0",
    ca_file: str = "",
    key: str = "",
    host: str = "127.0.0.1",
) -> AsyncIterator[Sender]:
    """A source that reports to the autoscalers at these ports."""
    nursery = Nursery()
    target = Target(
        addresses=tuple(Address(host, port) for port in ports), source=source, kind=kind,
        service=book.service if kind == "sidecar" else "", token_file=str(token_file), ca_file=ca_file,
        key=key,
    )  # fmt: skip
    sender = Sender(book, target, nursery=nursery, jitter=random.random)
    sender.start()
    try:
        yield sender
    finally:
        await sender.close()
        await nursery.aclose()
