"""Loads of many connections at once: streams of events, held requests, idle WebSockets. asyncio on uvloop.

Each opens its crowd against one freshly started contestant and returns what the contestant's process used for it.
"""

import asyncio
import base64
import gc
import time
from collections.abc import Callable
from typing import Final

import msgspec

from bench import openai_client
from bench.peers.contestants import Running, UnavailableError
from bench.peers.processes import cpu_s, pss_bytes
from bench.peers.source import STAMP
from bench.table import percentile

KIB: Final = 1024
AT_ONCE: Final = 100
"""Connections opened together: a crowd comes quickly, and no listen queue overflows."""
WARM: Final = 100
"""A small crowd first, so that what is made once is not counted."""
COME_S: Final = 60.0
QUIET_S: Final = 0.5
TIMED: Final = 10
"""Every tenth stream's events are timed: the load must not become the bottleneck."""
_GET_EVENTS: Final = b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
_UPGRADE: Final = (
    b"GET /socket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n" % base64.b64encode(b"0123456789abcdef")
)
_CHAT: Final = openai_client.request()
_PING: Final = b"\x81\x85\0\0\0\0hello"
_PONG: Final = b"\x81\x05hello"


class Streaming(msgspec.Struct, frozen=True):
    """Events of all streams: processor time and delay of each (source to client), memory of each stream."""

    cpu_us: float
    per_s: float
    busy_ratio: float
    p50_ms: float
    p99_ms: float
    kib: float


class Kept(msgspec.Struct, frozen=True):
    """Memory of each of what is held or idle, and processor time while nothing happens."""

    kib: float
    idle_cpu_percent: float


class Client(asyncio.Protocol):
    """One connection that sends `request` and keeps what comes, or hands it to `watch`."""

    def __init__(self, request: bytes, watch: Callable[[bytes], None] | None = None) -> None:
        self._request = request
        self._watch = watch
        self.received = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._watch is None:
            self.received += data
        else:
            self._watch(data)


class Ears:
    """Counts events, and times those of some streams."""

    def __init__(self) -> None:
        self.events = 0
        self.delays_s: list[float] = []

    def count(self, data: bytes) -> None:
        """Any stream."""
        self.events += data.count(b"data: ")

    def time(self, data: bytes) -> None:
        """A timed stream: what came last of these bytes."""
        self.events += data.count(b"data: ")
        at = data.rfind(STAMP)
        stamp = data[at + len(STAMP) :][:17]
        if at >= 0 and len(stamp) == 17:
            self.delays_s.append(time.monotonic() - float(stamp))


async def stream(running: Running, *, streams: int, seconds: float) -> Streaming:
    """So many streams of events at once."""
    await _leave(await _come(running.port, [Client(_GET_EVENTS) for _ in range(WARM)]))
    before = pss_bytes(running.pid)
    ears = Ears()
    crowd = [Client(_GET_EVENTS, ears.count if n % TIMED else ears.time) for n in range(streams)]
    await _come(running.port, crowd)
    await _until(lambda: ears.events >= 2 * streams, "the streams did not all begin")
    gc.disable()
    ears.events, ears.delays_s = 0, []
    began_s, used_s = time.perf_counter(), cpu_s(running.pid)
    await asyncio.sleep(seconds)
    events, delays_s = ears.events, ears.delays_s
    used_s, took_s = cpu_s(running.pid) - used_s, time.perf_counter() - began_s
    gc.enable()
    kib = (pss_bytes(running.pid) - before) / streams / KIB
    await _leave(crowd)
    if not delays_s:
        raise UnavailableError("no event came through")
    p50_ms, p99_ms = (percentile(delays_s, percent) * 1000 for percent in (50, 99))
    return Streaming(used_s / events * 1e6, events / took_s, used_s / took_s, p50_ms, p99_ms, kib)


async def hold(running: Running, *, source: int, count: int, seconds: float) -> Kept:
    """So many requests at once before a model server that answers none of them. Raises UnavailableError."""
    await _leave(await _come(running.port, [Client(_CHAT) for _ in range(WARM)]))
    await asyncio.sleep(QUIET_S)
    before = pss_bytes(running.pid)
    crowd = await _come(running.port, [Client(_CHAT) for _ in range(count)])
    await _settled(running.pid)
    kib = (pss_bytes(running.pid) - before) / count / KIB
    refused = [client.received for client in crowd if client.received]
    lost = sum(client.transport.is_closing() for client in crowd)
    inside = await _inside(source)
    idle = await _idle_percent(running.pid, seconds)
    await _leave(crowd)
    if refused or lost:
        raise UnavailableError(f"{max(len(refused), lost):,} of {count:,} were refused")
    if inside > count // 5:
        raise UnavailableError(f"it held {count - inside:,} of {count:,}")
    return Kept(kib, idle)


async def idle_websockets(running: Running, *, count: int, seconds: float) -> Kept:
    """So many open WebSockets, on which nothing is said after one message each. Raises UnavailableError."""
    await _greet(running.port, WARM)
    await asyncio.sleep(QUIET_S)
    before = pss_bytes(running.pid)
    crowd = await _greet(running.port, count, leave=False)
    await _settled(running.pid)
    kib = (pss_bytes(running.pid) - before) / count / KIB
    idle = await _idle_percent(running.pid, seconds)
    await _leave(crowd)
    return Kept(kib, idle)


async def _greet(port: int, count: int, *, leave: bool = True) -> list[Client]:
    crowd = await _come(port, [Client(_UPGRADE) for _ in range(count)])
    await _until(lambda: all(b"\r\n\r\n" in client.received for client in crowd), "the handshake was not answered")
    for client in crowd:
        if not client.received.startswith(b"HTTP/1.1 101"):
            raise UnavailableError(
                f"a WebSocket is answered with {client.received.partition(bytes((13,)))[0].decode()}"
            )
        client.received = b""
        client.transport.write(_PING)
    await _until(lambda: all(client.received == _PONG for client in crowd), "messages did not come back")
    if leave:
        await _leave(crowd)
    return crowd


async def _come(port: int, crowd: list[Client]) -> list[Client]:
    loop = asyncio.get_running_loop()
    for first in range(0, len(crowd), AT_ONCE):
        group = crowd[first : first + AT_ONCE]
        await asyncio.gather(*(loop.create_connection(lambda c=c: c, "127.0.0.1", port) for c in group))  # type: ignore[misc]
    return crowd


async def _leave(crowd: list[Client]) -> None:
    for client in crowd:
        client.transport.abort()
    await asyncio.sleep(QUIET_S)


async def _until(holds: Callable[[], bool], otherwise: str) -> None:
    until_s = time.monotonic() + COME_S
    while not holds():
        if time.monotonic() > until_s:
            raise UnavailableError(otherwise)
        await asyncio.sleep(0.05)


async def _settled(pid: int) -> None:
    """Until the process has nothing to do any more: less than 5 % of a core over half a second."""
    until_s = time.monotonic() + COME_S
    while time.monotonic() < until_s:
        if await _idle_percent(pid, QUIET_S) < 5:
            return


async def _idle_percent(pid: int, seconds: float) -> float:
    used_s = cpu_s(pid)
    await asyncio.sleep(seconds)
    return (cpu_s(pid) - used_s) / seconds * 100


async def _inside(source: int) -> int:
    client = Client(b"GET /inside HTTP/1.1\r\nHost: x\r\n\r\n")
    await _come(source, [client])
    await _until(lambda: client.received.count(b"\n") > 4 or client.received.endswith(b"\n"), "the source is silent")
    client.transport.abort()
    return int(client.received.rpartition(b"\r\n\r\n")[2])
