"""How a process leaves: the order, in one place.

    1. say that nothing new shall come      (readiness off, `Connection: close` on every answer)
    2. wait for whoever sends it to notice   (balancers; nothing to wait for on one box)
    3. close the listeners                  (once the kernel's accept queue is served)
    4. refuse what only waits               (it would wait for a start that will not come)
    5. finish what runs, up to a deadline    (then it is reset, never completed falsely)
    6. stop what runs it                    (model servers, timers, reports)
    7. infrastructure last                  (admin, files, locks: they can tell of all before)

A composition root gives the steps as callables; a step that fails is logged and the next one is taken all the same,
because a process that stays half alive is worse than one that left something behind.
"""

import logging
from collections.abc import Awaitable, Callable

import msgspec

from zerogate.errors import Refusal

log = logging.getLogger(__name__)


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """What leaving means for one process, in the order of the module's text."""

    readiness_off: Callable[[], None]
    wait_for_senders: Callable[[], Awaitable[None]] | None = None
    close_listeners: Callable[[], Awaitable[None] | None]
    refuse_held: Callable[[], None]
    finish_running: Callable[[], Awaitable[None]]
    stop_replicas: Callable[[], Awaitable[None]]
    close_infrastructure: Callable[[], Awaitable[None]]


async def leave(steps: Steps) -> None:
    """Take all steps in order."""
    for name in steps.__struct_fields__:
        step = getattr(steps, name)
        if step is None:
            continue
        try:
            waiting = step()
            if waiting is not None:
                await waiting
        except Exception:
            log.exception("leaving: %s failed", name.replace("_", " "))


def leaving(detail: str, *, retry_after_s: float) -> Refusal:
    """What those are told who wait until the process leaves."""
    return Refusal(status=503, code="shutting_down", detail=detail, retry_after_s=retry_after_s)
