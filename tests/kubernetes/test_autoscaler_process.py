"""`python -m autoscaler` against real controllers, with the permissions that the documentation lists."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.kubernetes.autoscalers import AUDIENCE, Autoscaler, Crowd, reporting, rules
from tests.kubernetes.crowd import Source, Tokens
from tests.kubernetes.harness.access import Access, Cluster
from tests.kubernetes.harness.control_plane import ControlPlane
from tests.kubernetes.harness.fake_nodes import TOLERATION
from tests.kubernetes.whole import watched
from zerogate.clock import now, wall
from zerogate.kube.pins import PIN, pin_text
from zerogate.reporting.sender import Sender
from zerogate.reporting.wire import Kind

pytestmark = pytest.mark.may_block("the client of the tests and their processes wait")

Body = dict[str, Any]


class Place:
    """A namespace with a release of zerogate in it, and the workloads that it scales."""

    def __init__(self, plane: ControlPlane, namespace: str, folder: Path) -> None:
        self.plane = plane
        self.cluster: Cluster = plane.cluster
        self.namespace = namespace
        self.account = plane.account(
            namespace, "zerogate-autoscaler", rules=rules(at_home=True), cluster_rules=rules(at_home=False)
        )
        self.gateway_token = folder / "gateway-token"
        self.cluster.create(self._path("v1", "serviceaccounts"), {"metadata": {"name": "zerogate-gateway"}})
        self.gateway_token.write_text(self.token("zerogate-gateway"))
        self.running: list[Autoscaler] = []

    def _path(self, group: str, plural: str, name: str = "") -> str:
        root = f"/api/{group}" if group == "v1" else f"/apis/{group}"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def token(self, account: str, pod: Body | None = None, *, audience: str = AUDIENCE) -> str:
        spec: Body = {"audiences": [audience], "expirationSeconds": 600}
        if pod is not None:
            meta = pod["metadata"]
            bound = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
            spec["boundObjectRef"] = bound
        answer = self.cluster.create(self._path("v1", "serviceaccounts", f"{account}/token"), {"spec": spec})
        return str(answer["status"]["token"])

    def autoscaler(self, name: str, *flags: str, by: Access | None = None, clock_off_s: float = 0.0) -> Autoscaler:
        """One that is ready. `by`: another way to the API server."""
        one = Autoscaler(
            self.plane, by or self.account, home=self.namespace, name=name, flags=flags, clock_off_s=clock_off_s
        )  # fmt: skip
        self.running.append(one)
        one.start()
        one.wait_ready()
        return one

    def close(self) -> None:
        for one in self.running:
            one.stop()

    def deploy(
        self, name: str, *, replicas: int = 0, sidecar: bool = True, on_fake_nodes: bool = False, **annotations: str
    ) -> str:
        """A Deployment under zerogate; the service's name. `on_fake_nodes`: its pods are ready at once."""
        notes = {f"zerogate.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        spec: Body = {"containers": [{"name": "model", "image": "model", "ports": [{"containerPort": 8000}]}]}
        if sidecar:
            ports = [{"name": "zg-http", "containerPort": 8012}]
            spec["initContainers"] = [
                {"name": "zerogate-queueproxy", "image": "zerogate", "restartPolicy": "Always", "ports": ports}
            ]
        if on_fake_nodes:
            spec["tolerations"] = [TOLERATION]
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

    def _hpas(self, name: str = "") -> str:
        return self._path("autoscaling/v2", "horizontalpodautoscalers", name)

    def hpa(self, name: str, *, least: int, most: int, called: str = "") -> None:
        """One whose metric is never there."""
        cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        spec = {
            "scaleTargetRef": target, "minReplicas": least, "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": cpu}],
        }  # fmt: skip
        self.cluster.create(self._hpas(), {"metadata": {"name": called or name}, "spec": spec})

    def floor(self, name: str) -> int:
        return int(self.cluster.get(self._hpas(name))["spec"]["minReplicas"])

    def deployment(self, name: str) -> Body:
        return self.cluster.get(self._path("apps/v1", "deployments", name))

    def number(self, name: str) -> int:
        return int(self.deployment(name)["spec"]["replicas"])

    def ready(self, name: str) -> int:
        return int(self.deployment(name)["status"].get("readyReplicas", 0))

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


def wake(crowd: Crowd, sender: Sender) -> None:
    """A request waits at a gateway."""
    crowd.meter.arrive(now())
    crowd.meter.hold(now())
    sender.wake(crowd.service)


@contextmanager
def placed(controllers: ControlPlane, folder: Path) -> Iterator[Place]:
    """A namespace of its own, with nothing in it."""
    with controllers.namespace() as namespace:
        place = Place(controllers, namespace, folder)
        try:
            yield place
        finally:
            place.close()
            for one in place.running:
                print(one.process.end_of_log(40))  # noqa: T201 - shown where a test fails


@pytest.fixture
def place(controllers: ControlPlane, tmp_path: Path) -> Iterator[Place]:
    with placed(controllers, tmp_path) as place:
        yield place


async def test_a_request_that_waits_wakes_a_workload_by_one_write_and_an_event_says_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write follows from the wake alone: the next push of readings is an hour away."""
    monkeypatch.setattr("zerogate.reporting.sender.PERIOD_S", 3600.0)
    service = place.deploy("llama")
    one = place.autoscaler("one")
    await place.until(lambda: place.notes("llama").get("state.zerogate.dev/replicas") == "0")
    crowd = Crowd(service)
    async with reporting(crowd, [one.stats], place.gateway_token) as sender:
        await place.until(lambda: sender.leader_age_s < 60)
        wake(crowd, sender)
        await place.until(lambda: place.number("llama") == 1)
        (note,) = await place.until(lambda: place.events("ScaledUp"))
        assert note.startswith("From 0 to 1: ")
        (pod,) = await place.until(lambda: place.pods("llama"))
        place.make_ready(pod)
        await place.until(lambda: '"ready"' in place.notes("llama").get("state.zerogate.dev/status", ""), within_s=90)
        assert "boots_s" in place.notes("llama")["state.zerogate.dev/learned"]
    assert metric(one, "zerogate_scale_writes_total") == 1


async def test_the_other_one_takes_over_and_the_number_stays(place: Place) -> None:
    service = place.deploy("llama", idle_timeout="30s")
    first = place.autoscaler("first")
    await place.until(lambda: leads(first))
    second = place.autoscaler("second")
    crowd = Crowd(service)
    async with reporting(crowd, [first.stats, second.stats], place.gateway_token) as sender:
        await place.until(lambda: sender.leader_age_s < 60 and sender.open_streams == 2)
        wake(crowd, sender)
        await place.until(lambda: place.number("llama") == 1)
        crowd.meter.unhold(now())
        assert not leads(second)
        first.process.stop()
        await place.until(lambda: leads(second), within_s=30)
        await asyncio.sleep(3)
        assert place.number("llama") == 1
        assert place.events("ForeignScale") == []
        answer = second.ask(f"/api/services/{service.replace('/', '%2F')}")
        assert answer[0] == 200, answer
        assert answer[1]["desired"] == 1


async def test_one_that_leaves_gives_the_lead_away_at_once(place: Place) -> None:
    first = place.autoscaler("first")
    await place.until(lambda: leads(first))
    second = place.autoscaler("second")
    assert not leads(second)
    first.stop()
    # the lease of 15 s would not have run out by then
    assert await place.until(lambda: leads(second), within_s=6)


async def test_a_workload_that_is_taken_away_gets_back_what_it_had(place: Place) -> None:
    place.deploy("llama", replicas=2, min_replicas="3", max_replicas="4")
    place.autoscaler("one")
    await place.until(lambda: place.number("llama") == 3)
    assert place.notes("llama")["state.zerogate.dev/replicas"] == "2"
    place.annotate("llama", enabled=None)
    await place.until(lambda: place.number("llama") == 2 and not place.notes("llama"))


async def test_what_was_taken_away_while_nobody_looked_is_given_back_by_the_next(place: Place) -> None:
    place.deploy("llama", replicas=2, min_replicas="3", max_replicas="4")
    one = place.autoscaler("one")
    await place.until(lambda: place.number("llama") == 3)
    one.stop()
    place.annotate("llama", enabled=None)
    assert place.number("llama") == 3
    place.autoscaler("two")
    await place.until(lambda: place.number("llama") == 2 and not place.notes("llama"), within_s=30)
    assert place.events("ForeignScale") == []


async def test_a_pin_is_noted_where_the_next_leader_finds_it(place: Place) -> None:
    service = place.deploy("llama", max_replicas="3").replace("/", "%2F")
    one = place.autoscaler("one")
    await place.until(lambda: leads(one))
    for verb, body in (("POST", {"replicas": 2, "for_s": 600}), ("DELETE", None)):
        status, answer = one.ask(f"/api/services/{service}/pin", verb, body)
        assert (status, answer["code"]) == (403, "refused")
        assert "kubectl zerogate" in answer["detail"]
    path = one.ask(f"/api/services/{service}")[1]["api_path"]
    _note_pin(place, path, pin_text(2, wall() + 600))
    await place.until(lambda: place.number("llama") == 2)
    one.stop()
    two = place.autoscaler("two")
    await place.until(lambda: leads(two))
    assert two.ask(f"/api/services/{service}")[1]["pin"]["replicas"] == 2
    assert place.number("llama") == 2
    _note_pin(place, path, None)
    await place.until(lambda: two.ask(f"/api/services/{service}")[1]["pin"] is None)


def _note_pin(place: Place, path: str, text: str | None) -> None:
    place.cluster.patch(path, {"metadata": {"annotations": {PIN: text}}})


async def test_pods_without_a_sidecar_keep_it_from_zero_and_the_status_names_the_command(place: Place) -> None:
    service = place.deploy("llama", replicas=1, sidecar=False, idle_timeout="1s")
    one = place.autoscaler("one")
    await place.until(lambda: leads(one))
    (pod,) = await place.until(lambda: place.pods("llama"))
    place.make_ready(pod)
    path = f"/api/services/{service.replace('/', '%2F')}"
    async with reporting(Crowd(service), [one.stats], place.gateway_token):
        body = await place.until(lambda: _status_with(one, path, "rollout restart"))
        assert f"kubectl rollout restart deployment/llama -n {place.namespace}" in body["notices"][0]
        await asyncio.sleep(4)
        assert place.number("llama") == 1


async def test_an_hpa_keeps_what_is_between_and_gets_its_floor_back(place: Place) -> None:
    place.hpa("llama", least=1, most=9)
    place.deploy("llama", replicas=2, hpa="floor", min_replicas="3", max_replicas="4", idle_timeout="1s")
    place.autoscaler("one")
    await place.until(lambda: place.floor("llama") == 3)
    place.annotate("llama", min_replicas="4")
    await place.until(lambda: place.floor("llama") == 4)
    assert place.events("ForeignScale") == []
    assert place.events("ScaledUp") == []
    place.annotate("llama", enabled=None)
    await place.until(lambda: place.floor("llama") == 1 and not place.notes("llama"))


@pytest.mark.parametrize(
    ("number", "floor"), [(22, 24), (88, 89), (0, 21)], ids=["v10 from 22", "v11 from 88", "v12 from zero"]
)
async def test_a_floor_under_an_hpa_is_exact(place: Place, fake_nodes: ControlPlane, number: int, floor: int) -> None:
    """Its own rule has a tolerance of a tenth: of a metric that asked for 24, 22 would stay 22."""
    place.hpa("llama", least=1, most=100)
    place.deploy(
        "llama", replicas=number, on_fake_nodes=True, hpa="floor", min_replicas=str(number), max_replicas="100"
    )
    one = place.autoscaler("one")
    await place.until(lambda: place.notes("llama").get("state.zerogate.dev/replicas") == str(number))
    await place.until(lambda: place.floor("llama") == max(1, number) and place.ready("llama") == number, within_s=60)
    with watched(fake_nodes) as numbers:
        await asyncio.to_thread(numbers.until, place.namespace, "llama", number)
        place.annotate("llama", min_replicas=str(floor))
        await place.until(lambda: place.floor("llama") == floor and place.ready("llama") == floor, within_s=60)
        await asyncio.sleep(2.5)  # two syncs of its controller
        await asyncio.to_thread(numbers.until, place.namespace, "llama", floor)
        assert numbers.of(place.namespace, "llama") == [number, floor]
    assert (place.floor("llama"), place.number("llama")) == (floor, floor)
    assert place.events("ForeignScale") == []
    assert metric(one, "zerogate_scale_writes_total") == (0 if number else 1), "the HPA writes what is above zero"


async def test_the_floor_is_given_back_when_the_policy_leaves_the_hpa_alone(place: Place) -> None:
    place.hpa("llama", least=2, most=9)
    place.deploy("llama", replicas=2, hpa="floor", min_replicas="3", max_replicas="4")
    one = place.autoscaler("one")
    await place.until(lambda: place.floor("llama") == 3)
    assert place.notes("llama")["state.zerogate.dev/hpa"] == "floor"
    place.annotate("llama", hpa="none")
    await place.until(lambda: place.floor("llama") == 2 and "state.zerogate.dev/hpa" not in place.notes("llama"))
    place.annotate("llama", hpa="floor")
    await place.until(lambda: place.floor("llama") == 3)
    one.stop()
    place.annotate("llama", hpa="none")
    place.autoscaler("two")
    await place.until(lambda: place.floor("llama") == 2, within_s=30)
    assert place.notes("llama")["state.zerogate.dev/replicas"] == "2"


async def test_a_floor_without_an_hpa_is_said(place: Place) -> None:
    service = place.deploy("llama", replicas=1, hpa="floor", min_replicas="2", max_replicas="4")
    one = place.autoscaler("one")
    path = f"/api/services/{service.replace('/', '%2F')}"
    says = "No HorizontalPodAutoscaler scales it. Or write hpa: none."
    status = await place.until(lambda: _status_with(one, path, says))
    assert [notice for notice in status["notices"] if says in notice]
    assert place.number("llama") == 1, "a floor is not enforced by other means"


async def test_a_floor_with_two_hpas_is_said_and_neither_is_moved(place: Place) -> None:
    for name in ("llama", "second"):
        place.hpa("llama", least=1, most=9, called=name)
    service = place.deploy("llama", replicas=1, hpa="floor", min_replicas="2", max_replicas="4")
    one = place.autoscaler("one")
    path = f"/api/services/{service.replace('/', '%2F')}"
    await place.until(lambda: _status_with(one, path, "Several HPAs scale it: llama, second. Leave one."))
    assert (place.floor("llama"), place.floor("second")) == (1, 1)


async def test_clocks_that_are_wrong_by_ten_minutes_change_nothing(place: Place) -> None:
    """Reports tell ages, and a lease counts by what is seen of it: no stamp is compared with a clock."""
    service = place.deploy("llama", max_replicas="2")
    late = place.autoscaler("late", clock_off_s=-600.0)
    await place.until(lambda: leads(late))
    early = place.autoscaler("early", clock_off_s=600.0)
    crowd = Crowd(service)
    async with reporting(crowd, [late.stats, early.stats], place.gateway_token) as sender:
        await place.until(lambda: sender.leader_age_s < 60 and sender.open_streams == 2)
        crowd.meter.arrive(now())
        crowd.meter.hold(now())
        sender.wake(service)
        await place.until(lambda: place.number("llama") == 1)
        await asyncio.sleep(3.0)  # longer than between two renewals
        assert (leads(late), leads(early), place.number("llama")) == (True, False, 1)
        assert sender.open_streams == 2
        late.stop()
        await place.until(lambda: leads(early), within_s=6)
        for _ in range(15):
            crowd.meter.arrive(now())
            crowd.meter.hold(now())
        sender.wake(service)
        await place.until(lambda: place.number("llama") == 2)
    assert place.events("ForeignScale") == []


async def test_a_kind_that_the_cluster_does_not_have_keeps_nothing_else_from_being_scaled(place: Place) -> None:
    place.deploy("llama", min_replicas="1")
    one = place.autoscaler("one", "--kinds=CloneSet.apps.kruise.io/v1alpha1")
    await place.until(lambda: place.number("llama") == 1)
    said = one.process.end_of_log(40)
    assert "The cluster has no apps.kruise.io/v1alpha1: is what defines CloneSet installed?" in said


async def test_a_paused_deployment_is_scaled_as_others_are(place: Place) -> None:
    service = place.deploy("llama", sidecar=False, min_replicas="1")
    # of one that was paused before that its controller makes none
    place.cluster.until(place._path("apps/v1", "replicasets"), lambda found: found["items"])
    place.cluster.patch(place._path("apps/v1", "deployments", "llama"), {"spec": {"paused": True}})
    one = place.autoscaler("one")
    (pod,) = await place.until(lambda: place.pods("llama"))
    place.make_ready(pod)
    path = f"/api/services/{service.replace('/', '%2F')}"
    command = f"kubectl rollout resume deployment/llama -n {place.namespace} && kubectl rollout restart "
    assert await place.until(lambda: _status_with(one, path, command))


async def test_a_disruption_budget_keeps_pods_from_eviction_and_not_from_scale_in(place: Place) -> None:
    service = place.deploy("llama", replicas=2, sidecar=False, inject="false")
    spec = {"minAvailable": 2, "selector": {"matchLabels": {"app": "llama"}}}
    place.cluster.create(place._path("policy/v1", "poddisruptionbudgets"), {"metadata": {"name": "all"}, "spec": spec})
    one = place.autoscaler("one")
    pods = await place.until(lambda: len(place.pods("llama")) == 2 and place.pods("llama"))
    for pod in pods:
        place.make_ready(pod)
    name = pods[0]["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    assert place.cluster.ask("POST", place._path("v1", "pods", f"{name}/eviction"), eviction).status == 429
    path = one.ask(f"/api/services/{service.replace('/', '%2F')}")[1]["api_path"]
    _note_pin(place, path, pin_text(1, wall() + 600))
    await place.until(lambda: place.number("llama") == 1 and len(place.pods("llama")) == 1, within_s=30)


async def test_of_two_kinds_with_one_name_the_other_one_is_told_and_taken_up_when_the_name_is_free(
    place: Place,
) -> None:
    place.deploy("llama", min_replicas="1")
    one = place.autoscaler("one")
    await place.until(lambda: place.number("llama") == 1)
    sets = place._path("apps/v1", "statefulsets")
    spec = {**place.deployment("llama")["spec"], "replicas": 0, "serviceName": "llama"}
    for of_deployments in ("strategy", "progressDeadlineSeconds"):
        spec.pop(of_deployments, None)
    spec["selector"] = {"matchLabels": {"app": "other"}}
    spec["template"]["metadata"]["labels"] = {"app": "other"}
    keys = {"zerogate.dev/enabled": "true", "zerogate.dev/min-replicas": "1"}
    place.cluster.create(sets, {"metadata": {"name": "llama", "annotations": keys}, "spec": spec})
    (note,) = await place.until(lambda: place.events("NameTaken"))
    assert note == (
        f"StatefulSet {place.namespace}/llama is not taken up: Deployment {place.namespace}/llama has the same name "
        "and was there first. Rename one of them."
    )
    assert place.cluster.get(f"{sets}/llama")["spec"]["replicas"] == 0
    place.cluster.delete(place._path("apps/v1", "deployments", "llama"))
    await place.until(lambda: place.cluster.get(f"{sets}/llama")["spec"]["replicas"] == 1)
    assert place.events("ForeignScale") == []
    assert metric(one, "zerogate_scale_writes_total") == 2


async def test_pods_that_are_not_even_made_are_in_the_status_with_the_reason(place: Place) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}}}
    place.cluster.create(place._path("v1", "resourcequotas"), quota)
    service = place.deploy("llama", min_replicas="1")
    one = place.autoscaler("one")
    path = f"/api/services/{service.replace('/', '%2F')}"
    await place.until(lambda: _status_with(one, path, "A pod is not even made: "))
    assert _status_with(one, path, "exceeded quota: few")


async def test_a_number_that_may_not_be_written_is_in_the_status_with_the_rule_that_is_missing(place: Place) -> None:
    role = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{place.namespace}-zerogate-autoscaler"
    allowed = place.cluster.get(role)["rules"]
    place.cluster.patch(
        role, {"rules": [one for one in allowed if "deployments/scale" not in one.get("resources", ())]}
    )
    service = place.deploy("llama", min_replicas="1")
    one = place.autoscaler("one")
    path = f"/api/services/{service.replace('/', '%2F')}"
    says = "Its number of replicas cannot be written: patch deployments/scale.apps"
    body = await place.until(lambda: _status_with(one, path, says))
    (said,) = [notice for notice in body["notices"] if says in notice]
    assert '{apiGroups: ["apps"], resources: ["deployments/scale"], verbs: ["patch"]}' in said
    place.cluster.patch(role, {"rules": allowed})
    await place.until(lambda: place.number("llama") == 1)
    assert not _status_with(one, path, says)


async def test_wrong_annotations_are_told_and_the_last_good_policy_stays(place: Place) -> None:
    service = place.deploy("llama", min_replicas="2", max_replicas="3")
    one = place.autoscaler("one")
    await place.until(lambda: place.number("llama") == 2)
    place.annotate("llama", min_replicas="many")
    (note,) = await place.until(lambda: place.events("WrongPolicy"))
    assert "zerogate.dev/min-replicas" in note
    assert place.number("llama") == 2
    assert one.ask(f"/api/services/{service.replace('/', '%2F')}")[1]["min_replicas"] == 2


async def test_a_token_of_a_pod_speaks_for_its_own_service_alone(place: Place) -> None:
    mine, others = place.deploy("mine", replicas=1), place.deploy("others")
    one = place.autoscaler("one")
    (pod,) = await place.until(lambda: place.pods("mine"))
    token = Path(place.gateway_token).with_name("pod-token")
    token.write_text(place.token("default", pod))
    async with reporting(Crowd(mine), [one.stats], token, kind="sidecar", source="whatever") as sender:
        await place.until(lambda: sender.open_streams == 1)
        assert metric(one, "zerogate_sources") == 1
    claims: tuple[tuple[Kind, str], ...] = (("sidecar", others), ("gateway", mine))
    for kind, service in claims:
        async with reporting(Crowd(service), [one.stats], token, kind=kind, source="whatever") as sender:
            refused = 'zerogate_refused_sources_total{reason="forged"}'
            seen = metric(one, refused)
            await place.until(lambda refused=refused, seen=seen: metric(one, refused) > seen)
            assert sender.open_streams == 0


async def test_a_token_for_somebody_else_proves_nothing(place: Place) -> None:
    service = place.deploy("llama")
    one = place.autoscaler("one")
    token = Path(place.gateway_token).with_name("other-token")
    token.write_text(place.account.token or "")
    async with reporting(Crowd(service), [one.stats], token) as sender:
        await place.until(lambda: metric(one, 'zerogate_refused_sources_total{reason="token"}') > 0)
        assert (sender.open_streams, metric(one, "zerogate_sources")) == (0, 0)


async def test_a_pods_token_is_believed_by_the_servers_keys_and_judged_by_it_afterwards(place: Place) -> None:
    service = place.deploy("llama", replicas=1)
    one = place.autoscaler("one")
    (pod,) = await place.until(lambda: place.pods("llama"))
    await place.until(lambda: _sees_pods(one, service))
    token = _written(place, place.token("default", pod))
    async with reporting(Crowd(service), [one.stats], token, kind="sidecar") as sender:
        await place.until(lambda: sender.open_streams == 1)
        await place.until(lambda: metric(one, "zerogate_token_reviews_total") == 1)
        await place.until(lambda: metric(one, "zerogate_unjudged_tokens") == 0)
        assert (metric(one, "zerogate_sources"), metric(one, "zerogate_withdrawn_tokens_total")) == (1, 0)
    assert "tokens of sources are judged by 1 key of the API server" in one.process.end_of_log(100)


async def test_a_token_whose_account_was_deleted_is_believed_no_longer_than_until_the_server_was_asked(
    place: Place,
) -> None:
    service = place.deploy("llama", replicas=1)
    one = place.autoscaler("one")
    (pod,) = await place.until(lambda: place.pods("llama"))
    await place.until(lambda: _sees_pods(one, service))
    token = _written(place, place.token("default", pod))
    place.cluster.delete(place._path("v1", "serviceaccounts", "default"))
    async with reporting(Crowd(service), [one.stats], token, kind="sidecar") as sender:
        await place.until(lambda: metric(one, 'zerogate_refused_sources_total{reason="token"}') > 0)
        await place.until(lambda: (sender.open_streams, metric(one, "zerogate_sources")) == (0, 0))
        assert metric(one, "zerogate_withdrawn_tokens_total") <= 1


@pytest.mark.parametrize("wrong", ["forged", "changed", "expired", "audience", "another pod", "a pod of before"])
async def test_what_is_not_this_very_pods_token_of_now_is_refused(place: Place, wrong: str, tmp_path: Path) -> None:
    service = place.deploy("llama", replicas=1)
    one = place.autoscaler("one")
    (pod,) = await place.until(lambda: place.pods("llama"))
    await place.until(lambda: _sees_pods(one, service))
    token = _written(place, _wrong_token(place, pod, wrong, tmp_path))
    async with reporting(Crowd(service), [one.stats], token, kind="sidecar") as sender:
        await place.until(lambda: metric(one, 'zerogate_refused_sources_total{reason="token"}') > 0)
        assert (sender.open_streams, metric(one, "zerogate_sources")) == (0, 0)
    is_seen_here = wrong in ("forged", "changed")
    assert metric(one, "zerogate_token_reviews_total") == (0 if is_seen_here else 1)
    assert metric(one, "zerogate_withdrawn_tokens_total") == 0


def _wrong_token(place: Place, pod: Body, wrong: str, folder: Path) -> str:
    """Each but for one thing as it should be, and signed by the server where not said otherwise."""
    meta = pod["metadata"]
    account = place.cluster.get(place._path("v1", "serviceaccounts", "default"))["metadata"]["uid"]
    signer = Tokens(place.plane.folder / "service-accounts.key", "https://kubernetes.default.svc")
    good = Source(meta["name"], meta["uid"], f"{place.namespace}/llama")
    if wrong == "forged":
        own = folder / "own.key"
        own.write_bytes(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        forger = Tokens(own, "https://kubernetes.default.svc")
        forger.key_id = signer.key_id
        return forger.of_pod(good, account)
    if wrong == "changed":
        head, _, signature = signer.of_pod(good, account).split(".")
        return f"{head}.{signer.of_pod(good, account, lives_s=7200).split('.')[1]}.{signature}"
    if wrong == "expired":
        return signer.of_pod(good, account, lives_s=-60)
    if wrong == "audience":
        return place.token("default", pod, audience="https://kubernetes.default.svc")
    if wrong == "another pod":
        return signer.of_pod(Source("unheard-of", meta["uid"], good.service), account)
    return signer.of_pod(Source(meta["name"], "00000000-0000-0000-0000-000000000000", good.service), account)


def _written(place: Place, token: str) -> Path:
    file = place.gateway_token.with_name("pod-token")
    file.write_text(token)
    return file


def _sees_pods(one: Autoscaler, service: str) -> bool:
    status, body = one.ask(f"/api/services/{service.replace('/', '%2F')}")
    return status == 200 and bool(body["replicas"])


def leads(one: Autoscaler) -> bool:
    return metric(one, "zerogate_leader") == 1


def metric(one: Autoscaler, name: str) -> float:
    text = one.ask("/metrics")[1] or ""
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)


def _status_with(one: Autoscaler, path: str, text: str) -> Any:
    body = one.ask(path)[1]
    return body if any(text in notice for notice in body["notices"]) else None
