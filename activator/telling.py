"""What a holder tells the autoscalers: what arrives and what it holds. What runs is told by the replicas' sidecars, and
here for those replicas that have none; what another gateway was given is told by that one alone.

Each worker of a gateway has streams of its own, as it has connections to sidecars: the parent has no loop, and another
process that collects would be one more to lose. A request that is handed over is told at once, because until then its
replica may have reported it too.
"""

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from activator.bare import Bare
from activator.hold import Hold
from activator.holds import Holds
from zerogate.meter import Meter
from zerogate.reporting.sender import Sender, Target
from zerogate.stats import Stat
from zerogate.tasks import Nursery


class Telling:
    """The book of the sender, and who is woken. `start` first, `close` last."""

    def __init__(
        self,
        holds: Holds,
        target: Target,
        *,
        nursery: Nursery,
        jitter: Callable[[], float],
        on_unacknowledged: Callable[[str], None],
        bare: Bare,
    ) -> None:
        self._holds = holds
        self._bare = bare
        self._changed: dict[str, None] = {}
        self._arrivals: dict[str, int] = {}
        """As told last."""
        self._sender = Sender(
            self, target,
            nursery=nursery, jitter=jitter, on_unacknowledged=on_unacknowledged, on_refused=self._on_refused,
            on_order=bare.on_order, inside=bare.inside,
        )  # fmt: skip
        self.start = self._sender.start
        self.wake = self._sender.wake
        self.close = self._sender.close
        self.told = self._sender.told

    def watch(self, hold: Hold) -> None:
        """Tell when requests begin or cease to wait there. After its links, which are told first."""
        before, soon, service = hold.on_waiting, self._sender.soon, hold.service

        def on_waiting() -> None:
            before()
            soon(service)

        hold.on_waiting = on_waiting

    def note(self, services: Iterable[str]) -> None:
        """Their counters have changed."""
        self._changed.update(dict.fromkeys(services))

    def _on_refused(self, service: str, why: str) -> None:
        hold = self._holds.get(service)
        if hold is not None:
            hold.refused_wake = why

    def take_changed(self) -> list[str]:
        """See `Book`."""
        changed, self._changed = self._changed, {}
        return list(changed)

    def read(self, service: str, now_s: float) -> Stat | None:
        """See `Book`."""
        hold = self._holds.get(service)
        if hold is None:
            self._arrivals.pop(service, None)
            return None
        stat = hold.meter.read(now_s, service=service, source="", incarnation="")
        meters = self._bare.meters(service)
        if meters is None:
            return replace(
                stat, arrivals=self._arrived(service, stat.arrivals), in_flight=0, running_s=0.0, completions=0,
                completed_run_s=0.0, bytes_in=0, bytes_out=0,
            )  # fmt: skip
        inside = meters[0].read(now_s, service=service, source="", incarnation="")
        return replace(
            stat, arrivals=self._arrived(service, stat.arrivals - _passed(meters[1])), in_flight=inside.in_flight,
            running_s=inside.running_s, completions=inside.completions, completed_run_s=inside.completed_run_s,
            bytes_in=0, bytes_out=0,
        )  # fmt: skip

    def _arrived(self, service: str, stay: int) -> int:
        """What is told of those that stay here: one that is passed on after it was told is made up for by the next."""
        told = self._arrivals[service] = max(self._arrivals.get(service, 0), stay)
        return told


def _passed(meter: Meter) -> int:
    return meter.completions + meter.in_flight
