"""What the deciding side tells others: a service as it stands, and what of it survives a restart. Pure values."""

import msgspec

from autoscaler.decision import Decision, Pin, Traffic
from zerogate.policy import Policy
from zerogate.runtime.interface import BackOff, Replica


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What of one service survives a restart."""

    pin: Pin | None = None
    boots_s: tuple[float, ...] = ()
    completed_s: float = 0.0
    completions: float = 0.0


class ServiceState(msgspec.Struct, frozen=True, kw_only=True):
    """One service as it stands: for status, explain and the console."""

    service: str
    policy: Policy
    asked: int
    """Replicas asked of the runtime."""
    replicas: tuple[Replica, ...]
    traffic: Traffic
    decision: Decision | None
    """The latest; None only in the first moments after start."""
    run_time_s: float | None
    boot_time_s: float | None
    back_off: BackOff | None
    pin: Pin | None
