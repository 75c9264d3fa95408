"""Why none of a service's pods gets ready, in the cluster's own words, and whether waiting helps. Pure.

Waiting does not help where the kubelet has tried and given up for now, where nobody knows at which port pods take
requests, and where something has been in the way for `start-timeout`, since it was first seen here: by the
clock of whoever looks (`now_s`), since the stamps on a pod are of other clocks. Kept per service by gateways and
activators, which tell clients.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from zerogate.kube.catalog import Managed, number_of, port_of
from zerogate.kube.fronts import unknown_port
from zerogate.kube.lives import never_starts, trouble_of
from zerogate.kube.objects import Pod, Workload, condition
from zerogate.runtime.interface import Trouble

ASK_AFTER_S: Final = 3.0
"""A pod that is admitted is there within 0.1 s of its number, on a busy cluster within a second or two."""
ASK_AGAIN_S: Final = 10.0
"""A quota may be raised meanwhile, or another one be in the way."""
MOST_AT_ONCE: Final = 20
"""Workloads that are asked about in one look; where more than two hundred are without pods, the last ones are not."""
_NO_POD: Final = ""
"""In the place of a UID: pods that were not even made."""


class Obstacle:
    """What is in the way of one service. Invariant: `due_s` lies behind the last look, or is infinite."""

    __slots__ = ("_ask_s", "_been_ready", "_missing_s", "_said", "_since_s", "due_s")

    def __init__(self) -> None:
        self.due_s = float("inf")
        """When the next look says something else, though nothing happens."""
        self._been_ready: dict[str, None] = {}
        """UIDs of pods that were ready once: one that crashes later did not fail because of how it starts."""
        self._since_s: dict[str, float] = {}
        """Since when something is in the way, by UID."""
        self._missing_s: float | None = None
        """Since when a StatefulSet's pods are wanted and none is there."""
        self._ask_s = float("inf")
        self._said = ""
        """Its controller's words about that, in an Event."""

    def take_missing_s(self, now_s: float) -> float | None:
        """For how long its pods are missing, where it is time to ask for Events about that (`unmade.py`)."""
        if self._missing_s is None or now_s < self._ask_s:
            return None
        self._ask_s = now_s + ASK_AGAIN_S
        return now_s - self._missing_s

    def on_events(self, words: str) -> bool:
        """What was found; whether that is news."""
        is_news = self._missing_s is not None and words != self._said
        if is_news:
            self._said = words
        return is_news

    def _note_missing(self, is_missing: bool, now_s: float) -> None:
        if not is_missing:
            self._missing_s, self._ask_s, self._said = None, float("inf"), ""
        elif self._missing_s is None:
            self._missing_s, self._ask_s = now_s, now_s + ASK_AFTER_S

    def on_pod(self, pod: Pod) -> None:
        """A pod is new or looks different."""
        if pod.is_ready:
            self._been_ready[pod.metadata.uid] = None

    def on_pod_gone(self, pod: Pod) -> None:
        """It was deleted."""
        self._been_ready.pop(pod.metadata.uid, None)

    def look(self, pods: Iterable[Pod], workload: Workload | None, entry: Managed, now_s: float) -> Trouble | None:
        """Why none gets ready; None where one is ready, or may well be yet, or none is wanted."""
        timeout_s, asked = entry.wanted.cluster.start_timeout_s, entry.wanted.cluster.port
        present = [pod for pod in pods if pod.is_present]
        if not any(port_of(pod, asked) for pod in present) and (unknown := unknown_port(entry)):
            self.due_s, self._since_s = float("inf"), {}
            return Trouble(unknown, True)
        said = {pod.metadata.uid: None if pod.is_ready else trouble_of(pod) for pod in present}
        given_up = {uid for pod in present if never_starts(pod) and (uid := pod.metadata.uid) not in self._been_ready}
        is_wanted = workload is not None and number_of(workload) > 0
        self._note_missing(entry.kind == "StatefulSet" and is_wanted and not present, now_s)
        if not present and (refused := refused_pods(workload) or self._said):
            said = {_NO_POD: refused}
        self._since_s = {uid: self._since_s.get(uid, now_s) for uid, words in said.items() if words is not None}
        ends_s = [since_s + timeout_s for since_s in self._since_s.values()]
        self.due_s = min((end_s for end_s in ends_s if end_s > now_s), default=float("inf"))
        if not said or None in said.values():
            return None
        is_over = {uid: since_s + timeout_s <= now_s for uid, since_s in self._since_s.items()}
        hopeless = all(uid in given_up or is_over[uid] for uid in said)
        return Trouble(_words(said, present), hopeless)


def take_unmade(
    obstacles: Mapping[str, Obstacle], entries: Mapping[str, Managed], now_s: float
) -> list[tuple[Managed, float]]:  # fmt: skip
    """Workloads about whose Events it is time to ask (`unmade.py`), and for how many seconds their pods are missing."""
    times_s = (
        (entry, missing_s) for service, one in obstacles.items()
        if (entry := entries.get(service)) is not None and (missing_s := one.take_missing_s(now_s)) is not None
    )  # fmt: skip
    return list(islice(times_s, MOST_AT_ONCE))


def _words(said: dict[str, str | None], present: list[Pod]) -> str:
    """Of the first pod: they mostly say the same."""
    first = next(words for words in said.values() if words is not None)
    return f"{first}{_last_end(present[0])}" if present else first


def refused_pods(workload: Workload | None) -> str:
    """Why the cluster does not even admit pods that are wanted (over a quota, against a policy); empty: it does.

    Deployments say it in a condition; of StatefulSets see `unmade.py`.
    """
    if workload is None or number_of(workload) == 0:
        return ""
    failure = condition(workload.status.conditions, "ReplicaFailure")
    if failure is None or failure.status != "True":
        return ""
    return failure.message or failure.reason


def _last_end(pod: Pod) -> str:
    """How the last life of a container ended, as a sentence to follow another."""
    for status in pod.status.container_statuses:
        end = status.last_state.terminated
        if end is not None and status.state.waiting is not None:
            said = end.message.strip() or end.reason
            return f". It ended with exit code {end.exit_code}{f': {said}' if said else ''}"
    return ""
