"""What is read from a pod."""

from typing import Any

import msgspec
import pytest

from zerogate.kube.lives import Life, cost_of, deleted, lives_of, never_starts, ordinal_of, trouble_of
from zerogate.kube.objects import Pod
from zerogate.runtime.interface import EndCause, ReplicaState

RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
CRASHED = {"terminated": {"exitCode": 3, "reason": "Error", "message": "CUDA out of memory"}}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}


def pod(
    *,
    ready: bool = False,
    state: dict[str, Any] | None = None,
    last: dict[str, Any] | None = None,
    restarts: int = 0,
    phase: str = "Running",
    deleting: bool = False,
    scheduled: str = "True",
    **status: Any,
) -> Pod:
    metadata: dict[str, Any] = {"name": "chat-0", "namespace": "ml", "labels": {"pod-template-hash": "7d9f"}}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [
        {"type": "PodScheduled", "status": scheduled, "message": "" if scheduled == "True" else "0/3 nodes: no GPU"},
        {"type": "Ready", "status": str(ready)},
    ]
    container = {
        "name": "model", "state": state or RUNNING, "lastState": last or {}, "restartCount": restarts, "ready": ready,
    }  # fmt: skip
    body = {"phase": phase, "conditions": conditions, "containerStatuses": [container], **status}
    return msgspec.convert({"metadata": metadata, "status": body}, Pod, strict=False)


def tell(*pods: Pod) -> list[Life]:
    """What is told of a pod that looks like these, one after the other."""
    told: list[Life] = []
    for one in pods:
        told += lives_of(one, told[-1] if told else None)
    return told


def states(told: list[Life]) -> list[tuple[str, str]]:
    return [(life.id, life.state.value) for life in told]


def test_a_pod_starts_and_is_ready_when_the_kubelet_says_so() -> None:
    assert states(tell(pod(), pod(ready=True))) == [("chat-0", "starting"), ("chat-0", "ready")]


def test_one_that_loses_its_readiness_takes_nothing_and_may_come_back() -> None:
    told = tell(pod(ready=True), pod(), pod(ready=True))
    assert [life.state.value for life in told] == ["ready", "draining", "ready"]


def test_a_deleted_pod_drains_until_it_is_no_longer_there() -> None:
    told = tell(pod(ready=True), pod(ready=True, deleting=True))
    assert told[-1].state is ReplicaState.DRAINING
    gone = deleted(told[-1])
    assert (gone.state, gone.ended and gone.ended.cause) == (ReplicaState.GONE, EndCause.STOPPED)


@pytest.mark.parametrize("exit_code", [0, 137, 143])
def test_containers_of_a_deleted_pod_have_been_stopped_whatever_they_say_of_their_ends(exit_code: int) -> None:
    ended = {"terminated": {"exitCode": exit_code, "reason": "Completed" if exit_code == 0 else "Error"}}
    told = tell(pod(ready=True), pod(ready=True, deleting=True), pod(state=ended, deleting=True))
    assert told[-1].state is ReplicaState.GONE
    assert told[-1].ended is not None
    assert (told[-1].ended.cause, told[-1].ended.exit_code) == (EndCause.STOPPED, exit_code)


@pytest.mark.parametrize(
    ("first", "cause"), [(pod(ready=True), EndCause.CRASHED), (pod(), EndCause.START_FAILED)], ids=["ready", "starting"]
)
def test_an_ended_container_is_the_end_of_the_replica_and_its_restart_another_one(first: Pod, cause: EndCause) -> None:
    told = tell(first, pod(state=CRASHED), pod(restarts=1), pod(ready=True, restarts=1))
    assert states(told)[1:] == [("chat-0", "gone"), ("chat-0~1", "starting"), ("chat-0~1", "ready")]
    ended = told[1].ended
    assert ended is not None
    assert (ended.cause, ended.exit_code) == (cause, 3)
    assert ended.last_lines == ("CUDA out of memory",)


def test_between_two_lives_there_is_none() -> None:
    told = tell(pod(state=CRASHED), pod(state=BACK_OFF, last=CRASHED))
    assert states(told) == [("chat-0", "gone"), ("chat-0", "gone")]
    assert told[1].ended == told[0].ended
    assert told[1].trouble == "container model: CrashLoopBackOff: back-off 10s restarting failed container"


def test_a_restart_whose_end_was_never_seen_is_told_as_an_end_and_a_beginning() -> None:
    told = tell(pod(ready=True), pod(restarts=2, last=CRASHED))
    assert states(told) == [("chat-0", "ready"), ("chat-0", "gone"), ("chat-0~2", "starting")]
    ended = told[1].ended
    assert ended is not None
    assert (ended.cause, ended.exit_code) == (EndCause.CRASHED, 3)


def test_an_evicted_pod_is_gone_with_the_kubelets_words() -> None:
    told = tell(pod(ready=True), pod(phase="Failed", reason="Evicted", message="The node was low on memory."))
    ended = told[-1].ended
    assert ended is not None
    assert ended.detail == "Pod chat-0 ended: Evicted: The node was low on memory."


@pytest.mark.parametrize(
    ("shown", "trouble"),
    [
        (pod(scheduled="False"), "not scheduled: 0/3 nodes: no GPU"),
        (
            pod(state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
            "container model: ImagePullBackOff: no such image",
        ),
        (pod(state={"waiting": {"reason": "ContainerCreating"}}), None),
        (pod(), None),
    ],
    ids=["unschedulable", "image", "creating", "running"],
)
def test_trouble_is_what_does_not_pass_by_waiting(shown: Pod, trouble: str | None) -> None:
    assert trouble_of(shown) == trouble
    assert lives_of(shown)[0].state is ReplicaState.STARTING


@pytest.mark.parametrize(
    ("reason", "hopeless"),
    [("ImagePullBackOff", True), ("ErrImagePull", False), ("CrashLoopBackOff", True), ("ContainerCreating", False)],
)
def test_what_the_kubelet_gave_up_for_now_does_not_pass_by_waiting(reason: str, hopeless: bool) -> None:
    assert never_starts(pod(state={"waiting": {"reason": reason}})) is hopeless


@pytest.mark.parametrize(("text", "cost"), [("-1000", -1000), ("many", 0), ("", 0)])
def test_a_cost_that_is_no_number_counts_as_none(text: str, cost: int) -> None:
    annotations = {"controller.kubernetes.io/pod-deletion-cost": text}
    assert cost_of(msgspec.convert({"metadata": {"annotations": annotations}}, Pod)) == cost


@pytest.mark.parametrize(("name", "ordinal"), [("db-10", 10), ("db", 0), ("web-7d9f-x2x4z", 0)])
def test_the_ordinal_is_the_number_at_the_end(name: str, ordinal: int) -> None:
    assert ordinal_of(msgspec.convert({"metadata": {"name": name}}, Pod)) == ordinal


def test_pods_that_follow_each_other_under_one_name_are_different_replicas() -> None:
    first, next_ = (
        msgspec.convert({"metadata": {"name": "db-0", "uid": uid}}, Pod) for uid in ("0a1b2c3d-44", "99887766-55")
    )
    assert [life.id for one in (first, next_) for life in lives_of(one)] == ["db-0.0a1b2c3d", "db-0.99887766"]
