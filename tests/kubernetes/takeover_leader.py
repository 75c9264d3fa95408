"""The leader's part of a takeover as a process inside a node: `python -m tests.kubernetes.takeover_leader KUBECONFIG
FILE HOME NAMESPACE`. What the file says, `SERVICE NUMBER` line by line, is what is wanted; the last line counts.
"""

import asyncio
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from zerogate.clock import now
from zerogate.kube.access import by_kubeconfig
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.feed import Feed
from zerogate.kube.hands import KubeHands
from zerogate.kube.happenings import Happenings
from zerogate.kube.objects import Pod
from zerogate.kube.runtime import KubernetesRuntime
from zerogate.kube.takeovers import Takeovers
from zerogate.kube.target import Target
from zerogate.runtime.interface import Scale
from zerogate.tasks import Nursery

SETTLE_S = 3.0
"""One node that is not busy: rounds of a test need not wait for ten seconds."""


class Both:
    """A feed's listener."""

    def __init__(self, runtime: KubernetesRuntime, takeovers: Takeovers) -> None:
        self._runtime = runtime
        self._takeovers = takeovers

    def on_services(self, services: Mapping[str, Managed]) -> None:
        self._runtime.configure({name: _target(entry) for name, entry in services.items()})
        self._takeovers.on_services(services)

    def on_number(self, service: str, number: int, version: int) -> None:
        self._runtime.on_number(service, number, version)

    def on_pod(self, service: str, pod: Pod) -> None:
        self._runtime.on_pod(service, pod)
        self._takeovers.on_pod(service, pod)

    def on_pod_gone(self, service: str, name: str) -> None:
        self._runtime.on_pod_gone(service, name)
        self._takeovers.on_pod_gone(service, name)


def _target(entry: Managed) -> Target:
    return Target(
        service=entry.service, kind=entry.kind, resource=entry.resource, key=entry.key, uid=entry.uid,
        order=entry.order, ceiling=entry.wanted.policy.max_replicas, port=entry.wanted.cluster.port,
    )  # fmt: skip


async def main(kubeconfig: str, file: str, home: str, namespace: str) -> None:
    client = KubeClient(await by_kubeconfig(Path(kubeconfig)))
    nursery = Nursery()
    happenings = Happenings(client, controller="zerogate.dev/autoscaler", instance="leader")
    happenings.start()
    hands = KubeHands(client, happenings)
    runtime = KubernetesRuntime(hands, nursery, call_later=asyncio.get_running_loop().call_later, clock=now)
    takeovers = Takeovers(client, home=home, happenings=happenings, settle_s=SETTLE_S)
    feed = Feed(client, Both(runtime, takeovers), home=home, namespace=namespace)
    await feed.start()
    takeovers.start()
    takeovers.on_may_zero = runtime.on_may_zero
    runtime.set_stand_in(takeovers)
    takeovers.lead(True)
    runtime.lead(True)
    generation, wanted = 0, ""
    while True:
        said = Path(file).read_text().strip().rpartition("\n")[2]
        if said != wanted:
            wanted, generation = said, generation + 1
            service, number = said.split()
            logging.info("%s is to have %s", service, number)
            runtime.scale(Scale(service=service, replicas=int(number), generation=generation))
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    asyncio.run(main(*sys.argv[1:]))
