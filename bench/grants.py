"""Slots lent by a sidecar to three gateways: how well they are used, and how often a request comes for nothing.

Real processes for sidecar and model server; the gateways share the loop of the benchmark. Each load is `SLEEP_S` of
work in the model server per request, so what the slots could do is known, and what is missing is time in which a slot
was free while a request waited, together with what the processes cost. The same load straight into the sidecar's own
queue, which needs no messages, stands beside it.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

import uvloop

from bench.table import Figure, at_most, percentile
from tests.activator.fleet import Gateway, Replica, replica
from tests.zerogate.http.rig import Client
from zerogate.policy import Policy

LIMIT: Final = 8
REQUESTS: Final = 1200
SENDERS: Final = 48
SLEEP_S: Final = 0.04
TURNS: Final = 3


def run() -> list[Figure]:
    """All figures of this file."""
    return uvloop.run(_measure())


async def _measure() -> list[Figure]:
    async with AsyncExitStack() as stack:
        queue = ("--concurrency-limit", str(LIMIT), "--queue-depth", str(SENDERS))
        one = await stack.enter_async_context(replica(*queue))
        gateways = [
            await stack.enter_async_context(
                Gateway(f"gateway-{number}", Policy(concurrency_limit=LIMIT, target_concurrency=LIMIT))
            )
            for number in range(3)
        ]
        gaps_ms = await _first_use(gateways, one)
        rows: dict[str, list[float]] = {"queue": [], "one": [], "three": []}
        for _ in range(TURNS):
            rows["queue"].append(await _idle_percent([one.port]))
            rows["one"].append(await _idle_percent([gateways[0].port]))
            before = sum(gateway.hold.counters.retries for gateway in gateways)
            rows["three"].append(await _idle_percent([gateway.port for gateway in gateways]))
            away = sum(gateway.hold.counters.retries for gateway in gateways) - before
    beside = f"{percentile(rows['queue'], 50):.1f} % in the sidecar's own queue; median of {TURNS}"
    return [
        at_most("slots idle while requests wait, one gateway of three busy", percentile(rows["one"], 50), 10, "%",
                note=beside),
        at_most("slots idle while requests wait, three busy gateways", percentile(rows["three"], 50), 15, "%",
                note=beside),
        Figure(name="requests turned away, three busy gateways", value=f"{away / REQUESTS * 100:.1f} %"),
        at_most("from a request at a gateway without a slot to its answer", percentile(gaps_ms, 99), 100, "ms",
                note=f"p99; p50 {percentile(gaps_ms, 50):.1f} ms; every slot stood granted to another gateway"),
    ]  # fmt: skip


async def _first_use(gateways: list[Gateway], one: Replica) -> list[float]:
    """How long a request takes at a gateway whose slots all stand with another one."""
    found = []
    for gateway in gateways:
        gateway.links.add("chat", one.address)
        await gateway.until_ready()
    for turn in range(100):
        taking, asking = gateways[turn % 3], gateways[(turn + 1) % 3]
        await asyncio.gather(*(taking.get("/sleep?ms=1") for _ in range(LIMIT)))
        began_s = time.perf_counter()
        await asking.get("/")
        found.append((time.perf_counter() - began_s) * 1000)
    return found


async def _idle_percent(ports: list[int]) -> float:
    """Share of the slots' time in which they did not work, while `SENDERS` requests are always there."""
    left = REQUESTS

    async def send(port: int) -> None:
        nonlocal left
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        while left > 0:
            left -= 1
            await client.get(f"/sleep?ms={SLEEP_S * 1000:.0f}")
        client.close()

    began_s = time.perf_counter()
    await asyncio.gather(*(send(ports[number % len(ports)]) for number in range(SENDERS)))
    return (1 - REQUESTS * SLEEP_S / LIMIT / (time.perf_counter() - began_s)) * 100
