"""What a hold is told of its replicas: one is ready, closes, is in doubt, is gone, or none can be started.

The runtime and the lookout tell, by way of `activator.holds`; each word that makes room lets in what waits, in the same
call (`_release`, which is the hold's). A service whose starts are suspended refuses what waits and what comes, until
its next try.

Invariants: a replica is told as idle once its gate is closed and nothing is inside; the hold of a service that is no
more never starts to wait again. Subclassed by `activator.hold`, where requests come in.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from activator.takers import Takers
from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.requests import Requests
from zerogate.http.sides import Destination
from zerogate.http.upstream import Choose, Upstream
from zerogate.policy import Policy


class HoldListener(Protocol):
    """Who is told about the service's requests."""

    def on_wake(self, service: str) -> None:
        """A request waits that nothing was waiting before, or for which nothing runs."""

    def on_activity(self, service: str) -> None:
        """The service's counters have changed since they were last read."""

    def on_idle(self, replica_id: str) -> None:
        """The last request has left a replica whose gate is closed."""

    def on_exchange_ended(self, service: str, exchange: Exchange) -> None:
        """For the access log."""


class Supply(Requests, ABC):
    """See the module's text."""

    def __init__(
        self, service: str, policy: Policy, listener: HoldListener, *, choose: Choose, clock: Callable[[], float]
    ) -> None:
        super().__init__(queue_limit=policy.queue_limit, queue_bytes=policy.queue_bytes)
        self.service = service
        self._listener = listener
        self._takers = Takers(choose)
        self.replicas = self._takers.by_id
        """All replicas with a gate, also those that drain."""
        self._quiet: dict[Exchange, None] = {}
        """Open WebSockets that do not count as in flight."""
        self._blocked: tuple[Refusal, float] | None = None
        """What is said while the service cannot be started, and until when."""
        self._clock = clock

    @abstractmethod
    def _release(self, now_s: float) -> None:
        """Let in what waits, as far as there is room."""

    # What there is

    @property
    def ready(self) -> int:
        """Replicas that take requests."""
        return len(self._takers.ready)

    @property
    def has_trusted(self) -> bool:
        """Whether a replica that is not in doubt takes requests."""
        return self._takers.has_trusted

    @property
    def doubted(self) -> frozenset[str]:
        """The ready replicas that have stopped answering, by id."""
        return self._takers.doubted

    @property
    def is_blocked(self) -> bool:
        """Whether requests are refused because the service cannot be started at the moment."""
        return self._blocked is not None and self._clock() < self._blocked[1]

    # What is told

    def add(self, upstream: Upstream, now_s: float) -> None:
        """A replica is ready: it takes what waits."""
        self._takers.add(upstream, now_s)
        self._blocked = None
        self._release(now_s)

    def close_gate(self, replica_id: str) -> bool:
        """Send nothing new to a replica. True where nothing is inside; otherwise `on_idle` is told later.

        Its quiet WebSockets are closed: nothing else would ever end them.
        """
        upstream = self.replicas.get(replica_id)
        if upstream is None:
            return True
        upstream.gate.close()
        self._takers.close(upstream)
        now_s = self._clock()
        for exchange in [quiet for quiet in self._quiet if quiet.upstream is upstream]:
            exchange.leave_tunnel(now_s)
        self._release(now_s)  # one that was left out may have come back for it
        return upstream.gate.in_flight == 0

    def reopen_gate(self, replica_id: str, now_s: float) -> None:
        """Send requests to a replica again."""
        upstream = self.replicas.get(replica_id)
        if upstream is not None and not upstream.gate.is_open:
            upstream.gate.reopen()
            self._takers.reopen(upstream)
            self._release(now_s)

    def release_more(self, now_s: float) -> None:
        """A gate takes more than before."""
        if self.queue.length:
            self._release(now_s)

    def doubt(self, upstream: Upstream) -> None:
        """The replica answers nothing: send it nothing new as long as another one is ready."""
        self._takers.doubt(upstream)
        self._release(self._clock())

    def trust(self, upstream: Upstream, now_s: float) -> None:
        """The replica answers again."""
        self._takers.trust(upstream)
        self._release(now_s)

    def notices(self) -> tuple[str, ...]:
        """A sentence for each replica whose requests fail."""
        return self._takers.notices(self._clock())

    def remove(self, replica_id: str) -> None:
        """A replica is gone. What still runs on it ends by its own connection."""
        self.close_gate(replica_id)
        upstream = self.replicas.get(replica_id)
        if upstream is not None:
            self._takers.remove(upstream)
            upstream.pool.close()

    def fail(self, refusal: Refusal, until_s: float, now_s: float) -> None:
        """The service cannot start: refuse what waits, and until `until_s` what comes."""
        self._blocked = (refusal, until_s)
        self.refuse_waiting(refusal, now_s)

    def close(self, refusal: Refusal, now_s: float) -> None:
        """The service is no more: refuse what waits, and what comes back unsent; what runs ends by itself."""
        self.fail(refusal, float("inf"), now_s)
        for replica_id in tuple(self.replicas):
            self.remove(replica_id)

    def unblock(self) -> None:
        """The service may be started again."""
        self._blocked = None

    def expected_wait_s(self) -> float:
        """A guess for Retry-After: how long a start takes here, or a few seconds."""
        starts = [upstream.start_s for upstream in self.replicas.values() if upstream.start_s is not None]
        return max(1.0, max(starts, default=5.0))

    def _tell_idle(self, upstream: Destination[Exchange]) -> None:
        gate = upstream.gate
        if not gate.is_open and gate.in_flight == 0:
            self._listener.on_idle(upstream.id)
