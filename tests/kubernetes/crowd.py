"""Workloads by the thousand with their pods, in a real API server within seconds.

One Deployment and one pod are made as they always are: by the API, and the pod gets ready on a fake node by kwok. What
the API server stored of them is copied under other names in etcd itself, with the owners
and labels that controllers give. Written one by one through the API, 5,000 workloads and 10,000 pods took 100 s, and
kwok another minute to make them ready. The API server lists, watches and patches the copies like any others; neither
the controller manager nor the scheduler runs, whose own pace, on the cores that are measured here, is nobody's
question. They are stored as the API server stores its own, in protobuf (`stored.py`).

Every second workload is at zero, the others share the pods. All look as after an hour under zerogate: what it notes on
a workload when it meets one is there already, so that what is measured is not the first hour. A pod has the size of a
real one: a sidecar and a model server, 30 variables, the managed fields that the server adds.
"""

import asyncio
import base64
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from autoscaler.cluster.records import STATUS
from autoscaler.cluster.status_book import Status
from tests.kubernetes import stored
from tests.kubernetes.autoscalers import AUDIENCE
from tests.kubernetes.harness.access import Access
from tests.kubernetes.harness.fake_nodes import TOLERATION
from tests.kubernetes.harness.processes import ClusterError
from zerogate.kube.access import by_kubeconfig
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import AlreadyExists, Asked, VersionTooLarge
from zerogate.kube.keys import REPLICAS
from zerogate.kube.objects import PODS
from zerogate.kube.rate import Rates

Body = dict[str, Any]

PER_NAMESPACE = 100
"""Workloads."""
_TOGETHER = 50
"""Keys that are under way to etcd at once."""
_PATTERN = "pattern"
_SHOWN_S = 60
_REPLICAS, _SELECTOR, _TEMPLATE = 1, 2, 3
"""Of the spec of a Deployment."""
_MATCH_LABELS = 1
_NODE_NAME = 10
_POD_IP, _POD_IPS = 6, 12
_ANY = Asked(verb="create", group="", resource="crowd")
_NO_LIMIT = Rates(rate=1e6, burst=1e6)


class Workload(msgspec.Struct, frozen=True):
    """One of the crowd."""

    namespace: str
    name: str
    replicas: int

    @property
    def service(self) -> str:
        return f"{self.namespace}/{self.name}"


class Source(msgspec.Struct, frozen=True):
    """The sidecar of a pod: who reports for the service."""

    pod: str
    uid: str
    service: str

    @property
    def name(self) -> str:
        return f"{self.service.partition('/')[0]}/{self.pod}"


def crowd_of(workloads: int, pods: int) -> list[Workload]:
    """Every second one is at zero."""
    awake = workloads // 2
    least, more = divmod(pods, awake)
    numbers = [least + (number < more) for number in range(awake)]
    return [
        Workload(f"crowd-{index // PER_NAMESPACE}", f"model-{index}", 0 if index % 2 else numbers[index // 2])
        for index in range(workloads)
    ]


@asynccontextmanager
async def fast_client(access: Access) -> AsyncIterator[KubeClient]:
    """A client that asks as fast as it can."""
    client = KubeClient(await by_kubeconfig(access.kubeconfig), rates=_NO_LIMIT)
    try:
        yield client
    finally:
        await client.aclose()


class Maker:
    """Puts workloads and pods into the API server's store, and takes them out. Made by `maker`."""

    def __init__(self, client: KubeClient, etcd: "_Etcd", nodes: Sequence[str], patterns: tuple[bytes, bytes]) -> None:
        self._client = client
        self._etcd = etcd
        self._nodes = nodes
        self._workload, self._pod = patterns

    async def add(self, crowd: Sequence[Workload]) -> list[Source]:
        """With their namespaces and pods; the sidecars of those. Returns when the API server shows all of it."""
        for name in dict.fromkeys(one.namespace for one in crowd):
            await _create(self._client, "/api/v1/namespaces", {"metadata": {"name": name}})
            accounts = f"/api/v1/namespaces/{name}/serviceaccounts"
            await _create(self._client, accounts, {"metadata": {"name": "default"}})
        sources = await self.put(crowd)
        await _until_shown(self._client, sources[-1])
        return sources

    async def put(self, crowd: Sequence[Workload]) -> list[Source]:
        """The same in namespaces that are there, also while there is no API server."""
        sources: list[Source] = []
        for one in crowd:
            await self._etcd.put(f"deployments/{one.service}", _copied_deployment(self._workload, one))
            sources += await self._put_pods(one, range(one.replicas))
        await self._etcd.flush()
        return sources

    async def add_pods(self, crowd: Sequence[Workload], numbers: range) -> list[Source]:
        """Pods with these numbers for each."""
        sources = [source for one in crowd for source in await self._put_pods(one, numbers)]
        await self._etcd.flush()
        return sources

    async def remove(self, crowd: Sequence[Workload], sources: Sequence[Source]) -> None:
        """Workloads, and pods."""
        for one in crowd:
            await self._etcd.delete(f"deployments/{one.service}")
        for source in sources:
            await self._etcd.delete(f"pods/{source.name}")
        await self._etcd.flush()

    async def forget_history(self) -> None:
        """Compact etcd: nobody can go on from a version of before."""
        await self._etcd.compact()

    async def _put_pods(self, one: Workload, numbers: range) -> list[Source]:
        sources = []
        for number in numbers:
            name, uid = pod_name(one, number), str(uuid.uuid4())
            await self._etcd.put(f"pods/{one.namespace}/{name}", _copied_pod(self._pod, one, number, uid, self._nodes))
            sources.append(Source(name, uid, one.service))
        return sources


@asynccontextmanager
async def maker(client: KubeClient, etcd_url: str, nodes: Sequence[str]) -> AsyncIterator[Maker]:
    """One whose patterns the API server and kwok have made."""
    await _create(client, "/api/v1/namespaces", {"metadata": {"name": _PATTERN}})
    await _create(client, f"/api/v1/namespaces/{_PATTERN}/serviceaccounts", {"metadata": {"name": "default"}})
    async with aiohttp.ClientSession() as session:
        etcd = _Etcd(session, etcd_url)
        yield Maker(client, etcd, nodes, await _pattern(client, etcd, nodes[0]))


async def _pattern(client: KubeClient, etcd: "_Etcd", node: str) -> tuple[bytes, bytes]:
    """A Deployment and a ready pod as the API server stores them, and holds them no longer."""
    one = Workload(_PATTERN, _PATTERN, 1)
    deployments, pods = f"/apis/apps/v1/namespaces/{_PATTERN}/deployments", f"/api/v1/namespaces/{_PATTERN}/pods"
    await _create(client, deployments, deployment(one))
    await _create(client, pods, pod(one, 0, node))
    async with asyncio.timeout(_SHOWN_S):
        while not (await client.list(PODS, namespace=_PATTERN))[0][0].is_ready:
            await asyncio.sleep(0.1)
    found = []
    for kind, path, name in (("deployments", deployments, _PATTERN), ("pods", pods, pod_name(one, 0))):
        found.append(await etcd.get(f"{kind}/{_PATTERN}/{name}"))
        await client.request("DELETE", f"{path}/{name}", asked=_ANY, body={"gracePeriodSeconds": 0})
    return found[0], found[1]


def _copied_deployment(pattern: bytes, one: Workload) -> bytes:
    asked = deployment(one)
    envelope, found = stored.opened(pattern)
    spec = stored.part(found, stored.SPEC)
    template = stored.part(spec, _TEMPLATE)
    about = stored.metadata(stored.part(template, stored.METADATA), asked["spec"]["template"]["metadata"])
    spec = stored.changed(spec, {
        _REPLICAS: one.replicas,
        _SELECTOR: stored.changed(b"", {_MATCH_LABELS: stored.texts(asked["spec"]["selector"]["matchLabels"])}),
        _TEMPLATE: stored.changed(template, {stored.METADATA: about}),
    })  # fmt: skip
    about = stored.metadata(stored.part(found, stored.METADATA), _about(asked, one, str(uuid.uuid4())))
    return stored.closed(envelope, stored.changed(found, {stored.METADATA: about, stored.SPEC: spec}))


def _copied_pod(pattern: bytes, one: Workload, number: int, uid: str, nodes: Sequence[str]) -> bytes:
    asked = pod(one, number, nodes[number % len(nodes)])
    address = f"10.{64 + number % 64}.{hash(one.service) % 250}.{number % 250}"
    envelope, found = stored.opened(pattern)
    spec, status = stored.part(found, stored.SPEC), stored.part(found, stored.STATUS)
    return stored.closed(envelope, stored.changed(found, {
        stored.METADATA: stored.metadata(stored.part(found, stored.METADATA), _about(asked, one, uid)),
        stored.SPEC: stored.changed(spec, {_NODE_NAME: asked["spec"]["nodeName"]}),
        stored.STATUS: stored.changed(status, {_POD_IP: address, _POD_IPS: [stored.changed(b"", {1: address})]}),
    }))  # fmt: skip


def _about(asked: Body, one: Workload, uid: str) -> Body:
    return {**asked["metadata"], "namespace": one.namespace, "uid": uid}


class _Etcd:
    """Puts and deletes keys of the API server, many at a time. Each by itself, so that each has a version of its own:
    a watch that is resumed in the middle of a transaction would go on after it, and the API server makes none."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = f"{url}/v3/kv"
        self._revision = 0
        self._waiting: list[tuple[str, Body]] = []

    async def get(self, key: str) -> bytes:
        return base64.b64decode((await self._ask("range", {"key": _key(key)}))["kvs"][0]["value"])

    async def put(self, key: str, value: bytes) -> None:
        await self._add("put", {"key": _key(key), "value": base64.b64encode(value).decode()})

    async def delete(self, key: str) -> None:
        await self._add("deleterange", {"key": _key(key)})

    async def _add(self, what: str, body: Body) -> None:
        self._waiting.append((what, body))
        if len(self._waiting) == _TOGETHER:
            await self.flush()

    async def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for answer in await asyncio.gather(*(self._ask(what, body) for what, body in waiting)):
            self._revision = max(self._revision, int(answer["header"]["revision"]))

    async def compact(self) -> None:
        """Forget all revisions but the last one of these."""
        await self._ask("compaction", {"revision": str(self._revision)})

    async def _ask(self, what: str, body: Body) -> Body:
        async with self._session.post(f"{self._url}/{what}", data=msgspec.json.encode(body)) as answer:
            if answer.status != 200:
                raise ClusterError(f"etcd answered {answer.status}: {await answer.text()}")
            return msgspec.json.decode(await answer.read(), type=dict[str, Any])


def _key(name: str) -> str:
    return base64.b64encode(f"/registry/{name}".encode()).decode()


async def _until_shown(client: KubeClient, last: Source) -> None:
    """The API server's own watch has come to the last one that was put."""
    namespace = last.service.partition("/")[0]
    async with asyncio.timeout(_SHOWN_S):
        while True:
            with suppress(VersionTooLarge):
                if (await client.list(PODS, namespace=namespace, fields=f"metadata.name={last.pod}"))[0]:
                    return
            await asyncio.sleep(0.05)


async def _create(client: KubeClient, path: str, body: Body) -> None:
    try:
        await client.request("POST", path, asked=_ANY, body=body)
    except AlreadyExists:
        return


def deployment(one: Workload) -> Body:
    """The workload, as an autoscaler left it that led before."""
    status = Status(state="ready" if one.replicas else "zero", desired=one.replicas)
    notes = {
        "zerogate.dev/enabled": "true",
        "zerogate.dev/min-replicas": str(one.replicas),  # so that nothing moves while the crowd rests
        "zerogate.dev/max-replicas": "8",
        "zerogate.dev/idle-timeout": "1h",
        REPLICAS: str(max(1, one.replicas)),
        STATUS: msgspec.json.encode(status).decode(),
    }
    labels = {"app": one.name}
    return {
        "metadata": {"name": one.name, "annotations": notes, "labels": labels},
        "spec": {
            "replicas": one.replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec()},
        },
    }


def pod(one: Workload, number: int, node: str) -> Body:
    """A pod of the workload, as its ReplicaSet and the scheduler would leave it."""
    hash_ = _hash(one)
    owner = {
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{one.name}-{hash_}",
        "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, one.service)), "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
    meta = {
        "name": pod_name(one, number), "ownerReferences": [owner],
        "labels": {"app": one.name, "pod-template-hash": hash_},
    }  # fmt: skip
    return {"metadata": meta, "spec": {**_pod_spec(), "nodeName": node}}


def pod_name(one: Workload, number: int) -> str:
    """As a ReplicaSet would call it."""
    return f"{one.name}-{_hash(one)}-{number:05d}"


def _hash(one: Workload) -> str:
    return hashlib.sha256(one.service.encode()).hexdigest()[:9]


def _pod_spec() -> Body:
    settings = [{"name": f"SETTING_{number}", "value": f"value {number} " * 5} for number in range(15)]
    by_field = [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]
    probe = {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 5}
    sized = {"limits": {"cpu": "8", "memory": "64Gi"}, "requests": {"cpu": "1", "memory": "8Gi"}}
    model = {
        "name": "model", "image": "registry.example/model:1", "env": settings, "resources": sized,
        "ports": [{"name": "http", "containerPort": 8000}], "readinessProbe": probe,
    }  # fmt: skip
    beside = {
        "name": "zerogate-queueproxy", "image": "zerogate", "restartPolicy": "Always", "env": [*settings, *by_field],
        "ports": [{"name": "zg-http", "containerPort": 8012}], "readinessProbe": probe,
    }  # fmt: skip
    return {"containers": [model], "initContainers": [beside], "tolerations": [TOLERATION]}


class Tokens:
    """Makes tokens of ServiceAccounts with the cluster's own key: 10,000 requests for them would be a load besides."""

    def __init__(self, key: Path, issuer: str) -> None:
        found = serialization.load_pem_private_key(key.read_bytes(), None)
        assert isinstance(found, ec.EllipticCurvePrivateKey)
        self._key = found
        self._issuer = issuer
        public = found.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.key_id = _coded(hashlib.sha256(public).digest())

    def of_pod(self, source: Source, account_uid: str, *, lives_s: int = 3600) -> str:
        """Bound to the pod, for the audience of reports. `lives_s`: from now on."""
        namespace = source.service.partition("/")[0]
        now = int(time.time())  # noqa: TID251 - tokens have calendar times
        claims = {
            "aud": [AUDIENCE], "exp": now + lives_s, "iat": now + min(0, lives_s - 600), "nbf": now - 3600,
            "iss": self._issuer,
            "sub": f"system:serviceaccount:{namespace}:default",
            "kubernetes.io": {
                "namespace": namespace,
                "pod": {"name": source.pod, "uid": source.uid},
                "serviceaccount": {"name": "default", "uid": account_uid},
            },
        }  # fmt: skip
        head = {"alg": "ES256", "kid": self.key_id}
        said = f"{_coded(msgspec.json.encode(head))}.{_coded(msgspec.json.encode(claims))}"
        first, second = decode_dss_signature(self._key.sign(said.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{said}.{_coded(first.to_bytes(32, 'big') + second.to_bytes(32, 'big'))}"


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
