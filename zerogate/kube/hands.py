"""What the Kubernetes runtime has done: writes to `/scale` and of deletion costs, and words where people look.

The real `zerogate.kube.target.Hands`. A write from zero goes before everything else that is written: somebody waits.
"""

from collections.abc import Callable

from zerogate.kube.acts import Order, WriteScale
from zerogate.kube.catalog import version_number
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import NotFound
from zerogate.kube.event_book import About, Happening
from zerogate.kube.floors import Floors
from zerogate.kube.foreign import SILENT_S, ForeignWrite
from zerogate.kube.happenings import Happenings
from zerogate.kube.lives import COST
from zerogate.kube.objects import PODS
from zerogate.kube.rate import Priority
from zerogate.kube.scaling import Scales
from zerogate.kube.target import Target


class KubeHands:
    """See the module's text."""

    def __init__(self, client: KubeClient, happenings: Happenings) -> None:
        self._client = client
        self._scales = Scales(client)
        self._floors = Floors(client)
        self._happenings = happenings

    async def write_scale(self, target: Target, write: WriteScale, is_due: Callable[[], bool]) -> int:
        """Replace the number on condition. Raises ReplicasDiffer, KubeError."""
        namespace, name = target.key
        if target.order is Order.BY_NAME and write.victims and write.new < write.old:
            version = await self._scales.patch_naming(
                target.resource, name, namespace=namespace, was=write.old, to=write.new, victims=write.victims,
                is_due=is_due,
            )  # fmt: skip
            return version_number(version)
        written = await self._scales.patch(
            target.resource, name, namespace=namespace, was=write.old, to=write.new,
            priority=Priority.WAKE if write.old == 0 else Priority.WRITE, is_due=is_due,
        )  # fmt: skip
        return version_number(written.metadata.resource_version)

    async def write_floor(self, target: Target, replicas: int, is_due: Callable[[], bool]) -> int:
        """Move the floor of its HPA. Raises KubeError."""
        return await self._floors.move(target.kind, target.key, replicas, is_due=is_due)

    async def write_cost(self, target: Target, pod: str, cost: int) -> None:
        """Write the pod's deletion cost; 0 takes it away. Raises KubeError; a pod that is gone is none."""
        body = {"metadata": {"annotations": {COST: str(cost) if cost else None}}}
        try:
            await self._client.merge_patch(PODS, pod, body, namespace=target.key[0])
        except NotFound:
            return

    def tell_foreign(self, target: Target, write: ForeignWrite, *, is_hands_off: bool) -> None:
        """An Event on the workload."""
        if write.is_wake:
            note = "A gateway or an activator, because no autoscaler did, or somebody else woke it from 0 to 1."
            self._happenings.tell(Happening(about=_about(target), reason="WokenByOthers", note=note))
            return
        what = f"Somebody else changed the number of replicas from {write.before} to {write.found}."
        if is_hands_off:
            then = (
                "It is the third time within ten minutes: zerogate writes it no more until the workload's annotations "
                "change. Take the other writer away (an autoscaler, a GitOps controller that keeps spec.replicas), or "
                'write zerogate.dev/enabled: "false".'
            )
        else:
            then = f"zerogate leaves it alone for {SILENT_S:.0f} s, but for waking it from zero."
        self._happenings.tell(
            Happening(
                about=_about(target),
                reason="ForeignScale", note=f"{what} {then}", is_warning=True,
            )
        )  # fmt: skip


def _about(target: Target) -> About:
    return About(target.resource.api_version, target.kind, *target.key, target.uid)
