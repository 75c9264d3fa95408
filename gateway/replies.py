"""What the admin port is told: readiness, metrics, and how a drain went. The parent's; it reads what others own."""

from typing import Any

import msgspec

from gateway.cluster_side import ClusterSide
from gateway.editions import Editions
from gateway.messages import Answer
from gateway.metrics import Crowd, text
from gateway.processes import Processes
from gateway.reloads import Asker
from gateway.tally import Tally
from gateway.tls import ListenerWatch
from zerogate.clock import wall
from zerogate.exposition import preferred
from zerogate.http.admin import Drained, Readiness


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """A service as this gateway knows it. `notices`: what it asked for and others have, a sentence each."""

    service: str
    hosts: tuple[str, ...]
    path_prefixes: tuple[str, ...]
    models: tuple[str, ...]
    replicas: tuple[str, ...]
    trouble: str | None
    notices: tuple[str, ...]


class Replies:
    """See the module's text. `count`: how many workers are wanted; `cluster`: where services come from one."""

    def __init__(
        self, processes: Processes, tally: Tally, editions: Editions, tls: ListenerWatch | None,
        cluster: ClusterSide | None, *, count: int,
    ) -> None:  # fmt: skip
        self._processes = processes
        self._tally = tally
        self._editions = editions
        self._tls = tls
        self._cluster = cluster
        self._count = count
        self._started_at = wall()
        self._draining: list[Asker] = []
        """Who asked for /drain."""

    def answer(self, asker: Asker, status: int, value: Any) -> None:
        """Tell an asker, with a value as JSON."""
        self._processes.say(asker[0], Answer(asker[1], status, msgspec.json.encode(value)))

    def on_end(self, number: int) -> None:
        """A process is gone, and with it those who asked through it."""
        self._draining = [asker for asker in self._draining if asker[0] != number]

    # Readiness

    def tell_readiness(self, asker: Asker) -> None:
        """Whether a worker takes requests."""
        readiness = self._readiness()
        self.answer(asker, 200 if readiness.ready else 503, readiness)

    def _readiness(self) -> Readiness:
        if self._processes.workers.is_leaving:
            return Readiness(ready=False, detail="draining")
        behind = self._cluster.detail if self._cluster is not None else ""
        if self._cluster is not None and not self._cluster.is_known:
            return Readiness(ready=False, detail=f"waits for the Kubernetes API{f': {behind}' if behind else ''}")
        silent = self._processes.silent
        serving = max(0, self._processes.workers.serving - silent)
        detail = f"{serving} of {self._count} workers take requests"
        if silent:
            detail += f"; {silent} {'says' if silent == 1 else 'say'} nothing"
        if behind:
            detail += f"; services and replicas as last seen: {behind}"
        return Readiness(ready=serving > 0, detail=detail)

    def tell_services(self, asker: Asker) -> None:
        """How each is reached, where it runs, and what is in the way."""
        refused = self._cluster.news.refused if self._cluster is not None else {}
        views: list[ServiceView] = []
        for name, service in self._editions.file.services.items():
            routes = service.routes or ()
            views.append(
                ServiceView(
                    service=name,
                    hosts=tuple(dict.fromkeys(host for route in routes for host in route.hosts)),
                    path_prefixes=tuple(route.path_prefix for route in routes if route.path_prefix is not None),
                    models=tuple(dict.fromkeys(model for route in routes for model in route.models)),
                    replicas=(*map(str, service.replicas), *(str(one.address) for one in service.bare)),
                    trouble=service.trouble.detail if service.trouble is not None else None,
                    notices=(*refused.get(name, ()), *(one.notice for one in service.bare)),
                )
            )
        self.answer(asker, 200, {"services": views})

    # Metrics

    def tell_metrics(self, asker: Asker, accept: str) -> None:
        """In the dialect that is asked for."""
        dialect = preferred(accept)
        body = text(self._tally, self._editions.file.services, self._crowd(), dialect)
        self._processes.say(asker[0], Answer(asker[1], 200, body.encode(), dialect.value))

    def _crowd(self) -> Crowd:
        crew, editions, silent = self._processes.workers, self._editions, self._processes.silent
        cluster = self._cluster
        return Crowd(
            started_at=self._started_at, serving=max(0, crew.serving - silent),
            places=0 if crew.is_leaving else self._count, present=len(crew.present), silent=silent,
            replaced=crew.replaced, hung=self._processes.hung, reloads=editions.applied,
            failed_reloads=editions.refused, certificates=self._tls.ends() if self._tls is not None else {},
            self_wakes=cluster.woken if cluster is not None else 0,
            cluster_faults=len(cluster.news.faults) if cluster is not None else 0,
        )  # fmt: skip

    # Drains

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the end of a drain."""
        return bool(self._draining)

    def tell_drained(self, asker: Asker) -> None:
        """When `look_at_drains` finds that it is over."""
        self._draining.append(asker)

    def look_at_drains(self, *, is_late: bool) -> None:
        """Answer where nothing is in flight any more, or the deadline has passed."""
        is_empty = not self._processes.workers.present
        if not self._draining or not (is_empty or is_late):
            return
        left = 0
        for service in self._editions.file.services:
            gauges = self._tally.total(service).gauges
            left += int(gauges.get("in_flight", 0) + gauges.get("held", 0))
        for asker in self._draining:
            self.answer(asker, 200 if is_empty else 503, Drained(drained=is_empty, in_flight=left))
        self._draining.clear()
