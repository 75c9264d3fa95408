"""What a policy means for the requests of its service. Pure."""

import sys

from zerogate.http.exchange import Exchange
from zerogate.http.sides import RequestTerms, with_timeouts
from zerogate.policy import Policy


def terms_of(policy: Policy) -> RequestTerms:
    """What holds for each of its requests."""
    terms = RequestTerms(
        heartbeat_s=policy.hold_heartbeat_s,
        retries_stale=policy.retry == "stale",
        quiet_s=policy.idle_timeout_s if policy.idle_websocket == "quiet" else None,
        body_limit_bytes=policy.body_limit_bytes or sys.maxsize,
    )
    return with_timeouts(terms, policy)


def most_hold_s(policy: Policy, exchange: Exchange) -> float:
    """How long it may be held in all, however often it has to wait; how long its body took to come before there was a
    route is not hold."""
    wait_s = exchange.head.wait_s
    return policy.hold_timeout_s if wait_s is None else min(policy.hold_timeout_s, wait_s)


def priority_of(policy: Policy, exchange: Exchange) -> int:
    """Its place among those that wait; nonsense counts as none."""
    value = exchange.head.field(policy.priority.encode()) if policy.priority else None
    try:
        return int(value) if value is not None else 0
    except ValueError:
        return 0
