"""Who leads, by a Lease: what to write and how long one may believe to lead. Pure.

- A lease is taken from another holder only when it has not *changed* for its whole duration, counted by our own
  monotonic clock from when we saw the change. The times written in it are never compared with a clock, so clocks
  may differ by hours.
- A leader believes in itself for `renew_deadline_s` from the moment it *sent* the last renewal that succeeded, and is
  silent from then on, whatever it hears later. As that is less than the duration, two never lead at once.
- Every write holds only for the version that was read; who loses the race reads again.
- `lease_transitions` grows whenever the holder changes.

Driven by `leases.py`.
"""

from collections.abc import Mapping

import msgspec

from zerogate.kube.objects import Json, Lease
from zerogate.kube.times import micro_time


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The times of an election: those of the Kubernetes control plane itself."""

    duration_s: int = 15
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0


class Read(msgspec.Struct, frozen=True):
    """Read the lease."""


class Create(msgspec.Struct, frozen=True):
    """There is none: create it with this `spec`."""

    spec: Mapping[str, Json]


class Write(msgspec.Struct, frozen=True):
    """Write this `spec`, if the lease is still of `version`."""

    version: str
    spec: Mapping[str, Json]


class Pause(msgspec.Struct, frozen=True):
    seconds: float


Move = Read | Create | Write | Pause


class LeaseBook:
    """One candidate's view of one lease. `identity` is unique to this process for all time."""

    def __init__(self, identity: str, terms: Terms | None = None) -> None:
        self.identity = identity
        self.terms = terms or Terms()
        self._seen: Lease | None = None
        self._changed_s = 0.0
        """When the lease as it is now was first seen."""
        self._is_read = False
        """`_seen` is worth acting on: nothing has failed since it was read or written."""
        self._overtaken = 0
        """Writes in a row that came too late."""
        self._next_s = float("-inf")
        """When the next move is due."""
        self._until_s = float("-inf")
        """Until when this process leads."""

    def is_leader(self, now: float) -> bool:
        return now < self._until_s

    @property
    def leads_until_s(self) -> float:
        """The end of the present belief; minus infinity where there never was one."""
        return self._until_s

    @property
    def holder(self) -> str:
        """Who holds the lease, as last seen; empty: nobody, or not known."""
        return (self._seen.spec.holder_identity or "") if self._seen else ""

    def next_move(self, now: float, wall_s: float) -> Move:
        """What to do now. `wall_s` is only written down for people."""
        if now < self._next_s:
            return Pause(self._next_s - now)
        if not self._is_read:
            return Read()
        if self._seen is None:
            return Create(self._spec(wall_s, acquired=True, transitions=0))
        spec = self._seen.spec
        version = self._seen.metadata.resource_version
        transitions = spec.lease_transitions or 0
        if spec.holder_identity == self.identity:
            return Write(version, self._spec(wall_s, acquired=False, transitions=transitions))
        if spec.holder_identity and now < self._expires_s(spec.lease_duration_seconds):
            self._is_read = False
            self._next_s = now + self.terms.retry_s
            return Pause(self.terms.retry_s)
        return Write(version, self._spec(wall_s, acquired=True, transitions=transitions + 1))

    def _expires_s(self, duration: int | None) -> float:
        return self._changed_s + (duration or self.terms.duration_s)

    def on_read(self, lease: Lease | None, now: float) -> None:
        """The lease as it is (None: there is none), read at `now`."""
        if lease is None or self._seen is None or lease.spec != self._seen.spec:
            self._changed_s = now
        self._seen = lease
        self._is_read = True
        if lease is not None and lease.spec.holder_identity != self.identity:
            self._until_s = float("-inf")

    def on_written(self, lease: Lease, sent_s: float, now: float) -> None:
        """Our Create or Write succeeded; it was sent at `sent_s`."""
        self.on_read(lease, now)
        self._overtaken = 0
        self._until_s = sent_s + self.terms.renew_deadline_s
        self._next_s = sent_s + self.terms.retry_s

    def on_failed(self, now: float) -> None:
        """A move did not succeed, or nobody knows: read before anything else, and not at once."""
        self._is_read = False
        self._next_s = now + self.terms.retry_s

    def on_overtaken(self, now: float) -> None:
        """Somebody else wrote first: read, at once unless that happens again and again."""
        self._is_read = False
        self._overtaken += 1
        if self._overtaken > 1:
            self._next_s = now + self.terms.retry_s

    def resign(self, wall_s: float) -> Write | None:
        """Lead no more from this moment; the write with which the next one need not wait (None: nothing to give up)."""
        self._until_s = float("-inf")
        if self._seen is None or self.holder != self.identity:
            return None
        spec = self._spec(wall_s, acquired=False, transitions=self._seen.spec.lease_transitions or 0)
        return Write(self._seen.metadata.resource_version, {**spec, "holderIdentity": "", "leaseDurationSeconds": 1})

    def _spec(self, wall_s: float, *, acquired: bool, transitions: int) -> dict[str, Json]:
        at = micro_time(wall_s)
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.terms.duration_s,
            "renewTime": at,
            "leaseTransitions": transitions,
            **({"acquireTime": at} if acquired else {}),
        }
