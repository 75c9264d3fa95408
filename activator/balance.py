"""Which replica takes a request. Pure: randomness is an argument."""

from collections.abc import Callable, Iterable, Sequence

from zerogate.http.upstream import Choose, Upstream

Weigh = Callable[[Upstream], float]
"""How much of an ordinary replica's load one is to have, from just above 0 to 1."""


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


def enter_weighted(upstreams: Sequence[Upstream], choose: Choose, weight_of: Weigh, now_s: float) -> Upstream | None:
    """As `enter`, where not all replicas are to be as busy; there are at least two."""
    count = len(upstreams)
    first = choose(count)
    second = (first + 1 + choose(count - 1)) % count
    two = sorted((upstreams[first], upstreams[second]), key=lambda one: _load(one, weight_of))
    return first_free((*two, *upstreams), now_s)


def first_free(upstreams: Iterable[Upstream], now_s: float) -> Upstream | None:
    """Take a slot for a warm request in the first of these that has one."""
    for upstream in upstreams:
        if now_s >= upstream.rests_until_s and upstream.gate.try_enter():
            return upstream
    return None


def that_release(upstreams: Iterable[Upstream], now_s: float) -> list[Upstream]:
    """Those that may take a held request now."""
    return [one for one in upstreams if now_s >= one.rests_until_s and one.gate.may_release]


def least_busy(upstreams: Iterable[Upstream], weight_of: Weigh) -> Upstream:
    """The one for a held request, of some."""
    return min(upstreams, key=lambda one: _load(one, weight_of))


def _load(upstream: Upstream, weight_of: Weigh) -> float:
    return (upstream.gate.in_flight + 1) / weight_of(upstream)
