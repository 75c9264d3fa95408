"""A kubelet played for gateways: pods of real controllers, whose status is written here and whose sidecars are real.

Each pod that is `brought up` gets an address of loopback of its own, where a real sidecar listens on the port that the
pod declares, in front of a real stub model server. Its status says what the test wants it to.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.kubernetes.harness.control_plane import ControlPlane
from tests.queueproxy.world import Program, start_sidecar, start_stub
from zerogate.kube.sidecar import LABEL, PORT_NAME, SIDECAR
from zerogate.runtime.interface import Address

PORT = 8012
_ADDRESSES = (f"127.{os.getpid() % 200 + 20}.{high}.{low}" for high in range(1, 250) for low in range(1, 250))
"""Of this run alone: two runs on one machine would meet on the same port."""


class PlayedPod:
    """A pod with processes behind it."""

    def __init__(self, name: str, address: str, stub: Program, stub_port: int) -> None:
        self.name = name
        self.address = address
        self.stub = stub
        self.stub_port = stub_port
        self.sidecar: Program | None = None


class Kubelet:
    """Plays in one namespace of `plane`."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self.pods: dict[str, PlayedPod] = {}
        self.port, self.admin = PORT, 8013
        """Of all sidecars; where their addresses are not this run's alone, the ports have to be."""
        self._turn = asyncio.Lock()
        """The harness's client takes one question at a time."""

    # Workloads

    async def deploy(self, name: str, replicas: int = 0, **annotations: str) -> None:
        """A Deployment under zerogate with these keys of its policy, as its owner would make it."""
        said = {f"zerogate.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        await self._tell("create", f"{self._workloads}", {
            "metadata": {"name": name, "annotations": {"zerogate.dev/enabled": "true", **said}},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name, LABEL: "true"}},
                    "spec": {
                        "terminationGracePeriodSeconds": 30,
                        "initContainers": [{
                            "name": SIDECAR, "image": "zerogate", "restartPolicy": "Always",
                            "ports": [{"name": PORT_NAME, "containerPort": self.port}],
                        }],
                        "containers": [{"name": "model", "image": "model", "ports": [{"containerPort": 8000}]}],
                    },
                },
            },
        })  # fmt: skip

    async def annotate(self, name: str, **annotations: str | None) -> None:
        said = {f"zerogate.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        await self._tell("patch", f"{self._workloads}/{name}", {"metadata": {"annotations": said}})

    async def note(self, name: str, key: str, value: str) -> None:
        """An annotation as zerogate itself writes it."""
        await self._tell("patch", f"{self._workloads}/{name}", {"metadata": {"annotations": {key: value}}})

    async def scale(self, name: str, replicas: int) -> None:
        await self._tell("patch", f"{self._workloads}/{name}/scale", {"spec": {"replicas": replicas}})

    async def delete(self, name: str) -> None:
        await self._tell("delete", f"{self._workloads}/{name}")

    async def number(self, name: str) -> tuple[int, int]:
        """(replicas, generation): the generation counts writes of the spec."""
        found = await self._tell("get", f"{self._workloads}/{name}")
        return found["spec"].get("replicas", 0), found["metadata"]["generation"]

    # Pods

    async def names(self, app: str) -> list[str]:
        """Pods of the workload that are not being deleted."""
        listed = await self._tell("get", f"{self._pods}?labelSelector=app%3D{app}")
        return sorted(
            pod["metadata"]["name"] for pod in listed["items"] if "deletionTimestamp" not in pod["metadata"]
        )  # fmt: skip

    async def until_pods(self, app: str, count: int) -> list[str]:
        """Wait until the controllers have made so many."""
        async with asyncio.timeout(20):
            while len(found := await self.names(app)) != count:
                await asyncio.sleep(0.02)
        return found

    async def note_on_pod(self, name: str, key: str, value: str) -> None:
        await self._tell("patch", f"{self._pods}/{name}", {"metadata": {"annotations": {key: value}}})

    async def give_address(
        self, name: str, *stub_flags: str, bound: bool = False, address: str = ""
    ) -> PlayedPod:  # fmt: skip
        """The pod runs and has an address; nothing answers there yet."""
        stub, stub_port = await start_stub(*stub_flags)
        pod = self.pods[name] = PlayedPod(name, address or next(_ADDRESSES), stub, stub_port)
        if not bound:
            await self.bind(name)
        await self.say(name, {"running": {}}, ready=False, address=pod.address)
        return pod

    async def start_sidecar(self, name: str, *flags: str) -> None:
        """What the kubelet does first of all in a pod."""
        pod = self.pods[name]
        listen, asked = (str(Address(pod.address, number)) for number in (self.port, self.admin))
        pod.sidecar = await start_sidecar(
            "--upstream", str(pod.stub_port), "--listen", listen, "--admin", asked, *flags
        )  # fmt: skip

    async def bring_up(
        self, name: str, *flags: str, stub_flags: tuple[str, ...] = (), bound: bool = False
    ) -> PlayedPod:
        """All of it, until it is ready."""
        pod = await self.give_address(name, *stub_flags, bound=bound)
        await self.start_sidecar(name, *flags)
        assert pod.sidecar is not None
        await pod.sidecar.line_with("is ready")
        await self.say(name, {"running": {}}, ready=True, address=pod.address)
        return pod

    async def say(
        self, name: str, state: dict[str, Any], *, ready: bool, address: str = "", restarts: int = 0,
        last: dict[str, Any] | None = None, conditions: tuple[dict[str, str], ...] = (),
    ) -> None:  # fmt: skip
        """Write the pod's status."""
        container = {
            "name": "model", "image": "model", "imageID": "", "ready": ready, "state": state,
            "lastState": last or {}, "restartCount": restarts,
        }  # fmt: skip
        status = {
            "phase": "Running" if address else "Pending", "containerStatuses": [container],
            "conditions": [{"type": "Ready", "status": str(ready)}, *conditions],
            **({"podIP": address, "podIPs": [{"ip": address}]} if address else {}),
        }  # fmt: skip
        await self._tell("patch", f"{self._pods}/{name}/status", {"status": status})

    async def bind(self, name: str) -> None:
        """As the scheduler does: from now on a pod that is deleted is there until it has ended."""
        target = {"target": {"kind": "Node", "name": "played"}}
        await self._tell("create", f"{self._pods}/{name}/binding", {"metadata": {"name": name}, **target})

    async def end(self, name: str) -> None:
        """The pod has ended: it is gone from the API, and its processes too."""
        await self._tell("ask", "DELETE", f"{self._pods}/{name}", {"gracePeriodSeconds": 0})
        await self._stop(self.pods.pop(name))

    async def aclose(self) -> None:
        for pod in self.pods.values():
            await self._stop(pod)

    @staticmethod
    async def _stop(pod: PlayedPod) -> None:
        for program in (pod.sidecar, pod.stub):
            if program is not None and program.process.returncode is None:
                program.signal(signal.SIGKILL)
                await program.end()

    # The API

    @property
    def _workloads(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments"

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    async def events(self, reason: str) -> list[str]:
        """What Events of this reason say."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        listed = await self._tell("get", path)
        return [event["note"] for event in listed["items"] if event["reason"] == reason]

    async def _tell(self, verb: str, *arguments: Any) -> Any:
        async with self._turn:
            return await asyncio.to_thread(getattr(self.plane.cluster, verb), *arguments)


@asynccontextmanager
async def kubelet(plane: ControlPlane, namespace: str) -> AsyncIterator[Kubelet]:
    """Its processes end with the block."""
    it = Kubelet(plane, namespace)
    try:
        yield it
    finally:
        await it.aclose()
