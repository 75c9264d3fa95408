"""Families of metrics, and those that every proxy of ours shows of a service: the gateway and the sidecar alike. Pure.

The values are read when somebody scrapes. `docs/metrics.md` describes them; tests compare.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from zerogate.counters import Histogram, ServiceCounters
from zerogate.exposition import Dialect, Kind, escaped, histogram_lines, number
from zerogate.meter import Meter

Lines = Iterator[str]
ToLines = Callable[[str, str, Any, Dialect], Lines]
"""Of a family's name, `service="..."`, and a sample."""


class PathSample(Protocol):
    """What the families of the path are read from."""

    @property
    def counters(self) -> ServiceCounters: ...
    @property
    def meter(self) -> Meter: ...


class Family(msgspec.Struct, frozen=True):
    """One metric: its name and kind, what it says, and the lines of one sample."""

    name: str
    kind: Kind
    says: str
    lines: ToLines


def value(read: Callable[[Any], float | None]) -> ToLines:
    """One number of a sample; None where the sample has none."""

    def lines(name: str, labels: str, sample: Any, dialect: Dialect) -> Lines:
        found = read(sample)
        if found is not None:
            yield f"{name}{{{labels}}} {number(found)}\n"

    return lines


def by(label: str, read: Callable[[Any], Mapping[str, float]]) -> ToLines:
    """A number for each word of a label."""

    def lines(name: str, labels: str, sample: Any, dialect: Dialect) -> Lines:
        for word, found in read(sample).items():
            yield f'{name}{{{labels},{label}="{escaped(word)}"}} {number(found)}\n'

    return lines


def spread(read: Callable[[Any], Histogram]) -> ToLines:
    """A histogram, once it has seen a value."""

    def lines(name: str, labels: str, sample: Any, dialect: Dialect) -> Lines:
        histogram = read(sample)
        if any(histogram.counts):
            yield from histogram_lines(name, labels + ",", histogram, dialect)

    return lines


def _results(sample: PathSample) -> dict[str, float]:
    counters = sample.counters
    return {
        "served": counters.served,
        "refused": sum(counters.refused_by_code.values()),
        "abandoned": counters.abandoned,
        "cut": counters.cut,
    }


def _statuses(sample: PathSample) -> dict[str, float]:
    return {f"{digit}xx": count for digit, count in enumerate(sample.counters.status_classes) if digit and count}


PATH_FAMILIES: Final = (
    Family("zerogate_requests_total", "counter", "Requests that ended, by how.", by("result", _results)),
    Family(
        "zerogate_refusals_total",
        "counter",
        "Requests that zerogate answered itself, by why.",
        by("code", lambda sample: dict(sorted(sample.counters.refused_by_code.items()))),
    ),
    Family("zerogate_responses_total", "counter", "Answers of replicas, by class.", by("class", _statuses)),
    Family("zerogate_arrivals_total", "counter", "Requests accepted.", value(lambda sample: sample.meter.arrivals)),
    Family(
        "zerogate_retries_total",
        "counter",
        "Attempts that were made again, by why.",
        by("why", lambda sample: sample.counters.retries_by_why),
    ),
    Family(
        "zerogate_run_seconds_total",
        "counter",
        "Time that completed requests spent in replicas.",
        value(lambda sample: sample.meter.completed_run_s),
    ),
    Family(
        "zerogate_received_bytes_total",
        "counter",
        "Bytes of requests' bodies.",
        value(lambda sample: sample.meter.bytes_in),
    ),
    Family(
        "zerogate_sent_bytes_total",
        "counter",
        "Bytes of answers' bodies.",
        value(lambda sample: sample.meter.bytes_out),
    ),
    Family("zerogate_in_flight", "gauge", "Requests inside replicas now.", value(lambda s: s.meter.in_flight)),
    Family("zerogate_held", "gauge", "Requests that wait for capacity now.", value(lambda s: s.meter.held)),
    Family(
        "zerogate_websockets", "gauge", "WebSockets open now, quiet ones too.", value(lambda s: s.counters.websockets)
    ),
    Family(
        "zerogate_hold_seconds",
        "histogram",
        "How long held requests waited until they were dispatched.",
        spread(lambda sample: sample.counters.hold),
    ),
    Family(
        "zerogate_first_byte_seconds",
        "histogram",
        "How long replicas took from dispatch to the response head.",
        spread(lambda sample: sample.counters.first_byte),
    ),
    Family(
        "zerogate_request_seconds",
        "histogram",
        "How long served requests took from their head to the last byte of the answer.",
        spread(lambda sample: sample.counters.request),
    ),
)

HOLD_FAMILIES: Final = (
    *PATH_FAMILIES,
    Family(
        "zerogate_cold_starts_total",
        "counter",
        "Requests that met a service without a ready replica.",
        value(lambda sample: sample.counters.cold_starts),
    ),
    Family(
        "zerogate_ejections_total",
        "counter",
        "How often a replica was left out because its requests failed, by how the last one did.",
        by("why", lambda sample: sample.counters.ejections_by_why),
    ),
)
"""Of whoever holds requests and chooses among replicas: a box and a gateway."""
