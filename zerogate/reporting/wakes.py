"""Which wakes the leader has heard, and what becomes of those that it has not. Pure: `now_s` is an argument.

A wake is *unanswered* until the leader acknowledges its number, and said again meanwhile; after `PATIENCE_S` its owner
is told, again and again as long as that lasts, and acts by itself. An answered one is kept as long as requests wait,
and said again now and then: an autoscaler that dies right after its acknowledgement leaves them to nobody, and one that
may not write finds that out after it. What it cannot bring up is unanswered, with its reason. Called by the sender.

Invariant: at most one entry for a service, and none once nothing waits there (`settle`).
"""

from typing import Final

from zerogate.reporting.wire import BEAT_S

PATIENCE_S: Final = 3.0
"""Without an acknowledgement by the leader for so long, nobody else will act."""
LEADER_SILENCE_S: Final = BEAT_S + PATIENCE_S
"""A leader that acknowledged a wake and has not acknowledged the beat after it is not there any more."""
_CROWD_S: Final = 0.02
_CROWD_GAP_S: Final = 0.002
"""Who comes within milliseconds of the first is one crowd for the autoscaler, which decides after 4 to 20 ms."""
_GAP_S: Final = 0.1
"""Later ones are told together: the autoscaler looks at them only so often."""


class _Wake:
    __slots__ = (
        "asked_s", "began_s", "is_answered", "is_wanted", "number", "refused", "repeated_s", "sent_s", "told_s"
    )  # fmt: skip

    def __init__(self, number: int, now_s: float) -> None:
        self.number = number
        self.began_s = self.asked_s = self.repeated_s = now_s
        self.sent_s = self.told_s = float("-inf")
        self.is_wanted = True
        self.is_answered = False
        self.refused = ""
        """Why the leader cannot bring the service up, as it said last."""


class Wakes:
    """See the module's text."""

    def __init__(self) -> None:
        self._wakes: dict[str, _Wake] = {}
        self._services: dict[int, str] = {}
        """By the number of the wake."""
        self._numbers = 0
        self._leader_s = float("-inf")

    def ask(self, service: str, now_s: float) -> None:
        """A request waits for the service."""
        wake = self._wakes.get(service)
        if wake is None:
            self._begin(service, now_s)
            return
        if wake.is_answered:
            self._renew(service, wake, now_s)
        wake.is_wanted = True

    def take_due(self, now_s: float) -> tuple[list[tuple[int, str]], float | None]:
        """(numbers and services to say now, when to call this again; None: nothing is left)."""
        due: list[tuple[int, str]] = []
        next_s: float | None = None
        for service, wake in self._wakes.items():
            if not wake.is_wanted:
                continue
            gap_s = _CROWD_GAP_S if now_s - wake.began_s < _CROWD_S else _GAP_S
            if now_s >= wake.sent_s + gap_s:
                wake.sent_s = now_s
                wake.is_wanted = False
                due.append((wake.number, service))
            else:
                next_s = wake.sent_s + gap_s if next_s is None else min(next_s, wake.sent_s + gap_s)
        return due, next_s

    def unanswered(self) -> list[tuple[int, str]]:
        """To be said again: to a new stream, and where the leader has changed."""
        return [(wake.number, service) for service, wake in self._wakes.items() if not wake.is_answered]

    def take_repeated(self, now_s: float) -> list[tuple[int, str]]:
        """To be said again now and then: all that are unanswered, and others after `PATIENCE_S`."""
        repeated: list[tuple[int, str]] = []
        for service, wake in self._wakes.items():
            if not wake.is_answered or now_s - wake.repeated_s >= PATIENCE_S:
                wake.repeated_s = now_s
                repeated.append((wake.number, service))
        return repeated

    def hear_leader(self, number: int, now_s: float, refused: str = "") -> str | None:
        """The leader acknowledged this number, whatever it stands for. `refused`: why it cannot bring the service up.
        Returns the service if that is another reason than before, or none any more."""
        self._leader_s = now_s
        service = self._services.get(number, "")
        wake = self._wakes.get(service)
        if wake is None:
            return None
        wake.is_answered = not refused
        before, wake.refused = wake.refused, refused
        return service if before != refused else None

    def leader_age_s(self, now_s: float) -> float:
        """Since the leader was heard last; infinite before it ever was."""
        return now_s - self._leader_s

    def waiting(self) -> list[str]:
        """Services with a wake."""
        return list(self._wakes)

    def settle(self, service: str) -> bool:
        """Nothing waits there any more. Whether it had been refused."""
        wake = self._wakes.pop(service, None)
        if wake is None:
            return False
        del self._services[wake.number]
        return bool(wake.refused)

    def take_late(self, now_s: float) -> list[str]:
        """Services that the leader does not wake, or cannot; each again after `PATIENCE_S`."""
        late: list[str] = []
        for service, wake in self._wakes.items():
            if wake.is_answered and now_s - self._leader_s >= LEADER_SILENCE_S:
                self._renew(service, wake, now_s - PATIENCE_S)
            if not wake.is_answered and now_s - max(wake.asked_s, wake.told_s) >= PATIENCE_S:
                wake.told_s = now_s
                late.append(service)
        return late

    def _begin(self, service: str, now_s: float) -> None:
        self._numbers += 1
        self._wakes[service] = _Wake(self._numbers, now_s)
        self._services[self._numbers] = service

    def _renew(self, service: str, wake: _Wake, asked_s: float) -> None:
        del self._services[wake.number]
        self._numbers += 1
        wake.number = self._numbers
        wake.asked_s = asked_s
        wake.is_answered = False
        self._services[wake.number] = service
