"""Health checks of a service, answered without waking it: who asks them, and where."""

from typing import Final

from activator.hold import Hold
from zerogate.http.exchange import Exchange
from zerogate.http.heads import Field, RequestHead

PROBES: Final = (b"kube-probe/", b"GoogleHC/", b"ELB-HealthChecker/", b"Amazon-Route53-Health-Check-Service")
"""How health checkers of platforms name themselves: none of them is a user."""
READS: Final = frozenset({b"GET", b"HEAD"})
JSON: Final[tuple[Field, ...]] = ((b"Content-Type", b"application/json"),)


def is_quiet(head: RequestHead, hold: Hold) -> bool:
    """Whether a request for the service is one of a health check."""
    if head.method not in READS:
        return False
    # without the query: monitors add one so that nothing on the way answers from a cache
    return head.target.partition(b"?")[0] in hold.quiet_paths or head.user_agent.startswith(PROBES)


def answer_quietly(exchange: Exchange, hold: Hold, state: str, now_s: float, *, is_failing: bool) -> None:
    """Say how the service is. It has an owner by now, and that is not the hold."""
    body = b'{"service":"%b","state":"%b"}\n' % (hold.service.encode(), state.encode())
    exchange.answer(503 if is_failing else 200, JSON, body, now_s)
