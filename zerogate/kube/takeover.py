"""When a Service is answered for, by whom, and when it may go to zero. Pure: `now_s` is an argument.

One `Stand` per Service and address family: an EndpointSlice of ours that is there as long as the workload is taken
over. Its ports say which port of the activators is the Service's; its addresses are those of the activators while pods
do not answer, and none while they do. So the port is open long before it is needed.

    going down: activators listen ▸ addresses written and seen ▸ kube-proxies have had `WAIT_S` ▸ leave for zero
    coming up:  a ready pod seen in the EndpointSlice controller's own slice ▸ addresses taken out

All nodes see both slices in one order, the API server's, so none of them is ever without the one and the other. Two
things could still open a gap. A pod that was ready when leave for zero was given may look ready for a while after: for
`SETTLE_S` behind that, and behind the beginning of a leadership, no address is taken out. And an activator that has not
opened the port yet would refuse: its address is written once a connection to it has come about. Nor is a slice
believed while a write of ours is on its way, or after one without an answer: then it is written anew.

Invariants: an address that is in a slice stays as long as it is needed and its activator is ready, and the last ones
stay even when no activator is; nothing is written by who does not lead; the slice goes last when a takeover ends.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from zerogate.kube.catalog import version_number
from zerogate.kube.fronts import Front
from zerogate.kube.keys import RECORDS
from zerogate.kube.objects import Endpoint, EndpointSlice, Json

MANAGER: Final = "zerogate.dev"
MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
SERVICE_NAME: Final = "kubernetes.io/service-name"
WORKLOAD: Final = f"{RECORDS}workload"
"""On our slices: the name of the workload, in the slice's namespace."""

WAIT_S: Final = 2.0
"""kube-proxy writes its rules at most once a second (minSyncPeriod), and a long table takes most of another."""
SETTLE_S: Final = 10.0
"""From a pod's deletion until every watch shows it: a busy EndpointSlice controller takes a second or two."""
GIVE_BACK_S: Final = 600.0
"""For pods to become ready when a takeover ends at zero; afterwards nobody will start any."""
ASK_S: Final = 0.2
"""Between tries to reach an activator that does not listen yet: it hears of a port within 50 ms."""
WRITE_S: Final = 2.0
"""For a write: given up earlier than an activator that it may name, and that began to leave meanwhile, has waited (the
chart says 5 s) after a watch that tells of it late."""
WRITE_AGAIN_S: Final = 1.0
MOST_ADDRESSES: Final = 100
"""Of one slice; as many as the EndpointSlice controller puts into one."""


class WriteSlice(msgspec.Struct, frozen=True):
    """Make the slice so. `addresses`: with the nodes they are on."""

    addresses: tuple[tuple[str, str], ...]


class DeleteSlice(msgspec.Struct, frozen=True):
    """The takeover is over."""


class Ask(msgspec.Struct, frozen=True):
    """Does the activator at this address listen on these ports? Then say `on_listening`."""

    address: str
    ports: tuple[int, ...]


Act = WriteSlice | DeleteSlice | Ask


class Stand:
    """See the module's text. `ports`: of the activators, in the order of the front's."""

    def __init__(
        self, front: Front, family: str, ports: tuple[int, ...], *, settle_s: float = SETTLE_S
    ) -> None:  # fmt: skip
        self.front = front
        self.family = family
        self.ports = ports
        self._settle_s = settle_s
        self.is_leaving = False
        """The takeover ends."""
        self.is_gone = False
        """It has ended."""
        self.pods_answer = False
        """A ready endpoint for each port is in the controller's own slices."""
        self._leads = False
        self._heads_for_zero = False
        self._activators: Mapping[str, str] = {}
        self._slice: EndpointSlice | None = None
        self._version = 0
        self._listening: dict[str, None] = {}
        """Activators that were found to listen on `ports`."""
        self._asked_until_s: dict[str, float] = {}
        self._settled_s = float("-inf")
        self._filled_s: float | None = None
        """Since when an activator that is ready is in the slice."""
        self._give_up_s = float("inf")
        self._is_writing = False
        self._is_unsure = False
        """The last write failed, and may have been done all the same."""
        self._retry_at_s = float("-inf")

    # What happens

    def configure(self, front: Front, ports: tuple[int, ...], now_s: float) -> None:
        """The Service looks different."""
        if ports != self.ports:
            self._listening.clear()
        self.front = front
        self.ports = ports
        self._note_filled(now_s)

    def lead(self, leads: bool, now_s: float) -> None:
        """We write from now on, or do not."""
        if leads and not self._leads:
            self._settled_s = now_s + self._settle_s
        self._leads = leads

    def head_for_zero(self, heads: bool, now_s: float) -> None:
        """Nothing of the workload shall run, or something shall again."""
        if self._heads_for_zero and not heads:
            self._settled_s = now_s + self._settle_s
        self._heads_for_zero = heads

    def retire(self, now_s: float) -> None:
        """The takeover is to end."""
        if not self.is_leaving:
            self.is_leaving = True
            self.head_for_zero(False, now_s)
            self._give_up_s = now_s + GIVE_BACK_S

    def stay(self) -> None:
        """It is not to end after all."""
        self.is_leaving = False
        self._give_up_s = float("inf")

    def on_slice(self, seen: EndpointSlice | None, now_s: float) -> None:
        """Our slice as the API server has it; older news are ignored. None: there is none."""
        if seen is not None:
            version = version_number(seen.metadata.resource_version)
            if version and version < self._version:
                return
            self._version = version
        self._slice = seen
        self._note_filled(now_s)

    def on_activators(self, activators: Mapping[str, str], now_s: float) -> None:
        """The ready activators: node by address."""
        self._activators = activators
        for address in [address for address in self._listening if address not in activators]:
            del self._listening[address]
        self._note_filled(now_s)

    def on_listening(self, address: str) -> None:
        """The activator at this address listens on all ports of the service."""
        if address in self._activators:
            self._listening[address] = None

    def on_written(self, now_s: float) -> None:
        """The last write was done; what it made comes, or came, by `on_slice`."""
        self._is_writing = False
        self._is_unsure = False
        self._note_filled(now_s)

    def on_failed(self, retry_at_s: float) -> None:
        """The last write was not done, or nobody knows whether it was."""
        self._is_writing = False
        self._is_unsure = True
        self._filled_s = None
        self._retry_at_s = retry_at_s

    def _note_filled(self, now_s: float) -> None:
        is_filled = any(address in self._activators for address in self._addresses())
        if not is_filled or self._is_unsure or self._ports() != self.ports:
            self._filled_s = None
        elif self._filled_s is None:
            self._filled_s = now_s

    def _addresses(self) -> list[str]:
        endpoints = self._slice.endpoints if self._slice is not None else None
        return [endpoint.addresses[0] for endpoint in endpoints or () if endpoint.addresses and endpoint.is_ready]

    def _ports(self) -> tuple[int, ...]:
        ports = {port.name or "": port.port for port in (self._slice.ports if self._slice is not None else None) or ()}
        return tuple(ports.get(port.name) or 0 for port in self.front.ports)

    # What follows

    def may_zero(self, now_s: float) -> bool:
        """Whether every node sends what comes to an activator by now, whatever becomes of the pods."""
        if not self._leads or self.is_leaving or not self._heads_for_zero or self._is_writing:
            return False
        return self._filled_s is not None and now_s >= self._filled_s + WAIT_S

    def is_needed(self, now_s: float) -> bool:
        """Whether activators have to answer."""
        return self._heads_for_zero or not self.pods_answer or now_s < self._settled_s

    def revisit_at_s(self, now_s: float) -> float | None:
        """When `step` or `may_zero` may say more though nothing happened."""
        times_s = [self._settled_s, self._retry_at_s, self._give_up_s, *self._asked_until_s.values()]
        if self._filled_s is not None:
            times_s.append(self._filled_s + WAIT_S)
        return min((at_s for at_s in times_s if now_s < at_s < float("inf")), default=None)

    def step(self, now_s: float) -> list[Act]:
        """What is due now; a write is given once, until `on_written` or `on_failed`."""
        if not self._leads or self.is_gone:
            return []
        acts: list[Act] = []
        if self.is_needed(now_s):
            acts += self._ask(now_s)
        if self._is_writing or now_s < self._retry_at_s:
            return acts
        if self.is_leaving and (not self.is_needed(now_s) or now_s >= self._give_up_s):
            acts += self._end()
        elif (wanted := self._wanted(now_s)) != self._written():
            self._is_writing = True
            acts.append(WriteSlice(wanted))
        return acts

    def _end(self) -> list[Act]:
        if self._slice is None:
            self.is_gone = True
            return []
        self._is_writing = True
        return [DeleteSlice()]

    def _ask(self, now_s: float) -> list[Act]:
        if self._ports() != self.ports:
            return []  # the activators do not know it yet
        acts: list[Act] = []
        self._asked_until_s = {one: at_s for one, at_s in self._asked_until_s.items() if at_s > now_s}
        for address in self._activators:
            if address not in self._listening and address not in self._asked_until_s:
                self._asked_until_s[address] = now_s + ASK_S
                acts.append(Ask(address, self.ports))
        return acts

    def _wanted(self, now_s: float) -> tuple[tuple[str, str], ...]:
        if not self.is_needed(now_s):
            return ()
        present = self._addresses()
        found = {one: self._activators[one] for one in self._activators if one in present or one in self._listening}
        if not found:
            nodes = {endpoint.addresses[0]: endpoint.node_name for endpoint in self._endpoints()}
            found = {one: nodes[one] for one in present}
        return tuple(sorted(found.items())[:MOST_ADDRESSES])

    def _endpoints(self) -> list[Endpoint]:
        endpoints = self._slice.endpoints if self._slice is not None else None
        return [endpoint for endpoint in endpoints or () if endpoint.addresses]

    def _written(self) -> tuple[tuple[str, str], ...] | None:
        """What the slice has; None where it is not one of ours as we would write it, or nobody knows."""
        if self._is_unsure or self._slice is None:
            return None
        if self._slice.service != self.front.key[1] or self._ports() != self.ports:
            return None
        if self._slice.metadata.label(MANAGED_BY) != MANAGER:
            return None
        if not any(owner.uid == self.front.uid for owner in self._slice.metadata.owner_references):
            return None
        if self._slice.metadata.annotation(WORKLOAD) != self.front.service.partition("/")[2]:
            return None
        if len(self._slice.ports or ()) != len(self.front.ports):
            return None
        return tuple(sorted((one.addresses[0], one.node_name) for one in self._endpoints()))


def slice_name(front: Front, family: str) -> str:
    """The same for all who write it."""
    return f"{front.key[1]}-zerogate-{family.lower()}"


def slice_of(stand: Stand, addresses: tuple[tuple[str, str], ...]) -> dict[str, Json]:
    """The object as it is applied."""
    front = stand.front
    namespace, service = front.key
    owner = {"apiVersion": "v1", "kind": "Service", "name": service, "uid": front.uid}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": slice_name(front, stand.family),
            "namespace": namespace,
            "labels": {SERVICE_NAME: service, MANAGED_BY: MANAGER},
            "annotations": {WORKLOAD: front.service.partition("/")[2]},
            "ownerReferences": [owner],
        },
        "addressType": stand.family,
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True}, **({"nodeName": node} if node else {})}
            for address, node in addresses
        ],
        "ports": [
            {
                "name": port.name, "port": number, "protocol": "TCP",
                **({"appProtocol": port.app_protocol} if port.app_protocol else {}),
            }
            for port, number in zip(front.ports, stand.ports, strict=True)
        ],
    }  # fmt: skip
