"""What is done to workloads, and told of it where people look: the runtime's `Hands`, with an Event for each write.

Right before each write the lease is asked: a leader that cannot renew it is silent from its renew deadline on,
whatever was decided before. What somebody else wrote is told to the deciding side too, which may take it over.
"""

from collections.abc import Awaitable, Callable

from autoscaler.status import ServiceState
from zerogate.errors import ZerogateError
from zerogate.kube.acts import WriteScale
from zerogate.kube.errors import Asked, KubeError, NotDue
from zerogate.kube.event_book import About, Happening
from zerogate.kube.foreign import ForeignWrite
from zerogate.kube.happenings import Happenings
from zerogate.kube.objects import Key
from zerogate.kube.target import Hands, Target


class NotLeadingError(KubeError):
    """Another autoscaler leads, or may: nothing is written."""

    def __str__(self) -> str:
        return f"{self.asked}: not written, because this process does not lead"


class LeadersHands:
    """See the module's text. `view(service)`: the decision behind a write; `adopt(service, replicas)`: of others;
    `before_write(kind, key)`: what has to be noted before the number is another; `after_floor(kind, key)`: whether the
    floor that was written is still to be there."""

    def __init__(
        self,
        hands: Hands,
        happenings: Happenings,
        *,
        is_leader: Callable[[], bool],
        view: Callable[[str], ServiceState],
        adopt: Callable[[str, int], None],
        before_write: Callable[[str, Key], Awaitable[None]],
        after_floor: Callable[[str, Key], Awaitable[None]],
    ) -> None:
        self._hands = hands
        self._happenings = happenings
        self._is_leader = is_leader
        self._view = view
        self._adopt = adopt
        self._before_write = before_write
        self._after_floor = after_floor
        self.writes = 0
        """Of numbers of replicas, that the API server accepted."""
        self.failures = 0

    async def write_scale(self, target: Target, write: WriteScale, is_due: Callable[[], bool]) -> int:
        """Replace the number on condition. Raises ReplicasDiffer, KubeError."""
        self._check(target, "scale")
        await self._before_write(target.kind, target.key)
        self._check(target, "scale")
        why = self._why(target.service)
        try:
            version = await self._hands.write_scale(target, write, lambda: self._is_leader() and is_due())
        except NotDue:
            raise
        except ZerogateError:
            self.failures += 1
            raise
        self.writes += 1
        self._tell_scaled(target, write, why)
        return version

    async def write_floor(self, target: Target, replicas: int, is_due: Callable[[], bool]) -> int:
        """Move the floor of its HPA. Raises KubeError."""
        self._check(target, "floor")
        await self._before_write(target.kind, target.key)
        self._check(target, "floor")
        why = self._why(target.service)
        floor = await self._hands.write_floor(target, replicas, lambda: self._is_leader() and is_due())
        await self._after_floor(target.kind, target.key)
        note = f"The HPA keeps {floor} replicas at least{why}."
        self._happenings.tell(Happening(about=about(target), reason="FloorMoved", note=note))
        return floor

    async def write_cost(self, target: Target, pod: str, cost: int) -> None:
        """Write a pod's deletion cost. Raises KubeError."""
        self._check(target, "cost")
        await self._hands.write_cost(target, pod, cost)

    def tell_foreign(self, target: Target, write: ForeignWrite, *, is_hands_off: bool) -> None:
        """Somebody else writes the number."""
        self._hands.tell_foreign(target, write, is_hands_off=is_hands_off)
        self._adopt(target.service, write.found)

    def _check(self, target: Target, what: str) -> None:
        if not self._is_leader():
            namespace, name = target.key
            asked = Asked(
                verb="patch", group=target.resource.group, resource=f"{target.resource.plural}/{what}",
                namespace=namespace, name=name,
            )  # fmt: skip
            raise NotLeadingError(asked)

    def _why(self, service: str) -> str:
        """Before the write: what comes after it may have another reason."""
        try:
            decision = self._view(service).decision
        except ZerogateError:
            return ""
        return f": {decision.why}" if decision is not None else ""

    def _tell_scaled(self, target: Target, write: WriteScale, why: str) -> None:
        reason = "ScaledUp" if write.new > write.old else "ScaledDown"
        note = f"From {write.old} to {write.new}{why}."
        self._happenings.tell(Happening(about=about(target), reason=reason, note=note))


def about(target: Target) -> About:
    """The workload of a target, as Events name it."""
    return About(target.resource.api_version, target.kind, *target.key, target.uid)
