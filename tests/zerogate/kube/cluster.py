"""A cluster's controllers, as far as a runtime meets them: `/scale`, pods that come and go, news that come later.

Next to `zerogate.kube.target.Hands`, whose double it is. A Deployment's ReplicaSet chooses its victims as the real
controller does: unready ones before ready ones, then by deletion cost. Every piece of news takes a turn of the loop.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from zerogate.kube.acts import WriteScale
from zerogate.kube.errors import Asked, NotDue
from zerogate.kube.foreign import ForeignWrite
from zerogate.kube.lives import COST
from zerogate.kube.objects import Meta, Pod, Scale, ScaleSpec
from zerogate.kube.runtime import KubernetesRuntime
from zerogate.kube.scaling import ReplicasDiffer
from zerogate.kube.target import Target


class Cluster:
    """Hands, controllers and kubelet of any number of workloads."""

    def __init__(self) -> None:
        self.runtime: KubernetesRuntime | None = None
        self.numbers: dict[str, int] = {}
        self.pods: dict[str, dict[str, dict[str, Any]]] = {}
        self.foreign: list[tuple[str, ForeignWrite, bool]] = []
        self.sent = 0
        """Numbers that were sent, whatever came of it."""
        self.writes: list[WriteScale] = []
        self.floors: list[int] = []
        self.failures: list[Exception] = []
        """Raised by the next writes, first ones first."""
        self.turn: asyncio.Event | None = None
        """What numbers and floors that are written wait for, where there is much to be written."""
        self.ends_pods_at_once = True
        self._versions = itertools.count(10)
        self._names = itertools.count(1)

    def attach(self, runtime: KubernetesRuntime, targets: list[Target]) -> None:
        """Feed this runtime from now on; all workloads are at zero."""
        self.runtime = runtime
        runtime.configure({target.service: target for target in targets})
        for target in targets:
            self.numbers[target.service] = 0
            self.pods[target.service] = {}
            runtime.on_number(target.service, 0, next(self._versions))

    async def write_scale(self, target: Target, write: WriteScale, is_due: Callable[[], bool]) -> int:
        await asyncio.sleep(0)
        if self.turn is not None:
            await self.turn.wait()
        if not is_due():
            raise NotDue(Asked(verb="patch"))
        self.sent += 1
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        if self.numbers[target.service] != write.old:
            spec = ScaleSpec(replicas=self.numbers[target.service])
            found = Scale(metadata=Meta(resource_version=str(next(self._versions))), spec=spec)
            raise ReplicasDiffer(target.service, was=write.old, wanted=write.new, found=found)
        self.writes.append(write)
        return self.set_number(target.service, write.new)

    async def write_floor(self, target: Target, replicas: int, is_due: Callable[[], bool]) -> int:
        await asyncio.sleep(0)
        if self.turn is not None:
            await self.turn.wait()
        if not is_due():
            raise NotDue(Asked(verb="patch"))
        if self.failures:
            raise self.failures.pop(0)
        self.floors.append(replicas)
        return replicas

    async def write_cost(self, target: Target, pod: str, cost: int) -> None:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        body = self.pods[target.service].get(pod)
        if body is not None:
            body["metadata"]["annotations"] = {COST: str(cost)} if cost else {}
            self._tell(target.service, pod)

    def tell_foreign(self, target: Target, write: ForeignWrite, *, is_hands_off: bool) -> None:
        self.foreign.append((target.service, write, is_hands_off))

    def set_number(self, service: str, number: int) -> int:
        """Anybody's write; the version since."""
        version = next(self._versions)
        self.numbers[service] = number
        self._later(lambda: self._on_number(service, number, version))
        self._later(lambda: self._control(service))
        return version

    def become_ready(self, service: str, pod: str) -> None:
        self.pods[service][pod]["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        self._tell(service, pod)

    def leave_unscheduled(self, service: str, pod: str, why: str) -> None:
        """The scheduler finds no node; with no reason given it has found one."""
        condition = {"type": "PodScheduled", "status": "False" if why else "True", "message": why}
        self.pods[service][pod]["status"]["conditions"] = [condition]
        self._tell(service, pod)

    def crash(self, service: str, pod: str, code: int) -> None:
        """The container ends, and the kubelet starts it anew."""
        body = self.pods[service][pod]
        (container,) = body["status"]["containerStatuses"]
        body["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
        container["state"] = {"terminated": {"exitCode": code}}
        self._tell(service, pod)
        container = {**container, "state": {"running": {}}, "restartCount": container["restartCount"] + 1}
        restarted = {**body, "status": {**body["status"], "containerStatuses": [container]}}
        self.pods[service][pod] = restarted
        self._tell(service, pod)

    def end(self, service: str, pod: str) -> None:
        """Somebody deletes the pod, and it ends."""
        if self.pods[service].pop(pod, None) is not None:
            self._later(lambda: self._on_gone(service, pod))
            self._later(lambda: self._control(service))

    def _control(self, service: str) -> None:
        pods, number = self.pods[service], self.numbers[service]
        alive = {name: body for name, body in pods.items() if "deletionTimestamp" not in body["metadata"]}
        for _ in range(number - len(alive)):
            self._create(service)
        ranked = sorted(alive, key=lambda name: _rank(alive[name]))
        for name in ranked[: max(0, len(alive) - number)]:
            pods[name]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self._tell(service, name)
            if self.ends_pods_at_once:
                self.end(service, name)

    def _create(self, service: str) -> None:
        number = next(self._names)
        name = f"{service}-{number}"
        container = {"name": "model", "restartCount": 0, "state": {"running": {}}}
        self.pods[service][name] = {
            "metadata": {
                "name": name,
                "namespace": "ml",
                "uid": f"u{number}",
                "annotations": {},
                "labels": {"pod-template-hash": "7d9f"},
            },
            "status": {"phase": "Running", "podIP": f"10.0.0.{number}", "containerStatuses": [container]},
        }
        self._tell(service, name)

    def _tell(self, service: str, name: str) -> None:
        seen = msgspec.convert(self.pods[service][name], Pod, strict=False)
        self._later(lambda: self._on_pod(service, seen))

    def _on_number(self, service: str, number: int, version: int) -> None:
        assert self.runtime is not None
        self.runtime.on_number(service, number, version)

    def _on_pod(self, service: str, pod: Pod) -> None:
        assert self.runtime is not None
        self.runtime.on_pod(service, pod)

    def _on_gone(self, service: str, name: str) -> None:
        assert self.runtime is not None
        self.runtime.on_pod_gone(service, name)

    @staticmethod
    def _later(what: Any) -> None:
        asyncio.get_running_loop().call_soon(what)


def _rank(body: dict[str, Any]) -> tuple[bool, int]:
    conditions = body["status"].get("conditions", [])
    is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return is_ready, int(body["metadata"]["annotations"].get(COST, 0))
