"""Shuts the replica's gate for gateways as autoscalers order it, and tells them what is still inside.

Whoever comes without a gateway knows of no other replica, so it is let in as ever, and told: the replica is not idle.
That is said at once, and that it is idle again at most every `IDLE_GAP_S`: short requests are no flood of words.
Used by the sidecar where it reports; what a lease is stands in `zerogate.reporting.leases`.
"""

import asyncio
import logging
from typing import Final

from queueproxy.slots import Slots
from zerogate.clock import now
from zerogate.http.sweep import NEVER, Sweep
from zerogate.reporting.leases import Leases
from zerogate.reporting.sender import Answer
from zerogate.reporting.wire import Order, Quiesced

log = logging.getLogger("queueproxy")

IDLE_GAP_S: Final = 0.1
"""Both words together are 20 a second then: autoscalers read 50 of a sidecar, and reports are among them."""


class Quiescing:
    """See the module's text. `on_order` is called with each order and the way back to who gave it."""

    def __init__(self, slots: Slots, sweep: Sweep) -> None:
        self.tick = 0
        self.visit_s = NEVER
        self._slots = slots
        self._sweep = sweep
        self._leases = Leases()
        self._answers: dict[str, Answer] = {}
        """The way back to each that has a lease."""
        self._said: dict[str, bool] = {}
        """Whether something is inside, by what each of them was told last."""
        self._idle_s = -NEVER
        """When it was said last that nothing is."""
        self._sequence = 0
        self._timer: asyncio.Handle | None = None
        slots.on_inside = self._plan

    def on_order(self, order: Order, answer: Answer) -> None:
        """An autoscaler shuts the gate, goes on doing so, or opens it."""
        now_s = now()
        if order.replica or not self._leases.hear(order, now_s):
            return
        self._answers[order.asker] = answer
        self._apply(now_s)
        self._say(order.asker, order.number)
        self._forget(now_s)

    def due(self, now_s: float) -> float | None:
        """A lease may have run out."""
        self._apply(now_s)
        self._forget(now_s)
        return self._leases.until_s(now_s)

    def _apply(self, now_s: float) -> None:
        until_s = self._leases.until_s(now_s)
        if (until_s is not None) != self._slots.is_quiesced:
            log.info("the autoscaler %s", "keeps gateways away" if until_s is not None else "lets gateways in again")
            self._slots.quiesce(until_s is not None, now_s)
        if until_s is not None:
            self._sweep.watch(self, until_s)

    def _forget(self, now_s: float) -> None:
        holders = self._leases.holders(now_s)
        self._answers = {asker: answer for asker, answer in self._answers.items() if asker in holders}
        self._said = {asker: is_busy for asker, is_busy in self._said.items() if asker in holders}

    def _plan(self) -> None:
        if self._timer is not None and self._slots.inside:
            self._timer.cancel()  # it may be one that waits for the time to say that nothing is inside
            self._timer = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._timer = None
        now_s, is_busy = now(), self._slots.inside > 0
        holders = self._leases.holders(now_s)
        due = {asker: number for asker, number in holders.items() if self._said.get(asker) is not is_busy}
        if due and not is_busy and now_s < self._idle_s + IDLE_GAP_S:
            wait_s = self._idle_s + IDLE_GAP_S - now_s
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tell)
            return
        for asker, number in due.items():
            self._say(asker, number)

    def _say(self, asker: str, number: int) -> None:
        inside = self._slots.inside
        self._said[asker] = inside > 0
        if not inside:
            self._idle_s = now()
        self._sequence += 1
        self._answers[asker](Quiesced(asker, number, self._sequence, inside))
