"""What makes a room a node of a cluster: containerd, kubelet and kube-proxy. Made by `node.py`, for the first node and
for those that join it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tests.kubernetes.harness import binaries, images
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.namespaces import Room
from tests.kubernetes.harness.processes import ClusterError, Process, until

PLUGINS = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
"""Where distributions put the plugins that make pods' networks (Debian: containernetworking-plugins)."""
PROGRAMS = ("kubelet", "kube-proxy", "pause")

_ALL_PODS = ("10.78.0.0/16", "fd78::/64")
_READY_S = 90
"""Measured: 7 s on an idle machine with 2 cores."""


class Machine:
    """One node's processes in its room. `pod_ranges`: the addresses of its pods, of IPv4 and perhaps of IPv6."""

    def __init__(
        self, plane: ControlPlane, room: Room, folder: Path, *, name: str, pod_ranges: Sequence[str], dns: str
    ) -> None:
        self.plane = plane
        self.room = room
        self.folder = folder
        self.name = name
        self._pod_ranges = pod_ranges
        self._dns = dns
        self._programs = binaries.ensure(PROGRAMS)
        self._group = f"zerogate-{folder.name}"
        self.containerd = self._process("containerd", self._containerd())
        self.kubelet = self._process("kubelet", self._kubelet())
        self.kube_proxy = self._process("kube-proxy", self._kube_proxy())

    @property
    def processes(self) -> tuple[Process, ...]:
        return (self.kubelet, self.kube_proxy, self.containerd)

    def make_control_group(self) -> None:
        """Of all its pods; removed with the folder."""
        _make_control_group(self.folder, self._group)

    def start_containers(self) -> None:
        """containerd, with the images `pause` and `zerogate`. It needs no API server."""
        self.containerd.start()
        until(self._containers_answer, within_s=30, what="containerd", process=self.containerd)
        self.add_image(images.pause(self._programs["pause"]))
        self.add_image(images.zerogate())

    def start(self) -> None:
        """The rest; `until_ready` waits for it."""
        self.kubelet.start()
        self.kube_proxy.start()

    def until_ready(self) -> None:
        """Wait until the node says that it takes pods."""
        until(self.is_ready, within_s=_READY_S, what=f"the node {self.name}", process=self.kubelet)

    def is_ready(self) -> bool:
        """By the API server."""
        found = self.plane.cluster.find(f"/api/v1/nodes/{self.name}")
        conditions = found["status"].get("conditions", []) if found else []
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def add_image(self, image: images.Image) -> None:
        """Make an image known to the node."""
        archive = self.folder / "image.tar"
        images.write(image, archive)
        self.add_archive(archive)
        archive.unlink()

    def add_archive(self, archive: Path) -> None:
        """Make the images of an archive known to the node."""
        self.containers("images", "import", archive)

    def containers(self, *arguments: str | Path) -> str:
        """A command of containerd's own client; what it printed."""
        socket = self.folder / "containerd.sock"
        return self.room.run("ctr", "--address", socket, "--namespace", "k8s.io", *arguments)

    def _containers_answer(self) -> bool:
        if not (self.folder / "containerd.sock").exists():
            return False
        try:
            return "io.containerd.grpc.v1" in self.containers("plugins", "ls")
        except ClusterError:
            return False

    def _process(self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Process:
        return Process(name, self.room.within(command), self.folder, env or {})

    @property
    def _addresses(self) -> list[str]:
        return [one for one in (self.room.address, self.room.address6) if one]

    def _containerd(self) -> list[str | Path]:
        cni = self.folder / "cni"
        cni.mkdir()
        (cni / "10-pods.conflist").write_text(json.dumps(_network(self.folder, self._pod_ranges)))
        config = self.folder / "containerd.toml"
        config.write_text(_CONTAINERD.format(folder=self.folder, plugins=_plugins(), pause=images.PAUSE))
        return ["containerd", "--config", config]

    def _kubelet(self) -> list[str | Path]:
        serving = self.plane.authority.issue(self.folder, "kubelet", names=[self.name, self.room.address])
        access = self.plane.access(f"system:node:{self.name}", groups=["system:nodes"])
        (self.folder / "resolv.conf").write_text("")
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.room.address,
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": self.plane.authority_file}},
            "tlsCertFile": serving.certificate,
            "tlsPrivateKeyFile": serving.key,
            "containerRuntimeEndpoint": f"unix://{self.folder / 'containerd.sock'}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._group}",
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "clusterDNS": [self._dns],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self.folder / "resolv.conf"),
            "podLogsDir": str(self.folder / "logs"),
            "volumePluginDir": str(self.folder / "volume-plugins"),
            # The disk of a developer may be full, and images are here to stay.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            **({"nodeLeaseDurationSeconds": self.plane.lost_after_s} if self.plane.lost_after_s else {}),
        }
        path = self.folder / "kubelet.yaml"
        path.write_text(yaml.safe_dump(config))
        return [
            self._programs["kubelet"],
            f"--config={path}",
            f"--kubeconfig={access.kubeconfig}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--cert-dir={self.folder / 'kubelet-pki'}",
            f"--hostname-override={self.name}",
            f"--node-ip={','.join(self._addresses)}",
        ]

    def _kube_proxy(self) -> list[str | Path]:
        access = self.plane.access("system:kube-proxy", stem=f"kube-proxy-{self.name}")
        return [
            self._programs["kube-proxy"],
            f"--kubeconfig={access.kubeconfig}",
            f"--hostname-override={self.name}",
            "--proxy-mode=iptables",
            f"--cluster-cidr={','.join(_ALL_PODS[: len(self._addresses)])}",
            # These would be set for the whole machine.
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
        ]


def _plugins() -> str:
    return next(folder for folder in PLUGINS if Path(folder, "bridge").exists())


def _network(folder: Path, ranges: Sequence[str]) -> dict[str, object]:
    """How a pod gets its address: a port of a bridge, and no masquerading, for nothing leaves."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": one}] for one in ranges],
        "routes": [{"dst": one} for one in ("0.0.0.0/0", "::/0")[: len(ranges)]],
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
