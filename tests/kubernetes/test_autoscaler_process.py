"""`python -m autoscaler` against real controllers, with the permissions that the documentation lists."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.autoscalers import AUDIENCE, CLUSTER_RULES, RULES, Autoscaler, Crowd, reporting
from tests.kubernetes.harness.access import Cluster
from tests.kubernetes.harness.control_plane import ControlPlane
from zerogate.clock import now

pytestmark = pytest.mark.may_block("the client of the tests and their processes wait")

Body = dict[str, Any]


class Place:
    """A namespace with a release of zerogate in it, and the workloads that it scales."""

    def __init__(self, plane: ControlPlane, namespace: str, folder: Path) -> None:
        self.plane = plane
        self.cluster: Cluster = plane.cluster
        self.namespace = namespace
        self.account = plane.account(namespace, "zerogate-autoscaler", rules=RULES, cluster_rules=CLUSTER_RULES)
        self.gateway_token = folder / "gateway-token"
        self.cluster.create(self._path("v1", "serviceaccounts"), {"metadata": {"name": "zerogate-gateway"}})
        self.gateway_token.write_text(self.token("zerogate-gateway"))
        self.running: list[Autoscaler] = []

    def _path(self, group: str, plural: str, name: str = "") -> str:
        root = f"/api/{group}" if group == "v1" else f"/apis/{group}"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def token(self, account: str, pod: Body | None = None) -> str:
        spec: Body = {"audiences": [AUDIENCE], "expirationSeconds": 600}
        if pod is not None:
            meta = pod["metadata"]
            bound = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
            spec["boundObjectRef"] = bound
        answer = self.cluster.create(self._path("v1", "serviceaccounts", f"{account}/token"), {"spec": spec})
        return str(answer["status"]["token"])

    def autoscaler(self, name: str) -> Autoscaler:
        one = Autoscaler(self.plane, self.account, home=self.namespace, name=name)
        self.running.append(one)
        one.start()
        one.wait_ready()
        return one

    def close(self) -> None:
        for one in self.running:
            one.stop()

    def deploy(self, name: str, *, replicas: int = 0, sidecar: bool = True, **annotations: str) -> str:
        """A Deployment under zerogate; the service's name."""
        notes = {f"zerogate.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        spec: Body = {"containers": [{"name": "model", "image": "model", "ports": [{"containerPort": 8000}]}]}
        if sidecar:
            ports = [{"name": "zg-http", "containerPort": 8012}]
            spec["initContainers"] = [
                {"name": "zerogate-queueproxy", "image": "zerogate", "restartPolicy": "Always", "ports": ports}
            ]
        labels = {"app": name}
        body = {
            "metadata": {"name": name, "annotations": {"zerogate.dev/enabled": "true", **notes}},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }
        self.cluster.create(self._path("apps/v1", "deployments"), body)
        return f"{self.namespace}/{name}"

    def deployment(self, name: str) -> Body:
        return self.cluster.get(self._path("apps/v1", "deployments", name))

    def number(self, name: str) -> int:
        return int(self.deployment(name)["spec"]["replicas"])

    def notes(self, name: str) -> Body:
        annotations: Body = self.deployment(name)["metadata"].get("annotations") or {}
        return {key: value for key, value in annotations.items() if key.startswith("state.zerogate.dev/")}

    def annotate(self, name: str, **annotations: str | None) -> None:
        notes = {f"zerogate.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        self.cluster.patch(self._path("apps/v1", "deployments", name), {"metadata": {"annotations": notes}})

    def pods(self, name: str) -> list[Body]:
        found: list[Body] = self.cluster.get(self._path("v1", "pods") + f"?labelSelector=app%3D{name}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def make_ready(self, pod: Body) -> None:
        """As a kubelet would say it."""
        container = {
            "name": "model", "image": "model", "imageID": "", "ready": True, "state": {"running": {}},
            "restartCount": 0,
        }  # fmt: skip
        status = {
            "phase": "Running", "podIP": "10.9.8.7", "podIPs": [{"ip": "10.9.8.7"}], "containerStatuses": [container],
            "conditions": [{"type": "Ready", "status": "True"}],
        }  # fmt: skip
        self.cluster.patch(self._path("v1", "pods", f"{pod['metadata']['name']}/status"), {"status": status})

    def events(self, reason: str) -> list[str]:
        found = self.cluster.get(self._path("events.k8s.io/v1", "events"))["items"]
        return [event["note"] for event in found if event["reason"] == reason]

    async def until(self, holds: Any, *, within_s: float = 15.0) -> Any:
        """What `holds` gives once that is true; asked 50 times a second."""
        async with asyncio.timeout(within_s):
            while not (found := await asyncio.to_thread(holds)):
                await asyncio.sleep(0.02)
        return found


@pytest.fixture
def place(controllers: ControlPlane, tmp_path: Path) -> Iterator[Place]:
    with controllers.namespace() as namespace:
        place = Place(controllers, namespace, tmp_path)
        yield place
        place.close()


async def test_a_request_that_waits_wakes_a_workload_by_one_write_and_an_event_says_so(place: Place) -> None:
    service = place.deploy("llama")
    one = place.autoscaler("one")
    await place.until(lambda: place.notes("llama").get("state.zerogate.dev/replicas") == "0")
    before = place.deployment("llama")["metadata"]["generation"]
    crowd = Crowd(service)
    async with reporting(crowd, [one.stats], place.gateway_token) as sender:
        await place.until(lambda: sender.leader_age_s < 60)
        crowd.meter.arrive(now())
        crowd.meter.hold(now())
        sender.wake(service)
        await place.until(lambda: place.number("llama") == 1)
        (note,) = await place.until(lambda: place.events("ScaledUp"))
        assert note.startswith("From 0 to 1: ")
    assert place.deployment("llama")["metadata"]["generation"] == before + 1
