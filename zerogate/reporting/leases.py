"""Who has the gate shut for gateways, and until when. Pure: `now_s` is an argument.

An autoscaler that wants to stop the replica asks for it with leases that it renews; the gate opens when the last of
them has run out or was given back, so one that dies leaves no gate shut. Each asker has a lease of its own: a leader
that has just been followed by another one can neither open what that one shut nor shorten it. Orders are numbered: one
that comes late or twice counts for nothing. Kept by `queueproxy.quiescing` and `activator.bare`.
"""

from typing import Final

from zerogate.reporting.wire import Order, Quiesce

MOST_ASKERS: Final = 16
"""As many autoscalers as a source speaks with; the one that spoke longest ago is forgotten first."""
NEVER: Final = float("inf")


class Leases:
    """See the module's text."""

    def __init__(self) -> None:
        self._askers: dict[str, tuple[int, float]] = {}
        """(number of the last order, when its lease ends), who spoke last at the end."""

    def hear(self, order: Order, now_s: float) -> bool:
        """An order came; False where a later one of the same asker was heard before."""
        number, _ = self._askers.get(order.asker, (-1, 0.0))
        if order.number <= number:
            return False
        self._askers.pop(order.asker, None)
        self._askers[order.asker] = (order.number, now_s + order.for_s if isinstance(order, Quiesce) else -NEVER)
        if len(self._askers) > MOST_ASKERS:
            del self._askers[next(iter(self._askers))]
        return True

    def until_s(self, now_s: float) -> float | None:
        """When the gate opens, should nobody renew; None where it is open."""
        end_s = max((end_s for _, end_s in self._askers.values()), default=-NEVER)
        return end_s if now_s < end_s else None

    def holders(self, now_s: float) -> dict[str, int]:
        """Who has a lease now, and the number of its last order."""
        return {asker: number for asker, (number, end_s) in self._askers.items() if now_s < end_s}
