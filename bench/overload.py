"""How soon a request beyond a full queue is refused: the slowest 429 of half a minute in which nearly all are.

The load is the long run's (`bench.soak`): 200 requests a second, each on a connection of its own, against one replica
that serves one in 14 s. All that a refusal can wait for is the turn of a loop: it is written in the read that brings
its head, and the kernel keeps four thousand connections for a loop that is late. So the client's own lateness stands
beside it.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from bench.soak import Outcome, missing, overload, service, slowest
from bench.table import Figure, at_most
from tests.e2e.harness import zerogate

DURATION_S: Final = 30.0
"""The queue of 512 is full after three."""


async def _measure() -> tuple[Outcome, int]:
    with tempfile.TemporaryDirectory() as folder:
        async with zerogate({"chat": service()}, Path(folder)) as box:
            outcome = await overload(box, "chat", duration_s=DURATION_S)
            return outcome, await missing(box, "chat")


def run() -> list[Figure]:
    """All figures of this file."""
    outcome, lost = asyncio.run(_measure())
    return [
        slowest(outcome),
        at_most("requests without an answer in an overload", lost + outcome.statuses["no answer"], 0, "", digits=0),
    ]
