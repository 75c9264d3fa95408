"""How fast a request at zero becomes a process, and how fast a ready replica becomes an answer.

first byte in → spawned    from the last write of the client to the child's own start time in /proc, p99
ready → first byte         from the instant at which the stub says it became ready to the client's first byte
a hundred at once          all of a hundred services woken together, and the gaps in a warm stream meanwhile
"""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.table import Figure, at_most, percentile
from tests.e2e.harness import Box, stub, zerogate

ROUNDS = 15
STARTS_S = [0.3 + number * 0.0029 for number in range(8)]
"""Start times that fall differently between two probes, 25 ms apart: one alone would measure always the same phase."""
CROWD = 100


async def _wake(box: Box, service: str) -> tuple[float, float, float]:
    """(first byte in → spawned, ready → first byte, whole) in seconds for one cold request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", box.listen)
    sent_s = time.perf_counter()
    writer.write(b"GET /status?code=200 HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % service.encode())
    await reader.readexactly(1)
    first_byte_s = time.perf_counter()
    await reader.read()
    writer.close()
    replica, spawned_s = await _spawned(box, service)
    stats = await box.tell(replica, "/stats")
    return spawned_s - sent_s, first_byte_s - stats["ready_at_s"], first_byte_s - sent_s


async def _spawned(box: Box, service: str) -> tuple[dict[str, Any], float]:
    """The replica, and when it was spawned: its age, taken in the quickest of some looks, whose length is the error."""
    looks = []
    for _ in range(5):
        began_s = time.perf_counter()
        (replica,) = (await box.status(service))["replicas"]
        ended_s = time.perf_counter()
        looks.append((ended_s - began_s, (began_s + ended_s) / 2 - replica["age_s"], replica))
    _, spawned_s, replica = min(looks, key=lambda look: look[0])
    return replica, spawned_s


async def cold_starts() -> list[Figure]:
    """Eight services with different start times, woken again and again."""
    spawned, answered = [], []
    with tempfile.TemporaryDirectory() as folder:
        services = {f"s{n}": stub("--ready-after", f"{s:.4f}", idle_timeout="1s") for n, s in enumerate(STARTS_S)}
        async with zerogate(services, Path(folder)) as box:
            for _ in range(ROUNDS):
                for service in services:
                    await box.until_zero(service)
                    to_spawn_s, to_answer_s, _ = await _wake(box, service)
                    spawned.append(to_spawn_s * 1000)
                    answered.append(to_answer_s * 1000)
    note = f"{len(spawned)} cold starts"
    return [
        at_most("first byte in → child process spawned, p99", percentile(spawned, 99), 10, "ms", note=note),
        at_most("replica ready → first byte of the held request, p50", percentile(answered, 50), 25, "ms", note=note),
        at_most("replica ready → first byte of the held request, p99", percentile(answered, 99), 50, "ms", note=note),
    ]


async def _stream(box: Box, started: asyncio.Event, gaps: list[float], stop: asyncio.Event) -> None:
    """Read a warm stream; how much later than the model sent it each event came, beyond the first one's delay."""
    async with box.client.stream("GET", "/sse?events=1000&gap_ms=10", headers={"Host": "warm"}) as answer:
        last_s: float | None = None
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            now_s = time.perf_counter()
            if last_s is not None:
                gaps.append((now_s - last_s) * 1000 - 10)
            last_s = now_s
            started.set()
            if stop.is_set():
                return


async def crowd() -> list[Figure]:
    """A hundred services at zero, asked at once, beside a warm stream."""
    names = [f"s{number}" for number in range(CROWD)]
    services: dict[str, Any] = {name: stub(idle_timeout="1h") for name in names}
    services["warm"] = stub()
    with tempfile.TemporaryDirectory() as folder:
        async with zerogate(services, Path(folder)) as box:
            await box.get("warm")
            started, stop = asyncio.Event(), asyncio.Event()
            gaps: list[float] = []
            stream = asyncio.ensure_future(_stream(box, started, gaps, stop))
            await started.wait()
            sent_s = time.perf_counter()
            answers = await asyncio.gather(*(_raw(box, name) for name in names))
            answered_s = time.perf_counter() - sent_s
            stop.set()
            await stream
            spawned = []
            for name in names:
                _, spawned_s = await _spawned(box, name)
                spawned.append(spawned_s - sent_s)
    assert answers == [b"HTTP/1.1 200"] * CROWD
    note = f"{os.cpu_count()} cores; all answered after {answered_s:.1f} s"
    return [
        at_most(
            f"{CROWD} services woken at once: the last is spawned after", max(spawned), 1, "s", digits=2, note=note
        ),
        at_most(
            "longest extra gap in a warm stream (10 ms) meanwhile", max(gaps), 20, "ms", note=f"{len(gaps)} events"
        ),
    ]


async def _raw(box: Box, service: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", box.listen)
    writer.write(b"GET /status?code=200 HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % service.encode())
    answer = await reader.read()
    writer.close()
    return answer[:12]


def run() -> list[Figure]:
    """All figures of this file."""
    return asyncio.run(cold_starts()) + asyncio.run(crowd())
