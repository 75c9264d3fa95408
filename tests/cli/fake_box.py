"""A box without anything running: what the admin API and the commands are tested against."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from aiohttp import web

from cli.metrics import ProcessSample, ServiceSample, render
from zerogate import clock
from zerogate.admin.api import (
    BackOffStatus,
    Candidate,
    DecisionView,
    Ending,
    Explanation,
    Health,
    PinRequest,
    PinStatus,
    Plan,
    Readiness,
    ReloadReport,
    ReplicaStatus,
    ServiceStatus,
    Transition,
)
from zerogate.admin.app import make_app
from zerogate.admin.problems import MalformedRequestError, NotApplicableError, UnknownServiceError
from zerogate.counters import Histogram, ServiceCounters
from zerogate.errors import ZerogateError
from zerogate.exposition import Dialect
from zerogate.meter import Meter

CHAT = ServiceStatus(
    name="chat",
    kind="command",
    state="ready",
    desired=1,
    min_replicas=0,
    max_replicas=2,
    replicas=(
        ReplicaStatus(
            id="chat-7f3a", state="ready", address="127.0.0.1:41001", age_s=75.0, start_s=1.2, in_flight=3, pid=4242
        ),
    ),
    in_flight=3,
    held=0,
    requests=17,
    idle_s=0.4,
    idle_timeout_s=15.0,
    start_s=1.2,
    models=("gemma3-270m",),
    why="3 in flight over a target of 8",
    next_change="to 0 in 15s (idle timeout)",
)
BROKEN = ServiceStatus(
    name="broken",
    kind="command",
    state="suspended",
    desired=1,
    min_replicas=0,
    max_replicas=1,
    held=2,
    requests=5,
    path_prefix="/broken",
    back_off=BackOffStatus(
        failures=4,
        next_try_s=42.0,
        last=Ending(cause="start-failed", detail="exited with 3", exit_code=3, last_lines=("CUDA error: [no] device",)),
    ),
)
WHISPER = ServiceStatus(
    name="whisper",
    kind="endpoint",
    state="elsewhere",
    desired=0,
    min_replicas=0,
    max_replicas=0,
    endpoint="http://127.0.0.1:9005",
    path_prefix="/asr",
)

DECISION = DecisionView(
    at=1_790_000_000.0,
    current=0,
    desired=1,
    winner="activation",
    why="a request waits and nothing runs",
    candidates=(
        Candidate(ask="demand", replicas=0, why="no traffic in the last 60s"),
        Candidate(ask="activation", replicas=1, why="1 held"),
    ),
    held_back="the idle timeout ends in 15s",
    next_change="to 0 in 15s (idle timeout)",
    revisit_s=15.0,
    repeats=2,
)
EARLIER = DecisionView(at=1_789_999_000.0, current=1, desired=0, winner="idle", why="quiet for 15s")


class FakeBox:
    """Answers from `statuses`; remembers what was asked of it."""

    def __init__(self, logs: Path) -> None:
        self.statuses = {status.name: status for status in (CHAT, BROKEN, WHISPER)}
        self.logs = logs
        self.is_ready = True
        self.reload_error: ZerogateError | None = None
        self.crash: Exception | None = None
        self.asked: list[object] = []
        self.samples: list[ServiceSample] = []

    def names(self) -> Sequence[str]:
        return tuple(self.statuses)

    def service(self, name: str) -> ServiceStatus:
        if self.crash:
            raise self.crash
        try:
            return self.statuses[name]
        except KeyError:
            raise UnknownServiceError(name, list(self.statuses)) from None

    def explain(self, name: str) -> Explanation:
        self.service(name)
        if name != "chat":
            return Explanation(service=name)
        return Explanation(service=name, decision=DECISION, earlier=(EARLIER,))

    def plan(self, name: str, count: int) -> Plan:
        self.asked.append(("plan", name, count))
        if name != "chat":
            return Plan(service=self.service(name).name, has_schedule=False)
        changes = (
            Transition(at=1_790_004_800.0, local="Mon 2026-09-21 18:00:00 CEST", floor=0, why="Mon-Fri closes"),
            Transition(at=1_790_056_800.0, local="Tue 2026-09-22 08:00:00 CEST", floor=2, ceiling=3, why="opens"),
        )
        return Plan(service=name, floor=2, transitions=changes[:count])

    async def pin(self, name: str, request: PinRequest) -> None:
        status = self.service(name)
        if status.kind == "endpoint":
            raise NotApplicableError(f"{name} runs elsewhere, so zerogate does not scale it.")
        if request.replicas > status.max_replicas:
            raise MalformedRequestError(f"{name} may have {status.max_replicas} replicas at most (max-replicas).")
        self.asked.append(("pin", name, request))
        until = None if request.for_s is None else clock.wall() + request.for_s
        pin = PinStatus(replicas=request.replicas, until_at=until)
        self.statuses[name] = msgspec.structs.replace(status, pin=pin)

    async def unpin(self, name: str) -> None:
        self.asked.append(("unpin", name))
        self.statuses[name] = msgspec.structs.replace(self.service(name), pin=None)

    def log_path(self, name: str) -> Path:
        if self.service(name).kind == "endpoint":
            raise NotApplicableError(f"{name} runs elsewhere, so its log is not here.")
        return self.logs / f"{name}.log"

    async def reload(self) -> ReloadReport:
        self.asked.append("reload")
        if self.reload_error:
            raise self.reload_error
        return ReloadReport(added=("new",), changed=("chat",), unchanged=2)

    def health(self) -> Health:
        return Health(healthy=True, version="0.1.0", pid=1, uptime_s=60.0, traffic="127.0.0.1:8080")

    def readiness(self) -> Readiness:
        if self.is_ready:
            return Readiness(ready=True)
        return Readiness(ready=False, reasons=("zerogate is shutting down",))

    async def metrics(self, dialect: Dialect) -> AsyncGenerator[bytes, None]:
        async for part in render(process_sample(), iter(self.samples), dialect):
            yield part


def process_sample() -> ProcessSample:
    return ProcessSample(
        version="0.1.0",
        started_at=1_790_000_000.5,
        cpu_s=1.25,
        resident_bytes=50_000_000,
        open_files=12,
        most_open_files=1024,
        loop_lag=Histogram((0.001, 0.002)),
        unrouted={"unknown_model": 3},
    )


def service_sample(name: str, *, has_traffic: bool) -> ServiceSample:
    counters, meter = ServiceCounters(), Meter()
    if has_traffic:
        meter.arrive(0.0)
        meter.enter(0.0)
        counters.served += 2
        counters.status_classes[2] += 2
        counters.refuse("queue_full")
        counters.cold_starts += 1
        for histogram in (counters.hold, counters.start, counters.first_byte):
            histogram.observe(0.02)
            histogram.observe(1000.0)
    return ServiceSample(
        service=name,
        counters=counters,
        meter=meter,
        replicas={"ready": 1},
        desired=1,
        decisions={"demand": 4},
        endings={"crashed": 1},
        replica_s=12.5,
    )


@contextmanager
def served(box: FakeBox, *, host: str = "127.0.0.1") -> Iterator[str]:
    """The admin API of `box` on a loop in a thread of its own; yields its URL."""
    ready = threading.Event()
    url = ""
    stop: asyncio.Event
    loop: asyncio.AbstractEventLoop

    async def main() -> None:
        nonlocal url, stop, loop
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(make_app(box, bound_to=host), shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, host, 0)
        await site.start()
        url = f"http://{host}:{runner.addresses[0][1]}"
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
