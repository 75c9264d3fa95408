"""A person's word about a workload's number, as it is noted on the workload: written and read back. Pure.

    state.zerogate.dev/pin: {"replicas":2,"until":"2026-11-22T15:00:00Z"}

Written by whoever may patch the workload, `kubectl zerogate pin` for one; read by all autoscalers, and by gateways
before they wake a workload themselves.
"""

from typing import Final

import msgspec

from zerogate.errors import UNREADABLE
from zerogate.kube.keys import RECORDS
from zerogate.kube.times import second_time, wall_time

PIN: Final = f"{RECORDS}pin"


class Pin(msgspec.Struct, frozen=True, omit_defaults=True):
    """`replicas`: None stands for paused, which is whatever number there is. `until`: RFC 3339; None: for good."""

    replicas: int | None = None
    until: str | None = None


def pin_text(replicas: int, until_wall_s: float | None) -> str:
    """As it is noted."""
    until = None if until_wall_s is None else second_time(until_wall_s)
    return msgspec.json.encode(Pin(replicas, until)).decode()


def read_pin(noted: str) -> Pin | None:
    """What is noted; None where that cannot be read."""
    try:
        pin = msgspec.json.decode(noted, type=Pin)
        if pin.until is not None:
            wall_time(pin.until)
    except (*UNREADABLE, ValueError):
        return None
    return None if pin.replicas is not None and not 0 <= pin.replicas < 1_000_000 else pin
