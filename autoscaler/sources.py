"""What many proxies report, turned into one `Traffic` per service. Pure: `now_s` is an argument.

Reports are cumulative and are differenced per (source, incarnation), so one that is lost, repeated or overtaken
distorts nothing, and counters that start anew are neither a spike nor a hole. Whoever falls silent is unknown, not
zero: after `SILENT_S` its last values stay and zero is withheld, after `ABSENT_S` (or unlisted) it is no longer
counted. Where nobody was heard for a while and then somebody is (a suspended process, a jump of the clock), nothing
may be lowered until all had time to speak.

A report belongs to the time at which it was written, in the source's clock, which is turned into ours by the least lag
that was seen lately: reports that come late, each by as much as it likes, make no mean that nobody ran.

An idle service costs one dictionary entry here; a ledger is made when somebody first reports about it. The caller
(`autoscaler.loop`) says which services exist: reports about others are dropped, so nobody can add entries.
"""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Final

from autoscaler.decision import Traffic
from autoscaler.presence import ABSENT_S, FORGOTTEN_S, SILENT_S, Presence, Source
from autoscaler.run_time import RunTime
from autoscaler.windows import Windows
from zerogate.stats import Stat

_REPORT_EVERY_S: Final = 1.0
"""How often a source reports what changed: what began between two reports of a quiet source is no older."""
_MOST: Final = 1e15
"""No process counts so far: what is larger is unsound, and sums of it would overflow where replicas are computed."""
_LEAST_SEEN_S: Final = 1.0
"""Means over less are not known yet."""
_DRIFT: Final = 1e-4
"""Clocks of machines differ by less in their rate; a lag that has grown by more was not theirs."""
_LATE_S: Final = 1.0
"""What is later by more than a report's turn is another lag (a source was suspended) and no jitter."""


_Gap = tuple[float, float]
"""So long, and until then, nothing was told of, because the lag had grown: the source was suspended, or what it said
comes later."""
_MOST_GAPS: Final = 8
"""Kept of a source; then the oldest two count as one."""


class _View:
    """What one source last said about one service."""

    __slots__ = ("gaps", "lag_s", "received_s", "stat")

    def __init__(self, stat: Stat, received_s: float, lag_s: float) -> None:
        self.stat = stat
        self.received_s = received_s
        self.lag_s = lag_s
        """From its clock, at the instant of the report, to ours."""
        self.gaps: tuple[_Gap, ...] = ()
        """The oldest first: one that begins before all of the one before was told leaves that to be told as well."""

    @property
    def at_s(self) -> float:
        """When it was so, in our clock: not after it was received."""
        return self.stat.at_s + self.lag_s


class _Ledger:
    """All that is known about one service with traffic."""

    __slots__ = ("last_byte_s", "run_time", "views", "windows")

    def __init__(self) -> None:
        self.views: dict[str, _View] = {}
        self.windows: Windows | None = None
        self.run_time = RunTime()
        self.last_byte_s: float | None = None


class Sources:
    """Receiver of reports, keeper of windows and learned run times."""

    def __init__(self) -> None:
        self._spans: dict[str, float] = {}
        self._ledgers: dict[str, _Ledger] = {}
        self._presence = Presence()

    def watch(self, service: str, span_s: float) -> None:
        """The service exists, and windows up to `span_s` will be asked for. Again with another span: the past stays."""
        self._spans[service] = span_s
        ledger = self._ledgers.get(service)
        if ledger is not None and ledger.windows is not None and ledger.windows.span_s != span_s:
            ledger.windows = ledger.windows.resized(span_s)

    def unwatch(self, service: str) -> None:
        """The service is gone: forget it."""
        self._spans.pop(service, None)
        self._ledgers.pop(service, None)

    def report(self, stat: Stat, now_s: float) -> bool:
        """Take one report; False where it tells nothing new (repeated, overtaken, unsound, about an unknown service).

        A source that reports without ever having sent a heartbeat counts for all services, the cautious reading.
        """
        if stat.service not in self._spans or not _is_sound(stat):
            return False
        source = self._presence.hear(stat.source, stat.incarnation, now_s)
        if source is None:
            return False
        ledger = self._ledgers.get(stat.service)
        if ledger is None:
            ledger = self._ledgers[stat.service] = _Ledger()
        view = ledger.views.get(stat.source)
        if view is not None and view.stat.incarnation == stat.incarnation and stat.sequence <= view.stat.sequence:
            return False
        said = ledger.views[stat.source] = _View(stat, now_s, _lag_s(view, stat, now_s))
        base, length_s = _difference(view, source, stat, now_s)
        told_s = 0.0
        if view is not None and base is view.stat:
            # what a lag that was too long put there already is not put there twice
            told_s = min(length_s, max(0.0, view.at_s - (said.at_s - length_s)))
            _note_gap(view, said, said.at_s - length_s)
        self._credit(ledger, said, base, length_s=length_s, told_s=told_s)
        if stat.since_byte_s is not None:
            last_byte_s = now_s - max(0.0, stat.since_byte_s)
            if ledger.last_byte_s is None or last_byte_s > ledger.last_byte_s:
                ledger.last_byte_s = last_byte_s
        return True

    def heartbeat(self, source: str, incarnation: str, now_s: float, *, service: str | None = None) -> None:
        """The source lives, whether or not it has anything to report. `service`: it can only ever see that one."""
        self._presence.hear(source, incarnation, now_s, scope=service)

    def farewell(self, source: str, incarnation: str) -> None:
        """The source has reported all that it ever will."""
        self._presence.leave(source, incarnation)

    def expect(self, added: Mapping[str, str | None], gone: Iterable[str], now_s: float) -> None:
        """What has changed in the platform's list of sources that should report: name → the one service it sees, None
        for all; and who is no longer on it.

        Draining ones belong on it as long as they exist. Without a call, whoever reports is expected to go on.
        """
        self._presence.expect(added, gone, now_s)

    def traffic(self, service: str, now_s: float, *, stable_s: float, panic_s: float) -> Traffic:
        """Everything that is known about the service's traffic now."""
        is_present, is_fresh = self._presence.health(service, now_s)
        is_settled = self._presence.is_settled(now_s)
        ledger = self._ledgers.get(service)
        seen_s = 0.0 if self._presence.seen_s is None else now_s - self._presence.seen_s
        is_known = is_present and seen_s >= _LEAST_SEEN_S
        if ledger is None:
            known = 0.0 if is_known else None
            return Traffic(
                mean_running_stable=known,
                mean_running_panic=known,
                arrival_rate_stable=known,
                arrival_rate_panic=known,
                is_fresh=is_fresh,
                is_settled=is_settled,
            )
        views, is_current = self._views(ledger, now_s)
        in_flight = sum(view.stat.in_flight for view in views)
        age_s = sum(
            max(0.0, view.stat.running_s - view.stat.completed_run_s)
            + view.stat.in_flight * max(0.0, now_s - view.at_s)
            for view in views
            if view.stat.in_flight
        )
        stable = _means(ledger, views, stable_s, now_s, seen_s, panic_s) if is_known else (None, None)
        panic = _means(ledger, views, panic_s, now_s, seen_s, panic_s) if is_known else (None, None)
        if stable == (0.0, 0.0):
            ledger.windows = None
        return Traffic(
            in_flight=in_flight,
            held=sum(view.stat.held for view in views),
            mean_running_stable=stable[0],
            mean_running_panic=panic[0],
            arrival_rate_stable=stable[1],
            arrival_rate_panic=panic[1],
            run_time_s=ledger.run_time.estimate_s(running=in_flight, running_age_s=age_s),
            since_byte_s=None if ledger.last_byte_s is None else max(0.0, now_s - ledger.last_byte_s),
            is_fresh=is_fresh and is_current,
            is_settled=is_settled,
        )

    def is_lost(self, source: str, now_s: float) -> bool:
        """Listed or heard once, and silent for so long that it counts as absent though it did not say goodbye."""
        known = self._presence.get(source)
        return known is not None and not known.has_left and now_s - known.heard_s > ABSENT_S

    def run_time(self, service: str) -> RunTime | None:
        """What was learned of the service's run times; None where nothing was."""
        ledger = self._ledgers.get(service)
        return ledger.run_time if ledger is not None and ledger.run_time.completions else None

    def restore(self, service: str, run_time: RunTime) -> None:
        """Start from what was learned before a restart."""
        if service in self._spans:
            self._ledgers.setdefault(service, _Ledger()).run_time = run_time

    def _credit(self, ledger: _Ledger, said: _View, base: Stat, *, length_s: float, told_s: float) -> None:
        stat, at_s = said.stat, said.at_s
        running_s, arrivals = max(0.0, stat.running_s - base.running_s), max(0.0, stat.arrivals - base.arrivals)
        completions = stat.completions - base.completions
        if running_s > 0.0 or arrivals > 0:
            windows = ledger.windows
            if windows is None:
                windows = ledger.windows = Windows(self._spans[stat.service])
            if told_s > 0.0:
                said.gaps, filled = _filled(said.gaps, told_s)
                for gap_s, until_s in filled:
                    ratio = gap_s / length_s
                    windows.add(until_s - gap_s, until_s, running_s=running_s * ratio, arrivals=arrivals * ratio)
                in_gaps = sum(gap_s for gap_s, _ in filled) / length_s
                running_s, arrivals = running_s * (1.0 - told_s / length_s), arrivals * (1.0 - in_gaps)
                length_s -= told_s
            windows.add(at_s - length_s, at_s, running_s=running_s, arrivals=arrivals)
        if completions > 0:
            ledger.run_time.learn(max(0.0, stat.completed_run_s - base.completed_run_s), completions)

    def _views(self, ledger: _Ledger, now_s: float) -> tuple[list[_View], bool]:
        """The views that count, and whether all of those that claim requests are recent.

        A source with requests inside reports every second, so one that only sends heartbeats has lost a report.
        """
        present: list[_View] = []
        is_current = True
        for name, view in list(ledger.views.items()):
            source = self._presence.get(name)
            if source is None or now_s - source.heard_s > FORGOTTEN_S:
                del ledger.views[name]
                continue
            if source.incarnation != view.stat.incarnation or self._presence.is_absent(source, now_s):
                continue
            if view.stat.in_flight or view.stat.held:
                silence_s = now_s - view.received_s
                if silence_s > ABSENT_S:
                    continue
                is_current = is_current and silence_s <= SILENT_S
            present.append(view)
        return present, is_current


def _is_sound(stat: Stat) -> bool:
    numbers = (stat.arrivals, stat.completions, stat.running_s, stat.completed_run_s, stat.in_flight, stat.held)
    return (
        min(numbers) >= 0 and max(numbers) < _MOST and isfinite(sum(numbers) + stat.at_s + (stat.since_byte_s or 0.0))
    )


def _difference(view: _View | None, source: Source, stat: Stat, now_s: float) -> tuple[Stat, float]:
    """(what to subtract, over how many seconds the rest came about).

    Counters of a new incarnation start at zero, and so do those of a first report. Of a source met in the middle of
    its life nothing is known but what it says from now on.
    """
    most_s = stat.sequence * _REPORT_EVERY_S
    if view is None or view.stat.incarnation != stat.incarnation:
        if source.born_s is not None:
            return _zero(stat), min(max(0.0, now_s - source.born_s), most_s)
        return (_zero(stat), _REPORT_EVERY_S) if stat.sequence == 1 else (stat, 0.0)
    last = view.stat
    if stat.running_s < last.running_s or stat.arrivals < last.arrivals or stat.completions < last.completions:
        return stat, 0.0
    length_s = max(0.0, stat.at_s - last.at_s)
    if last.in_flight == 0:
        length_s = min(length_s, (stat.sequence - last.sequence) * _REPORT_EVERY_S)
    return last, length_s


def _lag_s(last: _View | None, stat: Stat, now_s: float) -> float:
    """From the source's clock to ours: the least that was seen, which may grow as clocks drift apart."""
    lag_s = now_s - stat.at_s
    if last is None or last.stat.incarnation != stat.incarnation:
        return lag_s
    known_s = last.lag_s + (now_s - last.received_s) * _DRIFT
    return lag_s if lag_s - known_s > _LATE_S else min(lag_s, known_s)


def _note_gap(last: _View, said: _View, begin_s: float) -> None:
    """What the source tells of time that is taken already, because it was told of too late, belongs to the gap."""
    grown_s = said.lag_s - last.lag_s
    said.gaps = last.gaps
    if grown_s > _LATE_S:
        first, *rest = (*last.gaps, (grown_s, begin_s))
        if len(rest) == _MOST_GAPS:
            first, rest = (first[0] + rest[0][0], rest[0][1]), rest[1:]
        said.gaps = (first, *rest)


def _filled(gaps: tuple[_Gap, ...], told_s: float) -> tuple[tuple[_Gap, ...], list[_Gap]]:
    """(what is left of the gaps, the parts that so many seconds fill), the latest first."""
    filled: list[_Gap] = []
    while gaps and told_s > 0.0:
        gap_s, until_s = gaps[-1]
        part_s = min(gap_s, told_s)
        filled.append((part_s, until_s))
        told_s -= part_s
        gaps = gaps[:-1] if part_s == gap_s else (*gaps[:-1], (gap_s - part_s, until_s - part_s))
    return gaps, filled


def _zero(stat: Stat) -> Stat:
    return Stat(service=stat.service, source=stat.source, incarnation=stat.incarnation, sequence=0, at_s=stat.at_s)


def _means(
    ledger: _Ledger, views: list[_View], window_s: float, now_s: float, seen_s: float, panic_s: float
) -> tuple[float, float]:
    """(mean running, arrivals per second) over the window or the part of it that was seen.

    What runs since a source's last report is counted as if it went on, so a source that is late does not read as a
    fall. A rate is never taken over less than the panic window: a second's burst is not a day's rate.
    """
    span_s = min(window_s, seen_s)
    windows = ledger.windows
    running_s, arrivals = windows.sums(span_s, now_s) if windows is not None else (0.0, 0.0)
    for view in views:
        if view.stat.in_flight:
            since_s = min(now_s, view.at_s)
            late_s = windows.seconds(since_s, span_s, now_s) if windows is not None else min(now_s - since_s, span_s)
            running_s += view.stat.in_flight * late_s
    return running_s / span_s, arrivals / max(span_s, min(window_s, panic_s))
