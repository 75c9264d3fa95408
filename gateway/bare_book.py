"""Pods without a sidecar as a gateway sees them: which may be sent to, and how much of each is this gateway's. Pure.

With `ready-path` the cluster process asks the pod itself (`questions`, `on_answer`); without, the kubelet's word
counts, because it asks what the owner wrote into the container, by any means. Owned by `gateway.cluster_book`; why:
docs/decisions/027-pods-without-a-sidecar.md.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from activator.bare_replica import BareReplica
from zerogate.http.upstream import ReplicaProtocol
from zerogate.kube.catalog import Managed, model_port, sidecar_port
from zerogate.kube.objects import Pod
from zerogate.kube.peers import Peer, Share, seconds, share
from zerogate.policy import Policy
from zerogate.runtime.interface import Address


class Question(msgspec.Struct, frozen=True):
    """What a pod is asked, again and again."""

    address: Address
    path: str
    protocol: ReplicaProtocol


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """The gateways. `me`: this one's pod; `peers`: those that run, the oldest first, None: not known.

    `is_member`: this one is a pod among them at all; one that is run by hand has nobody to share with. `may_pass`:
    requests may be passed to others now.
    """

    me: str = ""
    peers: tuple[Peer, ...] | None = ()
    is_member: bool = False
    may_pass: bool = False
    port: int = 0
    """Where gateways take requests."""
    workers: int = 1


class BareBook:
    """See the module's text."""

    def __init__(self) -> None:
        self.crowd = Crowd()
        self._questions: dict[str, dict[str, Question]] = {}
        """By service, and by the pod's UID."""
        self._ready: dict[str, str] = {}
        """UIDs of pods that have answered, with their service."""

    def on_answer(self, uid: str, *, is_ready: bool) -> str | None:
        """A pod that is asked is ready, or not any longer; the service that is different for it."""
        service = next((service for service, asked in self._questions.items() if uid in asked), None)
        if service is None or (uid in self._ready) is is_ready:
            return None
        if is_ready:
            self._ready[uid] = service
        else:
            del self._ready[uid]
        return service

    def questions(self) -> dict[str, Question]:
        """By the pod's UID."""
        return {uid: question for asked in self._questions.values() for uid, question in asked.items()}

    def forget(self, service: str) -> None:
        """It is gone."""
        self._keep(service, {})

    def replicas(self, entry: Managed, pods: Iterable[Pod]) -> tuple[BareReplica, ...]:
        """Those of a service that are ready; from now on these pods are asked, and no others of it."""
        asked: dict[str, Question] = {}
        found: list[BareReplica] = []
        for pod, address in _bare(entry, pods):
            uid, policy = pod.metadata.uid, entry.wanted.policy
            is_ready = pod.is_ready
            if "ready-path" in entry.wanted.given:
                asked[uid] = Question(address, policy.ready_path, policy.protocol)
                is_ready = uid in self._ready
            if is_ready:
                found.append(self._replica(pod, address, policy))
        self._keep(entry.service, asked)
        return tuple(found)

    def _keep(self, service: str, asked: Mapping[str, Question]) -> None:
        for uid in self._questions.pop(service, {}):
            if uid not in asked:
                self._ready.pop(uid, None)
        if asked:
            self._questions[service] = dict(asked)

    def _replica(self, pod: Pod, address: Address, policy: Policy) -> BareReplica:
        meta, limit, crowd = pod.metadata, policy.concurrency_limit, self.crowd
        name = f"{meta.namespace}/{meta.name}"
        if not limit:
            gateways = sum(not one.is_leaving for one in crowd.peers or ()) or 1
            release = max(1, int(policy.target_concurrency) // (gateways * crowd.workers))
            return BareReplica(
                name=name, uid=meta.uid, address=address, protocol=policy.protocol, release=release
            )  # fmt: skip
        mine = self._share(limit, seconds(meta.creation_timestamp))
        via = Address(mine.via.host, crowd.port) if mine.via is not None and crowd.may_pass else None
        return BareReplica(
            name=name, uid=meta.uid, address=address, protocol=policy.protocol, slots=mine.slots,
            release=max(1, mine.slots), via=via,
        )  # fmt: skip

    def _share(self, limit: int, made_s: float) -> Share:
        crowd = self.crowd
        if crowd.peers is None:
            return Share(0)
        return share(limit, made_s, crowd.me, crowd.peers) if crowd.is_member else Share(limit)


def _bare(entry: Managed, pods: Iterable[Pod]) -> Iterator[tuple[Pod, Address]]:
    for pod in pods:
        if pod.status.pod_ip and pod.is_present and sidecar_port(pod) is None:
            port = model_port(pod, entry.wanted.cluster.port)
            if port is not None:
                yield pod, Address(pod.status.pod_ip, port)
