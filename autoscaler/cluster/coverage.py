"""Who should report, and whether every way to a service's replicas is counted. Pure.

Fed with the pods of services, as watches show them, and with those of gateways and activators. It says which sources
are expected (`autoscaler.cluster.expected`), and of a service why requests may reach it uncounted. That is so where one
of its pods has no sidecar, or has one that has long been silent, or where a Service leads past the sidecars: what
clients send there, past all gateways, is seen by nobody, and zero must not be decided on what nobody sees.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from autoscaler.cluster.expected import Changes, Expected
from zerogate.kube.bypass import Bypass
from zerogate.kube.catalog import Managed, sidecar_port
from zerogate.kube.keys import PREFIX
from zerogate.kube.objects import Key, Pod, condition
from zerogate.kube.sidecar import PORT_NAME

_RESTARTABLE: Final = ("Deployment", "StatefulSet")
_SHOWN: Final = 3


class _Seen(msgspec.Struct, frozen=True):
    """What of a pod matters here."""

    uid: str
    has_sidecar: bool
    takes_requests: bool
    has_node: bool
    """Nothing runs in one that no node takes, so nobody in it is silent."""

    @property
    def reports(self) -> bool:
        return self.has_sidecar and self.has_node


class Coverage:
    """See the module's text. `is_lost(source)`: it should report and has not for a long time. `bypasses(entry)`: the
    Services that lead past its sidecars. `has_activators`: somebody can answer for a workload at zero."""

    def __init__(
        self,
        is_lost: Callable[[str], bool],
        bypasses: Callable[[Managed], Sequence[Bypass]] = lambda _: (),
        *,
        has_activators: bool = True,
    ) -> None:
        self._is_lost = is_lost
        self._bypasses = bypasses
        self._has_activators = has_activators
        self._pods: dict[str, dict[str, _Seen]] = {}
        """By service and by name."""
        self._services: dict[Key, str] = {}
        """Whose each of these pods is."""
        self._gateways: dict[Key, str] = {}
        """With their pods' uid."""
        self._holders: dict[Key, None] = {}
        """Those whose process runs."""
        self._expected = Expected()

    def set_pod(self, service: str, pod: Pod) -> None:
        """A pod of a service is new or looks different."""
        scheduled = condition(pod.status.conditions, "PodScheduled")
        seen = _Seen(
            uid=pod.metadata.uid,
            has_sidecar=sidecar_port(pod) is not None,
            takes_requests=not pod.metadata.is_deleting and pod.status.phase == "Running",
            has_node=scheduled is None or scheduled.status != "False",
        )
        self._pods.setdefault(service, {})[pod.metadata.name] = seen
        self._services[pod.key] = service
        if seen.reports:
            self._expected.set(source_of(service, pod.metadata.name), service)
        else:
            self._expected.remove(source_of(service, pod.metadata.name))

    def remove_pod(self, service: str, name: str) -> None:
        """It is gone."""
        pods = self._pods.get(service, {})
        if pods.pop(name, None) is not None:
            self._expected.remove(source_of(service, name))
        self._services.pop((service.partition("/")[0], name), None)
        if not pods:
            self._pods.pop(service, None)

    def keep(self, services: Mapping[str, object]) -> None:
        """Forget all other services."""
        for service in [service for service in self._pods if service not in services]:
            for name in list(self._pods[service]):
                self.remove_pod(service, name)

    def set_gateway(self, key: Key, uid: str, *, runs: bool = True) -> None:
        """A pod of a gateway or an activator; `runs`: its container does."""
        self._gateways[key] = uid
        self._expected.set_gateway(key)
        if runs:
            self._holders[key] = None
        else:
            self._holders.pop(key, None)

    def remove_gateway(self, key: Key) -> None:
        """It is gone."""
        self._gateways.pop(key, None)
        self._holders.pop(key, None)
        self._expected.remove_gateway(key)

    def holders(self) -> tuple[str, ...]:
        """The pods of gateways and activators that run, NAMESPACE/POD."""
        return tuple("/".join(key) for key in self._holders)

    def is_bare(self, source: str) -> bool:
        """Whether this pod of a service, NAMESPACE/POD, has no sidecar."""
        namespace, _, name = source.partition("/")
        service = self._services.get((namespace, name))
        return service is not None and not self._pods[service][name].has_sidecar

    def is_gateway(self, namespace: str, pod: str, uid: str) -> bool:
        """Whether this very pod is one."""
        return self._gateways.get((namespace, pod)) == uid

    def take_expected(self, heard: Iterable[str], most: int) -> Changes:
        """At most so many changes of who should report. `heard`: sources with a stream that see all services."""
        for source in heard:
            self._expected.hear(source)
        return self._expected.take(most)

    def service_of(self, namespace: str, pod: str, uid: str) -> str | None:
        """Whose this very pod is, as far as it is known; without `uid` whoever has the name."""
        service = self._services.get((namespace, pod))
        if service is None or (uid and self._pods[service][pod].uid != uid):
            return None
        return service

    def without_sidecar(self, service: str) -> tuple[str, ...]:
        """Pods of the service that have none and take requests."""
        pods = self._pods.get(service, {})
        return tuple(name for name, seen in pods.items() if seen.takes_requests and not seen.has_sidecar)

    def silent(self, service: str) -> tuple[str, ...]:
        """Pods of the service whose sidecar should report and does not."""
        pods = self._pods.get(service, {})
        return tuple(
            name
            for name, seen in pods.items()
            if seen.takes_requests and seen.has_sidecar and self._is_lost(source_of(service, name))
        )

    def unmetered(self, entry: Managed) -> str:
        """Why requests may reach the service uncounted, as a clause with what to do; empty: all are counted."""
        bare = self.without_sidecar(entry.service)
        if bare and entry.wanted.cluster.inject:
            return f"{_named(bare)} no sidecar. To give them one: {restart(entry)}"
        silent = self.silent(entry.service)
        if silent:
            return (
                f"the sidecar of {_listed(silent)} does not report. See its log, and whether it may connect to the "
                "autoscalers' port for stats"
            )
        if entry.wanted.cluster.takeover and not self._has_activators:
            return (
                "takeover is asked for, and there are no activators that could answer at zero. Install them "
                f"(activator.enabled in the chart's values), or take {PREFIX}takeover away"
            )
        if entry.wanted.cluster.uncounted == "ignore":
            return ""
        if not entry.wanted.cluster.inject:
            return _to_bare(self._bypasses(entry))
        return _past(self._bypasses(entry), entry.wanted.cluster.takeover)

    def shared(self, entry: Managed) -> str:
        """What becomes of pods that have no sidecar, as a sentence with what to do; empty: there are none."""
        bare = self.without_sidecar(entry.service)
        if not bare:
            return ""
        limit = entry.wanted.policy.concurrency_limit
        split = f" and split its {limit} slots evenly" if limit else ""
        said = f"P{_named(bare)[1:]} no sidecar: gateways count what is inside{split}."
        if entry.wanted.cluster.inject:
            return said
        return f'{said} To give them one, set {PREFIX}inject to "true", and restart: {restart(entry)}'


def source_of(service: str, pod: str) -> str:
    """The name by which the sidecar of a pod reports: that of its pod."""
    return f"{service.partition('/')[0]}/{pod}"


def restart(entry: Managed) -> str:
    """The command that replaces the workload's pods by new ones. `kubectl rollout` knows the kinds of Kubernetes alone,
    and refuses to restart what is paused."""
    namespace, name = entry.key
    of = f"{entry.kind.lower()}/{name} -n {namespace}"
    if entry.kind in _RESTARTABLE:
        resume = f"kubectl rollout resume {of} && " if entry.is_paused else ""
        return f"{resume}kubectl rollout restart {of}"
    path = ("leaderWorkerTemplate", "workerTemplate") if entry.kind == "LeaderWorkerSet" else ("template",)
    change: object = {"metadata": {"annotations": {"restartedAt": "NOW"}}}
    for step in ("spec", *path)[::-1]:
        change = {step: change}
    patch = msgspec.json.encode(change).decode().replace("NOW", "'$(date +%s)'")
    return f"kubectl patch {of} --type=merge -p '{patch}'"


def _past(services: Sequence[Bypass], is_taken_over: bool) -> str:
    if not services:
        return ""
    names = tuple(one.name for one in services)
    headless = tuple(one.name for one in services if one.is_open)
    what = []
    if len(headless) < len(names):
        way = "" if is_taken_over else f'set {PREFIX}takeover to "true", or '
        what.append(f"To have them counted, {way}let the targetPort be {PORT_NAME}")
    if headless:
        what.append(
            f"Behind headless Service {_listed(headless)} no targetPort counts: its clients go to the pods' own "
            "addresses. Let them come by a Service with a cluster IP or by a gateway, and delete it or give it another "
            "port than the model's"
        )
    return (
        f"nobody counts who comes by Service {_listed(names)}, past the sidecar to the model's own port. "
        f"{'. '.join(what)}; if nobody comes that way, set {PREFIX}uncounted to ignore"
    )


def _to_bare(services: Sequence[Bypass]) -> str:
    if not services:
        return ""
    names = _listed(tuple(one.name for one in services))
    return (
        f"nobody counts who comes by Service {names}: its pods have no sidecar, because inject is false, and only "
        f"gateways count. If all clients come by gateways, set {PREFIX}uncounted to ignore"
    )


def _named(pods: tuple[str, ...]) -> str:
    return f"pod {pods[0]} has" if len(pods) == 1 else f"pods {_listed(pods)} have"


def _listed(pods: tuple[str, ...]) -> str:
    more = f" and {len(pods) - _SHOWN} more" if len(pods) > _SHOWN else ""
    return ", ".join(pods[:_SHOWN]) + more
