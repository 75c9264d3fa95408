"""The holds of one worker and its links to replicas, made to fit the services that it works by.

Replicas are told apart by the addresses of their sidecars. What runs on one that is gone ends by its own connection;
what waits for a service of which no replica can start is told so. Called by the worker, within one callback of its loop
for each change.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from activator.hold import Hold
from activator.holds import Holds
from activator.links import Links
from gateway.file import EMPTY, GatewayFile, Service, Trouble
from zerogate.clock import now
from zerogate.errors import Refusal
from zerogate.http.sweep import Sweep
from zerogate.tasks import Nursery

START_AGAIN_S: Final = 30.0
"""Told to clients of a service that cannot start: somebody has to change something first."""


class Fleet:
    """See the module's text. `name`: the worker's own, for sidecars; `watch` is told of each hold that is new."""

    def __init__(
        self, holds: Holds, name: str, *, sweep: Sweep, nursery: Nursery, jitter: Callable[[], float],
        watch: Callable[[Hold], None],
    ) -> None:  # fmt: skip
        self.file: GatewayFile = EMPTY
        """What it fits now."""
        self._holds = holds
        self._name = name
        self._sweep = sweep
        self._nursery = nursery
        self._jitter = jitter
        self._watch = watch
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
                self._holds[name], self._name, sweep=self._sweep, nursery=self._nursery, jitter=self._jitter
            )  # fmt: skip
            self._watch(self._holds[name])
        for address in set(before.replicas if before is not None else ()).difference(service.replicas):
            links.remove(str(address))
        for address in service.replicas:
            links.add(str(address), address)
        trouble = before.trouble if before is not None else None
        if service.trouble != trouble:
            _tell(self._holds[name], service.trouble, trouble)


def _tell(hold: Hold, trouble: Trouble | None, before: Trouble | None) -> None:
    """Replicas do not get ready, or now may: who waits is told why in the end, or at once where it is in vain."""
    hold.obstacle = trouble.detail if trouble is not None else ""
    if trouble is not None and trouble.is_hopeless:
        if not hold.ready:
            hold.fail(_cannot_start(hold.service, trouble.detail), float("inf"), now())
    elif before is not None and before.is_hopeless:
        hold.unblock()


def _cannot_start(service: str, why: str) -> Refusal:
    detail = f"No replica of {service} can start: {why}"
    return Refusal(status=503, code="start_failed", detail=detail, retry_after_s=START_AGAIN_S)
