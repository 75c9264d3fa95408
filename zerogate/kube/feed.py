"""What a cluster shows, brought to those who act on it: watches in, services and their pods out.

Keeps a `Catalog` by the watches of workloads, namespaces and the cluster's ConfigMap, and says for each pod whose it
is. Calls its `Listener` on the loop: a service's entry first, its number and pods after that. Changes of many objects
at once (a new default, the first list) come to the listener together. Used by autoscaler, gateway and activator.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, Protocol

from zerogate.clock import now
from zerogate.kube.acts import Order
from zerogate.kube.catalog import (
    CONFIG_MAP,
    Catalog,
    Managed,
    number_of,
    owner_of,
    service_name,
    version_number,
)
from zerogate.kube.client import KubeClient
from zerogate.kube.objects import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    STATEFUL_SETS,
    ConfigMap,
    Key,
    Namespace,
    Pod,
    Resource,
    Workload,
)
from zerogate.kube.policies import Defaults
from zerogate.kube.watching import Change, Watched

log = logging.getLogger(__name__)

KINDS: Final[Mapping[str, Resource[Workload]]] = {"Deployment": DEPLOYMENTS, "StatefulSet": STATEFUL_SETS}
"""What every cluster has. Others with `/scale` are named in the settings, and found by discovery."""


_FLUSH_GAP_S: Final = 0.01
"""Between two tellings of all services, which takes 3 ms where there are 5,000: a first list comes in many slices."""


class Listener(Protocol):
    """Who acts."""

    def on_services(self, services: Mapping[str, Managed]) -> None:
        """All services; some are new, different or gone."""

    def on_number(self, service: str, number: int, version: int) -> None:
        """How many replicas the workload asks for, at this resource version."""

    def on_pod(self, service: str, pod: Pod) -> None:
        """A pod of the service is new or looks different."""

    def on_pod_gone(self, service: str, name: str) -> None:
        """The pod was deleted, or is nobody's any longer."""


class Together:
    """Several listeners as one, told in their order."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def on_services(self, services: Mapping[str, Managed]) -> None:
        """See `Listener`, here and below."""
        for one in self._listeners:
            one.on_services(services)

    def on_number(self, service: str, number: int, version: int) -> None:
        for one in self._listeners:
            one.on_number(service, number, version)

    def on_pod(self, service: str, pod: Pod) -> None:
        for one in self._listeners:
            one.on_pod(service, pod)

    def on_pod_gone(self, service: str, name: str) -> None:
        for one in self._listeners:
            one.on_pod_gone(service, name)


class Feed:
    """See the module's text. `home`: zerogate's own namespace. `on_workload` is told (kind, workload) of each that is
    seen or changed, whether it is under zerogate or not; `on_namespace`, that the labels of one are others."""

    def __init__(
        self,
        client: KubeClient,
        listener: Listener,
        *,
        home: str,
        kinds: Mapping[str, Resource[Workload]] = KINDS,
        namespace: str = "",
        on_workload: Callable[[str, Workload], None] = lambda _kind, _workload: None,
        on_namespace: Callable[[], None] = lambda: None,
    ) -> None:
        self.catalog = Catalog()
        self._on_each = on_workload
        self._on_labels = on_namespace
        self._listener = listener
        self._home = home
        self._client = client
        self._namespace = namespace
        self._workloads: dict[str, Watched[Workload]] = {}
        self._is_begun = False
        """Workloads are watched."""
        self.kinds: dict[str, Resource[Workload]] = {}
        for kind, resource in kinds.items():
            self.add_kind(kind, resource)
        self._namespaces = Watched(client, NAMESPACES)
        self._config = Watched(client, CONFIG_MAPS, namespace=home, fields=f"metadata.name={CONFIG_MAP}")
        self._pods = Watched(client, PODS, namespace=namespace)
        self._told: dict[Key, str] = {}
        """The service that each pod was told as."""
        self._owned: dict[str, dict[Key, None]] = {}
        """Pods by the name that their owner would have as a service, whether it is one or not."""
        self._known: Mapping[str, str] = {}
        """Services that the listener was told of, with the uid of the workload that each was."""
        self._is_flush_due = False
        self._flushed_s = float("-inf")

    @property
    def age_s(self) -> float:
        """How old the oldest part of what is known may be, in seconds."""
        return max(watched.age_s for watched in self.watches())

    @property
    def faults(self) -> tuple[str, ...]:
        """What keeps it from being up to date, a sentence each."""
        return tuple(dict.fromkeys(str(watched.fault) for watched in self.watches() if watched.fault is not None))

    def watches(self) -> tuple[Watched[Workload] | Watched[Namespace] | Watched[ConfigMap] | Watched[Pod], ...]:
        """All of them, for who looks at how they do."""
        return (*self._workloads.values(), self._namespaces, self._config, self._pods)

    def add_kind(self, kind: str, resource: Resource[Workload]) -> None:
        """Look at this kind of workload, too."""
        self.kinds[kind] = resource
        watched = self._workloads[kind] = Watched(self._client, resource, namespace=self._namespace)
        if self._is_begun:
            watched.start(partial(self._on_workload, kind))

    async def start(self) -> None:
        """Begin, and return when everything there is has been told once."""
        self._namespaces.start(self._on_namespace)
        self._config.start(self._on_config)
        await asyncio.gather(self._namespaces.wait_synced(), self._config.wait_synced())
        self._is_begun = True
        for kind, watched in self._workloads.items():
            watched.start(partial(self._on_workload, kind))
        await asyncio.gather(*(watched.wait_synced() for watched in self._workloads.values()))
        self._flush()
        self._pods.start(self._on_pod)
        await self._pods.wait_synced()

    async def aclose(self) -> None:
        """Watch no more."""
        await asyncio.gather(*(watched.aclose() for watched in self.watches()))

    def workload_of(self, service: str) -> Workload | None:
        """The workload behind a service, as it was last seen."""
        entry = self.catalog.services().get(service)
        return self._workloads[entry.kind].items.get(entry.key) if entry is not None else None

    def workloads(self) -> Iterator[tuple[str, Workload]]:
        """All that are seen, with their kind, those that are not under zerogate too."""
        for kind, watched in self._workloads.items():
            for workload in watched.items.values():
                yield kind, workload

    def workload(self, kind: str, key: Key) -> Workload | None:
        """A workload as last seen, under zerogate or not."""
        watched = self._workloads.get(kind)
        return None if watched is None else watched.items.get(key)

    def namespace_annotations(self, name: str) -> Mapping[str, str] | None:
        """Ours, of a namespace that is known."""
        found = self._namespaces.items.get(("", name))
        return None if found is None else found.metadata.annotations or {}

    def namespace_labels(self, name: str) -> dict[str, str]:
        """All labels of a namespace, as far as it is known."""
        found = self._namespaces.items.get(("", name))
        return {} if found is None else found.metadata.labels or {}

    def defaults(self) -> Defaults | None:
        """The cluster's; None before they were read."""
        return self.catalog.defaults if self._config.is_synced else None

    def pods_of(self, service: str) -> list[Pod]:
        """The pods of a service."""
        owned = self._owned.get(service, {})
        return [pod for key in owned if self._told.get(key) == service and (pod := self._pods.items.get(key))]

    def lacks_pods(self, service: str) -> bool:
        """The workload's own status counts more pods than the watch of pods has shown: that one may be late, or only
        seem alive, which takes it a minute to find out by itself."""
        entry, workload = self.catalog.services().get(service), self.workload_of(service)
        if entry is None or workload is None:
            return False
        # a StatefulSet counts pods that are on their way out, too; a ReplicaSet and a CloneSet do not
        counts_all = entry.order is Order.BY_ORDINAL
        seen = sum(counts_all or pod.is_present for pod in self.pods_of(service))
        return workload.status.replicas > seen

    def _on_namespace(self, _: Change, old: Namespace | None, new: Namespace | None) -> None:
        seen = new or old
        if seen is not None:
            self.catalog.set_namespace(seen.metadata.name, new.metadata.annotations if new is not None else None)
            self._flush_soon()
        if (old.metadata.labels if old is not None else None) != (new.metadata.labels if new is not None else None):
            self._on_labels()

    def _on_config(self, _: Change, old: ConfigMap | None, new: ConfigMap | None) -> None:
        del old
        self.catalog.set_defaults(new.data or {} if new is not None else None, f"configmap {self._home}/{CONFIG_MAP}")
        for mistake in self.catalog.mistakes:
            log.warning("%s", mistake)
        self._flush_soon()

    def _on_workload(self, kind: str, _: Change, old: Workload | None, new: Workload | None) -> None:
        if new is not None:
            self.catalog.set_workload(kind, self.kinds[kind], new)
            service = service_name(new.key)
            entry = self.catalog.services().get(service)  # none where it says now that it is not under zerogate
            if entry is not None and entry.kind == kind and self._known.get(service) == entry.uid:
                self._tell_number(service, new)
            self._on_each(kind, new)
        elif old is not None:
            self.catalog.remove_workload(kind, old.key)
        self._flush_soon()

    def _tell_number(self, service: str, workload: Workload) -> None:
        version = version_number(workload.metadata.resource_version)
        self._listener.on_number(service, number_of(workload), version)

    def _on_pod(self, _: Change, old: Pod | None, new: Pod | None) -> None:
        seen = new or old
        if seen is None:
            return
        if old is not None:
            self._note_owner(old, is_there=False)
        if new is not None:
            self._note_owner(new, is_there=True)
        service = self.catalog.service_of(seen) if new is not None else None
        told = self._told.get(seen.key)
        if told is not None and told != service:
            del self._told[seen.key]
            self._listener.on_pod_gone(told, seen.metadata.name)
        if service is not None and new is not None:
            self._told[seen.key] = service
            self._listener.on_pod(service, new)

    def _note_owner(self, pod: Pod, *, is_there: bool) -> None:
        owner = owner_of(pod)
        if owner is None:
            return
        name = service_name((pod.metadata.namespace, owner[1]))
        if is_there:
            self._owned.setdefault(name, {})[pod.key] = None
        elif name in self._owned:
            self._owned[name].pop(pod.key, None)
            if not self._owned[name]:
                del self._owned[name]

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            wait_s = max(0.0, self._flushed_s + _FLUSH_GAP_S - now())
            asyncio.get_running_loop().call_later(wait_s, self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if self.catalog.take_changed():
            self._tell_services()
        self._flushed_s = now()

    def _tell_services(self) -> None:
        services = self.catalog.services()
        gone = [name for name, uid in self._known.items() if name not in services or services[name].uid != uid]
        for service in gone:
            for key in self._owned.get(service, {}):
                self._told.pop(key, None)
        if made_anew := {name for name in gone if name in services}:
            # another workload, perhaps of another kind, has the name: nothing of the one before holds for it
            self._listener.on_services({name: one for name, one in services.items() if name not in made_anew})
        self._listener.on_services(services)
        added = made_anew | (services.keys() - self._known.keys())
        self._known = {name: entry.uid for name, entry in services.items()}
        for service in sorted(added):
            entry = services[service]
            self._tell_number(service, self._workloads[entry.kind].items[entry.key])
            self._tell_pods(service)

    def _tell_pods(self, service: str) -> None:
        """Pods that were there before anybody asked for them."""
        for key in list(self._owned.get(service, {})):
            pod = self._pods.items.get(key)
            if pod is not None and self.catalog.service_of(pod) == service:
                self._on_pod(Change.CHANGED, pod, pod)
