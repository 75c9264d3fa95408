"""Leader election: keeps a Lease by what `lease_book.py` says.

`is_leader()` is exact at any instant and is asked before every write; `on_change` tells the same in time, also when
the API server hangs in the middle of a renewal.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from zerogate.clock import now, wall
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Conflict, KubeError, NotFound
from zerogate.kube.lease_book import Create, LeaseBook, Move, Pause, Read, Terms, Write
from zerogate.kube.objects import LEASES, Json, Lease
from zerogate.kube.rate import Priority
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)


class Leadership:
    """One candidate. `identity` must be unique to this process: the pod's name and something random."""

    def __init__(
        self,
        client: KubeClient,
        name: str,
        *,
        namespace: str,
        identity: str,
        terms: Terms | None = None,
        clock: Callable[[], float] = now,
        calendar: Callable[[], float] = wall,
    ) -> None:
        self._client = client
        self._name = name
        self._namespace = namespace
        self._book = LeaseBook(identity, terms)
        self._clock = clock
        self._calendar = calendar
        self._told = False
        self._on_change: Callable[[bool], None] = lambda _: None
        self._nursery = Nursery()
        self._end: asyncio.TimerHandle | None = None
        self.fault: KubeError | None = None
        """Why the last move did not succeed; None: it did."""

    def is_leader(self) -> bool:
        return self._book.is_leader(self._clock())

    @property
    def holder(self) -> str:
        """The identity of the leader, as last seen; empty where nobody is known to lead."""
        return self._book.holder

    def start(self, on_change: Callable[[bool], None] | None = None) -> None:
        """Stand for election; `on_change(True)` with each beginning, `on_change(False)` with each end."""
        if on_change:
            self._on_change = on_change
        self._nursery.start(self._run(), name=f"lease {self._name}")

    async def aclose(self) -> None:
        """Stop, and give the lease up so that the next leader need not wait for it to run out."""
        await self._nursery.aclose()
        last = self._book.resign(self._calendar())
        self._tell()
        if last is None:
            return
        try:
            async with asyncio.timeout(self._book.terms.retry_s):
                await self._write(last)
        except (KubeError, TimeoutError) as error:
            log.info("the lease %s was not given up and runs out by itself: %s", self._name, error)

    async def _run(self) -> None:
        while True:
            move = self._book.next_move(self._clock(), self._calendar())
            if isinstance(move, Pause):
                await asyncio.sleep(move.seconds)
                continue
            try:
                # A move that takes as long as this cannot help any more, and the next one may.
                async with asyncio.timeout(self._book.terms.renew_deadline_s / 2):
                    await self._perform(move)
                self.fault = None
            except (Conflict, NotFound):
                self._book.on_overtaken(self._clock())
            except KubeError as error:
                self._failed(error)
            except TimeoutError:
                self._failed(None)
            self._tell()

    def _failed(self, error: KubeError | None) -> None:
        if error is not None and type(error) is not type(self.fault):
            log.warning("%s", error)
        self.fault = error
        self._book.on_failed(self._clock())

    async def _perform(self, move: Move) -> None:
        sent_s = self._clock()
        match move:
            case Read():
                try:
                    lease = await self._client.get(
                        LEASES, self._name, namespace=self._namespace, priority=Priority.LEASE
                    )
                except NotFound:
                    self._book.on_read(None, self._clock())
                else:
                    self._book.on_read(lease, self._clock())
            case Create(spec=spec):
                lease = await self._client.create(
                    LEASES, self._body(spec), namespace=self._namespace, priority=Priority.LEASE
                )
                self._book.on_written(lease, sent_s, self._clock())
            case Write():
                lease = await self._write(move)
                self._book.on_written(lease, sent_s, self._clock())

    async def _write(self, write: Write) -> Lease:
        return await self._client.merge_patch(
            LEASES,
            self._name,
            {"metadata": {"resourceVersion": write.version}, "spec": write.spec},
            namespace=self._namespace,
            priority=Priority.LEASE,
        )

    def _body(self, spec: Mapping[str, Json]) -> dict[str, Json]:
        return {
            "apiVersion": LEASES.api_version,
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": spec,
        }

    def _tell(self) -> None:
        """Say what changed, and look again at the instant when the belief ends, whatever hangs then."""
        if self._end:
            self._end.cancel()
            self._end = None
        leads = self.is_leader()
        if leads:
            left_s = self._book.leads_until_s - self._clock()
            self._end = asyncio.get_running_loop().call_later(left_s, self._tell)
        if leads != self._told:
            self._told = leads
            log.info("%s the lease %s", "leading by" if leads else "no longer leading by", self._name)
            self._on_change(leads)
