"""The floor of a workload's HorizontalPodAutoscaler: found, moved, and given back.

Where a policy says `hpa: floor`, an HPA of the cluster's owner scales the workload from one up, and zerogate moves its
`minReplicas` alone. What it was before is noted on the HPA itself, so that it can be given back by whoever leads then.
An HPA acts at its next sync, every 15 s as a rule, and lowers after a window of its own.
"""

from collections.abc import Callable, Mapping
from typing import Final

from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Asked, KubeError
from zerogate.kube.keys import RECORDS
from zerogate.kube.objects import HPAS, Hpa, Key
from zerogate.kube.rate import Priority

BEFORE: Final = f"{RECORDS}min-replicas"
"""On an HPA: its `minReplicas` before zerogate moved it."""


class NoHpaError(KubeError):
    """No HPA, or several, scale the workload."""

    def __str__(self) -> str:
        return self.detail


class Floors:
    """See the module's text. HPAs are asked for each time: a floor moves a few times an hour."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def move(self, kind: str, key: Key, replicas: int, *, is_due: Callable[[], bool]) -> int:
        """Let its HPA keep at least so many, as far as its `maxReplicas` goes; what it keeps now. `is_due`: as of
        `KubeClient.merge_patch`. Raises KubeError."""
        hpa = await self._find(kind, key)
        floor = max(1, min(replicas, hpa.spec.max_replicas))
        notes = {} if hpa.metadata.annotation(BEFORE) else {BEFORE: str(hpa.spec.min_replicas)}
        if floor != hpa.spec.min_replicas or notes:
            await self._write(hpa, floor, notes, is_due)
        return floor

    async def give_back(self, kind: str, key: Key) -> None:
        """What was moved is as it was before. Where nothing was, or the HPA is gone, nothing happens."""
        for hpa in await self._all(kind, key):
            before = hpa.metadata.annotation(BEFORE) or ""
            if before.isdecimal():
                await self._write(hpa, int(before), {BEFORE: None})

    async def _find(self, kind: str, key: Key) -> Hpa:
        found = await self._all(kind, key)
        if len(found) == 1:
            return found[0]
        asked = Asked(verb="list", group=HPAS.group, resource=HPAS.plural, namespace=key[0])
        names = ", ".join(hpa.metadata.name for hpa in found)
        what = f"Several HPAs scale it: {names}. Leave one." if found else "No HorizontalPodAutoscaler scales it."
        raise NoHpaError(asked, f"hpa is floor. {what} Or write hpa: none.")

    async def _all(self, kind: str, key: Key) -> list[Hpa]:
        namespace, name = key
        found, _ = await self._client.list(HPAS, namespace=namespace)
        scaled = ((hpa, hpa.spec.scale_target_ref) for hpa in found)
        return [hpa for hpa, target in scaled if (target.kind, target.name) == (kind, name)]

    async def _write(
        self, hpa: Hpa, replicas: int, notes: Mapping[str, str | None], is_due: Callable[[], bool] | None = None
    ) -> None:
        namespace, name = hpa.key
        body = {"metadata": {"annotations": notes}, "spec": {"minReplicas": replicas}}
        await self._client.merge_patch(
            HPAS, name, body, namespace=namespace, priority=Priority.WAKE, is_due=is_due
        )  # fmt: skip
