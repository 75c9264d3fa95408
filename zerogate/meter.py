"""Counters and integrals of one service in one process. Pure: `now_s` is an argument.

The arithmetic of `Stat`: the path calls one method where a request arrives, enters, leaves or ends; a reporter calls
`read` once a second. Cheap enough for every request: no object is made outside `read`.

The integral of how many run, over time, is the sum of the times at which some left, less the sum of those at which
they entered; who is still inside counts as if he left now. So a request costs one addition when it enters and one when
it leaves. The two sums are one number, which stays as small as what is inside times the clock: at a clock of 10⁶ s and
1,000 inside it is exact to 10⁻⁷ s.
"""

from zerogate.stats import Stat


class Meter:
    """Counts one service's requests. Invariant: in_flight and held are never negative, and 0 after the last request."""

    __slots__ = (
        "_held_s", "_running_s", "_told_held_s", "_told_running_s", "abandoned", "arrivals", "bytes_in", "bytes_out",
        "completed_run_s", "completions", "held", "in_flight", "last_arrival_s", "last_byte_s", "refused", "sequence",
    )  # fmt: skip

    def __init__(self) -> None:
        self.arrivals = 0
        self.completions = 0
        self.abandoned = 0
        self.refused = 0
        self.completed_run_s = 0.0
        self.bytes_in = 0
        self.bytes_out = 0
        self.in_flight = 0
        self.held = 0
        self.last_arrival_s: float | None = None
        self.last_byte_s: float | None = None
        self.sequence = 0
        self._running_s = 0.0
        """Without what those inside have run: plus `in_flight` times now, it is the integral."""
        self._held_s = 0.0
        """The same of those that wait."""
        self._told_running_s = self._told_held_s = 0.0
        """What the last report said: no rounding makes the next one say less, which would look like another process."""

    def arrive(self, now_s: float) -> None:
        """A request was accepted for the service."""
        self.arrivals += 1
        self.last_arrival_s = self.last_byte_s = now_s

    def hold(self, now_s: float) -> None:
        """A request begins to wait for capacity."""
        self._held_s -= now_s
        self.held += 1

    def unhold(self, now_s: float) -> None:
        """A held request stops waiting, for whatever reason."""
        self._held_s += now_s
        self.held -= 1

    def enter(self, now_s: float) -> None:
        """A request enters a replica."""
        self._running_s -= now_s
        self.in_flight += 1

    def arrive_and_enter(self, now_s: float) -> None:
        """`arrive` and `enter` in one: a request that need not wait."""
        self.arrivals += 1
        self.last_arrival_s = self.last_byte_s = now_s
        self._running_s -= now_s
        self.in_flight += 1

    def leave(self, now_s: float, entered_s: float) -> None:
        """A request that entered at `entered_s` is out of its replica, however it ended."""
        self._running_s += now_s
        self.in_flight -= 1
        self.completions += 1
        self.completed_run_s += now_s - entered_s
        self.last_byte_s = now_s

    def quieten(self, now_s: float, entered_s: float, last_byte_s: float) -> None:
        """A WebSocket counts as out of its replica, though it is open: its last data frame came at `last_byte_s`.

        It has run so far; where it is roused it enters anew.
        """
        before_s = self.last_byte_s
        self.leave(now_s, entered_s)
        self.last_byte_s = last_byte_s if before_s is None else max(before_s, last_byte_s)

    def rouse(self, now_s: float) -> None:
        """A WebSocket that was quiet counts again."""
        self.enter(now_s)
        self.last_byte_s = now_s

    def withdraw(self, now_s: float) -> None:
        """A request that had entered a replica was not sent after all: it is out and not completed."""
        self._running_s += now_s
        self.in_flight -= 1

    def read(self, now_s: float, *, service: str, source: str, incarnation: str) -> Stat:
        """The next report of this meter."""
        self.sequence += 1
        self._told_running_s = max(self._told_running_s, self._running_s + self.in_flight * now_s)
        self._told_held_s = max(self._told_held_s, self._held_s + self.held * now_s)
        return Stat(
            service=service,
            source=source,
            incarnation=incarnation,
            sequence=self.sequence,
            at_s=now_s,
            arrivals=self.arrivals,
            completions=self.completions,
            abandoned=self.abandoned,
            refused=self.refused,
            running_s=self._told_running_s,
            held_s=self._told_held_s,
            completed_run_s=self.completed_run_s,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            in_flight=self.in_flight,
            held=self.held,
            since_arrival_s=None if self.last_arrival_s is None else now_s - self.last_arrival_s,
            since_byte_s=None if self.last_byte_s is None else now_s - self.last_byte_s,
        )
