"""What the steering of a workload is told of its pods, and what it wants done. Values; nothing is decided here."""

from enum import StrEnum

import msgspec

from zerogate.kube.foreign import ForeignWrite
from zerogate.runtime.interface import ReplicaState


class Order(StrEnum):
    """Whom the workload's controller takes first when its number falls."""

    BY_COST = "cost"
    """ReplicaSet: the lowest deletion cost among those that are ready."""
    BY_ORDINAL = "ordinal"
    """StatefulSet: the highest number."""
    BY_NAME = "name"
    """CloneSet: whom the write itself names (`podsToDelete`)."""


class Member(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One pod that is there and not being deleted."""

    id: str
    state: ReplicaState
    """Starting or ready: what is draining here is the steering's own word."""
    cost: int = 0
    """Its deletion cost as the watch shows it."""
    ordinal: int = 0
    is_bare: bool = False
    """It has no sidecar."""


class WriteScale(msgspec.Struct, frozen=True):
    """Replace `old` by `new`, on condition that it still is `old`; then say `on_written`, `on_conflict` or
    `on_failed`. `victims`: the pods that this takes away."""

    old: int
    new: int
    victims: tuple[str, ...] = ()


class CloseGate(msgspec.Struct, frozen=True):
    """Take nothing new into it; say `on_idle` when nothing is inside."""

    id: str


class ReopenGate(msgspec.Struct, frozen=True):
    """It stays after all."""

    id: str


class SetCost(msgspec.Struct, frozen=True):
    """Write its deletion cost."""

    id: str
    cost: int


class TellForeign(msgspec.Struct, frozen=True):
    """Somebody else wrote the number: say so where people look."""

    write: ForeignWrite
    is_hands_off: bool


class SetFloor(msgspec.Struct, frozen=True):
    """Write the `minReplicas` of the workload's HPA; then say `on_floor` or `on_floor_failed`."""

    replicas: int


Act = WriteScale | CloseGate | ReopenGate | SetCost | SetFloor | TellForeign
