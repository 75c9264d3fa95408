"""The figures of all workers in one sum, each request counted once. Pure.

A worker's reports are cumulative, so the last one says all. By worker and service the report with the highest sequence
counts; when a worker has ended its counters stay, added to those of all that ended before, and its gauges are gone.
Numbers of workers are never used twice: a report of one that has ended, or that was never begun, is not heard.

Invariants, whatever reports are lost, repeated or come in another order: no counter of a service falls while the
service is known; none is above what was really counted; after each worker's last report they are equal.
"""

from collections.abc import Collection

from gateway.messages import Figures, Number, Report
from zerogate.counters import Exemplar

PROCESS = ""
"""Stands for the process itself where a service's name stands."""


class Tally:
    """See the module's text."""

    def __init__(self) -> None:
        self._live: dict[int, dict[str, tuple[int, Figures]]] = {}
        """By worker and service: the sequence of the report, and what it said."""
        self._departed: dict[str, dict[str, Number]] = {PROCESS: {}}
        self._since: dict[str, int] = {PROCESS: 0}
        """By known service: the edition of the file that brought it."""

    def configure(self, services: Collection[str], edition: int) -> None:
        """These services are known from now on. One that is gone is forgotten: should it come back, a new one begins
        at zero, and what workers still say of the old one is not heard."""
        for service in [known for known in self._since if known != PROCESS and known not in services]:
            del self._since[service]
            del self._departed[service]
            for figures in self._live.values():
                figures.pop(service, None)
        for service in services:
            if service not in self._since:
                self._since[service] = edition
                self._departed[service] = {}

    def begin(self, worker: int) -> None:
        """A worker was forked."""
        self._live[worker] = {}

    def report(self, worker: int, report: Report) -> None:
        """A worker said what it has counted."""
        known = self._live.get(worker)
        if known is None:
            return
        for service, figures in report.figures.items():
            since = self._since.get(service)
            if since is None or report.edition < since:
                continue
            before = known.get(service)
            if before is None or report.sequence > before[0]:
                known[service] = (report.sequence, figures)

    def end(self, worker: int) -> None:
        """A worker is gone: what it counted stays, what was inside it is not there any more."""
        for service, (_, figures) in self._live.pop(worker, {}).items():
            _add(self._departed[service], figures.counters)

    def total(self, service: str) -> Figures:
        """The sums of a known service, or of PROCESS."""
        counters = dict(self._departed[service])
        gauges: dict[str, Number] = {}
        examples: dict[str, Exemplar] = {}
        for known in self._live.values():
            if service in known:
                figures = known[service][1]
                _add(counters, figures.counters)
                _add(gauges, figures.gauges)
                _keep_newest(examples, figures.examples)
        return Figures(counters, gauges, examples)


def _add(sums: dict[str, Number], more: dict[str, Number]) -> None:
    for name, value in more.items():
        sums[name] = sums.get(name, 0) + value


def _keep_newest(examples: dict[str, Exemplar], others: dict[str, Exemplar]) -> None:
    for place, other in others.items():
        if place not in examples or examples[place].at < other.at:
            examples[place] = other
