"""How late the events of a stream are, beside a process that only passes bytes on (`servers/relay.py`).

async with beside(port) as other:                       # of the model server itself
    ours, theirs = await both(one, other, 40, gap_ms=50)
assert ours.late_s() <= theirs.late_s() + LATER_S

The same stream is read through both at the same time, so that a machine that is busy holds up both. Of the delays, nine
in ten are judged: one pause of one process is no buffering.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from bench.table import percentile
from tests.e2e.wire import Wire, request, wire
from zerogate.clock import now

RELAY: Final = Path(__file__).parent / "servers" / "relay.py"
LATER_S: Final = 0.02


class Times(msgspec.Struct, frozen=True):
    """Of the events of a stream: when each came, and when the model server wrote it, by the same clock."""

    arrived_s: list[float]
    written_s: list[float]

    def late_s(self) -> float:
        """After how long nine in ten had arrived."""
        return percentile([came - wrote for came, wrote in zip(self.arrived_s, self.written_s, strict=True)], 90)

    def uneven_s(self) -> float:
        """How much nine in ten of the gaps differ from the server's, at most."""
        gaps = zip(pairwise(self.arrived_s), pairwise(self.written_s), strict=True)
        return percentile([abs((after - before) - (next_ - last)) for (before, after), (last, next_) in gaps], 90)


async def times_of_events(one: Wire, count: int) -> Times:
    head = await one.head()
    assert (head.status, head.fields["content-type"]) == (200, "text/event-stream")
    times = Times([], [])
    async for piece in one.chunks():
        for event in piece.split(b"\n\n")[:-1]:
            if event != b"data: [DONE]":
                times.arrived_s.append(now())
                times.written_s.append(json.loads(event.removeprefix(b"data: "))["t"])
    assert len(times.written_s) == count
    assert await one.fields() == {}
    return times


@asynccontextmanager
async def beside(port: int) -> AsyncIterator[Wire]:
    """A connection to this port through a process that only passes bytes on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(RELAY), str(port), stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with wire(int(await process.stdout.readline())) as one:
            yield one
    finally:
        process.kill()
        await process.wait()


async def both(through: Wire, other: Wire, count: int, *, gap_ms: int) -> tuple[Times, Times]:
    """The same stream of the service `chat` on both connections."""
    ask = request("GET", f"/sse?events={count}&gap_ms={gap_ms}", host="chat")
    await asyncio.gather(through.send(ask), other.send(ask))
    ours, theirs = await asyncio.gather(times_of_events(through, count), times_of_events(other, count))
    return ours, theirs
