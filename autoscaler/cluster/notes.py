"""Writes on workloads how their services stand, and what was learned of them: the shell of `status_book.py`.

Only the leader writes, last of all that is written, and what does not succeed is tried again with the next change. What
was learned goes along with the status: the next leader reads it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from autoscaler.cluster.records import LEARNED, STATUS, learned_text, pin_of
from autoscaler.cluster.status_book import PER_LOOK, StatusBook, is_news, status_of
from autoscaler.decision import Decision
from autoscaler.loop import Autoscaler, UnknownServiceError
from autoscaler.shown import state_word
from zerogate.clock import now, wall
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import KubeError
from zerogate.kube.objects import Workload
from zerogate.kube.pins import PIN
from zerogate.kube.rate import Priority
from zerogate.runtime.interface import BackOff, Replica

log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0
_LOOKED_AT: Final = 200
"""Of those marked, at each look: most have changed to and fro and need no write, but each look at one costs."""


class Notes:
    """See the module's text. Observes the runtime, and is told of decisions."""

    def __init__(
        self,
        client: KubeClient,
        autoscaler: Autoscaler,
        *,
        is_leader: Callable[[], bool],
        entry_of: Callable[[str], Managed | None],
        workload_of: Callable[[str], Workload | None],
        notices: Callable[[Managed], tuple[str, ...]],
    ) -> None:
        self._client = client
        self._autoscaler = autoscaler
        self._is_leader = is_leader
        self._entry_of = entry_of
        self._workload_of = workload_of
        self._notices = notices
        self._book = StatusBook()
        self._fault: str | None = None

    def mark(self, service: str) -> None:
        """Something of it has changed."""
        self._book.mark(service)

    def on_decision(self, decision: Decision) -> None:
        """The autoscaler: a decision that changed something."""
        self._book.mark(decision.service)

    def on_replica(self, replica: Replica) -> None:
        """The runtime: a replica is new or changed."""
        self._book.mark(replica.service)

    def on_back_off(self, service: str, back_off: BackOff | None) -> None:
        """The runtime: starts are suspended, or allowed again."""
        del back_off
        self._book.mark(service)

    async def run(self) -> None:
        """Look and write, for ever."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._is_leader():
                await self._look()

    async def _look(self) -> None:
        written = 0
        for _ in range(_LOOKED_AT // PER_LOOK):
            due = self._book.take_due(now(), PER_LOOK)
            if not due:
                return
            for service in due:
                written += await self._write(service)
            if written >= PER_LOOK:
                return
            await asyncio.sleep(0)

    async def _write(self, service: str) -> bool:
        """Whether anything was written."""
        entry, workload = self._entry_of(service), self._workload_of(service)
        if entry is None or workload is None:
            self._book.forget(service)
            return False
        notes = self._changes(entry, workload)
        if notes is None:
            return False
        namespace, name = entry.key
        body = {"metadata": {"annotations": notes}}
        try:
            await self._client.merge_patch(entry.resource, name, body, namespace=namespace, priority=Priority.READ)
        except KubeError as error:
            if str(error) != self._fault:
                log.warning("the status of %s is not written: %s", service, error)
            self._fault = str(error)
        self._book.on_written(service, now())
        return True

    def _changes(self, entry: Managed, workload: Workload) -> dict[str, str | None] | None:
        try:
            state = self._autoscaler.view(entry.service)
        except UnknownServiceError:
            return None
        noted = workload.metadata.annotations or {}
        status = status_of(state, state_word(state, ()), self._notices(entry), wall())
        if not is_news(status, noted.get(STATUS)):
            return None
        saved = self._autoscaler.saved(entry.service)
        notes: dict[str, str | None] = {STATUS: msgspec.json.encode(status).decode()}
        if saved.boots_s or saved.completions:
            notes[LEARNED] = learned_text(msgspec.structs.replace(saved, pin=None))
        pin = pin_of(noted)
        if pin is not None and pin.until_wall_s is not None and pin.until_wall_s <= wall():
            notes[PIN] = None  # it is over
        return notes
