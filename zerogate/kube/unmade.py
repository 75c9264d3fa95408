"""Why the pods of a StatefulSet are not made (over a quota, against a policy): its controller says so in Events alone.

A Deployment has a condition for it. Events are asked for and not watched, since a cluster has more of them than of
anything else: those of one workload, where pods are wanted and none has come, by whoever has to tell clients. When to
ask is said by `obstacles.py`. Without the right to, nothing is known of it.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from zerogate.clock import wall
from zerogate.errors import UNREADABLE
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import KubeError
from zerogate.kube.objects import EVENTS, Event
from zerogate.kube.times import wall_time
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)

REASON: Final = "FailedCreate"
SKEW_S: Final = 30.0
"""Clocks of control planes are seconds apart at most. What was said before is of another time."""
_MOST: Final = 50
"""Of one workload's: a controller repeats the same words as one Event with a count."""


class Unmade:
    """See the module's text. `tell(service, words)`: what was found, "" where that is nothing."""

    def __init__(self, client: KubeClient, nursery: Nursery, tell: Callable[[str, str], None]) -> None:
        self._client = client
        self._nursery = nursery
        self._tell = tell
        self._said: set[type[Exception]] = set()
        """Kinds of failures that the log has: each of them once, however many workloads it is met at."""

    def ask(self, due: Iterable[tuple[Managed, float]]) -> None:
        """Ask about these workloads, whose pods are missing for so many seconds."""
        for entry, missing_s in due:
            since_at_s = wall() - missing_s - SKEW_S
            self._nursery.start(self._ask(entry, since_at_s), name=f"events of {entry.service}")

    async def _ask(self, entry: Managed, since_at_s: float) -> None:
        namespace, name = entry.key
        fields = f"regarding.kind={entry.kind},regarding.name={name},reason={REASON}"
        try:
            page = await self._client.page(EVENTS, namespace=namespace, fields=fields, limit=_MOST)
            events = [msgspec.json.decode(raw, type=Event) for raw in page.items or ()]
        except (KubeError, *UNREADABLE) as error:
            if type(error) not in self._said:
                self._said.add(type(error))
                log.warning("why %s has no pods is not known: %s", entry.service, error)
            return
        self._tell(entry.service, latest(events, since_at_s))


def latest(events: Iterable[Event], since_at_s: float) -> str:
    """The words of the last one that was said since then; "" where none was."""
    said = [(at_s, event.note) for event in events if (at_s := _at_s(event)) >= since_at_s]
    return max(said, default=(0.0, ""))[1]


def _at_s(event: Event) -> float:
    series = event.series.last_observed_time if event.series is not None else None
    text = series or event.deprecated_last_timestamp or event.event_time
    try:
        return wall_time(text) if text else 0.0
    except ValueError:
        return 0.0
