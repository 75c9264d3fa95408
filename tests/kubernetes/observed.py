"""`python -m tests.kubernetes.observed FILE …`: the autoscaler's own process, that also tells how its loop does.

Takes the same arguments as `python -m autoscaler` after the name of a file, to which it adds a line of JSON whenever
something happens that only the process itself can time. SIGUSR1 makes it tell the longest turns since the last time;
SIGUSR2 starts and stops the look at turns, which costs about one hundredth of a core.

A turn of the loop is timed between two timers of a millisecond, in processor time of the loop's own thread too: on a
machine with other work the wall shows the others, and a turn that computes for 50 ms does so on any machine.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from autoscaler import process, running
from autoscaler.decision import Decision
from autoscaler.lead import Lead
from zerogate.clock import now
from zerogate.kube.access import Access
from zerogate.kube.relists import Relist
from zerogate.kube.watching import Watched

_TICK_S: Final = 0.001
_LEAD_S: Final = 3.0
"""After the lead was taken: what follows from it is over by then."""


class Told(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line. `at_s`: `zerogate.clock.now`, which is the same in all processes of a machine."""

    what: str
    at_s: float = 0.0
    cpu_s: float = 0.0
    """Processor time of the process so far."""
    turn_s: float = 0.0
    turn_cpu_s: float = 0.0
    """The longest turns, by the wall and in processor time."""
    relists: dict[str, tuple[int, Relist]] = {}
    """By kind, where a new list was needed: how often, and how long the last one took."""
    writes: int = 0
    doubted: int = 0
    """Tokens that are believed, and that the API server has not judged yet."""
    streams: int = 0
    pods: int = 0
    services: int = 0
    decided: int = 0
    """Services that were decided about at least once."""


class Turns:
    """The longest turn of the running loop since `take`."""

    def __init__(self) -> None:
        self._longest_s = self._longest_cpu_s = 0.0
        self._last_s = self._last_cpu_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_on(self) -> bool:
        return self._timer is not None

    def start(self) -> None:
        self._last_s, self._last_cpu_s = now(), time.thread_time()
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take(self) -> tuple[float, float]:
        """By the wall and in processor time; from now on anew."""
        found = self._longest_s, self._longest_cpu_s
        self._longest_s = self._longest_cpu_s = 0.0
        return found

    def leave_out(self, began: tuple[float, float]) -> None:
        """What was done since then, in this turn, is not the process's own."""
        self._last_s += now() - began[0]
        self._last_cpu_s += time.thread_time() - began[1]

    def _tick(self) -> None:
        now_s, cpu_s = now(), time.thread_time()
        self._longest_s = max(self._longest_s, now_s - self._last_s - _TICK_S)
        self._longest_cpu_s = max(self._longest_cpu_s, cpu_s - self._last_cpu_s)
        self._last_s, self._last_cpu_s = now_s, cpu_s
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)


class ObservedLead(Lead):
    """The real one, and when it changes."""

    def __init__(self, parts: "Observed") -> None:
        super().__init__(parts)
        self._say = parts.say

    def on_change(self, leads: bool) -> None:
        self._say("before lead")
        super().on_change(leads)
        self._say("leads" if leads else "follows", takes_turns=False)
        asyncio.get_running_loop().call_later(_LEAD_S, self._say, "led")


class Observed(running.RunningAutoscaler):
    """The real one, and what it tells."""

    file: Path

    def __init__(self, settings: Any, access: Access) -> None:
        super().__init__(settings, access)
        self.lead = ObservedLead(self)
        self._turns = Turns()
        self._has_decided = False

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.say, "asked")
        loop.add_signal_handler(signal.SIGUSR2, self._toggle)
        self._turns.start()
        self.say("begun")
        await super().start()
        self.say("synced")

    def _toggle(self) -> None:
        if self._turns.is_on:
            self._turns.stop()
        else:
            self._turns.start()

    def _on_decision(self, decision: Decision) -> None:
        if not self._has_decided:
            self._has_decided = True
            self.say("first decision", takes_turns=False)
        super()._on_decision(decision)

    def say(self, what: str, *, takes_turns: bool = True) -> None:
        began = now(), time.thread_time()
        turn_s, turn_cpu_s = self._turns.take() if takes_turns else (0.0, 0.0)
        told = Told(
            what=what, at_s=now(), cpu_s=time.process_time(), turn_s=turn_s, turn_cpu_s=turn_cpu_s,
            relists=self._relists(), writes=self.hands.writes, doubted=self.identities.doubted,
            streams=len(self.receiver.streams),
            pods=len(self.runtime.replicas()), services=len(self.services.entries),
            decided=sum(one.decision is not None for one in self.autoscaler._services.values()),
        )  # fmt: skip
        with self.file.open("ab") as file:
            file.write(msgspec.json.encode(told) + b"\n")
        self._turns.leave_out(began)

    def _relists(self) -> dict[str, tuple[int, Relist]]:
        watches: list[Watched[Any]] = [*self.feed.watches(), self.reporters.watched]
        return {one.name: (one.relists, one.relist) for one in watches if one.relist is not None}


def main() -> int:
    """Run until told to leave; the exit code."""
    Observed.file = Path(sys.argv[1])
    process.RunningAutoscaler = Observed  # type: ignore[attr-defined]
    return process.run(sys.argv[2:], os.environ)


if __name__ == "__main__":
    sys.exit(main())
