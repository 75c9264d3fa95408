"""One Service that is answered for: a stand for each family of its addresses, and where its ports lead. Pure.

`now_s` is an argument. The ports' targets are written by name once every pod of the workload has the sidecar's own port
name, so that what comes by the Service is counted; pods that slipped through without a sidecar shall work all the same,
and keep the number. When the takeover ends, the number comes back before the slices go. Kept by
`zerogate.kube.takeover_book`.
"""

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from zerogate.kube.fronts import Front, FrontPort, Move, moves_to_name, moves_to_number
from zerogate.kube.objects import EndpointSlice, Service
from zerogate.kube.port_ledger import Claim
from zerogate.kube.slice_book import SliceBook
from zerogate.kube.takeover import WORKLOAD, Act, Stand, slice_name

MOVE_AGAIN_S: Final = 60.0
"""Somebody who writes the number back (a GitOps controller) is answered so often."""


class MoveTargets(msgspec.Struct, frozen=True):
    """Write the Service's target ports, on condition that they are as they were seen; then say `on_moved` or
    `on_not_moved`."""

    service: Service
    moves: tuple[Move, ...]

    @property
    def is_back(self) -> bool:
        """To the numbers that they were."""
        return not _is_to_name(self.moves)


class Taken:
    """See the module's text."""

    __slots__ = ("_is_let_go", "_is_moving", "_move_at_s", "_name_again_s", "_retry_at_s", "front", "stands")

    def __init__(self, front: Front) -> None:
        self.front = front
        self.stands: dict[str, Stand] = {}
        """By family; of one that its Service no longer has until nothing of it is left."""
        self._is_let_go = False
        """Its Service is no front any more."""
        self._is_moving = False
        """Target ports are being written."""
        self._move_at_s = 0.0
        """When those that are due may be; 0: none are."""
        self._retry_at_s = self._name_again_s = 0.0

    @property
    def present(self) -> list[Stand]:
        """Those of the families that its Service has."""
        return [stand for family, stand in self.stands.items() if family in self.front.families]

    def is_over(self, service: Service | None) -> bool:
        """Nothing of it is left to give back. `service`: as it stands."""
        if self.stands or self._is_moving:
            return False
        return service is None or not moves_to_number(service)

    def make_stands(
        self, ports: tuple[int, ...], slices: SliceBook, now_s: float, *, settle_s: float, heads: bool
    ) -> None:
        """Answer on these ports. `heads`: the workload heads for zero."""
        self._is_let_go = False
        for family in [family for family in self.stands if family not in self.front.families]:
            self.stands[family].retire(now_s)
        for family in self.front.families:
            stand = self.stands.get(family)
            if stand is None:
                stand = self.stands[family] = Stand(self.front, family, ports, settle_s=settle_s)
                stand.lead(True, now_s)
                stand.on_slice(slices.named((self.front.key[0], slice_name(self.front, family))), now_s)
            stand.stay()
            stand.head_for_zero(heads, now_s)
            stand.configure(self.front, ports, now_s)

    def let_go(self, service: Service, now_s: float) -> None:
        """It is no front any more. Its slices go when its targets are what they were."""
        self._is_let_go = True
        if not moves_to_number(service) and not self._is_moving:
            for stand in self.stands.values():
                stand.retire(now_s)

    def on_slice(self, seen: EndpointSlice, new: EndpointSlice | None, now_s: float) -> None:
        """The watch shows one of ours; `new` is None where it was deleted."""
        stand = self.stands.get(seen.address_type)
        if stand is not None and seen.metadata.name == slice_name(stand.front, stand.family):
            stand.on_slice(new, now_s)

    def step(self, slices: SliceBook, now_s: float) -> list[tuple[Stand, Act]]:
        """What is due for its slices."""
        acts: list[tuple[Stand, Act]] = []
        for stand in list(self.stands.values()):
            stand.pods_answer = slices.pods_answer(self.front, stand.family)
            stand.on_activators(slices.activators(stand.family), now_s)
            acts += [(stand, act) for act in stand.step(now_s)]
            if stand.is_gone:
                del self.stands[stand.family]
        return acts

    def revisit_at_s(self, now_s: float) -> float | None:
        """When more may be due though nothing happened."""
        times_s = [stand.revisit_at_s(now_s) for stand in self.stands.values()]
        if self._move_at_s > now_s:
            times_s.append(self._move_at_s)
        return min((at_s for at_s in times_s if at_s is not None), default=None)

    # Target ports

    def due_moves(self, service: Service, named: Collection[bool] | None, now_s: float) -> MoveTargets | None:
        """What its target ports have to become now. `named`: for each pod, whether it has the sidecar's port name;
        None: the workload is not taken over."""
        if self._is_moving:
            return None
        moves = self._moves(service, named)
        self._move_at_s = max(self._retry_at_s, self._name_again_s if _is_to_name(moves) else 0.0) if moves else 0.0
        if not moves or now_s < self._move_at_s:
            return None
        self._is_moving = True
        return MoveTargets(service, moves)

    def _moves(self, service: Service, named: Collection[bool] | None) -> tuple[Move, ...]:
        if named is None or self._is_let_go:
            return moves_to_number(service)
        if all(named):
            return moves_to_name(self.front)
        # pods that slipped through without a sidecar shall work all the same
        return () if any(named) else moves_to_number(service)

    def on_moved(self, move: MoveTargets, now_s: float) -> None:
        """It was written."""
        self._is_moving = False
        if not move.is_back:
            self._name_again_s = now_s + MOVE_AGAIN_S

    def on_not_moved(self, retry_at_s: float) -> None:
        """It was not, or nobody knows."""
        self._is_moving = False
        self._retry_at_s = retry_at_s


def claims_of(front: Front) -> list[Claim]:
    """What it needs ports of activators for."""
    return [(*front.key, port.name) for port in front.ports]


def left_behind(service: Service, ours: Iterable[EndpointSlice]) -> Front:
    """A front as the slices that an earlier leader left describe it."""
    families = {one.address_type: one for one in ours}
    names = {port.name or "" for one in families.values() for port in one.ports or ()}
    workloads = [one.metadata.annotation(WORKLOAD) or "" for one in families.values()]
    ports = tuple(
        FrontPort(name=port.name, port=port.port, index=index, target=port.target_port or port.port, number=None)
        for index, port in enumerate(service.spec.ports)
        if port.name in names
    )
    return Front(
        key=service.key, uid=service.metadata.uid,
        service=f"{service.metadata.namespace}/{workloads[0] if workloads else ''}",
        families=tuple(families), ports=ports,
    )  # fmt: skip


def _is_to_name(moves: tuple[Move, ...]) -> bool:
    return isinstance(moves[0].after, str)
