"""What is in the way of a service's replicas, told to its hold: whoever waits hears why, in the end or at once."""

from typing import Final

from activator.hold import Hold
from zerogate.clock import now
from zerogate.errors import Refusal
from zerogate.runtime.interface import Trouble

START_AGAIN_S: Final = 30.0
"""Told to clients of a service that cannot start: somebody has to change something first."""


def tell(hold: Hold, trouble: Trouble | None, before: Trouble | None) -> None:
    """Replicas do not get ready, or now may: who waits is told why in the end, or at once where it is in vain.

    `before`: what this hold was told last.
    """
    hold.obstacle = trouble.detail if trouble is not None else ""
    if trouble is not None and trouble.is_hopeless:
        if not hold.ready:
            hold.fail(_cannot_start(hold.service, trouble.detail), float("inf"), now())
    elif before is not None and before.is_hopeless:
        hold.unblock()


def _cannot_start(service: str, why: str) -> Refusal:
    detail = f"No replica of {service} can start: {why}"
    return Refusal(status=503, code="start_failed", detail=detail, retry_after_s=START_AGAIN_S)
