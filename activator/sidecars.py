"""The control connections of all services of a process to their replicas' sidecars, as somebody else knows them."""

from collections.abc import Callable, Container, Mapping

from activator.holds import Holds
from activator.links import Links
from activator.telling import Telling
from activator.tries import Newcomers
from zerogate.http.sweep import Sweep
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery

Replicas = Mapping[str, Address]
"""Where the sidecars of a service's replicas take requests, by the replicas' ids."""


class Sidecars:
    """See the module's text. `name`: this process's own, for sidecars; `telling`: where autoscalers are told."""

    def __init__(
        self,
        holds: Holds,
        name: str,
        *,
        sweep: Sweep,
        nursery: Nursery,
        jitter: Callable[[], float],
        telling: Telling | None,
    ) -> None:
        self._holds = holds
        self._name = name
        self._sweep = sweep
        self._nursery = nursery
        self._jitter = jitter
        self._telling = telling
        self._newcomers = Newcomers()
        self._links: dict[str, Links] = {}
        self._replicas: dict[str, Replicas] = {}

    def close_all_but(self, services: Container[str]) -> None:
        """Other services are gone; to be called before their holds are."""
        for gone in [name for name in self._links if name not in services]:
            self._links.pop(gone).close()
            del self._replicas[gone]

    def set_replicas(self, service: str, replicas: Replicas) -> None:
        """The replicas of one service, whose hold has to be there; one that has another address is another."""
        links = self._links.get(service)
        if links is None:
            hold = self._holds[service]
            links = self._links[service] = Links(
                hold,
                self._name,
                sweep=self._sweep,
                nursery=self._nursery,
                jitter=self._jitter,
                newcomers=self._newcomers,
            )
            if self._telling is not None:
                self._telling.watch(hold)
        before = self._replicas.get(service, {})
        for replica_id, address in before.items():
            if replicas.get(replica_id) != address:
                links.remove(replica_id)
        for replica_id, address in replicas.items():
            links.add(replica_id, address)
        self._replicas[service] = dict(replicas)

    def close(self) -> None:
        """All of them."""
        self.close_all_but(())
