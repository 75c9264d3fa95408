"""Everything of zerogate on a node, as a user has it: services put under it by annotations, called through the gateway.

Requests come from this process by way of the tunnel (`Node.reach`) to the ClusterIP of the gateway's Service, so a
connection meets kube-proxy's choice of a gateway pod, as one of a client inside of the cluster does.
"""

import json
import secrets
import socket
import ssl
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from tests.deploy.chart import SYSTEM
from tests.kubernetes.at_once import Crowd
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.manifests import STUB, Object, container, deployment
from tests.kubernetes.harness.node import Node
from tests.kubernetes.harness.processes import say, until
from tests.kubernetes.steady_load import Outcome
from zerogate.clock import now

ROOT: Final = Path(__file__).parents[2]
ALL: Final[Mapping[str, Any]] = {
    "activator": {"enabled": False},
    # streams of a test are seconds long, and a rollout waits for each pod's end
    "gateway": {
        "drainDeadlineSeconds": 60,
        "drainWaitSeconds": 3,
        "env": [{"name": "ZEROGATE_ADMIN_CHANGES", "value": "anybody"}],
    },
}
LONG_S: Final = 90
"""For what takes some seconds on an idle machine: a pod's start, a rollout."""
_EVENT: Final = b"data: {"
FITTING: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


class Answered(msgspec.Struct, frozen=True):
    """What became of a request: `status` 0 where there was no answer, and `error` says why then."""

    status: int
    body: bytes = b""
    error: str = ""
    took_s: float = 0.0
    headers: dict[str, str] = {}


class Numbers:
    """Which numbers of replicas the API server has had for each Deployment, and when its watch showed them here.

    A generation would count writes of annotations too.
    """

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str], list[tuple[int, float]]] = {}

    def of(self, namespace: str, name: str) -> list[int]:
        """In order, from the first."""
        return [number for number, _ in self._shown.get((namespace, name), ())]

    def until(self, namespace: str, name: str, number: int) -> float:
        """The time at which it was shown with this number, the last one."""
        seen = self._shown.setdefault((namespace, name), [])
        until(lambda: seen and seen[-1][0] == number, within_s=LONG_S, what=f"the watch of {name}")
        return seen[-1][1]

    def read(self, answer: HTTPResponse) -> None:
        """All that the watch says, to its end."""
        while line := answer.readline():
            at_s, found = now(), json.loads(line)["object"]
            about = found["metadata"]
            seen = self._shown.setdefault((about["namespace"], about["name"]), [])
            number = found["spec"]["replicas"]
            if not seen or seen[-1][0] != number:
                seen.append((number, at_s))


class _Watch:
    """A watch of all Deployments, in a thread that reads each line as it comes; begun anew where the server ends it."""

    def __init__(self, plane: Node | ControlPlane, numbers: Numbers) -> None:
        self._numbers = numbers
        access = plane.cluster.access
        self._context = ssl.create_default_context(cafile=access.authority)
        if access.pair is not None:
            self._context.load_cert_chain(access.pair.certificate, access.pair.key)
        self._url = urlsplit(access.url)
        self._sock: socket.socket | None = None
        self._ended = threading.Event()
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def start(self) -> None:
        self._thread.start()
        assert self._began.wait(LONG_S)

    def close(self) -> None:
        self._ended.set()
        with suppress(OSError):
            if self._sock is not None:
                self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            connection = HTTPSConnection(str(self._url.hostname), self._url.port, context=self._context)
            with suppress(OSError, ValueError, LookupError, HTTPException):
                connection.request("GET", "/apis/apps/v1/deployments?watch=1")
                self._sock = connection.sock
                with connection.getresponse() as answer:
                    self._began.set()
                    self._numbers.read(answer)
            connection.close()
            self._ended.wait(0.2)


@contextmanager
def watched(plane: Node | ControlPlane) -> Iterator[Numbers]:
    """The numbers of all Deployments from now on."""
    numbers = Numbers()
    watch = _Watch(plane, numbers)
    watch.start()
    try:
        yield numbers
    finally:
        watch.close()


class Whole:
    """A release on a node, and the way to its gateways."""

    def __init__(self, node: Node, numbers: Numbers) -> None:
        self.node = node
        self.numbers = numbers
        self.cluster = node.cluster
        found = node.cluster.get(f"/api/v1/namespaces/{SYSTEM}/services/zerogate-gateway")
        self.place = f"{found['spec']['clusterIP']}:80"
        self.port = node.reach(80, found["spec"]["clusterIP"])

    def call(
        self,
        host: str,
        path: str = "/echo",
        *,
        method: str = "GET",
        body: bytes | None = None,
        within_s: float = LONG_S,
    ) -> Answered:
        """One request on a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=within_s)
        try:
            return ask(connection, host, path, method=method, body=body)
        finally:
            connection.close()

    def connected(self) -> HTTPConnection:
        """A connection to a gateway as a client inside of the node has it, made already: what is measured on it has
        neither the tunnel in it nor the way to a connection."""
        address, _, port = self.place.rpartition(":")
        connection = HTTPConnection(address, int(port), timeout=LONG_S)
        connection.sock = self.node.connect(int(port), address)
        connection.sock.settimeout(LONG_S)
        return connection

    def pods(self, role: str) -> dict[str, str]:
        """Addresses of a role's pods that are not leaving, by their names."""
        chosen = f"app.kubernetes.io%2Fcomponent%3D{role}"
        pods = self.cluster.get(f"/api/v1/namespaces/{SYSTEM}/pods?labelSelector={chosen}")["items"]
        here = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return {pod["metadata"]["name"]: pod["status"].get("podIP", "") for pod in here}

    def known_to_gateways(self) -> list[list[str]]:
        """The services that each gateway pod knows."""
        asked = [json.loads(self.admin(address, "/services")) for address in self.pods("gateway").values()]
        return [[service["service"] for service in found["services"]] for found in asked]

    def until_workers_know(self) -> None:
        """Until the workers of each gateway pod work by what their parent knows: it says so of a reload."""
        for address in self.pods("gateway").values():
            self.admin(address, "/reload", method="POST")

    def admin(self, address: str, path: str, *, method: str = "GET") -> bytes:
        """What a pod's admin port answers."""
        asked = urllib.request.Request(f"http://127.0.0.1:{self.node.reach(8081, address)}{path}", method=method)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            content: bytes = answer.read()
            return content

    def metric(self, address: str, name: str) -> float:
        """One series, its labels included, as a pod's admin port has it; 0 where it has none."""
        lines = self.admin(address, "/metrics").decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)

    def holder(self) -> str:
        """Whose the Lease is: each life of an autoscaler's process has another identity; empty where nobody has it."""
        lease = self.cluster.find(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/zerogate-autoscaler")
        return str((lease or {"spec": {}})["spec"].get("holderIdentity") or "")

    def leader(self) -> str:
        """The name of the pod whose autoscaler leads; empty where none does."""
        return pod_of(self.holder())

    def lose(self, pod: str) -> None:
        """End its container at once, as a fault does. Returns when the kubelet has started the next one and it is
        ready: until then a Service may lead to nobody."""
        before = self._container(pod)
        self._signal(pod, "SIGKILL")

        def is_back(found: Object) -> bool:
            (now_there,) = found["status"]["containerStatuses"]
            return bool(now_there["restartCount"] > before["restartCount"] and now_there["ready"])

        self.cluster.until(f"/api/v1/namespaces/{SYSTEM}/pods/{pod}", is_back, within_s=LONG_S)

    def lose_for_good(self, pod: str) -> None:
        """The same, but another pod takes its place: a container that ends again and again is started later and
        later."""
        self._signal(pod, "SIGKILL")
        self.cluster.kubectl("delete", "pod", "-n", SYSTEM, pod, "--grace-period=0", "--force")

    @contextmanager
    def held_up(self, pod: str) -> Iterator[None]:
        """Its process stands still, with all its connections open."""
        self._signal(pod, "SIGSTOP")
        try:
            yield
        finally:
            self._signal(pod, "SIGCONT")

    def _container(self, pod: str) -> Object:
        (container,) = self.cluster.get(f"/api/v1/namespaces/{SYSTEM}/pods/{pod}")["status"]["containerStatuses"]
        found: Object = container
        return found

    def _signal(self, pod: str, name: str) -> None:
        self.node.signal_container(self._container(pod)["containerID"].removeprefix("containerd://"), name)

    def restart(self, role: str, namespace: str = SYSTEM) -> None:
        """`kubectl rollout restart`, to its end: the old pods are gone too."""
        self.cluster.kubectl("rollout", "restart", "-n", namespace, f"deployment/{role}")
        self.until_rolled_out(role, namespace)

    def until_rolled_out(self, name: str, namespace: str = SYSTEM) -> None:
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        self.cluster.until(path, _is_rolled_out, within_s=2 * LONG_S)
        labels = self.cluster.get(path)["spec"]["selector"]["matchLabels"]
        wanted = self.cluster.get(path)["spec"]["replicas"]
        chosen = ",".join(f"{key}%3D{value.replace('/', '%2F')}" for key, value in labels.items())
        pods = f"/api/v1/namespaces/{namespace}/pods?labelSelector={chosen}"
        self.cluster.until(pods, lambda found: len(found["items"]) == wanted, within_s=2 * LONG_S)

    def logs(self, role: str) -> str:
        """The ends of the logs of a role's pods, for a failed test's message."""
        chosen = f"app.kubernetes.io/component={role}"
        return self.cluster.kubectl("logs", "-n", SYSTEM, "-l", chosen, "--tail=40", "--prefix")


def pod_of(holder: str) -> str:
    """The pod in a holder's identity."""
    return holder.rpartition("_")[0]


class Model:
    """A Deployment of the stub model server, with these flags of its own, or of another container, under zerogate.
    `pod`: more of its pods' spec."""

    def __init__(
        self, whole: Whole, namespace: str, name: str, *, replicas: int = 0, flags: Sequence[str] = (),
        of: Object | None = None, pod: Mapping[str, Any] | None = None, **keys: str,
    ) -> None:  # fmt: skip
        self.whole = whole
        self.cluster = whole.cluster
        self.namespace, self.name = namespace, name
        self.host = f"{name}.{namespace}"
        self.path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        self.pods_path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{name}"
        model = of or container("model", [*STUB, *flags], port=8000, securityContext=FITTING)
        self.cluster.apply(deployment(name, model, replicas=replicas, **(pod or {})), namespace=namespace)
        if keys:
            self.annotate(enabled="true", **keys)
            self.until_routed()

    def annotate(self, **keys: str | None) -> None:
        """Keys of the policy; None takes one away."""
        said = {f"zerogate.dev/{key.replace('_', '-')}": value for key, value in keys.items()}
        self.cluster.patch(self.path, {"metadata": {"annotations": said}})

    def until_routed(self) -> None:
        """Until each worker of each gateway has it; they are asked where nothing wakes."""
        service = f"{self.namespace}/{self.name}"
        until(
            lambda: all(service in known for known in self.whole.known_to_gateways()),
            within_s=LONG_S,
            what="the routes",
        )
        self.whole.until_workers_know()

    def found(self) -> Object:
        return self.cluster.get(self.path)

    def replicas(self) -> int:
        return int(self.found()["spec"]["replicas"])

    def written(self) -> list[int]:
        """The numbers that its spec has had, once the watch has shown the present one."""
        place, numbers = (self.namespace, self.name), self.whole.numbers
        until(
            lambda: numbers.of(*place)[-1:] == [self.replicas()], within_s=LONG_S, what=f"the watch of {self.name}"
        )  # fmt: skip
        return numbers.of(*place)

    def pods(self) -> list[Object]:
        """Those that are not leaving."""
        items = self.cluster.get(self.pods_path)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def peaks(self) -> list[int]:
        """The most that were inside of each pod's model at once."""
        places = [self.whole.node.reach(8000, pod["status"]["podIP"]) for pod in self.pods()]
        found = []
        for place in places:
            with urllib.request.urlopen(f"http://127.0.0.1:{place}/stats", timeout=LONG_S) as answer:
                found.append(int(json.load(answer)["peak"]))
        return found

    def until_replicas(self, count: int, *, within_s: float = LONG_S) -> None:
        self.cluster.until(self.path, lambda found: found["spec"]["replicas"] == count, within_s=within_s)

    def until_ready(self, count: int, *, within_s: float = LONG_S) -> None:
        self.cluster.until(self.path, lambda found: found["status"].get("readyReplicas", 0) == count, within_s=within_s)

    def until_gone(self, *, within_s: float = LONG_S) -> None:
        """At zero, and without pods."""
        self.until_replicas(0, within_s=within_s)
        self.cluster.until(self.pods_path, lambda found: not found["items"], within_s=within_s)

    def call(self, path: str = "/echo", **request: Any) -> Answered:
        return self.whole.call(self.host, path, **request)

    def events(self) -> list[str]:
        """Reasons and words of the Events about it, in order."""
        items = self.cluster.get(f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events")["items"]
        mine = [one for one in items if one["regarding"]["name"] == self.name]
        return [f"{one['reason']}: {one.get('note', '')}" for one in mine]


def ask(
    connection: HTTPConnection,
    host: str,
    path: str = "/echo",
    *,
    method: str = "GET",
    body: bytes | Iterator[bytes] | None = None,
) -> Answered:
    """One request on a connection that may be kept. A body in parts is sent in chunks, as they are there."""
    began_s = now()
    parts = isinstance(body, Iterator)
    headers = {"Host": host, **({"Transfer-Encoding": "chunked"} if parts else {})}
    try:
        connection.request(method, path, body=body, headers=headers, encode_chunked=parts)
    except (OSError, HTTPException) as error:
        return Answered(0, error=repr(error), took_s=now() - began_s)
    return answer_of(connection, began_s)


def answer_of(connection: HTTPConnection, began_s: float) -> Answered:
    """What comes of the request that was sent there."""
    try:
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, HTTPException) as error:
        return Answered(0, error=repr(error), took_s=now() - began_s)
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Answered(answer.status, content, took_s=now() - began_s, headers=headers)


class AtOnce:
    """So many requests by `at_once.py` inside the node, which leave within a millisecond or two."""

    def __init__(self, whole: Whole, host: str, count: int) -> None:
        command = [sys.executable, "-m", "tests.kubernetes.at_once", whole.place, host, str(count)]
        self._process = whole.node.process(f"crowd-{secrets.token_hex(4)}", command, {"PYTHONPATH": str(ROOT)})
        self._process.start()

    def outcome(self) -> Crowd:
        """Waits for all answers."""
        until(lambda: not self._process.is_running, within_s=2 * LONG_S, what="the answers")
        self._process.stop()
        return msgspec.json.decode(self._process.log.read_bytes(), type=Crowd)


class Stream:
    """A stream of an event each half a second, read in a thread of its own. `port`: not by the gateways."""

    def __init__(self, whole: Whole, host: str, *, seconds: float, port: int | None = None) -> None:
        self._connection = HTTPConnection("127.0.0.1", port or whole.port, timeout=LONG_S)
        self._within_s = seconds + LONG_S
        self._host, self._path = host, f"/sse?events={int(seconds * 2)}&gap_ms=500"
        self._thread = threading.Thread(target=self._read, name="stream")
        self._content = b""
        self._began = threading.Event()

    def __enter__(self) -> "Stream":
        """Returns when the first event is there."""
        self._thread.start()
        assert self._began.wait(LONG_S)
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection.sock is not None:
            with suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(LONG_S)
        self._connection.close()

    def _read(self) -> None:
        self._connection.request("GET", self._path, headers={"Host": self._host})
        answer = self._connection.getresponse()
        with suppress(OSError, HTTPException):
            while piece := answer.read1():
                self._content += piece
                self._began.set()
        self._began.set()

    @property
    def is_ended(self) -> bool:
        return not self._thread.is_alive()

    def end(self) -> None:
        """Wait for its end."""
        self._thread.join(self._within_s)

    def until_more(self, count: int) -> None:
        """Until so many more events have come: it goes on."""
        wanted = self._content.count(_EVENT) + count
        until(lambda: self._content.count(_EVENT) >= wanted, within_s=LONG_S, what=f"{count} more events")

    @property
    def events(self) -> int:
        """How many have come; 0 of a stream that ended otherwise than it should."""
        return self._content.count(_EVENT) if self._content.endswith(b"data: [DONE]\n\n") else 0


class Load:
    """Requests to a host at a steady rate until the block ends, by `steady_load.py` inside the node, and what became of
    them. `place`: ADDRESS:PORT instead of the gateways' Service; `is_cold`: do not wait for the first answers."""

    def __init__(
        self,
        whole: Whole,
        host: str,
        path: str = "/echo",
        *,
        rps: float,
        connections: int = 20,
        place: str = "",
        is_cold: bool = False,
    ) -> None:
        node = whole.node
        self._file = node.folder / f"load-{secrets.token_hex(4)}"
        self._is_cold = is_cold
        command: list[str | Path] = [sys.executable, "-m", "tests.kubernetes.steady_load", place or whole.place, host]
        command += [path, str(rps), str(connections), self._file]
        self._process = node.process("load", command, {"PYTHONPATH": str(ROOT)})
        self.outcome = Outcome()

    def __enter__(self) -> "Load":
        self._process.start()
        if not self._is_cold:
            until(self._file.exists, within_s=LONG_S, what="the first answers", process=self._process)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop(grace_s=LONG_S)
        content = self._file.read_bytes() if self._file.exists() else b"{}"
        self.outcome = msgspec.json.decode(content, type=Outcome)

    def check(self, *, rps: float) -> None:
        """Every request was answered as it should be, and there were nearly as many as were to be."""
        one = self.outcome
        assert one.count, f"nothing was answered: {self._process.end_of_log()}"
        assert not one.wrong, f"{len(one.wrong)} of {one.count}: {one.wrong[:5]}"
        # a busy machine makes a generator late, and then it does not catch up
        assert one.count >= 0.6 * rps * one.lasted_s, one
        say(
            f"{one.count} requests in {one.lasted_s:.1f} s: p50 {one.middle_s * 1e3:.1f} ms, "
            f"p99 {one.p99_s * 1e3:.1f} ms, slowest {one.slowest_s * 1e3:.0f} ms"
        )


def _is_rolled_out(found: Object) -> bool:
    status, wanted = found["status"], found["spec"]["replicas"]
    return bool(
        status.get("observedGeneration") == found["metadata"]["generation"]
        and status.get("updatedReplicas", 0)
        == status.get("availableReplicas", 0)
        == status.get("replicas", 0)
        == wanted
    )
