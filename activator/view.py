"""What a cluster shows an activator: which services it answers for, on which ports, by which policies, with which pods.

The ports are read from zerogate's EndpointSlices, policies and pods as every process of a cluster reads them. A service
stays as long as a slice names it, with the policy it had last, since who was let go of still has clients to answer. The
only module here that loads the adapter, and loaded only where there is a cluster.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from activator.bare_replica import BareReplica
from activator.doors import Wanted
from activator.sidecars import Replicas
from zerogate.clock import now
from zerogate.kube.catalog import Managed, model_port, sidecar_port
from zerogate.kube.client import KubeClient
from zerogate.kube.cluster_flags import ExtraKind
from zerogate.kube.extra_kinds import ExtraKinds
from zerogate.kube.feed import Feed
from zerogate.kube.objects import ENDPOINT_SLICES, EndpointSlice, Key, Pod
from zerogate.kube.obstacles import Obstacle, take_unmade
from zerogate.kube.scaling import Scales
from zerogate.kube.takeover import MANAGED_BY, MANAGER, WORKLOAD
from zerogate.kube.unmade import Unmade
from zerogate.kube.waking import Waker
from zerogate.kube.watching import Change, Watched
from zerogate.policy import Policy
from zerogate.runtime.interface import Address, Trouble
from zerogate.tasks import Nursery

log = logging.getLogger(__name__)


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, as it stands. `bare`: replicas without a sidecar that are ready, by the kubelet's word. An activator
    keeps their limit by itself, beside the gateways: at zero there are none, and later few requests come by it."""

    policies: Mapping[str, Policy]
    ports: Mapping[int, Wanted]
    sidecars: Mapping[str, Replicas]
    bare: Mapping[str, tuple[BareReplica, ...]]
    troubles: Mapping[str, Trouble] = {}
    """Why no replica gets ready, where that is known."""


class View:
    """See the module's text. `on_change` is called on the loop when what is shown is another; many changes at once."""

    def __init__(
        self,
        client: KubeClient,
        on_change: Callable[[Shown], None],
        *,
        home: str,
        namespace: str = "",
        kinds: Sequence[ExtraKind] = (),
    ) -> None:
        self._on_change = on_change
        self._fault = ""
        """Why nobody says which kinds of workloads there are."""
        self._scales = Scales(client)
        self._feed = Feed(client, self, home=home, namespace=namespace)
        self._kinds = ExtraKinds(self._scales, self._feed, kinds, on_silent=self._complain_of)
        self._nursery = Nursery()
        labels = f"{MANAGED_BY}={MANAGER}"
        self._slices = Watched(client, ENDPOINT_SLICES, namespace=namespace, labels=labels)
        self._entries: Mapping[str, Managed] = {}
        self._policies: dict[str, Policy] = {}
        """The last of each service that a slice names."""
        self._pods: dict[str, dict[str, Pod]] = {}
        self._obstacles: dict[str, Obstacle] = {}
        self._is_planned = False
        self._is_started = False
        self._waker = Waker(self._scales, is_blind=lambda: bool(self.faults))
        self._unmade = Unmade(client, self._nursery, self._on_unmade)

    @property
    def faults(self) -> tuple[str, ...]:
        """What keeps it from being up to date, a sentence each."""
        own = (str(self._slices.fault),) if self._slices.fault is not None else ()
        return (*self._feed.faults, *own, *((self._fault,) if self._fault else ()))

    async def start(self) -> None:
        """Watch; returns when all there is has been shown."""
        await self._kinds.find()
        self._fault = ""
        self._slices.start(self._on_slice)
        await asyncio.gather(self._feed.start(), self._slices.wait_synced())
        self._is_started = True
        self._show()
        self._nursery.start(self._kinds.find_missing(), name="kinds that are missing")

    def _complain_of(self, fault: str) -> None:
        if self._fault != fault:
            log.error("%s", fault)
        self._fault = fault

    async def aclose(self) -> None:
        """Watch no more."""
        await self._nursery.aclose()
        await asyncio.gather(self._feed.aclose(), self._slices.aclose())

    async def wake(self, service: str) -> None:
        """Write 0 → 1, because nobody else does."""
        entry, workload = self._entries.get(service), self._feed.workload_of(service)
        if entry is not None and workload is not None:
            await self._waker.wake(entry, workload)

    def on_time(self) -> None:
        """To be called each second or so: what was in the way of replicas may be there for too long."""
        now_s = now()
        self._unmade.ask(take_unmade(self._obstacles, self._entries, now_s))
        if any(one.due_s <= now_s for one in self._obstacles.values()):
            self._plan()

    def _on_unmade(self, service: str, words: str) -> None:
        obstacle = self._obstacles.get(service)
        if obstacle is not None and obstacle.on_events(words):
            self._plan()

    # What the feed tells

    def on_services(self, services: Mapping[str, Managed]) -> None:
        """See `Listener`."""
        for service in services:
            if service not in self._entries:
                self._forget_pods(service)  # nobody told what became of them; those that are there are told now
        self._entries = dict(services)
        self._plan()

    def on_number(self, service: str, number: int, version: int) -> None:
        """Whether pods are wanted at all says whether something is in the way of them."""
        self._plan()

    def on_pod(self, service: str, pod: Pod) -> None:
        """See `Listener`."""
        self._pods.setdefault(service, {})[pod.metadata.name] = pod
        self._obstacles.setdefault(service, Obstacle()).on_pod(pod)
        self._plan()

    def on_pod_gone(self, service: str, name: str) -> None:
        """See `Listener`."""
        gone = self._pods.get(service, {}).pop(name, None)
        if gone is not None:
            self._obstacles.setdefault(service, Obstacle()).on_pod_gone(gone)
        self._plan()

    def _forget_pods(self, service: str) -> None:
        self._pods.pop(service, None)
        self._obstacles.pop(service, None)

    def _on_slice(self, _: Change, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        self._plan()

    # What is shown

    def _plan(self) -> None:
        if not self._is_planned and self._is_started:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._show)

    def _show(self) -> None:
        self._is_planned = False
        ports = self._ports()
        services = dict.fromkeys(wanted.service for wanted in ports.values())
        for service in services:
            entry = self._entries.get(service)
            if entry is not None:
                self._policies[service] = entry.wanted.policy
            self._policies.setdefault(service, Policy())
        for gone in [service for service in self._policies if service not in services]:
            del self._policies[gone]
        for gone in [service for service in self._pods if service not in services and service not in self._entries]:
            self._forget_pods(gone)
        shown = Shown(
            policies=dict(self._policies),
            ports=ports,
            sidecars={service: self._replicas(service) for service in services},
            bare={service: tuple(self._bare(service)) for service in services},
            troubles={service: found for service in services if (found := self._trouble(service)) is not None},
        )
        self._on_change(shown)

    def _ports(self) -> dict[int, Wanted]:
        """Of two slices that claim one port, the first by name has it: the autoscaler moves the other."""
        found: dict[int, Wanted] = {}
        slices: Mapping[Key, EndpointSlice] = self._slices.items
        for key in sorted(slices):
            one = slices[key]
            workload = one.metadata.annotation(WORKLOAD)
            if workload:
                wanted = Wanted(f"{one.metadata.namespace}/{workload}", bool(one.endpoints))
                for port in one.ports or ():
                    known = found.get(port.port or 0)
                    if port.port and (known is None or known.service == wanted.service):
                        is_needed = wanted.is_needed or (known is not None and known.is_needed)
                        found[port.port] = Wanted(wanted.service, is_needed)
        return found

    def _trouble(self, service: str) -> Trouble | None:
        entry = self._entries.get(service)
        if entry is None:
            return None
        return self._obstacles.setdefault(service, Obstacle()).look(
            self._pods.get(service, {}).values(), self._feed.workload_of(service), entry, now()
        )  # fmt: skip

    def _replicas(self, service: str) -> dict[str, Address]:
        """Those with a sidecar."""
        found: dict[str, Address] = {}
        for pod in self._pods.get(service, {}).values():
            port = sidecar_port(pod)
            if pod.status.pod_ip and not pod.has_ended and port is not None:
                found[pod.metadata.uid] = Address(pod.status.pod_ip, port)
        return found

    def _bare(self, service: str) -> Iterator[BareReplica]:
        entry = self._entries.get(service)
        asked = entry.wanted.cluster.port if entry is not None else None
        policy = self._policies[service]
        for pod in self._pods.get(service, {}).values():
            meta, port = pod.metadata, model_port(pod, asked)
            if sidecar_port(pod) is None and port is not None and pod.is_ready and pod.is_present:
                limit = policy.concurrency_limit
                yield BareReplica(
                    name=f"{meta.namespace}/{meta.name}", uid=meta.uid, address=Address(pod.status.pod_ip, port),
                    protocol=policy.protocol, slots=limit or None,
                    release=limit or max(1, int(policy.target_concurrency)),
                )  # fmt: skip
