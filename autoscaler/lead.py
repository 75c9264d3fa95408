"""What follows when this process begins to lead, or ceases to, and in which order. Owned by `autoscaler.running`.

Who ceases is silent about everything in the turn in which it hears of it. Who begins prepares each service, lets it
write, and comes to the next, in slices: five thousand of them take 0.1 s. Those that hold requests hear first who
leads, because they say again what nobody has acknowledged.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zerogate.slices import Pace

if TYPE_CHECKING:
    from autoscaler.running import RunningAutoscaler


class Lead:
    """See the module's text. `parts`: of this process."""

    def __init__(self, parts: "RunningAutoscaler") -> None:
        self._parts = parts
        self._following: asyncio.Task[None] | None = None

    def on_change(self, leads: bool) -> None:
        """This process leads from now on, or another one does."""
        parts = self._parts
        if self._following is not None:
            self._following.cancel()
        if leads:
            parts.enabling.begin_to_lead()
        if parts.takeovers is not None:
            parts.takeovers.lead(leads)
        services = parts.runtime.begin_to_lead(leads)
        parts.quiescer.lead(leads)
        self._following = parts.nursery.start(self._follow(services, leads), name="what follows from the lead")

    async def _follow(self, services: Sequence[str], leads: bool) -> None:
        parts, pace = self._parts, Pace()
        await parts.receiver.say_who_leads(to_sidecars=False, pace=pace)
        for service in services:
            if leads:
                self._prepare(service)
                parts.notes.mark(service)
            parts.runtime.lead_one(service)
            await pace.rest()
        await parts.receiver.say_who_leads(to_sidecars=True, pace=pace)
        if not leads:
            return
        parts.services.begin_to_lead()
        parts.route_notes.mark()
        for kind, workload in list(parts.feed.workloads()):
            parts.look_at(kind, workload)
            await pace.rest()

    def _prepare(self, service: str) -> None:
        """What has to be known of a service before anything of it is written: what it had, what somebody asked for."""
        parts = self._parts
        parts.look_at_service(service)
        entry, number = parts.services.entries.get(service), parts.runtime.number(service)
        if entry is not None and number is not None and entry.wanted.cluster.hpa != "floor":
            parts.autoscaler.adopt(service, number)
