"""What observers are told of a workload's pods, by a scripted clock."""

import msgspec

from tests.zerogate.kube.test_lives import CRASHED, pod
from zerogate.kube.acts import Order
from zerogate.kube.fleet import Fleet
from zerogate.kube.objects import DEPLOYMENTS
from zerogate.kube.target import Target
from zerogate.runtime.interface import BackOff, Replica

PULLING = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}


class Told:
    """An observer."""

    def __init__(self) -> None:
        self.replicas: list[Replica] = []
        self.back_offs: list[BackOff | None] = []

    def on_replica(self, replica: Replica) -> None:
        self.replicas.append(replica)

    def on_back_off(self, service: str, back_off: BackOff | None) -> None:
        assert service == "ml/chat"
        self.back_offs.append(back_off)

    def take(self) -> list[tuple[str, str, bool]]:
        """Id, state and whether it is overdue, of what was told since the last call."""
        told, self.replicas = self.replicas, []
        return [(one.id, one.state.value, one.is_overdue) for one in told]


def a_fleet(start_timeout_s: float = 100.0) -> tuple[Fleet, Told, dict[str, Fleet]]:
    target = Target(
        service="ml/chat", kind="Deployment", resource=DEPLOYMENTS, key=("ml", "chat"), uid="u", order=Order.BY_COST,
        ceiling=9, start_timeout_s=start_timeout_s,
    )  # fmt: skip
    told, whose = Told(), dict[str, Fleet]()
    return Fleet(target, [told], whose), told, whose


def test_each_thing_is_told_once() -> None:
    fleet, told, whose = a_fleet()
    for now_s in (0.0, 1.0):
        fleet.on_pod(pod(), now_s)
    fleet.on_pod(pod(ready=True), 2.0)
    assert told.take() == [("chat-0", "starting", False), ("chat-0", "ready", False)]
    assert whose == {"chat-0": fleet}
    assert fleet.on_pod_gone("chat-0", 3.0)
    assert not fleet.on_pod_gone("chat-0", 3.0)
    assert told.take() == [("chat-0", "gone", False)]
    assert whose == {}
    assert fleet.replicas() == []


def test_a_pod_that_something_known_keeps_from_starting_is_overdue_after_its_time_and_told_so_once() -> None:
    fleet, told, _ = a_fleet()
    fleet.on_pod(pod(state=PULLING), 5.0)
    assert fleet.revisit_at_s(5.0) == 105.0
    fleet.on_time(104.0)
    assert told.take() == [("chat-0", "starting", False)]
    fleet.on_time(105.0)
    fleet.on_time(106.0)
    assert told.take() == [("chat-0", "starting", True)]
    assert fleet.revisit_at_s(105.0) is None
    fleet.on_pod(pod(ready=True), 110.0)
    assert told.take() == [("chat-0", "ready", False)]


def test_one_that_goes_while_something_keeps_it_from_starting_is_waited_for_no_more() -> None:
    fleet, told, _ = a_fleet()
    fleet.on_pod(pod(state=PULLING), 5.0)
    fleet.on_pod_gone("chat-0", 6.0)
    assert fleet.revisit_at_s(6.0) is None
    told.take()
    fleet.on_time(105.0)
    assert told.take() == []


def test_of_one_that_had_ended_when_it_was_first_seen_nothing_is_told() -> None:
    fleet, told, _ = a_fleet()
    fleet.on_pod(pod(state=CRASHED), 0.0)
    assert told.take() == []
    assert told.back_offs == []


def test_only_replica_sets_share_a_number_while_there_are_two_templates() -> None:
    for order, is_rolling in ((Order.BY_COST, True), (Order.BY_NAME, False)):
        fleet, _, _ = a_fleet()
        fleet.target = msgspec.structs.replace(fleet.target, order=order)
        for template in ("before", "after"):
            one = pod(ready=True)
            meta = msgspec.structs.replace(one.metadata, name=template, labels={"pod-template-hash": template})
            fleet.on_pod(msgspec.structs.replace(one, metadata=meta), 0.0)
        assert fleet.is_rolling() is is_rolling


def test_who_gives_it_more_time_meanwhile_is_heard() -> None:
    fleet, told, _ = a_fleet(start_timeout_s=10.0)
    fleet.on_pod(pod(state=PULLING), 0.0)
    fleet.target = a_fleet(start_timeout_s=50.0)[0].target
    fleet.on_time(10.0)
    assert fleet.revisit_at_s(10.0) == 50.0
    assert told.take() == [("chat-0", "starting", False)]


def test_a_life_that_ended_is_told_before_the_next_one_of_the_same_pod() -> None:
    fleet, told, whose = a_fleet()
    fleet.on_pod(pod(ready=True), 0.0)
    fleet.on_pod(pod(restarts=1, last=CRASHED), 9.0)
    assert told.take() == [("chat-0", "ready", False), ("chat-0", "gone", False), ("chat-0~1", "starting", False)]
    assert whose == {"chat-0~1": fleet}
    assert told.back_offs[-1] is not None
    fleet.forgive()
    assert told.back_offs[-1] is None


def test_a_workload_that_is_let_go_has_no_replicas_left() -> None:
    fleet, told, whose = a_fleet()
    fleet.on_pod(pod(ready=True), 0.0)
    fleet.disband(1.0)
    assert told.take()[-1] == ("chat-0", "gone", False)
    assert whose == {}
