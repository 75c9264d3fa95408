"""What a sidecar reports: what runs in its replica, and what came and waits without a gateway.

A request of a gateway arrives and waits there, and that is where it is counted; here it runs. So each request has one
arrival, and is held in one place or running, never both.
"""

from msgspec.structs import replace

from queueproxy.slots import Slots
from zerogate.stats import Stat


class Reports:
    """The book of the sender: one service."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._said = (0, 0, 0)

    def take_changed(self) -> list[str]:
        """The service, where something has happened or something is inside."""
        meter = self._slots.meter
        said = (meter.arrivals, meter.completions, meter.held)
        if said == self._said and not meter.in_flight and not meter.held:
            return []
        self._said = said
        return [self._slots.service]

    def read(self, service: str, now_s: float) -> Stat:
        """A reading of now."""
        stat = self._slots.meter.read(now_s, service=self._slots.service, source="", incarnation="")
        return replace(stat, arrivals=self._slots.own_arrivals)
