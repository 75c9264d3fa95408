"""What a worker counted, as plain numbers by name that can be added, and back again. Pure.

The names are words of ours: nothing that a client sends can add one.
"""

from typing import Final

import msgspec

from gateway.messages import Figures, Number
from zerogate.counters import Exemplar, Histogram, ServiceCounters
from zerogate.meter import Meter

_COUNTED: Final = ("abandoned", "cold_starts", "cut", "served")
"""Of `ServiceCounters`."""
_METERED: Final = ("arrivals", "bytes_in", "bytes_out", "completed_run_s")
"""Of `Meter`."""
_SPREAD: Final = ("first_byte", "hold", "request")
"""Histograms of `ServiceCounters`."""
_BY_WORD: Final = {"code": "refused_by_code", "ejection": "ejections_by_why", "retry": "retries_by_why"}
"""Counts by a word, of `ServiceCounters`; before it stands what the words are."""
_STATUS: Final = "status "
UNROUTED: Final = "unrouted "
"""Before a code, among the figures of the process itself: refusals that belong to no service."""
LOST: Final = "lost "
"""The same before a reason: connections that never came as far as a request."""
TOLD: Final = "told "
"""The same before a field of `zerogate.reporting.families.Told`."""
TRACES: Final = "traces "
"""The same before a fate: requests that were to be traced."""


class Sample(msgspec.Struct, frozen=True):
    """What the families of the path are read from (`zerogate.families.PathSample`)."""

    counters: ServiceCounters
    meter: Meter


def figures_of(counters: ServiceCounters, meter: Meter) -> Figures:
    """One service's numbers; counters that are 0 are left out."""
    counted: dict[str, Number] = {name: getattr(counters, name) for name in _COUNTED}
    counted.update({name: getattr(meter, name) for name in _METERED})
    for kind, name in _BY_WORD.items():
        counted.update({f"{kind} {word}": count for word, count in getattr(counters, name).items()})
    counted.update({f"{_STATUS}{digit}": count for digit, count in enumerate(counters.status_classes)})
    for name in _SPREAD:
        histogram: Histogram = getattr(counters, name)
        counted[name] = histogram.total
        counted.update({f"{name} {index}": count for index, count in enumerate(histogram.counts)})
    gauges: dict[str, Number] = {
        "held": meter.held, "in_flight": meter.in_flight, "websockets": counters.websockets,
    }  # fmt: skip
    return Figures({name: value for name, value in counted.items() if value}, gauges, _examples_of(counters))


def _examples_of(counters: ServiceCounters) -> dict[str, Exemplar]:
    return {
        f"{name} {place}": example
        for name in _SPREAD
        for place, example in (getattr(counters, name).exemplars or {}).items()
    }


def sample_of(figures: Figures) -> Sample:
    """The counters and the meter of which these are the numbers."""
    counters, meter = ServiceCounters(), Meter()
    for name, value in figures.counters.items():
        kind, _, rest = name.partition(" ")
        if name in _COUNTED:
            setattr(counters, name, value)
        elif name in _METERED:
            setattr(meter, name, value)
        elif name in _SPREAD:
            getattr(counters, name).total = value
        elif kind in _SPREAD:
            getattr(counters, kind).counts[int(rest)] = int(value)
        elif kind in _BY_WORD:
            getattr(counters, _BY_WORD[kind])[rest] = int(value)
        else:
            counters.status_classes[int(rest)] = int(value)
    for name, example in figures.examples.items():
        kind, _, place = name.partition(" ")
        histogram: Histogram = getattr(counters, kind)
        histogram.exemplars = {**(histogram.exemplars or {}), int(place): example}
    counters.websockets = int(figures.gauges.get("websockets", 0))
    meter.held = int(figures.gauges.get("held", 0))
    meter.in_flight = int(figures.gauges.get("in_flight", 0))
    return Sample(counters, meter)
