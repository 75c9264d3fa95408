"""Carries out what the steering of a workload wants written: its number, its HPA's floor, its pods' deletion costs.

The steering is told how each write went; then `again` is called, as something else may be due. Nothing is decided here.
Called by `zerogate.kube.runtime` on the event loop.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from zerogate.kube.acts import SetCost, SetFloor, WriteScale
from zerogate.kube.catalog import version_number
from zerogate.kube.errors import KubeError, NotDue
from zerogate.kube.fleet import Fleet
from zerogate.kube.scaling import ReplicasDiffer
from zerogate.kube.target import Hands
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)

AGAIN_S: Final = 1.0
"""After a write that failed for no fault of its own; the server's own word (429) may ask for longer."""


class Writes:
    """See the module's text."""

    def __init__(
        self, hands: Hands, nursery: Nursery, *, clock: Callable[[], float], again: Callable[[Fleet], None]
    ) -> None:
        self._hands = hands
        self._nursery = nursery
        self._clock = clock
        self._again = again
        self._costs: dict[tuple[Fleet, str], int] = {}
        """Deletion costs that are to be written, by pod; the latest counts."""
        self._is_closed = False

    def close(self) -> None:
        """Try no failed write again."""
        self._is_closed = True

    def give_up_costs(self, fleet: Fleet | None = None) -> None:
        """Try none of them again, of one fleet or of all: whoever writes by then decides anew."""
        for one in [one for one in self._costs if fleet is None or one[0] is fleet]:
            del self._costs[one]

    def start(self, fleet: Fleet, act: WriteScale | SetFloor | SetCost) -> None:
        """Write it, in a task of its own."""
        service = fleet.target.service
        match act:
            case WriteScale():
                self._nursery.start(self._write_scale(fleet, act), name=f"scale {service}")
            case SetFloor(replicas):
                self._nursery.start(self._write_floor(fleet, replicas), name=f"floor of {service}")
            case SetCost(pod, cost):
                if (fleet, pod) not in self._costs:
                    self._nursery.start(self._write_cost(fleet, pod), name=f"cost of {pod}")
                self._costs[fleet, pod] = cost

    async def _write_scale(self, fleet: Fleet, write: WriteScale) -> None:
        steering = fleet.steering
        try:
            version = await self._hands.write_scale(
                fleet.target, write, lambda: not self._is_closed and steering.stands_by(write, self._clock())
            )  # fmt: skip
        except ReplicasDiffer as difference:
            steering.on_conflict(difference.found, version_number(difference.version), self._clock())
        except NotDue:
            steering.on_failed(self._clock())
        except KubeError as error:
            if str(error) != steering.write_trouble:
                log.warning("%s: the number of replicas could not be written: %s", fleet.target.service, error)
            steering.on_failed(self._clock() + (error.retry_after_s or AGAIN_S), str(error))
        else:
            steering.on_written(version, self._clock())
        self._again(fleet)

    async def _write_floor(self, fleet: Fleet, replicas: int) -> None:
        steering = fleet.steering
        try:
            await self._hands.write_floor(
                fleet.target, replicas, lambda: not self._is_closed and steering.stands_by_floor(replicas)
            )  # fmt: skip
        except NotDue:
            steering.on_floor_failed(self._clock(), "")
        except KubeError as error:
            log.warning("%s: the HPA's minReplicas could not be written: %s", fleet.target.service, error)
            steering.on_floor_failed(self._clock() + (error.retry_after_s or AGAIN_S), str(error))
        else:
            steering.on_floor(replicas)
        self._again(fleet)

    async def _write_cost(self, fleet: Fleet, pod: str) -> None:
        written: int | None = None
        while (cost := self._costs.get((fleet, pod))) not in (None, written) and not self._is_closed:
            try:
                await self._hands.write_cost(fleet.target, pod, cost)
                written = cost
            except KubeError as error:
                log.warning("%s: the deletion cost of %s could not be written: %s", fleet.target.service, pod, error)
                await asyncio.sleep(error.retry_after_s or AGAIN_S)
        self._costs.pop((fleet, pod), None)
