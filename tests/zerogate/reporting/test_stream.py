"""A stream to an autoscaler that says more than it should."""

import asyncio

import pytest

from tests.zerogate.http.rig import replica
from zerogate.reporting.stream import SLICE, Stream
from zerogate.reporting.wire import Ack, Hello, Order, Welcome, frame
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery

pytestmark = pytest.mark.both_loops


class Owner:
    """Counts what it is told in each turn of the loop."""

    def __init__(self) -> None:
        self.acks = self.most_at_once = 0
        self.this_turn = 0
        self.has_all = asyncio.Event()

    def hello(self) -> Hello:
        return Hello("me", "i1", "sidecar")

    def on_welcome(self, stream: Stream) -> None: ...
    def on_writable(self, stream: Stream) -> None: ...
    def on_order(self, stream: Stream, order: Order) -> None: ...

    def on_ack(self, stream: Stream, number: int, *, is_leading: bool) -> None:
        if not self.this_turn:
            asyncio.get_running_loop().call_soon(self._end_turn)
        self.this_turn += 1
        self.most_at_once = max(self.most_at_once, self.this_turn)
        self.acks += number
        if self.acks == 5000:
            self.has_all.set()

    def _end_turn(self) -> None:
        self.this_turn = 0


async def test_a_flood_of_words_is_heard_in_slices() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(Welcome(True)) + frame(Ack(1, True)) * 5000)
        await reader.read()

    owner, nursery = Owner(), Nursery()
    async with replica(flood) as port:
        stream = Stream(Address("127.0.0.1", port), owner, lambda: 0.0)
        nursery.start(stream.run(), name="a stream")
        async with asyncio.timeout(10):
            await owner.has_all.wait()
        await nursery.aclose()
        await asyncio.sleep(0)
    assert owner.most_at_once <= 2 * SLICE
