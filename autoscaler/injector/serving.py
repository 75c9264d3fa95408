"""The webhook as a part of the autoscaler's process: its port, its own client, its place in beginning and leaving.

It is served as long as the process is, whoever leads. Who leaves says so on every connection and goes on answering
until nodes have heard of it: a pod that meets a closed port goes without a sidecar for its whole life.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from autoscaler.certificates import Certificates
from autoscaler.injector.cluster import Known
from autoscaler.injector.injector import RATES, Injector, Terms
from zerogate.clock import now
from zerogate.http.listener import bind
from zerogate.kube.access import Access
from zerogate.kube.client import KubeClient
from zerogate.kube.event_book import Happening
from zerogate.runtime.interface import Address

LEAVE_S: Final = 3.0
"""From not ready to closed: kube-proxies follow about once a second, as for a sidecar's Services."""


class ServedWebhook:
    """Binds its port when it is made; raises MachineError. `start` once, `goodbye` and `aclose` at the end."""

    def __init__(
        self,
        listen: Address,
        access: Access,
        terms: Callable[[], Terms],
        *,
        known: Known,
        tell: Callable[[Happening], None],
        certificates: Certificates | None = None,
    ) -> None:
        self._sock = bind(listen, what="--webhook", example="--webhook HOST:PORT")
        self._client = KubeClient(access, rates=RATES)
        self._terms = terms
        self._known = known
        self._tell = tell
        self._certificates = certificates
        self._injector: Injector | None = None
        self._gone_s = 0.0

    @property
    def reason(self) -> str:
        """Why API servers should not ask here yet; empty: they may. One that has a fault would never be ready: it is
        shown, and the process goes on."""
        injector = self._injector
        if injector is not None and (injector.is_serving or injector.fault):
            return ""
        return "the webhook has no certificate yet"

    @property
    def counts(self) -> Mapping[str, int]:
        """Reviews by what came of them."""
        return self._injector.counts if self._injector is not None else {}

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with it, a sentence each."""
        fault = self._injector.fault if self._injector is not None else ""
        return (f"the webhook's certificates: {fault}",) if fault else ()

    async def start(self) -> None:
        """Serve, with the kinds of workloads that are known by now."""
        self._injector = Injector(
            self._client, self._terms(), tell=self._tell, known=self._known, certificates=self._certificates
        )
        await self._injector.start(self._sock)

    def goodbye(self) -> None:
        """This process is not ready any more."""
        if self._injector is not None:
            self._injector.goodbye()
            self._gone_s = now() + LEAVE_S

    async def aclose(self) -> None:
        """Close, when it is time to."""
        await asyncio.sleep(max(0.0, self._gone_s - now()))
        if self._injector is not None:
            await self._injector.aclose()
        await self._client.aclose()
        self._sock.close()
