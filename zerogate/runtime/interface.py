"""The runtime: what runs replicas. It tells what exists and carries out effects; it decides nothing.

Two implementations, `zerogate.local` (child processes) and later Kubernetes, and a fake beside this file; the same
tests run against all of them (tests/zerogate/runtime/contract.py). All methods are called on the event loop.

The life of a replica: starting → ready → draining → gone, any of them → gone when it dies. Draining → ready is
legal only while the replica was not told to stop. A replica that an earlier process left behind begins as ready
(adopted) or as draining (about to be stopped); one that could not even be launched is told once, as gone.
"""

from enum import StrEnum
from typing import Protocol

import msgspec


class ReplicaState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


class EndCause(StrEnum):
    """Why a replica is gone."""

    STOPPED = "stopped"
    """We stopped it."""
    CRASHED = "crashed"
    """It ended by itself after it had been ready."""
    START_FAILED = "start-failed"
    """It ended by itself before it was ready, or could not be started at all."""
    PORT_TAKEN = "port-taken"
    """Somebody else took the port it was given before it did: no fault of its own, the next start has another."""
    START_TIMEOUT = "start-timeout"
    """It was not ready within the start timeout, and was stopped."""


class Ended(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How a replica ended. `detail` is a sentence; `last_lines` the end of what it printed, oldest first."""

    cause: EndCause
    detail: str
    exit_code: int | None = None
    """Exit status; negative is the signal that ended it; None where no process ever ran or nobody can know it."""
    last_lines: tuple[str, ...] = ()


class Trouble(msgspec.Struct, frozen=True):
    """Why none of a service's replicas gets ready, in the words of whoever starts them."""

    detail: str
    is_hopeless: bool = False
    """Waiting does not help: somebody has to change something."""


class Address(msgspec.Struct, frozen=True, gc=False):
    """Where requests are taken: a host with a port, or the path of a Unix socket (then the host is empty)."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Replica(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One replica as it stands now. Times are `zerogate.clock.now`."""

    service: str
    id: str
    """Unique for all time within one runtime, for example `chat-7f3a`."""
    state: ReplicaState
    address: Address
    started_s: float
    """When it began to start: the instant of spawning."""
    ready_s: float | None = None
    """When it was first ready; None where it never was."""
    ended: Ended | None = None
    """Set exactly when the state is gone."""
    pid: int | None = None
    is_overdue: bool = False
    """It starts, what keeps it from being ready is known and has been so for the start timeout: nobody waits for it."""


class BackOff(msgspec.Struct, frozen=True, kw_only=True):
    """Starts of a service are suspended after repeated failures."""

    failures: int
    """Failed starts or crashes in a row."""
    next_try_s: float
    """`zerogate.clock.now` at which the next start is allowed."""
    last: Ended


class Scale(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The one effect: so many replicas of a service shall run (starting or ready).

    `generation` grows with each Scale of a service: an older one is ignored. `victims` are the ids to stop first when
    the number goes down, in order; further ones are the runtime's choice, never one that is starting while another is
    ready.
    """

    service: str
    replicas: int
    generation: int
    victims: tuple[str, ...] = ()
    cause: str = ""
    """For the log: the decision's winner, for example "demand"."""


class RuntimeObserver(Protocol):
    """Who wants to know: the holder (to dispatch) and the autoscaler (to decide). Called synchronously."""

    def on_replica(self, replica: Replica) -> None:
        """A replica is new or its state changed. Every replica ends with exactly one call with state gone."""

    def on_back_off(self, service: str, back_off: BackOff | None) -> None:
        """Starts of the service are suspended (or, with None, allowed again)."""


class Quiescer(Protocol):
    """Who owns the gates: asked before a replica is stopped."""

    def close_gate(self, replica_id: str) -> bool:
        """Take nothing new into the replica, at once. True where nothing is inside; otherwise `on_idle` follows."""

    def reopen_gate(self, replica_id: str) -> None:
        """The replica will not be stopped after all."""


class Runtime(Protocol):
    """What runs replicas.

    `scale` returns at once and never raises for what a replica does; what comes of it is told to the observers.
    A victim is stopped only with its gate closed and nothing inside: the runtime calls `Quiescer.close_gate`, moves
    the replica to draining and waits for `on_idle`. A `scale` back up meanwhile reopens a draining replica that was not
    yet told to stop instead of starting another. No more replicas live at once (in any state but gone) than the
    service's ceiling, so a new one waits for the memory of an old one.
    """

    def subscribe(self, observer: RuntimeObserver) -> None:
        """Tell `observer` all replicas there are, at once, and every change from now on."""

    def set_quiescer(self, quiescer: Quiescer) -> None:
        """Say who owns the gates. Without one, replicas count as idle."""

    def scale(self, effect: Scale) -> None:
        """Carry out the effect; an older generation than the last one seen is ignored."""

    def on_idle(self, replica_id: str) -> None:
        """The Quiescer says: the last request has left a draining replica."""

    def clear_back_off(self, service: str) -> None:
        """A person asks for another try: forget the failures."""

    def replicas(self) -> list[Replica]:
        """All replicas that are not gone."""

    async def aclose(self, *, drain_deadline_s: float) -> None:
        """Stop every replica: drain up to the deadline, then stop; returns when no process is left."""
