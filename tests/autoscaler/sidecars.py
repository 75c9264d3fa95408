"""Replicas with gates in sidecars, as a cluster's runtime knows them, and who shuts those gates; none is stopped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from autoscaler.quiescer import SidecarQuiescer
from tests.autoscaler.ear import Ear
from zerogate.policy import Policy
from zerogate.runtime.interface import Address, Quiescer, Replica, ReplicaState, RuntimeObserver


class Fleet:
    """Replica `r-SOURCE` of service `chat` for each source; writes down what it is told."""

    def __init__(self, *sources: str) -> None:
        self.sources = {f"r-{source}": source for source in sources}
        self.told: list[tuple[str, str]] = []
        self.idle: set[str] = set()
        """Replicas that are idle by the last word."""
        self._observers: list[RuntimeObserver] = []

    def subscribe(self, observer: RuntimeObserver) -> None:
        self._observers.append(observer)

    def set_quiescer(self, quiescer: Quiescer) -> None: ...

    def source_of(self, replica_id: str) -> str | None:
        return self.sources.get(replica_id)

    def on_idle(self, replica_id: str) -> None:
        self.told.append(("idle", replica_id))
        self.idle.add(replica_id)

    def on_busy(self, replica_id: str) -> None:
        self.told.append(("busy", replica_id))
        self.idle.discard(replica_id)

    def show(self, replica_id: str, state: ReplicaState, ready_s: float | None = None) -> None:
        """Tell that the replica is so."""
        it = Replica(
            service="chat", id=replica_id, state=state, address=Address("", 0), started_s=0.0, ready_s=ready_s
        )  # fmt: skip
        for observer in self._observers:
            observer.on_replica(it)

    def all_ready(self) -> None:
        for replica_id in self.sources:
            self.show(replica_id, ReplicaState.READY, 1.0)


@asynccontextmanager
async def leader(*sources: str) -> AsyncIterator[tuple[Ear, Fleet, SidecarQuiescer]]:
    """An autoscaler that shuts gates of these sources; their replicas are ready."""
    fleet = Fleet(*sources)
    quiescer = SidecarQuiescer(fleet, call_later=asyncio.get_running_loop().call_later)
    it = Ear(Policy(), listener=quiescer)
    await it.open()
    quiescer.start(it.receiver)
    fleet.all_ready()
    try:
        yield it, fleet, quiescer
    finally:
        quiescer.close()
        await it.close()
