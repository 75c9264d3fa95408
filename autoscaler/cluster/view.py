"""The autoscaler of a cluster as the admin API shows and changes it: the same values as of one box.

Reads the parts, keeps and changes nothing: whoever reaches the port may look, and whose word a request is cannot be
told here, as API servers take a user's credentials off what they pass on. So a person's pin is an annotation of the
workload that this person writes, by RBAC's leave; it comes into force by the watch, for the leader and its followers.
"""

import os
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from pathlib import Path

from autoscaler.cluster.metrics import Process, Sample, render
from autoscaler.cluster.services import Services
from autoscaler.history import History
from autoscaler.loop import Autoscaler
from autoscaler.shown import (
    back_off_status,
    ending,
    explanation,
    pin_status,
    plan_of,
    replica_status,
    state_word,
)
from zerogate.admin import api
from zerogate.admin.problems import NotApplicableError, RefusedRequestError, UnknownServiceError
from zerogate.clock import now, wall
from zerogate.exposition import Dialect
from zerogate.kube.catalog import Managed
from zerogate.kube.fronts import misfit
from zerogate.kube.pins import PIN
from zerogate.kube.runtime import KubernetesRuntime
from zerogate.version import version

_STALE_S = 10.0
"""Watches that ended are resumed within a second or two. Where that fails, who sees an older state should know: a
leader that cannot renew its lease stops writing after as long."""
_PINNED = (
    "A pin does not wait for what is inside a pod without a sidecar: after 5 s in which gateways send nothing more to "
    "it, what is still inside has the pod's terminationGracePeriodSeconds to end."
)


class ClusterView:
    """Implements `zerogate.admin.app.Box` over the parts of a running autoscaler.

    `busy` and `waits` are the quiescer's; `not_taken`: what keeps a Service from being
    answered for at zero; `faults`: what keeps the state from being up to date, `age_s`: how old it is;
    `reasons`: why this process is not ready; `process`: its own numbers.
    """

    def __init__(
        self,
        autoscaler: Autoscaler,
        services: Services,
        runtime: KubernetesRuntime,
        history: History,
        *,
        busy: Callable[[str], int],
        waits: Callable[[str], tuple[str, ...]],
        not_taken: Callable[[str], tuple[str, ...]],
        faults: Callable[[], tuple[str, ...]],
        age_s: Callable[[], float],
        reasons: Callable[[], tuple[str, ...]],
        process: Callable[[], Process],
        heard_at: str,
    ) -> None:
        self._autoscaler = autoscaler
        self._services = services
        self._runtime = runtime
        self._history = history
        self._busy = busy
        self._waits = waits
        self._not_taken = not_taken
        self._faults = faults
        self._age_s = age_s
        self._reasons = reasons
        self._process = process
        self._heard_at = heard_at
        self._version = version()
        self._started_s = now()

    def names(self) -> Sequence[str]:
        return tuple(self._services.entries)

    def _entry(self, name: str) -> Managed:
        entry = self._services.entries.get(name)
        if entry is None:
            raise UnknownServiceError(name, self.names())
        return entry

    # What is shown

    def service(self, name: str) -> api.ServiceStatus:
        entry = self._entry(name)
        state = self._autoscaler.view(name)
        policy, decision, now_s = state.policy, state.decision, now()
        last_ending = self._history.of(name).last_ending
        return api.ServiceStatus(
            name=name,
            kind="workload",
            state=state_word(state, ()),
            desired=decision.desired if decision is not None else 0,
            min_replicas=policy.min_replicas,
            max_replicas=policy.max_replicas,
            replicas=tuple(
                replica_status(one, now_s, in_flight=self._busy(one.id), is_doubted=False) for one in state.replicas
            ),
            in_flight=state.traffic.in_flight,
            held=state.traffic.held,
            idle_s=None if state.traffic.in_flight else state.traffic.since_byte_s,
            idle_timeout_s=policy.idle_timeout_s,
            start_s=state.boot_time_s,
            models=policy.models,
            hosts=policy.hosts,
            path_prefix=policy.path_prefix,
            why=decision.why if decision is not None else "",
            next_change=decision.next_change if decision is not None else None,
            pin=pin_status(state),
            back_off=back_off_status(state.back_off, now_s) if state.back_off else None,
            last_ending=ending(last_ending) if last_ending is not None else None,
            notices=self.notices(entry),
            api_path=entry.resource.path(namespace=entry.key[0], name=entry.key[1]),
        )

    def notices(self, entry: Managed) -> tuple[str, ...]:
        """What the owner should know, as sentences."""
        found = list(entry.mistakes)
        if unmetered := self._services.unmetered(entry.service):
            found.append(f"It never goes to zero as it is: {unmetered}.")
        if shared := self._services.shared(entry.service):
            found.append(shared)
            if self._autoscaler.pin_of(entry.service) is not None:
                found.append(_PINNED)
        if unfit := misfit(entry):
            found.append(unfit)
        found += [f"A pod does not get ready: {trouble}" for trouble in self._runtime.troubles(entry.service)]
        if refused := self._services.refused_pods(entry.service):
            found.append(f"A pod is not even made: {refused}")
        found += self._waits(entry.service)
        found += self._not_taken(entry.service)
        foreign = self._runtime.last_foreign_write(entry.service)
        if foreign is not None:
            write, is_hands_off = foreign
            then = (
                "It was the third time within ten minutes, so zerogate writes it no more until an annotation changes."
                if is_hands_off
                else "zerogate left it alone for a minute."
            )
            found.append(f"Somebody else changed the number from {write.before} to {write.found}. {then}")
        if write_trouble := self._runtime.write_trouble(entry.service):
            found.append(f"Its number of replicas cannot be written: {write_trouble}")
        if floor_trouble := self._runtime.floor_trouble(entry.service):
            found.append(floor_trouble)
        if self._age_s() > _STALE_S and (faults := self._faults()):
            found.append(f"What is known of the cluster is {self._age_s():.0f} s old: {faults[0]}")
        return tuple(found)

    def explain(self, name: str) -> api.Explanation:
        self._entry(name)
        return explanation(self._autoscaler.view(name), self._autoscaler.decisions(name), now())

    def plan(self, name: str, count: int) -> api.Plan:
        self._entry(name)
        return plan_of(self._autoscaler.view(name), wall(), count)

    def log_path(self, name: str) -> Path:
        entry = self._entry(name)
        namespace, workload = entry.key
        raise NotApplicableError(
            f"The log of {name} is the cluster's: kubectl logs {entry.kind.lower()}/{workload} -n {namespace}"
        )

    def health(self) -> api.Health:
        return api.Health(
            healthy=True, version=self._version, pid=os.getpid(), uptime_s=now() - self._started_s,
            traffic=self._heard_at,
        )  # fmt: skip

    def readiness(self) -> api.Readiness:
        reasons = self._reasons()
        return api.Readiness(ready=not reasons, reasons=reasons)

    async def metrics(self, dialect: Dialect) -> AsyncGenerator[bytes, None]:
        async for part in render(self._process(), self._samples(), dialect):
            yield part

    def _samples(self) -> Iterable[Sample]:
        now_s = now()
        for name in self.names():
            if name not in self._services.entries:
                continue  # it was taken away between two slices
            yield Sample.of(name, self._autoscaler.view(name), self._history.of(name), now_s)

    # What is changed

    async def pin(self, name: str, request: api.PinRequest) -> None:
        raise self._not_from_here(name, f"kubectl zerogate pin {name} {request.replicas}")

    async def unpin(self, name: str) -> None:
        raise self._not_from_here(name, f"kubectl zerogate unpin {name}")

    def _not_from_here(self, name: str, command: str) -> RefusedRequestError:
        self._entry(name)
        return RefusedRequestError(
            f"A pin is the annotation {PIN} of the workload, for who may patch that: `{command}` writes it."
        )

    async def reload(self) -> api.ReloadReport:
        raise NotApplicableError("There is no file to read again: annotations and the ConfigMap count as they change.")
