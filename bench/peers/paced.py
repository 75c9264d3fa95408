"""An open load: requests leave at instants drawn beforehand, whether or not earlier ones were answered.

The gaps are exponential (independent users), from the same seed for every contestant. A request's latency runs from
the instant it was to leave, so what waits for a free connection is counted: nothing is hidden by a slow answer. The
loop sleeps in `select`, whose timeout has microseconds; asyncio's timers have milliseconds.
"""

import gc
import random
import select
import socket
import time
from collections import deque
from typing import Final

import msgspec

from bench.peers.contestants import UnavailableError
from bench.table import percentile

CONNECTIONS: Final = 64
REQUEST: Final = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
END: Final = (b"hello world\n", b"hello world\n\r\n0\r\n\r\n")
"""Of an answer with a length, and of one in chunks."""
LATE_S: Final = 2.0
"""After the last request was due: who has not answered by then does not carry the rate."""
WARM_S: Final = 0.3
"""Of each run, not counted: connections open, caches fill."""


class Latency(msgspec.Struct, frozen=True):
    """Of the requests of one run, in milliseconds."""

    p50_ms: float
    p99_ms: float
    per_s: float


def pace(port: int, per_s: float, seconds: float) -> Latency:
    """Send so many a second. Raises UnavailableError where an answer is not 200 or far too late."""
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    try:
        for sock in sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        gc.disable()
        latencies_s = _send(sockets, _departures(per_s, seconds + WARM_S))
    finally:
        gc.enable()
        for sock in sockets:
            sock.close()
    return Latency(percentile(latencies_s, 50) * 1000, percentile(latencies_s, 99) * 1000, len(latencies_s) / seconds)


def _departures(per_s: float, seconds: float) -> deque[float]:
    draw = random.Random(20)
    at_s, departures = 0.0, deque[float]()
    while (at_s := at_s + draw.expovariate(per_s)) < seconds:
        departures.append(at_s)
    return departures


def _send(sockets: list[socket.socket], departures: deque[float]) -> list[float]:
    """Latencies in seconds of the requests after the warm-up."""
    by_number = {sock.fileno(): sock for sock in sockets}
    free = deque(by_number)
    left_s: dict[int, float] = {}
    parts: dict[int, bytes] = {}
    latencies_s: list[float] = []
    began_s = time.perf_counter()
    until_s = departures[-1] + LATE_S
    while departures or left_s:
        now_s = time.perf_counter() - began_s
        if now_s > until_s:
            raise UnavailableError(f"it fell behind by more than {LATE_S:g} s")
        while departures and departures[0] <= now_s and free:
            number = free.popleft()
            left_s[number] = departures.popleft()
            by_number[number].send(REQUEST)
        wait_s = 0.5
        if departures and free:
            wait_s = max(0.0, departures[0] - (time.perf_counter() - began_s))
        for number in select.select(list(left_s), (), (), wait_s)[0]:
            answer = parts.pop(number, b"") + by_number[number].recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise UnavailableError(f"a paced request is answered with {answer[:40]!r}")
            if not answer.endswith(END):
                parts[number] = answer
                continue
            due_s = left_s.pop(number)
            free.append(number)
            if due_s >= WARM_S:
                latencies_s.append(time.perf_counter() - began_s - due_s)
    return latencies_s
