"""A whole node: control plane, containerd, kubelet, kube-proxy and the names of services, in namespaces of its own.

    with node() as one:
        one.cluster.apply(deployment)                                  # images: see `images.py`, imagePullPolicy: Never
        one.run("curl", "-s", "http://10.96.0.10/")                    # a client in the node's network
        one.reach(80, "10.96.0.10")                                    # the same for one on this machine's loopback

Pods have addresses of 10.78.0.0/24, services of 10.96.0.0/16; nothing of it is on this machine's own network. Where the
kernel has IPv6 (`Node.has_ipv6`) pods have one of fd78::/64 besides, and services of fd96::/112 where they ask for it.
Needs root, and the programs of `TOOLS`.
"""

import os
import platform
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.kubernetes.harness import binaries, images, machine
from tests.kubernetes.harness.access import Cluster
from tests.kubernetes.harness.audit import Audited
from tests.kubernetes.harness.binaries import UnavailableError
from tests.kubernetes.harness.control_plane import WITH_CONTROLLERS, ControlPlane
from tests.kubernetes.harness.machine import Machine
from tests.kubernetes.harness.namespaces import ADDRESS, Room
from tests.kubernetes.harness.processes import PATH, Process, RunFolder

NAME = "node"
PROGRAMS = (*WITH_CONTROLLERS, *machine.PROGRAMS, "coredns")
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
_POD_RANGES = ("10.78.0.0/24", "fd78::/64")


class Node:
    """One node and its control plane. `cluster` is the administrator's view, from this machine's loopback."""

    def __init__(self, folder: Path, room: Room, audited: Sequence[Audited] = (), lost_after_s: int = 0) -> None:
        self.folder = folder
        self.room = room
        self.plane = ControlPlane(
            folder, with_controllers=True, place=room, audited=audited, lost_after_s=lost_after_s
        )  # fmt: skip
        self.cluster: Cluster = self.plane.cluster
        ranges = _POD_RANGES if room.address6 else _POD_RANGES[:1]
        self.machine = Machine(self.plane, room, folder, name=NAME, pod_ranges=ranges, dns=ADDRESS)
        self.kubelet = self.machine.kubelet
        self.dns = self.plane.process("coredns", self._dns())

    def start(self) -> None:
        """Start everything; the node is Ready then, and has the images `pause` and `zerogate`."""
        self.machine.make_control_group()
        with ThreadPoolExecutor(1) as beside:
            having_images = beside.submit(self.machine.start_containers)
            self.plane.start()
            having_images.result()
        self.machine.start()
        self.dns.start()
        self.until_ready()

    def stop(self) -> None:
        """Forget what ended with the room, which is closed before."""
        for process in (*self.machine.processes, self.dns):
            process.stop()
        self.plane.stop()

    @property
    def has_ipv6(self) -> bool:
        """Whether pods and Services can have addresses of both families; the first one is of IPv4."""
        return bool(self.room.address6)

    def until_ready(self) -> None:
        """Wait until the node says that it takes pods."""
        self.machine.until_ready()

    def add_image(self, image: images.Image) -> None:
        """Make an image known to the node."""
        self.machine.add_image(image)

    def add_archive(self, archive: Path) -> None:
        """Make the images of an archive known to the node."""
        self.machine.add_archive(archive)

    def run(self, *command: str | Path, within_s: float = 60, stdin: str | None = None) -> str:
        """Run a command in the node's namespaces to its end; what it printed."""
        return self.room.run(*command, within_s=within_s, stdin=stdin)

    def restart_clients(self) -> None:
        """After an outage of the API server: its clients wait longer and longer between two tries. 20 s without it were
        measured to make the next pod 50 s late, its place on the node 60 s, and names unknown for minutes."""
        for process in (*self.plane.controllers, self.kubelet, self.machine.kube_proxy, self.dns):
            process.stop()
            process.start()

    def signal_container(self, id_: str, name: str = "SIGKILL") -> None:
        """To its first process; the kubelet decides what comes then."""
        self.machine.containers("tasks", "kill", "--signal", name, id_)

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
        every = (plane.api_server, *plane.controllers, *self.machine.processes, self.dns)
        return "\n".join(f"--- {process.name}\n{process.end_of_log()}" for process in every)

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
        return [binaries.ensure(PROGRAMS)["coredns"], "-conf", file]


class Joined:
    """One more node of a cluster, that can be lost. Its pods are reached from the first one and reach it."""

    def __init__(self, folder: Path, room: Room, to: Node, number: int) -> None:
        self.name = f"{NAME}-{number}"
        self.room = room
        self._pods = f"10.78.{number}.0/24"
        self._to = to
        self.machine = Machine(to.plane, room, folder, name=self.name, pod_ranges=[self._pods], dns=ADDRESS)

    def start(self) -> None:
        """It is Ready then."""
        self.machine.make_control_group()
        self.machine.start_containers()
        self._to.room.join(self.room, mine=_POD_RANGES[0], theirs=self._pods)
        self.machine.start()
        self.machine.until_ready()

    def lose(self) -> None:
        """As by a cut of its power: nobody hears a word of it any more, not even an end of their connections."""
        self._to.room.cut(self.room)
        self.room.close()

    def stop(self) -> None:
        """Forget what ended with the room, which is closed before."""
        for process in self.machine.processes:
            process.stop()


@contextmanager
def node(audited: Sequence[Audited] = (), lost_after_s: int = 0) -> Iterator[Node]:
    """A ready one, gone without a trace at the end. `audited`: of which requests the API server notes its own times.
    `lost_after_s`: after so long without a word the controllers call a node NotReady; 0 for what they do by default."""
    require()
    pause = binaries.ensure(PROGRAMS)["pause"]
    folder = RunFolder("node")
    room = Room(folder.path, pause)
    one = None
    try:
        room.open()
        one = Node(folder.path, room, audited, lost_after_s)
        one.start()
        yield one
    finally:
        room.close()
        if one is not None:
            one.stop()
        folder.close()


@contextmanager
def joined(to: Node, number: int = 2) -> Iterator[Joined]:
    """One more ready node, of IPv4 alone; gone without a trace at the end, if it was not lost before."""
    folder = RunFolder("node")
    room = Room(folder.path, binaries.ensure(PROGRAMS)["pause"], number)
    one = None
    try:
        room.open()
        one = Joined(folder.path, room, to, number)
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
    if not any(Path(folder, "bridge").exists() for folder in machine.PLUGINS):
        missing.add("containernetworking-plugins")
    if missing:
        names = " ".join(sorted(missing))
        raise UnavailableError(f"a node needs what is not installed here: apt install {names}", is_mendable=True)
