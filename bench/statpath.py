"""What a report costs the autoscaler: over a stream, and as a POST through aiohttp, in one run on one machine.

The same report, decoded and given to the same `Sources`. What follows from reports costs the same however they come
and is left out: a decision is about 150 µs, and there are at most two a second for a service. Processor time of this
process alone; who sends sits in a child. Each source says its one reading in a message of its own, as sidecars do.
"""

import asyncio
import multiprocessing
import multiprocessing.connection
import socket
import time
from collections.abc import Callable
from typing import Final

import msgspec
import uvloop
from aiohttp import web

from autoscaler.identity import Identity, Refused
from autoscaler.receiver import Bounds, Receiver
from autoscaler.sources import Sources
from bench.table import Figure, at_most
from zerogate.clock import now
from zerogate.http.listener import bind
from zerogate.http.sweep import Sweep
from zerogate.reporting.wire import PREAMBLE, Frames, Hello, Reading, Readings, Wake, frame
from zerogate.runtime.interface import Address
from zerogate.stats import Stat
from zerogate.tasks import Nursery

SOURCES: Final = 400
SERVICES: Final = 100
ROUNDS: Final = 25
POSTS: Final = 4000
CLIENTS: Final = 32


class _Counts:
    """The autoscaler's sources, or nobody; and how many reports came."""

    def __init__(self, sources: Sources | None, done: asyncio.Event, wanted: int) -> None:
        self._sources = sources
        self._done = done
        self._wanted = wanted
        self.count = 0
        self.began_s = 0.0
        self.took_s = 0.0

    def report(self, stat: Stat) -> None:
        if not self.count:
            self.began_s = time.process_time()
        self.count += 1
        if self._sources is not None:
            self._sources.report(stat, now())
        if self.count == self._wanted:
            self.took_s = time.process_time() - self.began_s
            self._done.set()

    def heartbeat(self, source: str, incarnation: str, *, service: str | None = None) -> None:
        if self._sources is not None:
            self._sources.heartbeat(source, incarnation, now(), service=service)

    def farewell(self, source: str, incarnation: str) -> None: ...

    def wake(self, service: str) -> None: ...


def run() -> list[Figure]:
    """All figures of this file."""
    stream_us = uvloop.run(_streams(fed=False))
    fed_us = uvloop.run(_streams(fed=True))
    post_us = uvloop.run(_posts())
    post_fed_us = uvloop.run(_posts(fed=True))
    wake_ms = uvloop.run(_wakes())
    return [
        at_most("stats: a report over a stream, not differenced", stream_us, 15, "µs", digits=1),
        at_most("stats: the same, differenced and added up", fed_us, 30, "µs", digits=1),
        Figure(name="stats: as a POST through aiohttp, not differenced", value=f"{post_us:.1f} µs"),
        Figure(name="stats: as a POST through aiohttp, differenced", value=f"{post_fed_us:.1f} µs"),
        at_most("stats: stream over POST, not differenced", stream_us / post_us, 0.25, "×", digits=2),
        at_most("stats: 10,000 sources each second, differenced", fed_us, 25, "% of a core", digits=0),
        at_most("stats: a wake there and its acknowledgement back", wake_ms, 1, "ms", digits=2, note="p50, loopback"),
    ]


def _sources() -> Sources:
    made = Sources()
    for number in range(SERVICES):
        made.watch(f"service-{number}", 60.0)
    return made


async def _everybody(token: str) -> Identity | Refused:
    return Identity(name="anybody")


def _reading(number: int, sequence: int) -> Reading:
    arrivals = 7 * sequence
    return Reading(
        f"service-{number % SERVICES}", sequence, 1000.0 + sequence, arrivals, arrivals - 3, 0, 0, 31.7 * sequence,
        0.0, 30.1 * sequence, 91_234 * sequence, 812_345 * sequence, 3, 0, 0.04, 0.01,
    )  # fmt: skip


_BOUNDS: Final = Bounds(tokens_at_once=2 * SOURCES)
"""All of them come from one address here."""


async def _streams(*, fed: bool) -> float:
    """Microseconds for one report."""
    done, nursery = asyncio.Event(), Nursery()
    counts = _Counts(_sources() if fed else None, done, SOURCES * ROUNDS)
    receiver = Receiver(
        counts, _everybody, is_leading=lambda: True, sweep=Sweep(), nursery=nursery, bounds=_BOUNDS
    )  # fmt: skip
    sock = bind(Address("127.0.0.1", 0), what="listen")
    await receiver.start(sock)
    child = _start(_send_streams, sock.getsockname()[1])
    await asyncio.wait_for(done.wait(), 120)
    child.join(30)
    receiver.close()
    await nursery.aclose()
    await asyncio.sleep(0)
    return counts.took_s / counts.count * 1e6


def _send_streams(port: int) -> None:
    streams = []
    for number in range(SOURCES):
        sock = socket.create_connection(("127.0.0.1", port))
        service = f"service-{number % SERVICES}"
        sock.sendall(PREAMBLE + frame(Hello(f"source-{number}", "i1", "sidecar", "", service)))
        sock.recv(64)
        streams.append(sock)
    for sequence in range(1, ROUNDS + 1):
        for number, sock in enumerate(streams):
            sock.sendall(frame(Readings((_reading(number, sequence),))))
        time.sleep(0.1)


async def _posts(*, fed: bool = False) -> float:
    """Microseconds for one report."""
    done, decode = asyncio.Event(), msgspec.json.Decoder(Stat).decode
    counts = _Counts(_sources() if fed else None, done, POSTS)

    async def take(request: web.Request) -> web.Response:
        counts.report(decode(await request.read()))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/stats", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    sock = bind(Address("127.0.0.1", 0), what="listen")
    await web.SockSite(runner, sock).start()
    child = _start(_send_posts, sock.getsockname()[1])
    await asyncio.wait_for(done.wait(), 120)
    child.join(30)
    await runner.cleanup()
    return counts.took_s / counts.count * 1e6


def _send_posts(port: int) -> None:
    streams = [socket.create_connection(("127.0.0.1", port)) for _ in range(CLIENTS)]
    for number in range(POSTS // CLIENTS):
        for client, sock in enumerate(streams):
            body = msgspec.json.encode(_stat(client, number + 1))
            head = f"POST /stats HTTP/1.1\r\nHost: autoscaler\r\nContent-Length: {len(body)}\r\n\r\n"
            sock.sendall(head.encode() + body)
        for sock in streams:
            sock.recv(4096)


def _stat(number: int, sequence: int) -> Stat:
    fields = msgspec.structs.asdict(_reading(number, sequence))
    return Stat(source=f"source-{number}", incarnation="i1", **fields)


async def _wakes() -> float:
    """Milliseconds from a wake to its acknowledgement, at the source."""
    nursery = Nursery()
    counts = _Counts(None, asyncio.Event(), -1)
    receiver = Receiver(
        counts, _everybody, is_leading=lambda: True, sweep=Sweep(), nursery=nursery, bounds=_BOUNDS
    )  # fmt: skip
    sock = bind(Address("127.0.0.1", 0), what="listen")
    await receiver.start(sock)
    ours, theirs = multiprocessing.Pipe()
    child = _start(_send_wakes, sock.getsockname()[1], theirs)
    while not ours.poll():
        await asyncio.sleep(0.01)
    child.join(30)
    receiver.close()
    await nursery.aclose()
    await asyncio.sleep(0)
    return float(ours.recv())


def _send_wakes(port: int, tell: "multiprocessing.connection.Connection[float, float]") -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(PREAMBLE + frame(Hello("gateway", "i1", "gateway")))
        sock.recv(64)
        frames, times = Frames(1024), []
        for number in range(1, 501):
            began_s = time.perf_counter()
            sock.sendall(frame(Wake(number, _reading(1, number))))
            while not frames.feed(sock.recv(64)):
                continue
            times.append(time.perf_counter() - began_s)
    tell.send(sorted(times)[250] * 1000)


def _start(send: Callable[..., None], *arguments: object) -> multiprocessing.process.BaseProcess:
    child = multiprocessing.get_context("spawn").Process(target=send, args=arguments, daemon=True)
    child.start()
    return child
