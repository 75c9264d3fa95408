"""How soon a client that leaves is out of the books: its place in the queue or its slot, its bytes, its demand.

Four ways, each of a hundred clients that come and go one after the other while fifty others stay:

held, body read            the whole body has come; the connection is closed
held, body not read on     most of a long body lies with the client; a reset, since an end would lie in the client's
                           kernel behind the rest
held, stream of HTTP/2     RST_STREAM; its connection goes on with the other streams
stream running             the answer comes event by event; the connection is closed

The time ends when `/metrics` of the box shows one request less, held or inside a replica, which is what decisions are
made of, and its bytes gone. How long it was there is by chance, so that it meets every moment of the timers here.
"""

import asyncio
import functools
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import h2.config
import h2.connection
import h2.errors
import msgspec

from bench.table import Figure, at_most, percentile
from tests.e2e.harness import Box, Latch, stub, zerogate
from tests.e2e.wire import Wire, request
from zerogate.http.account import KEEP_BYTES

LEAVES: Final = 100
BESIDE: Final = 50
GOAL_MS: Final = 100
LONGEST_S: Final = 20.0
PAUSES_S: Final = 0.15
"""Longer than a turn of the sweep and the time after which a connection that is not read is watched, together."""
BODY: Final = bytes(32 * 1024)
BEGIN: Final = bytes(512 * 1024)
"""Of a body that is too long to be read while it is held: more than is read of it."""
SHORT: Final = bytes(512)
"""A hundred and fifty fit into the window of a connection that nobody opens further."""

Leave = Callable[[], None]
Come = Callable[[], Awaitable[Leave]]


class Books(msgspec.Struct, frozen=True):
    """What the box has: requests held or inside, and bytes of theirs."""

    requests: int
    bytes: int


class Admin:
    """One connection to the admin port: a look has to be quick."""

    def __init__(self, one: Wire) -> None:
        self._one = one

    async def look(self) -> Books:
        await self._one.send(request("GET", "/metrics", host="127.0.0.1"))
        lines = (await self._one.answer()).body.decode().splitlines()
        values = {series: value for series, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}
        requests = sum(float(values[f'zerogate_{name}{{service="chat"}}']) for name in ("held", "in_flight"))
        return Books(int(requests), int(sum(float(values[f"zerogate_{kind}_bytes"]) for kind in ("body", "upload"))))

    async def until(self, is_so: Callable[[Books], bool]) -> Books:
        """Look until it is so."""
        async with asyncio.timeout(LONGEST_S):
            while not is_so(books := await self.look()):
                await asyncio.sleep(0)
            return books


async def times_ms(admin: Admin, come: Come, bytes_of_one: int) -> list[float]:
    """How long each took, of clients that have at least so many bytes there; `BESIDE` others stay."""
    dice = random.Random(5)
    others = [await come() for _ in range(BESIDE)]
    await admin.until(lambda books: books.requests == BESIDE)
    found = []
    for _ in range(LEAVES):
        leave = await come()
        await admin.until(lambda books: books.requests == BESIDE + 1)
        await asyncio.sleep(dice.uniform(0, PAUSES_S))
        most_bytes = (await admin.look()).bytes - bytes_of_one
        began_s = time.perf_counter()
        leave()
        await admin.until(lambda books, most=most_bytes: books.requests == BESIDE and books.bytes <= most)  # type: ignore[misc]
        found.append((time.perf_counter() - began_s) * 1000)
    for leave in others:
        leave()
    await admin.until(lambda books: books == Books(0, 0))
    return found


async def _sent(box: Box, data: bytes) -> Wire:
    one = Wire(*await asyncio.open_connection("127.0.0.1", box.listen))
    one.writer.write(data)
    return one


async def _body_read(box: Box, admin: Admin) -> list[float]:
    async def come() -> Leave:
        return (await _sent(box, request("POST", "/echo", host="chat", body=BODY))).hang_up

    return await times_ms(admin, come, len(BODY))


async def _body_paused(box: Box, admin: Admin) -> list[float]:
    async def come() -> Leave:
        head = request("POST", "/echo", host="chat", Content_Length=str(KEEP_BYTES + 1))
        return (await _sent(box, head + BEGIN)).reset

    return await times_ms(admin, come, len(BODY))


async def _running(box: Box, admin: Admin) -> list[float]:
    async def come() -> Leave:
        one = await _sent(box, request("GET", "/sse?events=1000000&gap_ms=200", host="chat"))
        await one.head()
        return one.hang_up

    return await times_ms(admin, come, 0)


async def _stream_reset(box: Box, admin: Admin) -> list[float]:
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    one = await _sent(box, client.data_to_send())

    async def take() -> None:
        while data := await one.reader.read(65536):
            client.receive_data(data)
            one.writer.write(client.data_to_send())

    def reset(stream: int) -> None:
        client.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        one.writer.write(client.data_to_send())

    async def come() -> Leave:
        stream = client.get_next_available_stream_id()
        fields = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "chat")]
        client.send_headers(stream, fields)
        client.send_data(stream, SHORT, end_stream=True)
        one.writer.write(client.data_to_send())
        return functools.partial(reset, stream)

    async with asyncio.TaskGroup() as group:
        taking = group.create_task(take())
        found = await times_ms(admin, come, len(SHORT))
        one.hang_up()
        taking.cancel()
    return found


WAYS: Final[dict[str, Callable[[Box, Admin], Awaitable[list[float]]]]] = {
    "held, body read": _body_read,
    "held, body not read on": _body_paused,
    "held, stream of HTTP/2": _stream_reset,
    "stream running": _running,
}


async def _measure() -> list[Figure]:
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        latch = Latch(Path(name))
        async with zerogate({"chat": stub(*latch.flags, queue_limit=BESIDE + 1)}, Path(name)) as box:
            admin = Admin(Wire(*await asyncio.open_connection("127.0.0.1", box.admin)))
            for way, measure in WAYS.items():
                if measure is _running:
                    latch.open()
                    await box.until_ready("chat")
                found[way] = await measure(box, admin)
    return [
        at_most(f"client gone → out of the books, {way}, p99", percentile(times, 99), GOAL_MS, "ms",
                note=f"p50 {percentile(times, 50):.1f} ms; {len(times)} clients")
        for way, times in found.items()
    ]  # fmt: skip


def run() -> list[Figure]:
    """All figures of this file."""
    return asyncio.run(_measure())
