"""What the runtime of a cluster is told of each workload, and whom it asks for what takes others.

Nothing is done here. `Target`s come from the policies (`autoscaler.cluster.services`); `Hands` takes the API server, a
`StandIn` answers for services at zero.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from zerogate.kube.acts import Order, WriteScale
from zerogate.kube.foreign import ForeignWrite
from zerogate.kube.objects import Key, Resource, Workload


class Target(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One workload under zerogate. `port`: where the model server takes requests, by number or name; None: its first.
    Pods with a sidecar take them there instead."""

    service: str
    kind: str
    resource: Resource[Workload]
    key: Key
    uid: str
    order: Order
    ceiling: int
    port: str | None = None
    start_timeout_s: float = 600.0
    """For what keeps a pod from being ready, where that is known."""
    is_floored: bool = False
    """An HPA scales it from one up: only its floor is moved, and zero."""


class Hands(Protocol):
    """What takes the API server. Errors are KubeError; `zerogate.kube.hands` is the real one."""

    async def write_scale(self, target: Target, write: WriteScale, is_due: Callable[[], bool]) -> int:
        """Replace the number on condition; the version that the workload has since. `is_due`: asked right before it is
        sent. Raises ReplicasDiffer, and NotDue where it was not sent."""

    async def write_cost(self, target: Target, pod: str, cost: int) -> None:
        """Write the pod's deletion cost; 0 takes it away. A pod that is gone is no error."""

    async def write_floor(self, target: Target, replicas: int, is_due: Callable[[], bool]) -> int:
        """Write the `minReplicas` of its HPA; what it is now, which is `maxReplicas` at most. `is_due`: asked
        right before it is sent. Raises NotDue where it was not."""

    def tell_foreign(self, target: Target, write: ForeignWrite, *, is_hands_off: bool) -> None:
        """Say where people look that somebody else writes the number."""


class StandIn(Protocol):
    """Who answers for services at zero; `zerogate.kube.takeovers` is one."""

    def may_zero(self, service: str) -> bool:
        """The service heads for zero: prepare for it. Whether that is done; if not, `on_may_zero` follows."""

    def stay_up(self, service: str) -> None:
        """It does so no longer."""
