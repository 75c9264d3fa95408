"""A runtime without processes for tests: replicas do what the test says. The same rules as the local one's.

Everything happens synchronously inside the call that caused it: `scale` up tells of starting replicas before it
returns, and a replica that is idle is gone as soon as it drains (unless `stops_at_once` is off).
"""

from collections.abc import Callable, Collection, Mapping

from zerogate import clock
from zerogate.runtime.conductor import Conductor
from zerogate.runtime.interface import (
    Address,
    BackOff,
    EndCause,
    Ended,
    Quiescer,
    Replica,
    ReplicaState,
    RuntimeObserver,
    Scale,
)


class FakeRuntime:
    """Implements `zerogate.runtime.interface.Runtime`; the second half of the methods is the test's script.

    `ceilings`: service → most replicas. `now`: the clock, scripted where the test has one. Replicas are called
    `SERVICE-1`, `SERVICE-2` …; ports count up from `first_port` unless `address_of(replica_id)` says where.
    """

    def __init__(
        self,
        ceilings: Mapping[str, int],
        *,
        now: Callable[[], float] = clock.now,
        first_port: int = 20000,
        address_of: Callable[[str], Address] | None = None,
        stops_at_once: bool = True,
    ) -> None:
        self.scales: list[Scale] = []
        """Every Scale that was handed in, ignored ones too."""
        self.stopping: list[str] = []
        """Replicas told to stop that are not gone; only with `stops_at_once` off."""
        self.revisits: dict[str, float] = {}
        self.is_closed = False
        self._now = now
        self._first_port = first_port
        self._address_of = address_of
        self._stops_at_once = stops_at_once
        self._count = 0
        self._conductor = Conductor(self, ceilings)

    # Runtime

    def subscribe(self, observer: RuntimeObserver) -> None:
        self._conductor.subscribe(observer)

    def set_quiescer(self, quiescer: Quiescer) -> None:
        self._conductor.set_quiescer(quiescer)

    def scale(self, effect: Scale) -> None:
        self.scales.append(effect)
        self._conductor.scale(effect, self._now())

    def on_idle(self, replica_id: str) -> None:
        self._conductor.on_idle(replica_id)

    def clear_back_off(self, service: str) -> None:
        self._conductor.clear_back_off(service, self._now())

    def replicas(self) -> list[Replica]:
        return self._conductor.replicas()

    async def aclose(self, *, drain_deadline_s: float) -> None:
        self._conductor.close(self._now())
        self._conductor.stop_all()
        for replica_id in list(self.stopping):
            self.finish_stop(replica_id)
        self.is_closed = True

    # the test's script

    def become_ready(self, replica_id: str) -> None:
        """The replica answers its readiness probe."""
        self._conductor.became_ready(replica_id, self._now())

    def fail(self, replica_id: str, ended: Ended) -> None:
        """The replica dies by itself and is gone."""
        self._conductor.failing(replica_id, ended, self._now())
        self._conductor.gone(replica_id, ended, self._now())

    def finish_stop(self, replica_id: str) -> None:
        """A replica that was told to stop is gone."""
        self.stopping.remove(replica_id)
        ended = Ended(cause=EndCause.STOPPED, detail=f"{replica_id} was stopped", exit_code=0)
        self._conductor.gone(replica_id, ended, self._now())

    def try_again(self) -> None:
        """Time has passed: lift the suspensions whose next try has come."""
        for service, at_s in list(self.revisits.items()):
            if self._now() >= at_s:
                del self.revisits[service]
                self._conductor.revisit(service, self._now())

    def configure(self, ceilings: Mapping[str, int], *, changed: Collection[str] = ()) -> None:
        """Replace the set of services, as a reload does."""
        self._conductor.configure(ceilings, changed, self._now())

    def back_off(self, service: str) -> BackOff | None:
        """The suspension in force."""
        return self._conductor.back_off(service)

    # Hands

    def request_start(self, service: str) -> None:
        while self._conductor.take_start(service, self._now()):
            self._count += 1
            replica_id = f"{service}-{self._count}"
            address = (
                Address("127.0.0.1", self._first_port + self._count)
                if self._address_of is None
                else self._address_of(replica_id)
            )
            replica = Replica(
                service=service,
                id=replica_id,
                state=ReplicaState.STARTING,
                address=address,
                started_s=self._now(),
                pid=100_000 + self._count,
            )
            self._conductor.launched(replica, self._now())

    def stop(self, replica_id: str) -> None:
        self.stopping.append(replica_id)
        if self._stops_at_once:
            self.finish_stop(replica_id)

    def revisit(self, service: str, at_s: float) -> None:
        self.revisits[service] = at_s

    def observer_failed(self, failure: Exception) -> None:
        raise failure
