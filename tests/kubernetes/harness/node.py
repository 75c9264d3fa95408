"""A whole node: control plane, containerd, kubelet, kube-proxy and the names of services, in namespaces of its own.

    with node() as one:
        one.cluster.apply(deployment)                                  # images: see `images.py`, imagePullPolicy: Never
        one.run("curl", "-s", "http://10.96.0.10/")                    # a client in the node's network
        one.reach(80, "10.96.0.10")                                    # the same for one on this machine's loopback

Pods have addresses of 10.78.0.0/24, services of 10.96.0.0/16; nothing of it is on this machine's own network. Where the
kernel has IPv6 (`Node.has_ipv6`) pods have one of fd78::/64 besides, and services of fd96::/112 where they ask for it.
Needs root, and the programs of `TOOLS`.
"""

import json
import os
import platform
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.kubernetes.harness import binaries, images
from tests.kubernetes.harness.access import Cluster
from tests.kubernetes.harness.audit import Audited
from tests.kubernetes.harness.binaries import UnavailableError
from tests.kubernetes.harness.control_plane import WITH_CONTROLLERS, ControlPlane
from tests.kubernetes.harness.namespaces import ADDRESS, Room
from tests.kubernetes.harness.processes import PATH, ClusterError, Process, RunFolder, until

NAME = "node"
PROGRAMS = (*WITH_CONTROLLERS, "kubelet", "kube-proxy", "pause", "coredns")
TOOLS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
"""Programs of the system, and Debian's packages that have them."""
PLUGINS = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
"""Where distributions put the plugins that make pods' networks (Debian: containernetworking-plugins)."""

_POD_RANGES = ("10.78.0.0/24", "fd78::/64")
_READY_S = 90
"""Measured: 7 s on an idle machine with 2 cores."""


class Node:
    """One node and its control plane. `cluster` is the administrator's view, from this machine's loopback."""

    def __init__(self, folder: Path, room: Room, audited: Sequence[Audited] = ()) -> None:
        self.folder = folder
        self.room = room
        self._programs = binaries.ensure(PROGRAMS)
        self.plane = ControlPlane(folder, with_controllers=True, place=room, audited=audited)
        self.cluster: Cluster = self.plane.cluster
        self._group = f"zerogate-{folder.name}"
        self.containerd = self.plane.process("containerd", self._containerd())
        self.kubelet = self.plane.process("kubelet", self._kubelet())
        self.kube_proxy = self.plane.process("kube-proxy", self._kube_proxy())
        self.dns = self.plane.process("coredns", self._dns())

    def start(self) -> None:
        """Start everything; the node is Ready then, and has the images `pause` and `zerogate`."""
        _make_control_group(self.folder, self._group)
        with ThreadPoolExecutor(1) as beside:
            having_images = beside.submit(self._start_containers)
            self.plane.start()
            having_images.result()
        self.kubelet.start()
        self.kube_proxy.start()
        self.dns.start()
        self.until_ready()

    def stop(self) -> None:
        """Forget what ended with the room, which is closed before."""
        for process in (self.kubelet, self.kube_proxy, self.dns, self.containerd):
            process.stop()
        self.plane.stop()

    @property
    def has_ipv6(self) -> bool:
        """Whether pods and Services can have addresses of both families; the first one is of IPv4."""
        return bool(self.room.address6)

    def until_ready(self) -> None:
        """Wait until the node says that it takes pods."""
        until(self._is_ready, within_s=_READY_S, what="the node", process=self.kubelet)

    def add_image(self, image: images.Image) -> None:
        """Make an image known to the node."""
        archive = self.folder / "image.tar"
        images.write(image, archive)
        self.add_archive(archive)
        archive.unlink()

    def add_archive(self, archive: Path) -> None:
        """Make the images of an archive known to the node."""
        self._containers("images", "import", archive)

    def run(self, *command: str | Path, within_s: float = 60, stdin: str | None = None) -> str:
        """Run a command in the node's namespaces to its end; what it printed."""
        return self.room.run(*command, within_s=within_s, stdin=stdin)

    def restart_clients(self) -> None:
        """After an outage of the API server: its clients wait longer and longer between two tries. 20 s without it were
        measured to make the next pod 50 s late, its place on the node 60 s, and names unknown for minutes."""
        for process in (*self.plane.controllers, self.kubelet, self.kube_proxy, self.dns):
            process.stop()
            process.start()

    def signal_container(self, id_: str, name: str = "SIGKILL") -> None:
        """To its first process; the kubelet decides what comes then."""
        self._containers("tasks", "kill", "--signal", name, id_)

    def process(self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Process:
        """A program in the node's namespaces, not started yet: a load generator, say."""
        return self.plane.process(name, command, env)

    def reach(self, port: int, address: str = ADDRESS) -> int:
        """A port of this machine's loopback that leads to that port of the node, a pod or a service."""
        return self.room.reach(port, address)

    def connect(self, port: int, address: str = ADDRESS) -> socket.socket:
        """A connection to that port of the node, a pod or a service from inside the node's network."""
        return self.room.connect(port, address)

    def logs(self) -> str:
        """The ends of the logs of everything, for a failed test's message."""
        plane = self.plane
        every = (plane.api_server, *plane.controllers, self.containerd, self.kubelet, self.kube_proxy, self.dns)
        return "\n".join(f"--- {process.name}\n{process.end_of_log()}" for process in every)

    def _start_containers(self) -> None:
        self.containerd.start()
        until(self._containers_answer, within_s=30, what="containerd", process=self.containerd)
        self.add_image(images.pause(self._programs["pause"]))
        self.add_image(images.zerogate())

    def _containers(self, *arguments: str | Path) -> str:
        return self.run("ctr", "--address", self.folder / "containerd.sock", "--namespace", "k8s.io", *arguments)

    def _containers_answer(self) -> bool:
        if not (self.folder / "containerd.sock").exists():
            return False
        try:
            return "io.containerd.grpc.v1" in self._containers("plugins", "ls")
        except ClusterError:
            return False

    def _is_ready(self) -> bool:
        found = self.cluster.find(f"/api/v1/nodes/{NAME}")
        conditions = found["status"].get("conditions", []) if found else []
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def _containerd(self) -> list[str | Path]:
        cni = self.folder / "cni"
        cni.mkdir()
        (cni / "10-pods.conflist").write_text(json.dumps(_network(self.folder, has_ipv6=self.has_ipv6)))
        config = self.folder / "containerd.toml"
        config.write_text(_CONTAINERD.format(folder=self.folder, plugins=_plugins(), pause=images.PAUSE))
        return ["containerd", "--config", config]

    def _kubelet(self) -> list[str | Path]:
        serving = self.plane.authority.issue(self.folder, "kubelet", names=[NAME, ADDRESS])
        access = self.plane.access(f"system:node:{NAME}", groups=["system:nodes"])
        (self.folder / "resolv.conf").write_text("")
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": self.plane.authority_file}},
            "tlsCertFile": serving.certificate,
            "tlsPrivateKeyFile": serving.key,
            "containerRuntimeEndpoint": f"unix://{self.folder / 'containerd.sock'}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._group}",
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "clusterDNS": [ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self.folder / "resolv.conf"),
            "podLogsDir": str(self.folder / "logs"),
            "volumePluginDir": str(self.folder / "volume-plugins"),
            # The disk of a developer may be full, and images are here to stay.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
        }
        path = self.folder / "kubelet.yaml"
        path.write_text(yaml.safe_dump(config))
        return [
            self._programs["kubelet"],
            f"--config={path}",
            f"--kubeconfig={access.kubeconfig}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--cert-dir={self.folder / 'kubelet-pki'}",
            f"--hostname-override={NAME}",
            f"--node-ip={','.join(self._addresses)}",
        ]

    def _kube_proxy(self) -> list[str | Path]:
        return [
            self._programs["kube-proxy"],
            f"--kubeconfig={self.plane.access('system:kube-proxy').kubeconfig}",
            f"--hostname-override={NAME}",
            "--proxy-mode=iptables",
            f"--cluster-cidr={','.join(_POD_RANGES[: len(self._addresses)])}",
            # These would be set for the whole machine.
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
        ]

    @property
    def _addresses(self) -> list[str]:
        return [one for one in (self.room.address, self.room.address6) if one]

    def _dns(self) -> list[str | Path]:
        access = self.plane.access("coredns", groups=["system:masters"])
        file = self.folder / "Corefile"
        file.write_text(f"""
            .:53 {{
              errors
              kubernetes cluster.local {{
                kubeconfig {access.kubeconfig}
              }}
            }}
        """)
        return [self._programs["coredns"], "-conf", file]


@contextmanager
def node(audited: Sequence[Audited] = ()) -> Iterator[Node]:
    """A ready one, gone without a trace at the end. `audited`: of which requests the API server notes its own times."""
    require()
    pause = binaries.ensure(PROGRAMS)["pause"]
    folder = RunFolder("node")
    room = Room(folder.path, pause)
    one = None
    try:
        room.open()
        one = Node(folder.path, room, audited)
        one.start()
        yield one
    finally:
        room.close()
        if one is not None:
            one.stop()
        folder.close()


def require() -> None:
    """Raises UnavailableError where this machine cannot have a node."""
    if platform.system() != "Linux":
        raise UnavailableError("a node needs Linux", is_mendable=False)
    if os.geteuid() != 0:
        raise UnavailableError("a node needs root, for its network and its containers", is_mendable=False)
    missing = {package for tool, package in TOOLS.items() if shutil.which(tool, path=PATH) is None}
    if not any(Path(folder, "bridge").exists() for folder in PLUGINS):
        missing.add("containernetworking-plugins")
    if missing:
        names = " ".join(sorted(missing))
        raise UnavailableError(f"a node needs what is not installed here: apt install {names}", is_mendable=True)


def _plugins() -> str:
    return next(folder for folder in PLUGINS if Path(folder, "bridge").exists())


def _network(folder: Path, *, has_ipv6: bool) -> dict[str, object]:
    """How a pod gets its address: a port of a bridge, and no masquerading, for nothing leaves."""
    count = 2 if has_ipv6 else 1
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": one}] for one in _POD_RANGES[:count]],
        "routes": [{"dst": one} for one in ("0.0.0.0/0", "::/0")[:count]],
    }
    bridge = {
        "type": "bridge",
        "bridge": "pods0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {**addresses, "dataDir": str(folder / "addresses")},
    }
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _make_control_group(folder: Path, group: str) -> None:
    """The kubelet's root among the control groups, noted so that it is removed with the folder."""
    (folder / "control-group").write_text(group)
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        (root / group).mkdir()
        return
    for controller in root.iterdir():
        if controller.is_dir() and not controller.is_symlink() and controller.name != "unified":
            (controller / group).mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group, and nothing can run in it then
        (root / "cpuset" / group / name).write_text((root / "cpuset" / name).read_text())


# Without CAP_SYS_RESOURCE, which containers of CI lack, nothing can lower its score before the out-of-memory killer;
# opt would make /opt/containerd, and the snapshotters are those that complain of missing kernel modules.
_CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{folder}/cni"
"""
