"""Which replica takes a request. Pure: randomness is an argument."""

from collections.abc import Sequence

from zerogate.http.upstream import Choose, Upstream


def enter(upstreams: Sequence[Upstream], choose: Choose, now_s: float) -> Upstream | None:
    """Take a slot for a warm request in the less busy of two random replicas; in any that is free if both are full.

    Two choices come within a constant of the best (Mitzenmacher 2001, "The power of two choices") and, unlike the best
    of all, do not send everybody to the same fresh replica. None where no replica is free.
    """
    count = len(upstreams)
    if count == 1:
        one = upstreams[0]
        return one if now_s >= one.rests_until_s and one.gate.try_enter() else None
    if count == 0:
        return None
    first = choose(count)
    second = (first + 1 + choose(count - 1)) % count
    if upstreams[second].gate.in_flight < upstreams[first].gate.in_flight:
        first, second = second, first
    for upstream in (upstreams[first], upstreams[second], *upstreams):
        if now_s >= upstream.rests_until_s and upstream.gate.try_enter():
            return upstream
    return None


def release(upstreams: Sequence[Upstream], now_s: float) -> Upstream | None:
    """Take a slot for a held request in the least busy replica that may take one; None where there is none."""
    best: Upstream | None = None
    for upstream in upstreams:
        gate = upstream.gate
        if now_s < upstream.rests_until_s or not gate.may_release:
            continue
        if best is None or gate.in_flight < best.gate.in_flight:
            best = upstream
    return best if best is not None and best.gate.try_release() else None
