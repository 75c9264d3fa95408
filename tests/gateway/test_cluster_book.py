"""What a gateway makes of a cluster's objects."""

from typing import Any

import msgspec
import pytest

from gateway.bare_book import Crowd, Question
from gateway.changes import Change
from gateway.cluster_book import ClusterBook
from gateway.file import EMPTY, GatewayFile, Service
from gateway.route_table import Route
from gateway.router import ToService
from zerogate.kube.attaching import ACCEPTED, Verdict
from zerogate.kube.catalog import Catalog
from zerogate.kube.feed import KINDS
from zerogate.kube.objects import Pod, Workload
from zerogate.kube.obstacles import ASK_AFTER_S, ASK_AGAIN_S, MOST_AT_ONCE
from zerogate.kube.peers import Peer
from zerogate.kube.route_book import Parent, Place, RouteReading
from zerogate.kube.sidecar import PORT_NAME, SIDECAR
from zerogate.runtime.interface import Address, Trouble

SERVICE = "ml/llama"


def pod(
    name: str = "p", ip: str = "10.0.0.1", *, deleting: bool = False, phase: str = "Running", ready: bool = False,
    waiting: dict[str, str] | None = None, ended: dict[str, Any] | None = None, scheduled: bool = True,
    sidecar: bool = True, created: str = "",
) -> Pod:  # fmt: skip
    ports = [{"name": PORT_NAME, "containerPort": 8012}]
    conditions = [{"type": "Ready", "status": str(ready)}]
    if not scheduled:
        conditions.append({"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"})
    state = {"waiting": waiting} if waiting else {"running": {}}
    last = {"terminated": ended} if ended else {}
    body = {
        "metadata": {
            "name": name, "namespace": "ml", "uid": f"uid-{name}", "creationTimestamp": created,
            **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}),
        },
        "spec": {
            "initContainers": [{"name": SIDECAR, "ports": ports}] if sidecar else [],
            "containers": [{"name": "model", "ports": [{"containerPort": 8000}, {"containerPort": 9000}]}],
        },
        "status": {
            "phase": phase, "podIP": ip, "conditions": conditions,
            "containerStatuses": [{"name": "model", "state": state, "lastState": last}],
        },
    }  # fmt: skip
    return msgspec.convert(body, Pod)


class Shown:
    """A book, and a cluster that shows it what a test says."""

    def __init__(self) -> None:
        self.workloads: dict[str, Workload] = {}
        self.catalog = Catalog()
        self.book = ClusterBook(self.workloads.get)
        self.file = GatewayFile({})
        self.now_s = 1000.0

    def workload(
        self, name: str = "llama", *, replicas: int = 1, failure: str = "", template: dict[str, Any] | None = None,
        kind: str = "Deployment", **annotations: str,
    ) -> None:  # fmt: skip
        keys = {f"zerogate.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        conditions = [{"type": "ReplicaFailure", "status": "True", "message": failure}] if failure else []
        body = {
            "metadata": {"name": name, "namespace": "ml", "creationTimestamp": "2026-01-01T00:00:00Z",
                         "annotations": {"zerogate.dev/enabled": "true", **keys}},
            "spec": {"replicas": replicas, "template": template}, "status": {"conditions": conditions},
        }  # fmt: skip
        one = msgspec.convert(body, Workload)
        self.workloads[f"ml/{name}"] = one
        self.catalog.set_workload(kind, KINDS[kind], one)
        self.book.on_services(self.catalog.services())
        self.book.on_number(f"ml/{name}")

    def without(self, name: str = "llama") -> None:
        del self.workloads[f"ml/{name}"]
        self.catalog.remove_workload("Deployment", ("ml", name))
        self.book.on_services(self.catalog.services())

    def pods(self, *pods: Pod) -> None:
        for one in pods:
            self.book.on_pod(SERVICE, one)

    def take(self) -> list[Change]:
        changes = self.book.take(self.now_s)
        for change in changes:
            self.file = change.applied_to(self.file)
        return changes

    @property
    def service(self) -> Service:
        self.take()
        return self.file.services[SERVICE]


@pytest.fixture
def shown() -> Shown:
    it = Shown()
    it.workload()
    it.take()
    return it


@pytest.mark.parametrize(
    ("seen", "counts"),
    [
        (pod(), True),
        (pod(ready=True), True),
        (pod(phase="Pending"), True),
        (pod(ip=""), False),
        (pod(deleting=True, ready=True), False),
        (pod(phase="Failed"), False),
        (pod(sidecar=False), False),
    ],
    ids=["starting", "ready", "has an address", "has none", "being deleted", "failed", "no sidecar, starting"],
)
def test_where_requests_may_go(shown: Shown, seen: Pod, counts: bool) -> None:
    shown.pods(seen)
    assert shown.service.replicas == ((Address("10.0.0.1", 8012),) if counts else ())


def test_a_pod_without_a_sidecar_is_reached_at_its_model_server_while_it_is_ready(shown: Shown) -> None:
    shown.pods(pod(sidecar=False, ready=True))
    assert [(one.name, one.address, one.slots) for one in shown.service.bare] == [
        ("ml/p", Address("10.0.0.1", 8000), None)
    ]
    assert not shown.service.replicas
    shown.pods(pod(sidecar=False, ready=False))
    assert not shown.service.bare


def test_the_port_of_a_model_server_is_the_policys_where_it_names_one(shown: Shown) -> None:
    shown.workload(port="9000")
    shown.pods(pod(sidecar=False, ready=True))
    assert [one.address for one in shown.service.bare] == [Address("10.0.0.1", 9000)]


def test_a_pod_without_a_sidecar_is_asked_itself_where_the_policy_says_what(shown: Shown) -> None:
    shown.workload(ready_path="/up")
    shown.pods(pod(sidecar=False, ready=True))
    assert not shown.service.bare, "the kubelet's word does not count here"
    assert shown.book.questions() == {"uid-p": Question(Address("10.0.0.1", 8000), "/up", "http1")}
    assert shown.book.on_answer("uid-p", is_ready=True)
    assert not shown.book.on_answer("uid-p", is_ready=True)
    assert [one.name for one in shown.service.bare] == ["ml/p"]
    shown.pods(pod(sidecar=False, ready=True, deleting=True))
    assert not shown.service.bare
    assert shown.book.questions() == {}
    assert not shown.book.on_answer("uid-p", is_ready=False), "nobody is asked any more"


def crowd(me: str, *names: str, may_pass: bool = True) -> Crowd:
    peers = tuple(Peer(float(index), name, f"10.1.0.{index}") for index, name in enumerate(names))
    return Crowd(me=me, peers=peers, is_member=me in names, may_pass=may_pass, port=8080)


@pytest.mark.parametrize(
    ("seen", "slots", "via"),
    [
        (Crowd(), 2, None),
        (crowd("x", "a", "b"), 2, None),
        (crowd("a", "a"), 2, None),
        (crowd("b", "a", "b"), 1, None),
        (crowd("c", "a", "b", "c"), 0, Address("10.1.0.0", 8080)),
        (crowd("c", "a", "b", "c", may_pass=False), 0, None),
        (Crowd(me="a", peers=None), 0, None),
    ],
    ids=["alone", "run by hand", "the only one", "one of two", "one of three", "that may not pass", "not known yet"],
)
def test_the_slots_of_a_pod_without_a_sidecar_are_split_between_gateways(
    shown: Shown, seen: Crowd, slots: int, via: Address | None
) -> None:
    shown.workload(concurrency_limit="2")
    shown.pods(pod(sidecar=False, ready=True, created="2026-01-01T00:00:00Z"))
    shown.take()
    shown.book.on_crowd(seen)
    (one,) = shown.service.bare
    assert (one.slots, one.via) == (slots, via)


def test_a_pod_that_is_asked_again_after_a_while_has_to_answer_anew(shown: Shown) -> None:
    shown.workload(ready_path="/up")
    shown.pods(pod(sidecar=False, ready=True))
    assert not shown.service.bare
    shown.book.on_answer("uid-p", is_ready=True)
    assert shown.service.bare
    shown.workload()
    assert shown.service.bare, "the kubelet's word counts now"
    shown.workload(ready_path="/up")
    assert not shown.service.bare


def test_what_is_held_is_let_into_a_pod_without_a_limit_by_all_gateways_that_do_not_leave(shown: Shown) -> None:
    shown.workload(target_concurrency="8")
    shown.pods(pod(sidecar=False, ready=True))
    there = (Peer(1.0, "a", "10.1.0.0"), Peer(2.0, "b", "10.1.0.1"), Peer(3.0, "c", "10.1.0.2", is_leaving=True))
    shown.book.on_crowd(Crowd(me="a", peers=there, is_member=True, port=8080, workers=2))
    (one,) = shown.service.bare
    assert one.release == 2


def test_gateways_that_come_and_go_make_a_difference_where_a_pod_has_no_sidecar(shown: Shown) -> None:
    shown.workload(concurrency_limit="2")
    shown.pods(pod())
    assert not shown.book.on_crowd(crowd("a", "a"))
    shown.pods(pod("q", sidecar=False, ready=True, created="2026-01-01T00:00:00Z"))
    shown.take()
    assert shown.book.on_crowd(crowd("a", "a", "b"))
    assert not shown.book.on_crowd(crowd("a", "a", "b"))
    assert len(shown.take()) == 1


def test_what_a_pod_speaks_without_a_sidecar_is_its_policys(shown: Shown) -> None:
    shown.workload(protocol="h2c")
    shown.pods(pod(sidecar=False, ready=True))
    (one,) = shown.service.bare
    assert one.protocol == "h2c"


def test_a_pod_that_is_deleted_leaves_and_the_others_stay(shown: Shown) -> None:
    told: list[int] = []
    shown.pods(pod("a", "10.0.0.1"), pod("b", "10.0.0.2"))
    told.append(len(shown.service.replicas))
    shown.pods(pod("a", "10.0.0.1", deleting=True))
    told += [len(shown.service.replicas), shown.service.replicas.index(Address("10.0.0.2", 8012))]
    shown.book.on_pod_gone(SERVICE, "b")
    told.append(len(shown.service.replicas))
    assert told == [2, 1, 0, 0]


def test_news_that_say_nothing_new_are_no_change(shown: Shown) -> None:
    shown.pods(pod())
    assert len(shown.take()) == 1
    shown.pods(pod(ready=True))
    shown.book.on_number(SERVICE)
    assert shown.take() == []


def test_a_workload_that_is_let_go_takes_its_pods_with_it(shown: Shown) -> None:
    shown.pods(pod())
    shown.take()
    shown.without()
    [change] = shown.take()
    assert (change.gone, change.reroute) == ((SERVICE,), True)
    assert shown.file == EMPTY
    shown.workload()
    assert shown.service.replicas == ()


def test_a_policy_is_given_as_gateways_need_it(shown: Shown) -> None:
    shown.workload(protocol="h2c", schedule="Mon-Fri 08:00-18:00 UTC = 1", queue_limit="9", hosts="a.example")
    policy = shown.service.policy
    assert (policy.protocol, policy.schedule, policy.queue_limit) == ("http1", (), 9)
    assert shown.service.routes is not None
    assert shown.service.routes[0].hosts == ("a.example",)


def test_a_bad_annotation_of_one_workload_leaves_the_others_alone(shown: Shown) -> None:
    shown.workload("other", queue_limit="many", hosts="x y")
    shown.workload("third", hosts="c.example")
    shown.take()
    assert set(shown.file.services) == {"ml/llama", "ml/other", "ml/third"}
    shown.file.router()


def test_who_asks_for_what_another_has_is_named_until_that_is_over(shown: Shown) -> None:
    shown.workload(hosts="a.example")
    shown.workload("other", hosts="a.example")
    shown.take()
    assert list(shown.book.refused) == ["ml/other"]
    shown.workload("other", hosts="b.example")
    shown.take()
    assert shown.book.refused == {}


PULL = {"reason": "ImagePullBackOff", "message": "no such image"}
CRASH = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}


@pytest.mark.parametrize(
    ("pods", "trouble"),
    [
        ([], None),
        ([pod()], None),
        ([pod(scheduled=False)], Trouble("not scheduled: 0/3 nodes are available")),
        ([pod(waiting=PULL)], Trouble("container model: ImagePullBackOff: no such image", True)),
        ([pod(waiting={"reason": "ErrImagePull", "message": "x"})], Trouble("container model: ErrImagePull: x")),
        (
            [pod(waiting=CRASH, ended={"exitCode": 3, "message": "no CUDA device\n"})],
            Trouble(
                "container model: CrashLoopBackOff: back-off 10s. It ended with exit code 3: no CUDA device", True
            ),
        ),
        ([pod("a", waiting=PULL), pod("b", ready=True)], None),
        ([pod("a", waiting=PULL), pod("b")], None),
        ([pod("a", scheduled=False), pod("b", waiting=PULL)], Trouble("not scheduled: 0/3 nodes are available")),
        ([pod(waiting=PULL, deleting=True)], None),
    ],
    ids=[
        "none", "starting", "pending", "image", "image once", "crash loop", "one is ready", "one starts",
        "one may be scheduled yet", "being deleted",
    ],
)  # fmt: skip
def test_what_is_in_the_way_and_whether_waiting_helps(
    shown: Shown, pods: list[Pod], trouble: Trouble | None
) -> None:  # fmt: skip
    shown.pods(*pods)
    assert shown.service.trouble == trouble


def test_a_replica_that_was_ready_and_crashes_is_no_reason_to_give_up(shown: Shown) -> None:
    shown.pods(pod(ready=True))
    shown.take()
    shown.pods(pod(waiting=CRASH))
    assert shown.service.trouble == Trouble("container model: CrashLoopBackOff: back-off 10s")


def test_what_is_in_the_way_for_too_long_is_waited_for_no_longer(shown: Shown) -> None:
    shown.workload(start_timeout="30s")
    shown.pods(pod(scheduled=False))
    said: list[tuple[bool, bool]] = []
    for now_s in (1000.0, 1029.9, 1030.0):
        shown.now_s = now_s
        is_due = shown.book.on_time(now_s)
        trouble = shown.service.trouble
        assert trouble is not None
        said.append((is_due, trouble.is_hopeless))
    assert said == [(False, False), (False, False), (True, True)]
    assert not shown.book.on_time(5000.0), "it is told once"
    shown.pods(pod())
    assert shown.service.trouble is None


NO_PORT = "no container has a TCP port called grpc (zerogate.dev/port)"


@pytest.mark.parametrize(
    ("asked", "pods", "trouble"),
    [
        ({"port": "grpc"}, [], Trouble(NO_PORT, True)),
        ({"port": "grpc", "inject": "false"}, [pod(sidecar=False, ready=True)], Trouble(NO_PORT, True)),
        ({"port": "grpc"}, [pod(ready=True)], None),
        ({"port": "8000"}, [], None),
        ({}, [], None),
    ],
    ids=["at zero", "a pod that nobody can reach", "one with a sidecar from before", "a number", "the first port"],
)
def test_a_port_that_is_not_there_is_told_at_once_to_who_asks(
    shown: Shown, asked: dict[str, Any], pods: list[Pod], trouble: Trouble | None
) -> None:
    containers = [{"name": "model", "ports": [{"name": "http", "containerPort": 8000}]}]
    shown.workload(template={"spec": {"containers": containers}}, **asked)
    shown.pods(*pods)
    assert shown.service.trouble == trouble


def test_pods_that_are_not_even_admitted_are_told_in_the_controllers_words(shown: Shown) -> None:
    shown.workload(failure="pods is forbidden: exceeded quota: gpus")
    assert shown.service.trouble == Trouble("pods is forbidden: exceeded quota: gpus")
    shown.workload(failure="pods is forbidden: exceeded quota: gpus", replicas=0)
    assert shown.service.trouble is None


@pytest.fixture
def ordered() -> Shown:
    """A StatefulSet at one, whose pod does not come."""
    it = Shown()
    it.workload(kind="StatefulSet")
    it.take()
    return it


def test_a_stateful_set_without_pods_has_its_events_asked_for_and_is_told_their_words(ordered: Shown) -> None:
    assert ordered.book.take_unmade(ordered.now_s) == []
    ordered.now_s += ASK_AFTER_S
    [(entry, missing_s)] = ordered.book.take_unmade(ordered.now_s)
    assert (entry.service, missing_s) == (SERVICE, ASK_AFTER_S)
    assert ordered.book.take_unmade(ordered.now_s) == [], "it is being asked"
    assert ordered.book.on_unmade(SERVICE, "exceeded quota: gpus")
    assert not ordered.book.on_unmade(SERVICE, "exceeded quota: gpus"), "that is no news"
    assert ordered.service.trouble == Trouble("exceeded quota: gpus")
    ordered.now_s += ASK_AGAIN_S
    assert [missing_s for _, missing_s in ordered.book.take_unmade(ordered.now_s)] == [ASK_AFTER_S + ASK_AGAIN_S]
    assert ordered.book.on_unmade(SERVICE, "")
    assert ordered.service.trouble is None


def test_it_is_a_matter_of_the_start_timeout_like_all_that_is_in_the_way(ordered: Shown) -> None:
    ordered.workload(kind="StatefulSet", start_timeout="5s")
    ordered.take()
    ordered.book.on_unmade(SERVICE, "exceeded quota: gpus")
    assert ordered.service.trouble == Trouble("exceeded quota: gpus")
    ordered.now_s += 5.0
    assert ordered.book.on_time(ordered.now_s)
    assert ordered.service.trouble == Trouble("exceeded quota: gpus", True)


@pytest.mark.parametrize("ends", ["a pod", "zero", "gone"])
def test_nothing_is_asked_or_told_any_more_once_it_is_over(ordered: Shown, ends: str) -> None:
    ordered.book.on_unmade(SERVICE, "exceeded quota: gpus")
    if ends == "a pod":
        ordered.pods(pod())
    elif ends == "zero":
        ordered.workload(kind="StatefulSet", replicas=0)
    else:
        ordered.catalog.remove_workload("StatefulSet", ("ml", "llama"))
        ordered.book.on_services(ordered.catalog.services())
    ordered.take()
    assert ordered.book.take_unmade(ordered.now_s + 100.0) == []
    assert not ordered.book.on_unmade(SERVICE, "an answer that comes late")
    if ends != "gone":
        assert ordered.service.trouble is None


def test_many_workloads_without_pods_are_asked_about_in_turns() -> None:
    it = Shown()
    for number in range(MOST_AT_ONCE + 1):
        it.workload(f"llama-{number}", kind="StatefulSet")
    it.take()
    it.now_s += ASK_AFTER_S
    assert [len(it.book.take_unmade(it.now_s)) for _ in range(3)] == [MOST_AT_ONCE, 1, 0]


def test_deployments_say_it_themselves_and_their_events_are_not_asked_for(shown: Shown) -> None:
    assert shown.book.take_unmade(shown.now_s + 100.0) == []


def reading(*places: tuple[str, str, str | None], name: str = "route", since: str = "2026-01-01") -> RouteReading:
    unresolved = Verdict(False, "BackendNotFound", "Service ml/nobody does not exist.")
    parent = Parent({"name": "edge"}, ("ml", "edge"), ACCEPTED, unresolved)
    found = tuple(Place(*place) for place in places)
    return RouteReading(key=("ml", name), uid="uid", since=since, parents=(parent,), places=found)


def test_an_http_route_is_one_more_way_to_a_service_and_goes_without_it(shown: Shown) -> None:
    before = shown.service.routes
    shown.book.on_http_routes([reading(("a.example", "/", SERVICE))])
    assert shown.service.routes == (
        *(before or ()), Route(service=SERVICE, hosts=("a.example",), path_prefix="/"),
    )  # fmt: skip
    assert shown.take() == []
    shown.book.on_http_routes([reading(("a.example", "/", SERVICE))])
    assert shown.take() == [], "it is the same"
    shown.book.on_http_routes([])
    assert shown.service.routes == before


def test_what_leads_nowhere_is_a_service_that_says_why_until_it_leads_somewhere(shown: Shown) -> None:
    shown.book.on_http_routes([reading(("a.example", "/", SERVICE), ("a.example", "/x", None))])
    shown.take()
    [name] = [name for name in shown.file.services if name != SERVICE]
    stand_in = shown.file.services[name]
    assert stand_in.trouble == Trouble("HTTPRoute ml/route: Service ml/nobody does not exist.", is_hopeless=True)
    assert shown.file.router().match(b"a.example", b"/x/y") == ToService(name)
    shown.book.on_http_routes([reading(("a.example", "/", SERVICE), ("a.example", "/x", SERVICE))])
    shown.take()
    assert list(shown.file.services) == [SERVICE]
    assert shown.file.router().match(b"a.example", b"/x/y") == ToService(SERVICE)


def test_what_an_http_route_did_not_get_is_told_to_it_and_to_those_it_leads_to(shown: Shown) -> None:
    shown.workload("other", hosts="a.example")
    shown.book.on_http_routes([reading(("a.example", "/", SERVICE), since="2027")])
    shown.take()
    [owner] = shown.book.refused
    assert owner == "HTTPRoute ml/route"
    [notice] = shown.book.notices()[SERVICE]
    assert notice.startswith("HTTPRoute ml/route: a.example/ leads to ml/other")


def test_a_workload_that_goes_takes_its_part_of_an_http_route_along(shown: Shown) -> None:
    shown.workload("other")
    shown.book.on_http_routes([reading(("a.example", "/", SERVICE), ("a.example", "/x", "ml/other"))])
    shown.take()
    shown.without("other")
    shown.take()
    assert list(shown.file.services) == [SERVICE]
    assert shown.file.router().match(b"a.example", b"/x") == ToService(SERVICE), "until its backend is read as gone"
