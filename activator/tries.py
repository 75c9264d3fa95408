"""When a sidecar that could not be reached is tried again, and how long a try may take. Pure: `now_s` is an argument.

A pod's address is told while its sidecar is still starting, and often its network too, and requests wait for it. So a
replica that is new and was never reached is tried again after a small part of the time for which it is known already:
whoever needs long to start may be found a little later. Where very many are new at once they share what tries there are
in a second. One that was reached and lost is tried at once and then after pauses that double. Owned by
`activator.link`, one for each link.
"""

from typing import Final

ANSWER_S: Final = 5.0
"""For a connection and the answer to the upgrade; as the connect timer of requests."""
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
"""Between tries, doubled each time: a sidecar that comes back is found within a second."""
NEW_S: Final = 60.0
"""So long a replica counts as new; then something is wrong with it."""
NEW_SHARE: Final = 0.05
"""Of its age: 60 tries in the first two seconds, at 25 µs each. A sidecar starts within 0.1 to 0.5 s."""
NEW_LEAST_S: Final = 0.01
NEW_MOST_S: Final = 0.1
"""Ten tries a second are 0.03 % of a core."""
NEW_PER_S: Final = 2_000
"""Tries of all new ones of a process together, at 40 µs each: a thousand pods without a network took 40 % of a core
of each worker. Up to two hundred do not notice."""
NEW_CONNECT_S: Final = 0.25
"""Where the pod's network is not ready the first packet is lost, and the kernel sends it again after a second, and then
after two and four more: a new connection asks sooner. Inside a cluster one comes about within milliseconds."""
UNKNOWN_PAUSE_S: Final = 30.0
"""After an answer that is none: each try is a request to whatever answers there."""


class Newcomers:
    """How many replicas of a process are new and were not reached yet."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Tries:
    """See the module's text. Made when the replica's address becomes known; say what came of each try before `pause_s`
    is asked, and `close` at the end."""

    def __init__(self, now_s: float, newcomers: Newcomers) -> None:
        self._born_s = now_s
        self._newcomers: Newcomers | None = newcomers
        newcomers.count += 1
        self._pause_s = 0.0

    def connect_s(self, now_s: float) -> float:
        """How long the try that begins now may take until it is connected."""
        return NEW_CONNECT_S if self._is_new(now_s) else ANSWER_S

    def on_reached(self) -> None:
        """Whoever is there spoke with us: the first try after its loss is made at once."""
        self.close()

    def on_lost(self, lasted_s: float) -> None:
        """The connection is lost. One that lasted is missed at once."""
        if lasted_s > LONGEST_PAUSE_S:
            self._pause_s = 0.0

    def on_no_control(self) -> None:
        """Something else answers there."""
        self.close()
        self._pause_s = UNKNOWN_PAUSE_S

    def pause_s(self, now_s: float) -> float:
        """Until the next try, in the mean: to be spread by chance."""
        if self._newcomers is not None and self._is_new(now_s):
            own_s = min(NEW_MOST_S, max(NEW_LEAST_S, NEW_SHARE * (now_s - self._born_s)))
            return max(own_s, self._newcomers.count / NEW_PER_S)
        self.close()
        pause_s = self._pause_s
        self._pause_s = max(FIRST_PAUSE_S, min(LONGEST_PAUSE_S, pause_s * 2))
        return pause_s

    def close(self) -> None:
        """It counts as new no longer, or is gone."""
        if self._newcomers is not None:
            self._newcomers.count -= 1
            self._newcomers = None

    def _is_new(self, now_s: float) -> bool:
        return self._newcomers is not None and now_s < self._born_s + NEW_S
