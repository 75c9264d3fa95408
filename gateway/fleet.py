"""The holds of one worker and its links to replicas, made to fit the services that it works by.

Replicas are told apart by the addresses of their sidecars. What runs on one that is gone ends by its own connection;
what waits for a service of which no replica can start is told so. Called by the worker, within one callback of its loop
for each change.
"""

from collections.abc import Callable, Iterable, Mapping

from activator.bare import Bare
from activator.hold import Hold
from activator.holds import Holds
from activator.links import Links
from activator.obstacles import tell
from activator.tries import Newcomers
from gateway.file import EMPTY, GatewayFile, Service
from zerogate.http.sweep import Sweep
from zerogate.tasks import Nursery


class Fleet:
    """See the module's text. `name`: the worker's own, for sidecars; `watch` is told of each hold that is new."""

    def __init__(
        self, holds: Holds, name: str, *, sweep: Sweep, nursery: Nursery, jitter: Callable[[], float],
        watch: Callable[[Hold], None], bare: Bare,
    ) -> None:  # fmt: skip
        self.file: GatewayFile = EMPTY
        """What it fits now."""
        self._holds = holds
        self._name = name
        self._sweep = sweep
        self._nursery = nursery
        self._jitter = jitter
        self._watch = watch
        self._bare = bare
        self._newcomers = Newcomers()
        self._links: dict[str, Links] = {}

    def fit(self, file: GatewayFile) -> None:
        """Take all that is in the file, and nothing else."""
        self.take(file, file.services, [name for name in self._links if name not in file.services])

    def take(self, file: GatewayFile, services: Mapping[str, Service], gone: Iterable[str]) -> None:
        """The file is different by these services, and by those that are gone."""
        for name in gone:
            links = self._links.pop(name, None)
            if links is not None:
                links.close()
            self._bare.set_replicas(name, ())
        self._holds.amend({name: service.policy for name, service in services.items()}, gone)
        for name, service in services.items():
            self._connect(name, service)
        self.file = file

    def close(self) -> None:
        """End all connections to sidecars that carry no request."""
        for links in self._links.values():
            links.close()

    def _connect(self, name: str, service: Service) -> None:
        before = self.file.services.get(name)
        links = self._links.get(name)
        if links is None:
            links = self._links[name] = Links(
                self._holds[name], self._name, sweep=self._sweep, nursery=self._nursery, jitter=self._jitter,
                newcomers=self._newcomers,
            )  # fmt: skip
            self._watch(self._holds[name])
        for address in set(before.replicas if before is not None else ()).difference(service.replicas):
            links.remove(str(address))
        for address in service.replicas:
            links.add(str(address), address)
        self._bare.set_replicas(name, service.bare)
        trouble = before.trouble if before is not None else None
        if service.trouble != trouble:
            tell(self._holds[name], service.trouble, trouble)
