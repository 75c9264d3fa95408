"""Which port of the activators stands for which port of which Service. Pure: `now_s` is an argument.

A port is one Service's alone, because the activator tells services apart by nothing else. What stood before a restart
is read back from the slices. A port that was given back rests for a while: a node that is behind the news would still
send it the requests of the old Service. Where the next one is looked for begins at a place of chance, since what rested
at a restart is not known any more.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

FIRST: Final = 20000
LAST: Final = 24999
"""Below the ports that Linux gives to clients (32768), above those that anybody listens on; for 5,000 Services."""
REST_S: Final = 300.0
"""A kube-proxy that is alive is seconds behind; one that was cut off is restarted by its probe within minutes."""

Claim = tuple[str, str, str]
"""Namespace and name of a Service, and the name of its port."""


class PortLedger:
    """See the module's text. `start`: where to look first, a number from `first` to `last`."""

    def __init__(self, first: int = FIRST, last: int = LAST, *, start: int | None = None) -> None:
        self._first = first
        self._count = last - first + 1
        self._next = (start if start is not None else first) - first
        self._ports: dict[Claim, int] = {}
        self._claims: dict[int, Claim] = {}
        self._rests_until_s: dict[int, float] = {}

    def recover(self, claim: Claim, port: int) -> bool:
        """A slice says so. False where it cannot be: out of the range, or another's."""
        if not self._first <= port < self._first + self._count or self._claims.get(port, claim) != claim:
            return False
        if claim in self._ports:
            return self._ports[claim] == port
        self._ports[claim] = port
        self._claims[port] = claim
        return True

    def take(self, claim: Claim, now_s: float) -> int | None:
        """The claim's port, a new one where it has none; None: all are taken or rest."""
        ports = self.take_all([claim], now_s)
        return ports[0] if ports is not None else None

    def take_all(self, claims: Sequence[Claim], now_s: float) -> tuple[int, ...] | None:
        """The claims' ports, new ones for those that have none. None: so many are not to be had, and none was taken."""
        missing = [claim for claim in claims if claim not in self._ports]
        found = list(islice(self._free(now_s), len(missing)))
        if len(found) < len(missing):
            return None
        for claim, port in zip(missing, found, strict=True):
            self._next = port - self._first + 1
            self._rests_until_s.pop(port, None)
            self._ports[claim] = port
            self._claims[port] = claim
        return tuple(self._ports[claim] for claim in claims)

    def _free(self, now_s: float) -> Iterator[int]:
        for step in range(self._count):
            port = self._first + (self._next + step) % self._count
            if port not in self._claims and self._rests_until_s.get(port, now_s) <= now_s:
                yield port

    def give_back(self, claim: Claim, now_s: float) -> None:
        """Nothing leads there any more."""
        port = self._ports.pop(claim, None)
        if port is not None:
            del self._claims[port]
            self._rests_until_s[port] = now_s + REST_S
