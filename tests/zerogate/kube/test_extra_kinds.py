"""Kinds that are not defined yet, or never."""

import asyncio
from typing import Any, cast

from zerogate.kube.cluster_flags import ExtraKind
from zerogate.kube.errors import Asked, Unreachable
from zerogate.kube.extra_kinds import ExtraKinds
from zerogate.kube.feed import Feed
from zerogate.kube.objects import Resource, Workload
from zerogate.kube.scaling import NotScalable, Scales

CLONE_SET = ExtraKind("CloneSet", "apps.kruise.io/v1alpha1")
GROUP = ExtraKind("LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1")


class Cluster:
    """Scales and feed of a cluster that has the kinds in `defined`; the first answers are `failures`."""

    def __init__(self, *defined: str, failures: tuple[Exception, ...] = ()) -> None:
        self.defined = set(defined)
        self.failures = list(failures)
        self.added: list[str] = []
        self.silent: list[str] = []

    async def find(self, api_version: str, kind: str) -> Resource[Workload]:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        if kind not in self.defined:
            raise NotScalable(f"{api_version} has no kind {kind}.")
        return Resource("group", "v1", kind.lower(), Workload)

    def add_kind(self, kind: str, _: Any) -> None:
        self.added.append(kind)

    def kinds(self, *extra: ExtraKind) -> ExtraKinds:
        return ExtraKinds(
            cast("Scales", self), cast("Feed", self), extra, on_silent=self.silent.append, defined_again_s=0.01
        )


async def test_what_is_not_defined_keeps_nothing_else_from_beginning_and_is_added_when_it_is() -> None:
    cluster = Cluster("CloneSet")
    kinds = cluster.kinds(GROUP, CLONE_SET)
    await kinds.find()
    assert cluster.added == ["CloneSet"]
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(kinds.find_missing())
        await asyncio.sleep(0.05)
        cluster.defined.add("LeaderWorkerSet")
    assert cluster.added == ["CloneSet", "LeaderWorkerSet"]


async def test_a_cluster_that_does_not_answer_is_waited_for(monkeypatch: Any) -> None:
    monkeypatch.setattr("zerogate.kube.extra_kinds.ANSWER_AGAIN_S", 0.0)
    asked = Asked(verb="get", group="", resource="")
    cluster = Cluster("CloneSet", failures=(Unreachable(asked, "refused"),))
    await cluster.kinds(CLONE_SET).find()
    assert cluster.added == ["CloneSet"]
    assert len(cluster.silent) == 1
