"""What a worker tells its parent once a second: cumulative counters of what changed, and everything at its end.

A report is a sign of life too (`gateway.vitals`), so one is made where nothing changed.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from activator.holds import Holds
from activator.telling import Telling
from gateway.channel import Channel
from gateway.entries import Entries
from gateway.figures import LOST, TOLD, TRACES, UNROUTED, figures_of
from gateway.messages import Figures, Number, Report
from gateway.tally import PROCESS
from zerogate.counters import ServiceCounters
from zerogate.http.access_log import AccessLog
from zerogate.http.server import Server
from zerogate.http.tracing import Tracing
from zerogate.process import usage
from zerogate.reporting.families import Told

REPORT_S: Final = 1.0


class Reporting:
    """See the module's text. `edition`: of the file that the worker works by now; `unrouted`: what has no service."""

    def __init__(
        self, channel: Channel, holds: Holds, server: Server, entries: Entries, *, unrouted: ServiceCounters,
        access_log: AccessLog, tracing: Tracing | None, edition: Callable[[], int], telling: Telling | None,
    ) -> None:  # fmt: skip
        self._channel = channel
        self._holds = holds
        self._server = server
        self._entries = entries
        self._unrouted = unrouted
        self._access_log = access_log
        self._tracing = tracing
        self._edition = edition
        self._telling = telling
        self._sequence = 0

    async def run(self) -> None:
        """Report until cancelled; the access log is written here too."""
        while True:
            await asyncio.sleep(REPORT_S)
            await self._access_log.flush_all()
            if not self._channel.is_behind:
                changed = self._holds.take_changed()
                self.report(changed)
                if self._telling is not None:
                    self._telling.note(changed)

    def report(self, services: Iterable[str]) -> None:
        """Tell the figures of the process and of these services."""
        figures: dict[str, Figures] = {PROCESS: self._process()}
        for name in services:
            hold = self._holds.get(name)
            if hold is not None:
                hold.on_read()
                figures[name] = figures_of(hold.counters, hold.meter)
        self._sequence += 1
        self._channel.say(Report(self._sequence, self._edition(), figures))

    def _process(self) -> Figures:
        server, used = self._server, usage()
        counters: dict[str, Number] = {
            "cpu_s": used.cpu_s,
            "accepted": server.accepted,
            "bad_requests": server.bad_requests,
            "dropped_log_lines": self._access_log.dropped,
        }
        counters.update({UNROUTED + code: count for code, count in self._unrouted.refused_by_code.items()})
        counters.update({LOST + reason: count for reason, count in self._entries.lost.items()})
        if self._tracing is not None:
            counters.update({TRACES + fate: count for fate, count in self._tracing.fates.items()})
        told = self._telling.told() if self._telling is not None else Told()
        counters.update({TOLD + "readings": told.readings, TOLD + "unheard_wakes": told.unheard_wakes})
        gauges: dict[str, Number] = {
            TOLD + "streams": told.streams,
            "resident_bytes": used.resident_bytes,
            "open_files": used.open_files,
            "connections": len(server.connections),
            "body_bytes": server.memory.body_bytes,
            "answer_bytes": server.memory.answer_bytes,
            "upload_bytes": server.memory.upload_bytes,
            "head_bytes": server.memory.head_bytes,
        }
        return Figures(counters, gauges)
