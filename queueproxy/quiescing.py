"""Shuts the replica's gate for gateways as autoscalers order it, and tells them what is still inside.

Whoever comes without a gateway knows of no other replica, so it is let in as ever, and told: the replica is not idle.
Used by the sidecar where it reports; what a lease is stands in `queueproxy.leases`.
"""

import asyncio
import logging

from queueproxy.leases import Leases
from queueproxy.slots import Slots
from zerogate.clock import now
from zerogate.http.sweep import NEVER, Sweep
from zerogate.reporting.sender import Answer
from zerogate.reporting.wire import Order, Quiesced

log = logging.getLogger("queueproxy")


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
        self._sequence = 0
        self._is_planned = False
        slots.on_inside = self._plan

    def on_order(self, order: Order, answer: Answer) -> None:
        """An autoscaler shuts the gate, goes on doing so, or opens it."""
        now_s = now()
        if not self._leases.hear(order, now_s):
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

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._is_planned = False
        for asker, number in self._leases.holders(now()).items():
            self._say(asker, number)

    def _say(self, asker: str, number: int) -> None:
        answer = self._answers.get(asker)
        if answer is not None:
            self._sequence += 1
            answer(Quiesced(asker, number, self._sequence, self._slots.inside))
