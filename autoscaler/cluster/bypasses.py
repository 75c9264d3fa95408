"""Services that lead clients to workloads past their sidecars, as a watch of all Services shows them.

A workload looks only at those that may be its own (`zerogate.kube.fronts`); which of them lead past is said in
`zerogate.kube.bypass`. Made and asked by the autoscaler's composition root; what follows from them is said in
`autoscaler.cluster.coverage`.
"""

from zerogate.kube.bypass import Bypass, past_sidecar
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.fronts import Selected
from zerogate.kube.objects import SERVICES, Service
from zerogate.kube.watching import Change, Watched


class Bypasses:
    """See the module's text. `namespace`: the one that is watched, or all."""

    def __init__(self, client: KubeClient, *, namespace: str = "") -> None:
        self._watched = Watched(client, SERVICES, namespace=namespace)
        self._selected = Selected()

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
        if old is not None:
            self._selected.remove(old)
        if new is not None:
            self._selected.add(new)

    def of(self, entry: Managed) -> tuple[Bypass, ...]:
        """Those that lead to this workload's model itself."""
        near = self._selected.near(entry)
        return past_sidecar(entry, near) if near else ()
