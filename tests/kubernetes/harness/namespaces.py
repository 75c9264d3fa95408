"""A room of its own on this machine: network, mounts, processes and host name that only a node sees.

The kernel takes it down with its first process, and that one dies with us: every process, mount, bridge and iptables
rule in it is gone then, whatever way this process ends. Needs root.

`Room.within` is how programs are started in it (`ControlPlane` takes it as its `Place`); `Room.reach` makes a port in
it reachable on this machine's loopback; `Room.connect` is a connection as a client inside of it has.
"""

import asyncio
import ctypes
import os
import signal
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.kubernetes.harness import processes
from tests.kubernetes.harness.processes import ClusterError, Process, children, until

ADDRESS = "10.77.0.1"
"""The node's own, on a bridge: a device that is there on every kernel that runs pods, unlike `dummy`."""

ADDRESS6 = "fd77::1"
"""The same of IPv6."""

_SET_UP = """
ip link set lo up
ip link add node0 type bridge
ip address add {address}/24 dev node0
ip link set node0 up
ip route add default via 10.77.0.254
echo 1 > /proc/sys/net/ipv4/ip_forward
test ! -e /proc/sys/net/bridge/bridge-nf-call-iptables || echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
test ! -e /proc/sys/net/bridge/bridge-nf-call-ip6tables || echo 1 > /proc/sys/net/bridge/bridge-nf-call-ip6tables
mount -t tmpfs run /run
mount -t tmpfs logs /var/log
mkdir -p /run/lock
hostname node
"""
"""The default route leads nowhere: programs choose their address by it, and no packet leaves."""
_SET_UP6 = f"""
ip6tables --table nat --list-rules
echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6
ip -6 address add {ADDRESS6}/64 dev node0 nodad
ip -6 route add default via fd77::fe dev node0
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
"""

_CLONE_NEWNET = 0x40000000


class Room:
    """The namespaces of one node. Its first process only waits and reaps."""

    address6 = ""

    def __init__(self, folder: Path, first: Path, number: int = 1) -> None:
        """`first`: the program that only waits and reaps. `number`: 1 is a node with the control plane; others join
        it."""
        self.address = f"10.77.0.{number}"
        self._number = number
        self._holder = Process(
            "namespaces",
            [
                *("unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--propagation", "private"),
                *("--mount-proc", "--fork", "--kill-child=KILL", first),
            ],
            folder,
            {},
        )
        self._tunnel: Tunnel | None = None
        self._first = 0

    def open(self) -> None:
        """Make it and its network."""
        self._holder.start()
        (first,) = until(
            lambda: children(self._holder.pid), within_s=10, what="the node's namespaces", process=self._holder
        )
        self._first = first
        # unshare forks before it mounts /proc, so the child is there a moment before its mounts are.
        until(self._has_own_proc, within_s=10, what="the node's own /proc", process=self._holder)
        self.run("sh", "-e", "-c", _SET_UP.format(address=self.address))
        if self.address == ADDRESS:
            with suppress(ClusterError):  # a kernel without IPv6
                self.run("sh", "-e", "-c", _SET_UP6)
                self.address6 = ADDRESS6
        self._tunnel = Tunnel(first)

    def join(self, other: "Room", *, mine: str, theirs: str) -> None:
        """Lay a cable to another one, and tell each where the other one's pods are."""
        cable = other._cable
        network = f"--net=/proc/{self._first}/ns/net"
        processes.run(
            "nsenter", network, "ip", "link", "add", cable, "type", "veth", "peer", "name", "cable", "netns",
            str(other._first),
        )  # fmt: skip
        for room, end, pods, by in ((self, cable, theirs, other), (other, "cable", mine, self)):
            room.run("ip", "link", "set", end, "master", "node0", "up")
            room.run("ip", "route", "add", pods, "via", by.address)

    def cut(self, other: "Room") -> None:
        """Let nothing pass to the other one and nothing from it."""
        self.run("ip", "link", "set", other._cable, "nomaster", "down")

    @property
    def _cable(self) -> str:
        return f"cable{self._number}"

    def within(self, command: Sequence[str | Path]) -> list[str | Path]:
        names = ("--net", "--mount", "--pid", "--ipc", "--uts")
        return ["nsenter", f"--target={self._first}", *names, "--", *command]

    def run(self, *command: str | Path, within_s: float = 60, stdin: str | None = None) -> str:
        """Run a command in it to its end; what it printed."""
        return processes.run(*self.within(command), within_s=within_s, stdin=stdin)

    def port(self, usual: int) -> int:
        return usual

    def reach(self, port: int, address: str = ADDRESS) -> int:
        """A port of this machine's loopback that leads to a port in it, for as long as it is there."""
        if self._tunnel is None:
            raise ClusterError("the node's namespaces are not open")
        return self._tunnel.reach(address, port)

    def connect(self, port: int, address: str = ADDRESS) -> socket.socket:
        """A connection from inside of it, with nothing of ours in between."""
        if self._tunnel is None:
            raise ClusterError("the node's namespaces are not open")
        return self._tunnel.connect(address, port)

    def close(self) -> None:
        """Everything in it ends, and has ended on return: the kernel lets its first process go last. May be called
        again."""
        if self._tunnel is not None:
            self._tunnel.close()
            self._tunnel = None
        if self._first:
            os.kill(self._first, signal.SIGKILL)
            self._first = 0
            until(lambda: not self._holder.is_running, within_s=30, what="the end of the node's processes")
        self._holder.stop()

    def _has_own_proc(self) -> bool:
        try:
            return bool(self.run("readlink", "/proc/self"))
        except ClusterError:
            return False


class Tunnel:
    """Carries connections from this machine's loopback into a room, on a loop in a thread that is in both.

    A socket stays in the network where it was made: those that listen are made by the caller's thread, those that go
    on by one that has moved.
    """

    def __init__(self, first: int) -> None:
        self._ports: dict[tuple[str, int], int] = {}
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._live, args=(first,), name="tunnel", daemon=True)
        self._thread.start()

    def reach(self, address: str, port: int) -> int:
        """The port of our loopback."""
        if (address, port) not in self._ports:
            sock = socket.create_server(("127.0.0.1", 0), backlog=512)
            sock.setblocking(False)
            asyncio.run_coroutine_threadsafe(self._listen(sock, address, port), self._loop).result(10)
            self._ports[address, port] = sock.getsockname()[1]
        return self._ports[address, port]

    def connect(self, address: str, port: int) -> socket.socket:
        """A connection made in the room, for whoever blocks on it."""
        return asyncio.run_coroutine_threadsafe(self._connect(address, port), self._loop).result(10)

    async def _connect(self, address: str, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        await self._loop.sock_connect(sock, (address, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(True)
        return sock

    def close(self) -> None:
        """Break off what goes through."""
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _live(self, first: int) -> None:
        descriptor = os.open(f"/proc/{first}/ns/net", os.O_RDONLY)
        failed = ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET)
        os.close(descriptor)
        if failed:
            raise OSError(ctypes.get_errno(), "this thread cannot move into the node's network")
        self._loop.run_forever()

    async def _listen(self, sock: socket.socket, address: str, port: int) -> None:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._carry(reader, writer, address, port)

        self._servers.append(await asyncio.start_server(carry, sock=sock))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, port: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(OSError, asyncio.CancelledError):
            further, back = await asyncio.open_connection(address, port)
            try:
                await asyncio.gather(_pass_on(reader, back), _pass_on(further, writer))
                for done in (back, writer):
                    done.close()  # what is still in its buffer goes out first
            finally:
                if not back.is_closing():
                    back.transport.abort()
        if not writer.is_closing():
            writer.transport.abort()
        self._tasks.discard(task)

    async def _finish(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.sleep(0.01)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
