"""Waking a workload without an autoscaler: the one write from 0 to 1 that others than the leader make.

A gateway or activator comes here when no leader has acknowledged for three seconds that a request waits, or it has said
that it cannot write. The write is conditional on the zero (`scaling.py`), so any number of them race and one writes. It
is not made where somebody has said that the workload shall stay at zero: by a pin, or by a calendar's ceiling. Nothing
else is ever written here.
"""

import logging
from collections.abc import Callable

from zerogate.clock import wall
from zerogate.kube.catalog import Managed, number_of
from zerogate.kube.errors import KubeError
from zerogate.kube.objects import Resource, Workload
from zerogate.kube.pins import PIN, read_pin
from zerogate.kube.rate import Priority
from zerogate.kube.scaling import ReplicasDiffer, Scales
from zerogate.kube.times import wall_time
from zerogate.schedule import floor_at

log = logging.getLogger(__name__)


class Waker:
    """See the module's text. `is_blind`: whether what is known of workloads may be old; then zero is tried for."""

    def __init__(self, scales: Scales, *, is_blind: Callable[[], bool], calendar: Callable[[], float] = wall) -> None:
        self._scales = scales
        self._is_blind = is_blind
        self._calendar = calendar
        self._under_way: set[str] = set()
        self._told: dict[str, str] = {}
        """Why a service is not woken, as it was logged last: gateways ask again every three seconds."""

    async def wake(self, entry: Managed, workload: Workload) -> bool:
        """Write 1 where the number is 0 and may be more; whether it was this process that wrote. Never raises for what
        the API server says: whoever waits asks again."""
        if entry.service in self._under_way or (number_of(workload) and not self._is_blind()):
            return False
        why_not = kept_at_zero(entry, workload, self._calendar())
        if why_not:
            if self._told.get(entry.service) != why_not:
                log.info("%s is not woken, because %s", entry.service, why_not)
            self._told[entry.service] = why_not
            return False
        self._told.pop(entry.service, None)
        self._under_way.add(entry.service)
        try:
            return await self._write(entry.resource, entry)
        finally:
            self._under_way.discard(entry.service)

    async def _write(self, resource: Resource[Workload], entry: Managed) -> bool:
        namespace, name = entry.key
        try:
            await self._scales.patch(resource, name, namespace=namespace, was=0, to=1, priority=Priority.WAKE)
        except ReplicasDiffer as found:
            log.info("%s has %d replicas already: another one woke it", entry.service, found.found)
            return False
        except KubeError as error:
            log.warning("%s could not be woken: %s", entry.service, error)
            return False
        log.warning("no autoscaler brings %s up: it was scaled from 0 to 1 from here", entry.service)
        return True


def kept_at_zero(entry: Managed, workload: Workload, wall_s: float) -> str:
    """Who wants it to stay at zero, as a clause; empty: nobody. A pin that cannot be read is none."""
    noted = workload.metadata.annotation(PIN)
    pin = read_pin(noted) if noted is not None else None
    if pin is not None and (pin.until is None or wall_s < wall_time(pin.until)):
        if pin.replicas is None:
            return "it is paused"
        if pin.replicas == 0:
            return "it is pinned to 0"
    standing = floor_at(entry.wanted.policy.schedule, wall_s)
    return f"its calendar says so ({standing.ceiling_text})" if standing.ceiling == 0 else ""
