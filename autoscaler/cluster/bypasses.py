"""Services that lead clients to workloads past their sidecars, as a watch of all Services shows them.

They are found by one pair of their selectors, so a workload looks only at those that may be its own. Made and asked by
the autoscaler's composition root; what follows from them is said in `autoscaler.cluster.coverage`.
"""

from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.fronts import Bypass, past_sidecar
from zerogate.kube.objects import SERVICES, Key, Service
from zerogate.kube.watching import Change, Watched

_Pair = tuple[str, str, str]
"""Namespace, a label, its value."""


class Bypasses:
    """See the module's text. `namespace`: the one that is watched, or all."""

    def __init__(self, client: KubeClient, *, namespace: str = "") -> None:
        self._watched = Watched(client, SERVICES, namespace=namespace)
        self._by_pair: dict[_Pair, dict[Key, Service]] = {}

    async def start(self) -> None:
        """Returns when all Services are known."""
        self._watched.start(self.on_service)
        await self._watched.wait_synced()

    async def aclose(self) -> None:
        """Watch no more."""
        await self._watched.aclose()

    @property
    def faults(self) -> tuple[str, ...]:
        """What keeps the watch from being up to date."""
        return (str(self._watched.fault),) if self._watched.fault is not None else ()

    def on_service(self, _: Change, old: Service | None, new: Service | None) -> None:
        """One is new, different or gone."""
        if old is not None and (pair := _pair(old)) is not None:
            found = self._by_pair.get(pair, {})
            found.pop(old.key, None)
            if not found:
                self._by_pair.pop(pair, None)
        if new is not None and (pair := _pair(new)) is not None:
            self._by_pair.setdefault(pair, {})[new.key] = new

    def of(self, entry: Managed) -> tuple[Bypass, ...]:
        """Those that lead to this workload's model itself."""
        labels = entry.template.metadata.labels if entry.template is not None and entry.template.metadata else None
        mine = [
            service
            for name, value in (labels or {}).items()
            for service in self._by_pair.get((entry.key[0], name, value), {}).values()
        ]
        return past_sidecar(entry, mine) if mine else ()


def _pair(service: Service) -> _Pair | None:
    selector = service.spec.selector
    if not selector:
        return None
    name = min(selector)
    return service.metadata.namespace, name, selector[name]
