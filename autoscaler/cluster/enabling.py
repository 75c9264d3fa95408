"""What a workload is given back when it is taken from under zerogate: the number of replicas that it had before, and
the floor of its HPA; that one also when its policy no longer says `hpa: floor`.

When it is put under zerogate that number is noted on it, and that a floor may be moved; when it no longer is, both are
written back and all notes are taken away. This is looked at as a state and not as an event, so what happened while no
autoscaler ran is made good by the next one that leads. Only the leader writes, one object at a time, behind everything
that traffic waits for.
"""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec

from autoscaler.cluster.records import ALL, HPA
from zerogate.kube.catalog import number_of, recorded_replicas
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import KubeError, NotFound
from zerogate.kube.floors import Floors
from zerogate.kube.keys import REPLICAS
from zerogate.kube.objects import Key, Resource, Workload
from zerogate.kube.rate import Priority
from zerogate.kube.scaling import ReplicasDiffer, Scales

log = logging.getLogger(__name__)

_AGAIN_S: Final = 10.0
"""After a write that failed; who looks at the result sooner finds the reason in the log."""


class Step(StrEnum):
    """What is due for a workload."""

    NOTHING = "nothing"
    RECORD = "record"
    GIVE_FLOOR_BACK = "give floor back"
    GIVE_BACK = "give back"


def due(workload: Workload, *, is_managed: bool, is_floored: bool = False) -> Step:
    """What the workload, as it looks, needs. `is_floored`: its policy says `hpa: floor`. Pure."""
    notes = workload.metadata.annotations or {}
    if workload.metadata.is_deleting:
        return Step.NOTHING
    if not is_managed:
        return Step.GIVE_BACK if any(name in notes for name in ALL) else Step.NOTHING
    if REPLICAS not in notes or (is_floored and HPA not in notes):
        return Step.RECORD
    return Step.GIVE_FLOOR_BACK if HPA in notes and not is_floored else Step.NOTHING


class _Work(msgspec.Struct, frozen=True):
    step: Step
    kind: str
    resource: Resource[Workload]
    workload: Workload
    keeps_number: bool


class Enabling:
    """See the module's text. `is_managed(kind, key)`, `is_floored(kind, key)`: by the policy as it is now;
    `number_of_ours(key)`: the number as it was last known while it was under zerogate: who writes another one in the
    same breath as he takes the annotation away means it; `on_floor_back(key)`: whatever was written to its HPA before
    no longer stands there."""

    def __init__(
        self,
        client: KubeClient,
        *,
        is_leader: Callable[[], bool],
        is_managed: Callable[[str, Key], bool],
        is_floored: Callable[[str, Key], bool],
        number_of_ours: Callable[[Key], int | None],
        on_floor_back: Callable[[Key], None],
    ) -> None:
        self._client = client
        self._scales = Scales(client)
        self._floors = Floors(client)
        self._is_leader = is_leader
        self._is_managed = is_managed
        self._is_floored = is_floored
        self._on_floor_back = on_floor_back
        self._number_of_ours = number_of_ours
        self._work: dict[tuple[str, Key], _Work] = {}
        self._news = asyncio.Event()
        self._failed = False

    def begin_to_lead(self) -> None:
        """All workloads are to be looked at: what was due in an earlier lead may be done, or undone, since."""
        self._work.clear()

    def look(self, kind: str, resource: Resource[Workload], workload: Workload) -> None:
        """A workload is seen or changed, or this process has begun to lead."""
        if not self._is_leader():
            return
        is_managed, is_floored = (of(kind, workload.key) for of in (self._is_managed, self._is_floored))
        step = due(workload, is_managed=is_managed, is_floored=is_floored)
        place = kind, workload.key
        if step is Step.NOTHING:
            self._work.pop(place, None)
            return
        before = self._work.get(place)
        ours = self._number_of_ours(workload.key)
        keeps = (before is not None and before.keeps_number) or ours not in (None, number_of(workload))
        self._work[place] = _Work(step, kind, resource, workload, keeps_number=keeps)
        self._news.set()

    async def record_first(self, kind: str, key: Key) -> None:
        """Before anything else is written to the workload: note what it had, where that is still due. Where it cannot
        be noted, that is logged, and what waits for the write goes on."""
        work = self._work.get((kind, key))
        if work is not None and work.step is Step.RECORD:
            await self._do((kind, key), work)

    async def after_floor(self, kind: str, key: Key) -> None:
        """A floor was written. If the policy has changed meanwhile, what it was before may have been given back before
        that write: so once more. Raises KubeError."""
        if not self._is_floored(kind, key):
            await self._floors.give_back(kind, key)

    async def run(self) -> None:
        """Do what is due, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            for place, work in list(self._work.items()):
                if self._work.get(place) is work and self._is_leader():
                    await self._do(place, work)
            if self._failed:
                self._failed = False
                await asyncio.sleep(_AGAIN_S)
                self._news.set()

    async def _do(self, place: tuple[str, Key], work: _Work) -> None:
        try:
            match work.step:
                case Step.RECORD:
                    await self._record(work)
                case Step.GIVE_FLOOR_BACK:
                    await self._give_floor_back(work)
                case _:
                    await self._give_back(work)
        except NotFound:
            pass
        except (KubeError, ReplicasDiffer) as error:
            log.warning("%s/%s: %s", *work.workload.key, error)
            self._failed = True
            return
        if self._work.get(place) is work:
            del self._work[place]

    async def _record(self, work: _Work) -> None:
        notes: dict[str, str | None] = {}
        if REPLICAS not in (work.workload.metadata.annotations or {}):
            notes[REPLICAS] = str(number_of(work.workload))
        if self._is_floored(work.kind, work.workload.key):
            notes[HPA] = "floor"
        await self._annotate(work, notes)

    async def _give_floor_back(self, work: _Work) -> None:
        await self._floors.give_back(work.kind, work.workload.key)
        await self._annotate(work, {HPA: None})
        self._on_floor_back(work.workload.key)

    async def _give_back(self, work: _Work) -> None:
        namespace, name = work.workload.key
        before = recorded_replicas(work.workload.metadata.annotations)
        number = number_of(work.workload)
        if before is not None and before != number and not work.keeps_number:
            await self._scales.patch(work.resource, name, namespace=namespace, was=number, to=before)
            log.info("%s/%s is given back with the %d replicas that it had before", namespace, name, before)
        await self._floors.give_back(work.kind, work.workload.key)
        await self._annotate(work, dict.fromkeys(ALL))

    async def _annotate(self, work: _Work, notes: dict[str, str | None]) -> None:
        namespace, name = work.workload.key
        body = {"metadata": {"annotations": notes}}
        await self._client.merge_patch(work.resource, name, body, namespace=namespace, priority=Priority.READ)
