"""How soon the token of who comes is judged. Pure.

Each judgement costs time and may cost a question to the API server, and whoever reaches the port can ask for one with
every connection. So tokens are judged at a bounded rate, in all and of each address: who knocks faster than that waits,
and who would wait too long is told when to come again. One address alone never uses up what there is for the others.

Invariant: what was let through in any span is at most the burst and the rate over it, in all and for each address that
is remembered. Owned by `autoscaler.receiver`.
"""

from collections import OrderedDict
from typing import Final

from zerogate.bucket import Bucket

ALL_PER_S: Final = 1_000.0
"""After a restart ten thousand sources come within seconds: they are heard within ten. A stream costs about 0.3 ms from
its first byte to its welcome, so a third of a core meanwhile."""
ALL_BURST: Final = 100
"""In one turn of the loop, if they come so: 15 ms. Two thousand were one of a quarter of a second."""
ONE_PER_S: Final = 10.0
ONE_BURST: Final = 250
"""The pods of a node may have its address, where the network masquerades them; that many is the most a node takes."""
SOONEST_S: Final = 0.25
LATEST_S: Final = 30.0
"""No honest source is kept away for longer, whoever else makes appointments."""
_KEPT_FREE: Final = 0.8
"""Of the rate: the rest is for those who come without one."""
MOST_ADDRESSES: Final = 10_000
"""Remembered; the one that has not knocked for the longest time is forgotten first. Most have their whole burst back by
then."""


class Appointments:
    """When those come again for whom there is no time now: one after the other, as fast as there is time for them.

    Nobody has to be known again: who is late has lost nothing, and who is early gets another one.
    """

    __slots__ = ("_gap_s", "_last_s")

    def __init__(self, per_s: float) -> None:
        self._gap_s = 1.0 / (per_s * _KEPT_FREE)
        self._last_s = float("-inf")

    def next_s(self, now_s: float) -> float:
        """Seconds from now on, from SOONEST_S to LATEST_S. Where that is too little for all, they share it."""
        self._last_s = max(self._last_s + self._gap_s, now_s + SOONEST_S)
        if self._last_s > now_s + LATEST_S:
            self._last_s = now_s + SOONEST_S
        return self._last_s - now_s


class Knocks:
    """See the module's text."""

    def __init__(
        self, *, all_per_s: float = ALL_PER_S, all_burst: float = ALL_BURST,
        one_per_s: float = ONE_PER_S, one_burst: float = ONE_BURST,
    ) -> None:  # fmt: skip
        self._all = Bucket(all_per_s, all_burst)
        self._one_per_s = one_per_s
        self._one_burst = one_burst
        self._by_address: OrderedDict[str, Bucket] = OrderedDict()
        self._appointments = Appointments(all_per_s)

    def wait_s(self, address: str, now_s: float, *, most_s: float) -> float | None:
        """Seconds until its token may be judged, which is promised; None: more than `most_s`, nothing is promised."""
        bucket = self._by_address.pop(address, None) or Bucket(self._one_per_s, self._one_burst)
        self._by_address[address] = bucket
        if len(self._by_address) > MOST_ADDRESSES:
            self._by_address.popitem(last=False)
        wait_s = max(_wait_s(bucket, now_s), _wait_s(self._all, now_s))
        if wait_s > most_s:
            return None
        bucket.take()
        self._all.take()
        return wait_s

    def come_again_s(self, address: str, now_s: float) -> float:
        """When somebody should who cannot be dealt with now. Who comes too often himself takes nobody's turn by it."""
        bucket = self._by_address.get(address)
        own_s = 0.0 if bucket is None else _wait_s(bucket, now_s)
        return own_s if own_s > SOONEST_S else self._appointments.next_s(now_s)


def _wait_s(bucket: Bucket, now_s: float) -> float:
    """How long the next judgement would have to wait; what is owed was promised to others."""
    bucket.refill(now_s)
    return bucket.wait_s()
