"""A control plane: etcd and the API server, and where asked the controllers and the scheduler.

    with control_plane() as cluster:
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}})
        assert cluster.get("/api/v1/namespaces/default/configmaps/a")["data"] == {"k": "v"}

It is a real one, with RBAC, admission and certificates; only etcd does not wait for its disk. `Place` says where it
runs: on free ports of this machine's loopback, which needs no rights, or in the namespaces of a node (`node.py`).
Everything here waits: call it from fixtures and plain tests, and through `asyncio.to_thread` on a loop.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.certificates import Authority
from tests.e2e.harness import free_port
from tests.kubernetes.harness import binaries
from tests.kubernetes.harness.access import Access, Cluster, Manifest
from tests.kubernetes.harness.audit import Audit, Audited
from tests.kubernetes.harness.processes import Process, RunFolder, until

API_ONLY = ("etcd", "kube-apiserver", "kubectl")
WITH_CONTROLLERS = (*API_ONLY, "kube-controller-manager", "kube-scheduler")

SERVICE_ADDRESSES = "10.96.0.0/16"
SERVICE_ADDRESSES6 = "fd96::/112"
_NAMES = ["localhost", "127.0.0.1", "10.77.0.1", "10.96.0.1", "kubernetes", "kubernetes.default.svc"]
_HURRY = ("--kube-api-qps=1000", "--kube-api-burst=2000")
"""For the controllers: their own limits of 20 and 50 requests a second are for clusters that share an API server."""
_START_S = 60
"""Measured: 3 s on an idle machine with 2 cores; a machine at work may take many times that."""


class Place(Protocol):
    """Where the programs run."""

    address: str
    """Where the API server listens."""
    address6: str
    """Where Services may have addresses of IPv6, too: the place's own; else empty."""

    def within(self, command: Sequence[str | Path]) -> list[str | Path]:
        """The command that runs `command` there."""

    def port(self, usual: int) -> int:
        """A free port there, `usual` where all are free."""

    def reach(self, port: int) -> int:
        """The port of this machine's loopback by which that port of `address` is reached."""


class Loopback:
    """This machine itself."""

    address = "127.0.0.1"
    address6 = ""

    def within(self, command: Sequence[str | Path]) -> list[str | Path]:
        return list(command)

    def port(self, usual: int) -> int:
        return free_port()

    def reach(self, port: int) -> int:
        return port


class ControlPlane:
    """The programs of one control plane in one folder; `cluster` is what tests talk to."""

    def __init__(
        self,
        folder: Path,
        *,
        with_controllers: bool = False,
        place: Place | None = None,
        audited: Sequence[Audited] = (),
        lost_after_s: int = 0,
    ) -> None:
        self.folder = folder
        self.lost_after_s = lost_after_s
        """How long without a word of it until a node counts as lost; 0 for the 50 s of the controllers themselves."""
        self.audit = Audit(folder, audited) if audited else None
        """What the API server says of its own times, where that was asked for."""
        self.place = place or Loopback()
        self.authority = Authority("kubernetes")
        self.authority_file = self.authority.write(folder / "ca.crt")
        self._programs = binaries.ensure(WITH_CONTROLLERS if with_controllers else API_ONLY)
        self._port = self.place.port(6443)
        self.url = f"https://{self.place.address}:{self._port}"
        etcd = self.place.port(2379)
        self.etcd_url = f"http://127.0.0.1:{etcd}"
        """Where it runs: for who puts objects past the API server, by the thousand."""
        _service_account_key(folder / "service-accounts.key")
        self.etcd = self.process("etcd", self._etcd(etcd, self.place.port(2380)))
        self.api_server = self.process("kube-apiserver", self._api_server(self.etcd_url))
        self.controllers = (
            [
                self.process("kube-controller-manager", self._controller_manager()),
                self.process("kube-scheduler", self._scheduler()),
            ]
            if with_controllers
            else []
        )
        self.cluster = Cluster(
            self.access("admin", groups=["system:masters"], is_outside=True), self._programs["kubectl"]
        )

    def start(self) -> None:
        """Start everything and wait until the API server says that it is ready."""
        self.etcd.start()
        self.start_api_server()
        for controller in self.controllers:
            controller.start()
        if not self.controllers:  # which would make it: without it no pod is admitted to the namespace
            self.cluster.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})

    def start_api_server(self) -> None:
        """Start the API server, also again after its stop, and wait until it is ready."""
        self.api_server.start()
        until(self.cluster.is_ready, within_s=_START_S, what="the API server", process=self.api_server)

    def stop(self) -> None:
        """End everything. Nothing is saved: nothing is worth it."""
        self.cluster.close()
        for process in (*self.controllers, self.api_server, self.etcd):
            process.stop()

    def access(
        self, user: str, *, groups: Sequence[str] = (), is_outside: bool = False, stem: str | None = None
    ) -> Access:
        """A certificate and a kubeconfig for a user; `is_outside` is for callers on this machine's loopback."""
        stem = stem or f"{user.replace(':', '-')}{'-outside' if is_outside else ''}"
        pair = self.authority.issue(self.folder, stem, subject=user, organizations=groups or ["nobody"], is_client=True)
        url = f"https://127.0.0.1:{self.place.reach(self._port)}" if is_outside else self.url
        return Access.written(self.folder / f"{stem}.kubeconfig", url, self.authority_file, pair)

    def account(
        self, namespace: str, name: str, *, rules: Sequence[Manifest] = (), cluster_rules: Sequence[Manifest] = ()
    ) -> Access:
        """A ServiceAccount that may do what the rules say, in its namespace and in all; with a token of an hour."""
        rbac, about = "/apis/rbac.authorization.k8s.io/v1", {"metadata": {"name": name}}
        everywhere = {"metadata": {"name": f"{namespace}-{name}"}}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self.cluster.create(accounts, about)
        if rules:
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
            within = f"{rbac}/namespaces/{namespace}"
            self.cluster.create(f"{within}/roles", {**about, "rules": list(rules)})
            self.cluster.create(f"{within}/rolebindings", {**about, "roleRef": role, "subjects": [subject]})
        if cluster_rules:
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"{namespace}-{name}"}
            self.cluster.create(f"{rbac}/clusterroles", {**everywhere, "rules": list(cluster_rules)})
            self.cluster.create(f"{rbac}/clusterrolebindings", {**everywhere, "roleRef": role, "subjects": [subject]})
        token = self.cluster.create(f"{accounts}/{name}/token", {"spec": {"expirationSeconds": 3600}})
        path = self.folder / f"{namespace}-{name}.kubeconfig"
        return Access.written(path, self.cluster.access.url, self.authority_file, token=token["status"]["token"])

    def client(self, access: Access) -> Cluster:
        """Another user's view of this cluster; the caller closes it."""
        return Cluster(access, self._programs["kubectl"])

    @contextmanager
    def namespace(self, prefix: str = "tests", labels: Mapping[str, str] | None = None) -> Iterator[str]:
        """A namespace of its own with its default account; deleted at the end, which nothing waits for."""
        name = a_name(prefix)
        self.cluster.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": dict(labels or {})}})
        self.cluster.create(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
        yield name
        self.cluster.delete(f"/api/v1/namespaces/{name}")

    def process(self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Process:
        """A program of this cluster, not started yet."""
        return Process(name, self.place.within(command), self.folder, env or {})

    def _etcd(self, port: int, peers: int) -> list[str | Path]:
        url, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
        return [
            self._programs["etcd"],
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _api_server(self, etcd: str) -> list[str | Path]:
        serving = self.authority.issue(self.folder, "kube-apiserver", names=_NAMES)
        to_kubelet = self.authority.issue(
            self.folder, "kubelet-client", subject="kube-apiserver", organizations=["system:masters"], is_client=True
        )
        key = self.folder / "service-accounts.key"
        return [
            self._programs["kube-apiserver"],
            f"--etcd-servers={etcd}",
            f"--bind-address={self.place.address}",
            f"--advertise-address={self.place.address}",
            f"--secure-port={self._port}",
            *(["--endpoint-reconciler-type=none"] if isinstance(self.place, Loopback) else []),
            f"--service-cluster-ip-range={self._service_addresses}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--client-ca-file={self.authority_file}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--kubelet-client-certificate={to_kubelet.certificate}",
            f"--kubelet-client-key={to_kubelet.key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            *(self.audit.flags() if self.audit is not None else []),
        ]

    @property
    def _service_addresses(self) -> str:
        return ",".join([SERVICE_ADDRESSES, *([SERVICE_ADDRESSES6] if self.place.address6 else [])])

    def _controller_manager(self) -> list[str | Path]:
        access = self.access("system:kube-controller-manager")
        return [
            self._programs["kube-controller-manager"],
            f"--kubeconfig={access.kubeconfig}",
            f"--authentication-kubeconfig={access.kubeconfig}",
            f"--authorization-kubeconfig={access.kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.place.port(10257)}",
            f"--root-ca-file={self.authority_file}",
            f"--service-account-private-key-file={self.folder / 'service-accounts.key'}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--horizontal-pod-autoscaler-sync-period=1s",  # 15 s, for fewer questions to servers of metrics
            *self._losing_nodes(),
            *_HURRY,
        ]

    def _losing_nodes(self) -> list[str]:
        if not self.lost_after_s:
            return []
        return [f"--node-monitor-grace-period={self.lost_after_s}s", "--node-monitor-period=1s"]

    def _scheduler(self) -> list[str | Path]:
        access = self.access("system:kube-scheduler")
        return [
            self._programs["kube-scheduler"],
            f"--kubeconfig={access.kubeconfig}",
            f"--authentication-kubeconfig={access.kubeconfig}",
            f"--authorization-kubeconfig={access.kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.place.port(10259)}",
            "--leader-elect=false",
            *_HURRY,
        ]


@contextmanager
def control_plane(*, with_controllers: bool = False) -> Iterator[ControlPlane]:
    """One on this machine's loopback, gone without a trace at the end."""
    folder = RunFolder("api")
    try:
        plane = ControlPlane(folder.path, with_controllers=with_controllers)
        try:
            plane.start()
            yield plane
        finally:
            plane.stop()
    finally:
        folder.close()


def a_name(prefix: str) -> str:
    """A name that nothing else in a cluster has."""
    return f"{prefix}-{secrets.token_hex(3)}"


def _service_account_key(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
