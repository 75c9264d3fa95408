"""What a sidecar tells those that it does not serve. Pure.

*Not sent* are those that a gateway may hold again, or send elsewhere: the replica saw nothing of them, or they may be
sent again and only the sidecar's leaving keeps it from doing so.
"""

from msgspec.structs import replace

from zerogate import retries
from zerogate.admission import AdmissionQueue
from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.requests import MEMORY_FULL


def _not_sent(status: int, code: str, detail: str, retry_after_s: float | None = None) -> Refusal:
    return Refusal(status=status, code=code, detail=detail, retry_after_s=retry_after_s, not_sent=True)


NO_MEMORY = replace(MEMORY_FULL, not_sent=True)


def not_ready(service: str, why: str) -> Refusal:
    """`why`: what its probe says."""
    return _not_sent(503, "replica_not_ready", f"The model server of {service} is not ready: {why}.")


def draining(service: str) -> Refusal:
    detail = f"This replica of {service} is leaving. Another one may take the request."
    return _not_sent(503, "draining", detail)


def quiesced(service: str) -> Refusal:
    detail = f"This replica of {service} may be stopped: the autoscaler lets no gateway in."
    return _not_sent(503, "quiesced", detail)


def no_slot(service: str) -> Refusal:
    detail = f"This replica of {service} has no free slot for this gateway at the moment."
    return _not_sent(503, "replica_full", detail)


def queue_full(
    service: str, queue: AdmissionQueue[Exchange], *, in_flight: int, limit: int, retry_after_s: float
) -> Refusal:  # fmt: skip
    detail = (
        f"This replica of {service} is full: {in_flight} of at most {limit} requests are inside, {queue.length} of at "
        f"most {queue.limit} wait and hold {queue.held_bytes} of at most {queue.limit_bytes} bytes. Try again later."
    )
    return _not_sent(429, "queue_full", detail, retry_after_s)


def hold_timeout(service: str, *, waited_s: float, limit: int, retry_after_s: float) -> Refusal:
    detail = (
        f"The request waited {waited_s:.1f} s for a place in this replica of {service}, which takes {limit} at once. "
        "Try again later."
    )
    return _not_sent(503, "hold_timeout", detail, retry_after_s)


def unreachable(service: str, cause: str) -> Refusal:
    """No connection came about."""
    return _not_sent(503, "replica_unreachable", f"The model server of {service} could not be reached: {cause}.")


def unreachable_again(service: str, cause: str) -> Refusal:
    """The same after an attempt that may have arrived."""
    detail = f"The model server of {service} broke off before it answered, and could not be reached again: {cause}."
    return Refusal(status=502, code="replica_lost", detail=detail)


def lost(service: str, cause: str) -> Refusal:
    """It broke off, and is not asked again."""
    detail = f"The model server of {service} broke off before it answered: {cause}."
    return Refusal(status=502, code="replica_lost", detail=detail)


def over_budget(service: str, cause: str) -> Refusal:
    """It broke off, as it did with too many others."""
    return retries.spent(f"The model server of {service} broke off before it answered: {cause}.")
