"""When the status of which workload is written on it. Pure: `now_s` is an argument.

A status is for people who look at the object, and every write of an annotation is read by whoever watches it (a
Deployment's controller copies it to the ReplicaSet besides). So it is written when its gist changes, at most once a
minute for each workload and a few a second for all, and what changes to and fro in between is never written.
"""

from collections import OrderedDict
from typing import Final

import msgspec

from autoscaler.status import ServiceState
from zerogate.errors import UNREADABLE
from zerogate.kube.times import second_time

EACH_S: Final = 60.0
"""A person reads it a minute after the event; who wants to know at once asks `kubectl zerogate status`."""
PER_LOOK: Final = 4
"""Each second: 5,000 workloads that all change are told within 21 minutes, by a tenth of the requests that we may."""
_LONGEST: Final = 300
"""Signs of a sentence: an annotation is no log."""


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is written. `why` and `at` say how it came about, and are no reason to write."""

    state: str
    desired: int
    notices: tuple[str, ...] = ()
    why: str = ""
    at: str = ""

    @property
    def gist(self) -> tuple[str, int, tuple[str, ...]]:
        return self.state, self.desired, self.notices


def status_of(state: ServiceState, word: str, notices: tuple[str, ...], wall_s: float) -> Status:
    """Of a service as it stands."""
    decision = state.decision
    return Status(
        state=word, desired=state.asked, notices=tuple(notice[:_LONGEST] for notice in notices[:3]),
        why=decision.why[:_LONGEST] if decision is not None else "", at=second_time(wall_s),
    )  # fmt: skip


def is_news(status: Status, noted: str | None) -> bool:
    """Whether what stands on the object says something else."""
    try:
        return noted is None or msgspec.json.decode(noted, type=Status).gist != status.gist
    except UNREADABLE:
        return True


class StatusBook:
    """Whose status may have changed, and who may be written next."""

    def __init__(self) -> None:
        self._marked: OrderedDict[str, None] = OrderedDict()
        self._written_s: dict[str, float] = {}

    def mark(self, service: str) -> None:
        """Something of it has changed."""
        self._marked[service] = None

    def forget(self, service: str) -> None:
        """It is gone."""
        self._marked.pop(service, None)
        self._written_s.pop(service, None)

    def take_due(self, now_s: float, most: int) -> list[str]:
        """Whom to look at now, longest marked first; they are marked no more."""
        due: list[str] = []
        for service in self._marked:
            if now_s - self._written_s.get(service, float("-inf")) >= EACH_S:
                due.append(service)
                if len(due) == most:
                    break
        for service in due:
            del self._marked[service]
        return due

    def on_written(self, service: str, now_s: float) -> None:
        """Its status was written."""
        self._written_s[service] = now_s
