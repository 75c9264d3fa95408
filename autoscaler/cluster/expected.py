"""Who should report, told as changes: of ten thousand sources one pod's is the rule. Pure.

A pod with a sidecar is one source, called as the pod. A gateway's pod has one for each worker, whose names are known
when they are first heard; until then the pod itself stands for them, and is silent. Owned by
`autoscaler.cluster.coverage`, which sees the pods.
"""

from itertools import islice
from typing import Final

import msgspec

from zerogate.kube.objects import Key

MOST_WORKERS: Final = 512
"""Of one gateway's pod: more than a machine has cores. A worker that ends and is replaced has another name, and where
that happens again and again, the one that was not heard for the longest time is expected no more."""


class Changes(msgspec.Struct, frozen=True):
    """`added`: name → the one service it sees, None for all. `gone`: names that are expected no more."""

    added: dict[str, str | None]
    gone: list[str]


class Expected:
    """See the module's text."""

    def __init__(self) -> None:
        self._expected: dict[str, str | None] = {}
        """As it was told."""
        self._wanted: dict[str, tuple[bool, str | None]] = {}
        """Not told yet: whether it is expected, and what it sees."""
        self._workers: dict[Key, dict[str, None]] = {}
        """By a gateway's pod: those that were heard."""

    def set(self, name: str, service: str | None) -> None:
        """It should report about this service; None: about all."""
        self._want(name, True, service)

    def remove(self, name: str) -> None:
        """It should not, or not any more."""
        self._want(name, False, None)

    def set_gateway(self, key: Key) -> None:
        """A pod of a gateway or an activator is there."""
        if key not in self._workers:
            self._workers[key] = {}
            self.set("/".join(key), None)

    def remove_gateway(self, key: Key) -> None:
        """It is gone, and its workers with it."""
        for name in ("/".join(key), *self._workers.pop(key, ())):
            self.remove(name)

    def hear(self, name: str) -> None:
        """A source that sees all services has a stream."""
        namespace, _, rest = name.partition("/")
        pod, is_worker, _ = rest.partition("/")
        workers = self._workers.get((namespace, pod)) if is_worker else None
        if workers is None:
            return
        is_new = name not in workers
        workers.pop(name, None)
        workers[name] = None  # who is heard goes to the end
        if is_new:
            self.remove(f"{namespace}/{pod}")
            self.set(name, None)
            if len(workers) > MOST_WORKERS:
                longest_silent = next(iter(workers))
                del workers[longest_silent]
                self.remove(longest_silent)

    def take(self, most: int) -> Changes:
        """At most so many changes since the last time; without any, all are taken."""
        names = list(islice(self._wanted, most))
        wanted = {name: self._wanted.pop(name) for name in names}
        added = {name: service for name, (is_expected, service) in wanted.items() if is_expected}
        gone = [name for name in wanted if name not in added]
        self._expected.update(added)
        for name in gone:
            del self._expected[name]
        return Changes(added, gone)

    def _want(self, name: str, is_expected: bool, service: str | None) -> None:
        is_told = (name in self._expected) is is_expected
        if is_told and (not is_expected or self._expected[name] == service):
            self._wanted.pop(name, None)
        else:
            self._wanted[name] = is_expected, service
