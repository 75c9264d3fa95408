"""Which of a gateway's processes hang: they live and say nothing. Pure: `now_s` is an argument.

Every process says something once a second. One that was not heard for `hung_after_s` while *another was* hangs (a loop
that is blocked, a process that is stopped), and is named once, to be killed. Where nobody is heard, the machine is more
likely at fault than all of them at once: then each has `ALONE_FACTOR` times as long. One that does not take requests
yet has `START_S`, because it may have a large file to read.

Silence is time in which the parent looked and heard nothing. Between two looks lies at most `LONGEST_STEP_S` of it,
whatever the clock says: a machine that was suspended, or a parent that was stopped, is nobody's silence.
"""

from typing import Final

import msgspec

LOOK_S: Final = 1.0
LONGEST_STEP_S: Final = 2.0
SILENT_S: Final = 3.0
"""Three reports: from then on a process is not counted among those that take requests."""
START_S: Final = 60.0
ALONE_FACTOR: Final = 6.0


class _Vital(msgspec.Struct):
    silence_s: float = 0.0
    was_heard: bool = True
    is_ready: bool = False
    is_named: bool = False


class Vitals:
    """See the module's text. Numbers are those of `gateway.crew`."""

    def __init__(self, hung_after_s: float) -> None:
        self._hung_after_s = hung_after_s
        self._vitals: dict[int, _Vital] = {}
        self._looked_s: float | None = None

    def begin(self, number: int) -> None:
        """A process was forked."""
        self._vitals[number] = _Vital()

    def on_heard(self, number: int) -> None:
        """It said something."""
        self._vitals[number].was_heard = True

    def on_ready(self, number: int) -> None:
        """It takes requests."""
        self._vitals[number].is_ready = True

    def end(self, number: int) -> None:
        """It has ended."""
        self._vitals.pop(number, None)

    @property
    def next_s(self) -> float | None:
        """When to look next; None while there is nobody."""
        if not self._vitals or self._looked_s is None:
            return None
        return self._looked_s + LOOK_S

    def is_silent(self, number: int) -> bool:
        """Whether it takes requests and was not heard for some reports."""
        vital = self._vitals.get(number)
        return vital is not None and vital.is_ready and vital.silence_s >= SILENT_S

    def look(self, now_s: float) -> list[int]:
        """Called after all that was said has been heard: who hangs, each once."""
        if self._looked_s is None or now_s < self._looked_s:
            self._looked_s = now_s
        elapsed_s = now_s - self._looked_s
        if elapsed_s < LOOK_S:
            return []
        self._looked_s = now_s
        for vital in self._vitals.values():
            vital.silence_s = 0.0 if vital.was_heard else vital.silence_s + min(elapsed_s, LONGEST_STEP_S)
            vital.was_heard = False
        hung = [number for number, vital in self._vitals.items() if not vital.is_named and self._hangs(vital)]
        for number in hung:
            self._vitals[number].is_named = True
        return hung

    def _hangs(self, vital: _Vital) -> bool:
        limit_s = self._hung_after_s if vital.is_ready else max(START_S, self._hung_after_s)
        if any(one.silence_s < self._hung_after_s / 2 for one in self._vitals.values()):
            return vital.silence_s >= limit_s
        return vital.silence_s >= limit_s * ALONE_FACTOR
