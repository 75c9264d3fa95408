"""The webhook of several autoscalers on this machine, asked by a real API server."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from autoscaler.injector.injector import RATES, Injector, Terms
from autoscaler.injector.manifests import Installation, webhook_configurations
from tests.kubernetes.harness.access import Access
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.processes import until
from zerogate.clock import wall
from zerogate.kube.access import by_kubeconfig
from zerogate.kube.client import KubeClient
from zerogate.kube.event_book import Happening
from zerogate.kube.happenings import Happenings
from zerogate.kube.sidecar import SidecarTerms

T = TypeVar("T")
SYSTEM = "zerogate-system"
HOOKS = "/apis/admissionregistration.k8s.io/v1"
SECRET = "zerogate-webhook"

_SPEC = {"containers": [{"name": "probe", "image": "none"}]}
_OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "none", "uid": "1", "controller": True}
_POD = {"metadata": {"name": "probe", "ownerReferences": [_OWNER]}, "spec": _SPEC}
_LABELS = {"app": "probe"}
_DEPLOYMENT = {
    "metadata": {"name": "probe", "annotations": {"zerogate.dev/enabled": "false"}},
    "spec": {"selector": {"matchLabels": _LABELS}, "template": {"metadata": {"labels": _LABELS}, "spec": _SPEC}},
}


def rules(configuration: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the webhook may do in zerogate's namespace, and everywhere: all that it needs and no more."""
    own = [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "patch"], "resourceNames": [SECRET]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["zerogate-policy"]},
    ]
    hooks = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]
    everywhere: list[dict[str, Any]] = [
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "replicasets"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
        {
            "apiGroups": ["admissionregistration.k8s.io"], "resources": hooks, "verbs": ["get", "patch"],
            "resourceNames": [configuration],
        },
    ]  # fmt: skip
    return own, everywhere


class Replica:
    """One autoscaler's webhook, with clients and Events of its own."""

    def __init__(self, access: Access, terms: Terms, sock: socket.socket, calendar: Callable[[], float]) -> None:
        self._access = access
        self._terms = terms
        self._sock = sock
        self._calendar = calendar
        self.told: list[Happening] = []

    async def start(self) -> None:
        client = KubeClient(await by_kubeconfig(self._access.kubeconfig), rates=RATES)
        self._client = client
        self._happenings = Happenings(client, controller="zerogate.dev/autoscaler", instance="test")
        self._happenings.start()
        self.injector = Injector(client, self._terms, tell=self._tell, calendar=self._calendar)
        await self.injector.start(self._sock)

    async def stop(self) -> None:
        """As its process does at its end."""
        await self.injector.aclose()
        await self._happenings.aclose()
        await self._client.aclose()
        self._sock.close()

    def _tell(self, happening: Happening) -> None:
        self.told.append(happening)
        self._happenings.tell(happening)


class Webhooks:
    """Replicas that share a port as those in a cluster share a Service. `run` carries something out on their loop."""

    def __init__(self, plane: ControlPlane, *, host: str = "127.0.0.1") -> None:
        self.cluster = plane.cluster
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="webhook")
        self._thread.start()
        self._port = 0
        self._host = host
        self.ahead_s = 0.0
        """By how much the replicas' calendar is ahead of this machine's."""
        first = self._socket()
        self._port = first.getsockname()[1]
        self.installation = Installation(
            name=f"zerogate-{self._port}", namespace=SYSTEM, url=f"https://localhost:{self._port}"
        )
        own, everywhere = rules(self.installation.name)
        self._account = plane.account(SYSTEM, self.installation.name, rules=own, cluster_rules=everywhere)
        self._terms = Terms(sidecar=SidecarTerms(image="zerogate:test"), installation=self.installation)
        self.replicas = [self._replica(first), self._replica(self._socket())]

    def _socket(self) -> socket.socket:
        return socket.create_server((self._host, self._port), reuse_port=True)

    def _replica(self, sock: socket.socket) -> Replica:
        return Replica(self._account, self._terms, sock, lambda: wall() + self.ahead_s)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def start(self, *, are_asked: bool = True) -> None:
        """All replicas at once; without `are_asked` their certificates may be for another time."""

        async def start() -> None:
            await asyncio.gather(*(replica.start() for replica in self.replicas))

        self.run(start())
        if are_asked:
            until(self.is_asked, within_s=30, what="the first question of the API server")

    def start_again(self, *, are_asked: bool = True) -> None:
        """New processes on the same port."""
        self.replicas = [self._replica(self._socket()) for _ in range(2)]
        self.start(are_asked=are_asked)

    def restart(self) -> None:
        """Both replicas anew."""
        self.stop()
        self.start_again()

    def stop(self) -> None:
        """As if all processes had ended."""
        for replica in self.replicas:
            self.run(replica.stop())
        self.replicas = []

    def counted(self, what: str) -> int:
        """Reviews with this outcome."""
        return sum(replica.injector.counts[what] for replica in self.replicas)

    @property
    def told(self) -> list[Happening]:
        """What was worth an Event."""
        return [happening for replica in self.replicas for happening in replica.told]

    def is_asked(self) -> bool:
        """Whether the API server knows both configurations by now, and trusts all replicas that it meets."""
        before = self.counted("answered")
        for path, probe in (("/api/v1/namespaces", _POD), ("/apis/apps/v1/namespaces", _DEPLOYMENT)):
            kind = "pods" if probe is _POD else "deployments"
            if self.cluster.ask("POST", f"{path}/default/{kind}?dryRun=All", probe).status != 201:
                return False  # the namespace's account is not there yet
        return self.counted("answered") == before + 2

    async def _until_parted(self) -> None:
        """Until the API server has said goodbye on every connection: the loop has only its own wake-up left."""
        selector = self._loop._selector  # type: ignore[attr-defined]
        async with asyncio.timeout(10):
            while len(selector.get_map()) > 1:
                await asyncio.sleep(0.01)

    def close(self) -> None:
        """End its thread."""
        self.run(self._until_parted())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def webhooks(plane: ControlPlane) -> Iterator[Webhooks]:
    """Two replicas, installed in a cluster and serving; gone at the end."""
    cluster = plane.cluster
    cluster.create("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
    it = Webhooks(plane)
    paths = [f"{HOOKS}/{kind}webhookconfigurations" for kind in ("mutating", "validating")]
    try:
        for path, manifest in zip(paths, webhook_configurations(it.installation), strict=True):
            cluster.create(path, manifest)
        it.start()
        yield it
    finally:
        for path in paths:
            cluster.delete(f"{path}/{it.installation.name}")
        cluster.delete(f"/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}")
        it.stop()
        it.close()
