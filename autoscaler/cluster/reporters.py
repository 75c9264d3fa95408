"""Tells the deciding side which sources should report, as the cluster shows them: the shell of `expected.py`.

The pods of gateways and activators, which report every service, are watched here; those of services are told to
`coverage` by whoever sees them. What has changed is told each second, and not with each pod: those that come and go
together are one change, silence counts from 15 s only, and a worker of a gateway is known when it is first heard, which
no pod tells of. Owned by the autoscaler's composition root.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from autoscaler.cluster.coverage import Coverage
from zerogate.kube.client import KubeClient
from zerogate.kube.objects import PODS, Pod
from zerogate.kube.watching import Change, Watched

LABELS: Final = "app.kubernetes.io/component in (gateway,activator)"
"""Of those pods, in zerogate's own namespace."""
TELL_S: Final = 1.0
AT_ONCE: Final = 500
"""Of ten thousand sources after a start, or of a list after a 410: about half a millisecond."""


class Reporters:
    """See the module's text. `heard()`: the sources with a stream that see all services. `expect`: as
    `Autoscaler.expect`; `on_holders`: told of the pods that run, NAMESPACE/POD."""

    def __init__(
        self,
        client: KubeClient,
        coverage: Coverage,
        *,
        namespace: str,
        heard: Callable[[], Iterable[str]],
        expect: Callable[[Mapping[str, str | None], Iterable[str]], None],
        on_holders: Callable[[Iterable[str]], None],
    ) -> None:
        self._coverage = coverage
        self._heard = heard
        self._expect = expect
        self._on_holders = on_holders
        self.watched = Watched(client, PODS, namespace=namespace, labels=LABELS)

    async def start(self) -> None:
        """Returns when all of these pods are known."""
        self.watched.start(self.on_pod)
        await self.watched.wait_synced()

    async def aclose(self) -> None:
        """Watch no more."""
        await self.watched.aclose()

    def on_pod(self, _: Change, old: Pod | None, new: Pod | None) -> None:
        """A pod of a gateway or an activator is new, different or gone."""
        if new is not None:
            runs = any(one.state.running is not None for one in new.status.container_statuses)
            self._coverage.set_gateway(new.key, new.metadata.uid, runs=runs)
        elif old is not None:
            self._coverage.remove_gateway(old.key)
        self._on_holders(self._coverage.holders())

    async def run(self) -> None:
        """Tell what changes, for ever."""
        while True:
            await asyncio.sleep(TELL_S)
            await self.tell()

    async def tell(self) -> None:
        """What has changed since the last time, a slice in each turn of the loop."""
        while True:
            changes = self._coverage.take_expected(self._heard(), AT_ONCE)
            self._expect(changes.added, changes.gone)
            if len(changes.added) + len(changes.gone) < AT_ONCE:
                return
            await asyncio.sleep(0)
