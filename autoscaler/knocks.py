"""How soon the token of who comes is judged. Pure.

Each judgement may cost a question to the API server, and whoever reaches the port can ask for one with every
connection. So tokens are judged at a bounded rate, in all and of each address: who knocks faster than that waits, and
who would wait too long is turned away for now. One address alone never uses up what there is for the others.

Invariant: what was let through in any span is at most the burst and the rate over it, in all and for each address that
is remembered. Owned by `autoscaler.receiver`.
"""

from collections import OrderedDict
from typing import Final

ALL_PER_S: Final = 500.0
"""After a restart ten thousand sources come within seconds: they are heard within twenty."""
ALL_BURST: Final = 2_000
ONE_PER_S: Final = 10.0
ONE_BURST: Final = 250
"""The pods of a node may have its address, where the network masquerades them; that many is the most a node takes."""
MOST_ADDRESSES: Final = 10_000
"""Remembered; the one that has not knocked for the longest time is forgotten first. Most have their whole burst back by
then."""


class _Bucket:
    """`left`: judgements that are allowed now; below zero they are promised for later."""

    __slots__ = ("at_s", "burst", "left", "per_s")

    def __init__(self, per_s: float, burst: float, now_s: float) -> None:
        self.per_s = per_s
        self.burst = burst
        self.left = burst
        self.at_s = now_s

    def wait_s(self, now_s: float) -> float:
        """How long the next one would have to wait."""
        self.left = min(self.burst, self.left + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s
        return max(0.0, (1.0 - self.left) / self.per_s)


class Knocks:
    """See the module's text."""

    def __init__(
        self, now_s: float, *, all_per_s: float = ALL_PER_S, all_burst: float = ALL_BURST,
        one_per_s: float = ONE_PER_S, one_burst: float = ONE_BURST,
    ) -> None:  # fmt: skip
        self._all = _Bucket(all_per_s, all_burst, now_s)
        self._one_per_s = one_per_s
        self._one_burst = one_burst
        self._by_address: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, address: str, now_s: float, *, most_s: float) -> float | None:
        """Seconds until its token may be judged, which is promised; None: more than `most_s`, nothing is promised."""
        bucket = self._by_address.pop(address, None) or _Bucket(self._one_per_s, self._one_burst, now_s)
        self._by_address[address] = bucket
        if len(self._by_address) > MOST_ADDRESSES:
            self._by_address.popitem(last=False)
        wait_s = max(bucket.wait_s(now_s), self._all.wait_s(now_s))
        if wait_s > most_s:
            return None
        bucket.left -= 1.0
        self._all.left -= 1.0
        return wait_s
