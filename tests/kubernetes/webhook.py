"""The webhook on this machine, asked by a real API server: what an autoscaler does, in a thread of a test."""

import asyncio
import base64
import socket
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from autoscaler.injector.answering import Answering, Notice
from autoscaler.injector.lookup import OwnerReference
from autoscaler.injector.manifests import Installation, webhook_configurations
from autoscaler.injector.rotation import ChangedError, Rotation, Stored
from autoscaler.injector.server import Webhook
from tests.kubernetes.harness.access import Cluster
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.processes import until
from zerogate.clock import wall
from zerogate.kube.policies import NO_DEFAULTS, Defaults
from zerogate.kube.sidecar import SidecarTerms

T = TypeVar("T")
SYSTEM = "zerogate-system"
HOOKS = "/apis/admissionregistration.k8s.io/v1"
SECRET = "zerogate-webhook"


class ApiLookup:
    """A `Lookup` that asks each time, in threads, because the client of the tests waits."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()

    async def _find(self, path: str) -> dict[str, Any] | None:
        def find() -> dict[str, Any] | None:
            with self._lock:
                return self._cluster.find(path)

        return await asyncio.to_thread(find)

    async def object(self, namespace: str, reference: OwnerReference) -> Mapping[str, Any] | None:
        group = reference.api_version
        return await self._find(f"/apis/{group}/namespaces/{namespace}/{reference.kind.lower()}s/{reference.name}")

    async def namespace_annotations(self, namespace: str) -> Mapping[str, str]:
        found = await self._find(f"/api/v1/namespaces/{namespace}") or {}
        annotations: dict[str, str] = found["metadata"].get("annotations") or {}
        return annotations

    async def services(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        found = await self._find(f"/api/v1/namespaces/{namespace}/services") or {}
        services: list[dict[str, Any]] = found["items"]
        return services

    def defaults(self) -> Defaults:
        return NO_DEFAULTS


class ApiStore:
    """A `CertificateStore` in the API server."""

    def __init__(self, cluster: Cluster, names: Sequence[str]) -> None:
        self._cluster = cluster
        self._path = f"/api/v1/namespaces/{SYSTEM}/secrets"
        self._hooks = [f"{HOOKS}/{kind}webhookconfigurations/{name}" for kind, name in zip(
            ("mutating", "validating"), names, strict=True
        )]  # fmt: skip

    async def read(self) -> Stored:
        found = await asyncio.to_thread(self._cluster.find, f"{self._path}/{SECRET}")
        data = {name: base64.b64decode(text) for name, text in ((found or {}).get("data") or {}).items()}
        return Stored(data, found["metadata"]["resourceVersion"] if found else "")

    async def write(self, data: Mapping[str, bytes], version: str) -> None:
        metadata = {"name": SECRET, **({"resourceVersion": version} if version else {})}
        body = {"metadata": metadata, "data": {name: base64.b64encode(one).decode() for name, one in data.items()}}
        method, path = ("PUT", f"{self._path}/{SECRET}") if version else ("POST", self._path)
        answer = await asyncio.to_thread(self._cluster.ask, method, path, body)
        if answer.status == 409:
            raise ChangedError("The Secret was changed.")
        assert answer.status < 300, answer

    async def publish(self, bundle: bytes) -> None:
        text = base64.b64encode(bundle).decode()
        for path in self._hooks:
            found = await asyncio.to_thread(self._cluster.get, path)
            for webhook in found["webhooks"]:
                webhook["clientConfig"]["caBundle"] = text
            answer = await asyncio.to_thread(self._cluster.ask, "PUT", path, found)
            assert answer.status == 200, answer


_SPEC = {"containers": [{"name": "probe", "image": "none"}]}
_OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "none", "uid": "1", "controller": True}
_POD = {"metadata": {"name": "probe", "ownerReferences": [_OWNER]}, "spec": _SPEC}
_LABELS = {"app": "probe"}
_DEPLOYMENT = {
    "metadata": {"name": "probe", "annotations": {"zerogate.dev/enabled": "false"}},
    "spec": {"selector": {"matchLabels": _LABELS}, "template": {"metadata": {"labels": _LABELS}, "spec": _SPEC}},
}


class RunningWebhook:
    """One that serves. `run` carries something out on its loop; `rotate` looks after its certificates once."""

    def __init__(self, plane: ControlPlane) -> None:
        self._clients = [plane.client(plane.cluster.access) for _ in range(2)]
        self.notices: list[Notice] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="webhook")
        self._thread.start()
        self._sock = socket.create_server(("127.0.0.1", 0))
        port = self._sock.getsockname()[1]
        self.installation = Installation(
            name=f"zerogate-{port}", namespace=SYSTEM, url=f"https://localhost:{port}",
        )  # fmt: skip
        answering = Answering(
            ApiLookup(self._clients[0]),
            SidecarTerms(image="zerogate:test"),
            notice=self.notices.append,
            new_token=lambda: "t" * 32,
        )
        self.webhook = Webhook(answering.mutate, answering.validate)
        store = ApiStore(self._clients[1], [self.installation.name] * 2)
        self.rotation = Rotation(store, ("localhost",), self.webhook.use, wall)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def start(self) -> None:
        """Serve; the configurations have to be there."""
        self.run(self.rotation.round())
        self.run(self.webhook.start(self._sock))

    def is_asked(self, cluster: Cluster) -> bool:
        """Whether the API server knows both configurations by now, and trusts."""
        before = self.webhook.counts["answered"]
        for path, probe in (("/api/v1/namespaces", _POD), ("/apis/apps/v1/namespaces", _DEPLOYMENT)):
            kind = "pods" if probe is _POD else "deployments"
            if cluster.ask("POST", f"{path}/default/{kind}?dryRun=All", probe).status != 201:
                return False  # the namespace's account is not there yet
        return self.webhook.counts["answered"] == before + 2

    def stop(self) -> None:
        """As if its process had ended."""
        self.run(self.webhook.stop())

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
        self._sock.close()
        for client in self._clients:
            client.close()


@contextmanager
def running_webhook(plane: ControlPlane) -> Iterator[RunningWebhook]:
    """Installed in a cluster and serving; gone at the end."""
    cluster = plane.cluster
    cluster.create("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
    it = RunningWebhook(plane)
    mutating, validating = webhook_configurations(it.installation)
    paths = [f"{HOOKS}/{kind}webhookconfigurations" for kind in ("mutating", "validating")]
    try:
        for path, manifest in zip(paths, (mutating, validating), strict=True):
            cluster.create(path, manifest)
        it.start()
        until(lambda: it.is_asked(cluster), within_s=30, what="the first question of the API server")
        yield it
    finally:
        for path in paths:
            cluster.delete(f"{path}/{it.installation.name}")
        it.stop()
        it.close()
