"""What the watches tell, brought to those who act on it: the listener of the autoscaler's feed. It decides nothing.

The order matters: the runtime knows a service before the deciding side does, so that what is decided about a workload
that is gone, or was taken from under zerogate, reaches nobody; and how many replicas it asks for is known when it is
first decided about.
"""

from collections.abc import Callable, Mapping
from typing import Final

from autoscaler.cluster.coverage import Coverage
from autoscaler.cluster.records import pin_of, saved_of
from autoscaler.loop import Autoscaler
from zerogate import clock as clocks
from zerogate.kube.catalog import Managed, number_of
from zerogate.kube.event_book import About, Happening
from zerogate.kube.objects import Pod, Workload
from zerogate.kube.obstacles import refused_pods
from zerogate.kube.runtime import KubernetesRuntime
from zerogate.kube.target import Target
from zerogate.policy import Policy
from zerogate.runtime.interface import Scale

WRONG_POLICY: Final = "WrongPolicy"


class Services:
    """See the module's text. `workload_of(service)`: as last seen; `tell`: an Event, where this process leads;
    `on_hpa(service)`: its `hpa` is another than before, by whichever layer of its policy."""

    def __init__(
        self,
        runtime: KubernetesRuntime,
        autoscaler: Autoscaler,
        coverage: Coverage,
        *,
        workload_of: Callable[[str], Workload | None],
        tell: Callable[[Happening], None],
        on_hpa: Callable[[str], None],
        wall: Callable[[], float] = clocks.wall,
    ) -> None:
        self._runtime = runtime
        self._autoscaler = autoscaler
        self._coverage = coverage
        self._workload_of = workload_of
        self._tell = tell
        self._on_hpa = on_hpa
        self.entries: Mapping[str, Managed] = {}
        self._targets: dict[str, Target] = {}
        self._policies: dict[str, Policy] = {}
        self._wall = wall
        self._told: dict[str, tuple[str, ...]] = {}
        """Mistakes of which an Event was written."""

    def unmetered(self, service: str) -> str:
        """Why requests may reach it uncounted; empty: they cannot."""
        entry = self.entries.get(service)
        return self._coverage.unmetered(entry) if entry is not None else ""

    def shared(self, service: str) -> str:
        """What becomes of its pods that have no sidecar, as a sentence; empty: there are none."""
        entry = self.entries.get(service)
        return self._coverage.shared(entry) if entry is not None else ""

    def refused_pods(self, service: str) -> str:
        """Why the cluster does not admit pods of it; empty: it does, or none are wanted."""
        return refused_pods(self._workload_of(service))

    def on_services(self, services: Mapping[str, Managed]) -> None:
        """All services; some are new, different or gone. Only of those is anything made: one of 5,000 is the rule."""
        before, self.entries = self.entries, dict(services)
        # an entry is replaced as a whole, and where it is the same object nothing has changed
        changed = {name: entry for name, entry in services.items() if before.get(name) is not entry}
        for name in [name for name in before if name not in services]:
            del self._targets[name], self._policies[name]
        for name, entry in changed.items():
            self._targets[name] = target_of(entry)
            self._policies[name] = entry.wanted.policy
        self._coverage.keep(services)
        self._runtime.configure(self._targets)
        added = [name for name in changed if name not in before]
        seen = {name: workload for name in added if (workload := self._workload_of(name)) is not None}
        self._autoscaler.import_state({name: saved_of(one.metadata.annotations) for name, one in seen.items()})
        self._autoscaler.configure(self._policies, {name: number_of(workload) for name, workload in seen.items()})
        for name, workload in seen.items():
            if _hpa(services[name]) == "floor" and number_of(workload):
                # what is met counts as asked for, so nobody would say it: but the floor is to be as high from now on
                self._runtime.scale(Scale(service=name, replicas=number_of(workload), generation=0, cause="standing"))
        for name in [name for name in changed if name in before and _hpa(services[name]) != _hpa(before[name])]:
            self._on_hpa(name)
        self._tell_mistakes(changed)

    def on_number(self, service: str, number: int, version: int) -> None:
        """How many replicas the workload asks for."""
        self._runtime.on_number(service, number, version)
        workload = self._workload_of(service)
        if workload is not None:
            self._follow_pin(service, workload)

    def on_pod(self, service: str, pod: Pod) -> None:
        """A pod of the service is new or looks different."""
        self._coverage.set_pod(service, pod)
        self._runtime.on_pod(service, pod)

    def on_pod_gone(self, service: str, name: str) -> None:
        """The pod was deleted, or is nobody's any longer."""
        self._coverage.remove_pod(service, name)
        self._runtime.on_pod_gone(service, name)

    def begin_to_lead(self) -> None:
        """What the last leader told is told again: nobody knows how far it came."""
        self._told = {}
        self._tell_mistakes(self.entries)

    def _tell_mistakes(self, entries: Mapping[str, Managed]) -> None:
        """An Event on each workload whose policy is wrong, once for each set of mistakes."""
        for name, entry in entries.items():
            if entry.mistakes and self._told.get(name) != entry.mistakes:
                for mistake in entry.mistakes:
                    note = f"{mistake} It changes nothing: what was valid before holds."
                    happening = Happening(
                        about=about(entry), reason=WRONG_POLICY, note=note, action="Configure", is_warning=True
                    )
                    self._tell(happening)
            if entry.mistakes:
                self._told[name] = entry.mistakes
            else:
                self._told.pop(name, None)
        for name in [name for name in self._told if name not in self.entries]:
            del self._told[name]

    def _follow_pin(self, service: str, workload: Workload) -> None:
        """A pin is noted on the workload, by whichever autoscaler was asked, and followed by all."""
        noted = pin_of(workload.metadata.annotations)
        if noted is not None and noted.until_wall_s is not None and noted.until_wall_s <= self._wall():
            noted = None
        if noted == self._autoscaler.pin_of(service):
            return
        if noted is None:
            self._autoscaler.unpin(service)
        else:
            self._autoscaler.pin(service, noted.replicas, until_wall_s=noted.until_wall_s)


def target_of(entry: Managed) -> Target:
    """What the runtime steers."""
    return Target(
        service=entry.service, kind=entry.kind, resource=entry.resource, key=entry.key, uid=entry.uid,
        order=entry.order, ceiling=entry.wanted.policy.max_replicas, port=entry.wanted.cluster.port,
        is_floored=_hpa(entry) == "floor", start_timeout_s=entry.wanted.cluster.start_timeout_s,
    )  # fmt: skip


def _hpa(entry: Managed) -> str:
    return entry.wanted.cluster.hpa


def about(entry: Managed) -> About:
    """The workload, as Events name it."""
    return About(entry.resource.api_version, entry.kind, *entry.key, entry.uid)
