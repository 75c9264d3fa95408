"""What a pod says about the replica in it. Pure.

A replica is one life of a pod's containers: a container that ends is started anew by the kubelet in the same pod, and
that is another replica, since it has to load its model again. So a replica is called by its pod, and after n restarts
`POD~n`. Between two lives (CrashLoopBackOff) a pod has none. Where pods follow each other under one name, as those of a
StatefulSet do, a piece of the pod's UID is part of it.

    starting   until the pod is ready for the first time in this life; `trouble` says why that may not come
    ready      the kubelet says so
    draining   it was ready and is not any longer, or is being deleted: it takes nothing new, and may come back
    gone       its container ended, or the whole pod: evicted, failed, deleted

Called by `zerogate.kube.fleet` with each pod that the watch shows.
"""

from typing import Final

import msgspec

from zerogate.kube.objects import ContainerStatus, Pod, condition
from zerogate.runtime.interface import EndCause, Ended, ReplicaState

COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_TEMPLATE: Final = "pod-template-hash"
"""On pods of a ReplicaSet, whose names are random."""
_TROUBLES: Final = frozenset(
    (
        "CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "ErrImageNeverPull", "ErrImagePull",
        "ImageInspectError", "ImagePullBackOff", "InvalidImageName", "RunContainerError",
    )
)  # fmt: skip
"""Reasons of a waiting container that do not pass by waiting. `ContainerCreating` and `PodInitializing` do."""
_HOPELESS: Final = frozenset(
    ("CrashLoopBackOff", "CreateContainerConfigError", "ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName")
)
"""Of these, what the kubelet says when it has tried and makes a pause. `ErrImagePull` may be one lost packet."""


class Life(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One replica as its pod shows it. `was_ready`: at any time of this life."""

    id: str
    pod: str
    state: ReplicaState
    was_ready: bool = False
    ended: Ended | None = None
    trouble: str | None = None
    """Why it does not get ready, in the words of the scheduler or the kubelet; None where nothing known is wrong."""


def lives_of(pod: Pod, before: Life | None = None) -> tuple[Life, ...]:
    """What is to be told now that the pod looks like this, in order: the end of the life that was told before where the
    kubelet has begun another, and the present one. `before`: the last that was told of this pod."""
    id_ = _name(pod)
    if before is not None and before.id != id_:
        told = () if before.state is ReplicaState.GONE else (_overtaken(pod, before),)
        return (*told, _present(pod, id_, was_ready=False))
    return (_present(pod, id_, was_ready=before is not None and before.was_ready),)


def _name(pod: Pod) -> str:
    # counted when the next life begins, not when one ends
    restarts = sum(status.restart_count for status in pod.status.container_statuses)
    meta = pod.metadata
    name = meta.name if meta.label(_TEMPLATE) else f"{meta.name}.{meta.uid[:8]}"
    return name if restarts == 0 else f"{name}~{restarts}"


def _present(pod: Pod, id_: str, *, was_ready: bool) -> Life:
    name, trouble, ended = pod.metadata.name, trouble_of(pod), _ended(pod)
    if ended is not None:
        ended = _blamed(ended, was_ready=was_ready)
        if pod.metadata.is_deleting:
            # whatever its containers say of their ends: somebody ended them, which is no failure
            ended = msgspec.structs.replace(ended, cause=EndCause.STOPPED)
        return Life(id=id_, pod=name, state=ReplicaState.GONE, was_ready=was_ready, ended=ended, trouble=trouble)
    is_ready = pod.is_ready and not pod.metadata.is_deleting
    was_ready = was_ready or is_ready
    state = ReplicaState.READY if is_ready else ReplicaState.DRAINING
    if not was_ready and not pod.metadata.is_deleting:
        state = ReplicaState.STARTING
    return Life(id=id_, pod=name, state=state, was_ready=was_ready, trouble=trouble)


def _overtaken(pod: Pod, before: Life) -> Life:
    ends = (status.last_state.terminated for status in pod.status.container_statuses)
    end = next((end for end in ends if end is not None), None)
    detail = (
        "Its container was started anew." if end is None else f"Its container ended with exit code {end.exit_code}."
    )
    ended = Ended(cause=EndCause.CRASHED, detail=detail, exit_code=None if end is None else end.exit_code)
    ended = _blamed(ended, was_ready=before.was_ready)
    return msgspec.structs.replace(before, state=ReplicaState.GONE, ended=ended)


def _blamed(ended: Ended, *, was_ready: bool) -> Ended:
    cause = EndCause.CRASHED if was_ready else EndCause.START_FAILED
    return msgspec.structs.replace(ended, cause=cause)


def deleted(life: Life) -> Life:
    """The pod is no longer there."""
    ended = Ended(cause=EndCause.STOPPED, detail=f"Pod {life.pod} was deleted.")
    return msgspec.structs.replace(life, state=ReplicaState.GONE, ended=ended)


def template_of(pod: Pod) -> str | None:
    """The hash of the ReplicaSet's template; None for pods of anything else."""
    return pod.metadata.label(_TEMPLATE)


def cost_of(pod: Pod) -> int:
    """Its deletion cost; 0 where it has none or the annotation is no number, as the ReplicaSet controller reads it."""
    try:
        return int(pod.metadata.annotation(COST) or 0)
    except ValueError:
        return 0


def ordinal_of(pod: Pod) -> int:
    """The number at the end of a StatefulSet's pod; 0 where there is none."""
    tail = pod.metadata.name.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0


def trouble_of(pod: Pod) -> str | None:
    """What keeps the pod from being ready that does not pass by waiting; None where nothing is known."""
    scheduled = condition(pod.status.conditions, "PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return _sentence("not scheduled", scheduled.message or scheduled.reason)
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = status.state.waiting
        if waiting is not None and waiting.reason in _TROUBLES:
            return _sentence(f"container {status.name}: {waiting.reason}", waiting.message)
    if pod.status.phase == "Failed":
        return _sentence(pod.status.reason or "Failed", pod.status.message)
    return None


def never_starts(pod: Pod) -> bool:
    """Whether somebody has to change something before the pod can be ready: waiting alone does not help, as far as the
    kubelet knows after it has tried."""
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    return any(one.state.waiting is not None and one.state.waiting.reason in _HOPELESS for one in statuses)


def _sentence(what: str, message: str) -> str:
    return f"{what}: {message.strip()}" if message.strip() else what


def _ended(pod: Pod) -> Ended | None:
    """How the present life ended; None where it goes on. The cause is the caller's to say."""
    for status in pod.status.container_statuses:
        ended = _container_ended(status)
        if ended is not None:
            return ended
    if pod.has_ended:
        what = _sentence(pod.status.reason or pod.status.phase, pod.status.message).rstrip(".")
        return Ended(cause=EndCause.CRASHED, detail=f"Pod {pod.metadata.name} ended: {what}.")
    return None


def _container_ended(status: ContainerStatus) -> Ended | None:
    end = status.state.terminated
    if end is None and status.state.waiting is not None and status.state.waiting.reason == "CrashLoopBackOff":
        end = status.last_state.terminated
    if end is None:
        return None
    lines = tuple(end.message.splitlines()[-20:])
    why = f" ({end.reason})" if end.reason and end.reason != "Error" else ""
    return Ended(
        cause=EndCause.CRASHED,
        detail=f"Container {status.name} ended with exit code {end.exit_code}{why}.",
        exit_code=end.exit_code,
        last_lines=lines,
    )
