"""Tells the autoscaler once a second what the holds have counted: the one-box end of the stats path.

The same reports that sidecars and gateways send over the network elsewhere, handed over in the process. Only services
whose counters moved are read, so a thousand idle ones cost nothing.
"""

import asyncio
import os
from typing import Final

from activator.holds import Holds
from autoscaler.loop import Autoscaler
from zerogate.clock import now

SOURCE: Final = "box"
PERIOD_S: Final = 1.0
SLICE: Final = 50
"""Reports in one turn of the loop: half a millisecond."""


class Reporter:
    """Reads the holds' meters for one autoscaler."""

    def __init__(self, holds: Holds, autoscaler: Autoscaler) -> None:
        self._holds = holds
        self._autoscaler = autoscaler
        self._incarnation = f"{os.getpid()}-{now():.6f}"

    async def run(self) -> None:
        """Report every second, for ever."""
        while True:
            await self.report()
            await asyncio.sleep(PERIOD_S)

    async def report(self) -> None:
        """Report what changed since the last time, and that this source lives; a slice in each turn of the loop."""
        self._autoscaler.heartbeat(SOURCE, self._incarnation)
        for number, service in enumerate(self._holds.take_changed()):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            if self._holds.get(service) is not None:
                self._report(service)

    def _report(self, service: str) -> None:
        self._autoscaler.report(self._holds.read(service, now(), source=SOURCE, incarnation=self._incarnation))

    def wake(self, service: str) -> None:
        """A request waits: report its service at once, and wake it."""
        self._report(service)
        self._autoscaler.wake(service)
