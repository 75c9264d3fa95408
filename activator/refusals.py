"""What a hold tells requests that it does not serve. Pure."""

from typing import Any, Final

from msgspec.structs import replace

from activator.reach import MAX_ATTEMPTS
from zerogate import retries
from zerogate.admission import AdmissionQueue
from zerogate.errors import Refusal

NEVER: Final = float("inf")


def queue_full(service: str, queue: AdmissionQueue[Any], wait_s: float) -> Refusal:
    """The queue is at its bound; `wait_s` is a guess of how long that lasts."""
    detail = (
        f"The queue of {service} is full: {queue.length} requests of at most {queue.limit} and "
        f"{queue.held_bytes} bytes of at most {queue.limit_bytes} wait for a replica. Try again later."
    )
    return Refusal(status=429, code="queue_full", detail=detail, retry_after_s=wait_s)


def hold_timeout(service: str, waited_s: float, state: str, wait_s: float) -> Refusal:
    """The deadline for holding has passed; `state` says what was in the way, as a clause."""
    detail = f"The request to {service} was held for {waited_s:.1f} s and {state} until then. Try again later."
    return Refusal(status=503, code="hold_timeout", detail=detail, retry_after_s=wait_s)


def unreachable(service: str, cause: str) -> Refusal:
    """It was tried often enough."""
    detail = f"No replica of {service} could be reached: {cause}. Tried {MAX_ATTEMPTS} times."
    return Refusal(status=502, code="replica_unreachable", detail=detail, retry_after_s=1.0)


def lost(service: str, cause: str) -> Refusal:
    """It was sent often enough, and no answer came."""
    detail = f"The replicas of {service} broke off before they answered: {cause}. Tried {MAX_ATTEMPTS} times."
    return Refusal(status=502, code="replica_lost", detail=detail)


def over_budget(service: str, cause: str) -> Refusal:
    """It might have been sent again, but too many were."""
    return retries.spent(f"A replica of {service} failed: {cause}.")


def until(refusal: Refusal, wait_s: float) -> Refusal:
    """The refusal with the time of the next try, where there will be one."""
    return refusal if wait_s == NEVER else replace(refusal, retry_after_s=max(1.0, wait_s))
