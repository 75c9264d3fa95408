"""What Prometheus is shown: the path's plain integers as text, in its exposition format 0.0.4.

All series of a family stand together, as the format demands, so the families go over all services in turn; the text is
made in slices, because it is made on the loop that carries the traffic. Labels are bounded: service names and words of
ours. `docs/metrics.md` describes every family; a test compares.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from typing import Final, Literal

import msgspec

from cli.slices import Pace
from zerogate.counters import Histogram, ServiceCounters
from zerogate.exposition import escaped, head, histogram_lines, number
from zerogate.meter import Meter


class ServiceSample(msgspec.Struct, frozen=True, kw_only=True):
    """One service's numbers. Counters only grow while the process lives."""

    service: str
    counters: ServiceCounters
    meter: Meter
    replicas: Mapping[str, int] = {}
    """Replicas by state; states that are missing count 0."""
    desired: int | None = None
    """Null for services that are never scaled."""
    decisions: Mapping[str, int] = {}
    """Decisions that changed something, by winner."""
    endings: Mapping[str, int] = {}
    """Replicas that are gone, by cause."""
    replica_s: float = 0.0
    """Seconds that replicas existed, summed: what a GPU is paid for."""
    is_suspended: bool = False


class ProcessSample(msgspec.Struct, frozen=True, kw_only=True):
    """The process's own numbers."""

    version: str
    started_at: float
    cpu_s: float
    resident_bytes: int
    open_files: int
    most_open_files: int
    loop_lag: Histogram
    unrouted: Mapping[str, int] = {}
    """Refusals of requests that belong to no service, by code."""
    connections: int = 0
    """Client connections open now."""


STATES: Final = ("starting", "ready", "draining")

Lines = Iterator[str]


class Family(msgspec.Struct, frozen=True):
    """One metric: its name and kind, what it says, and the lines of one service. `labels` is `service="..."`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    says: str
    lines: Callable[[str, str, ServiceSample], Lines]


def _value(read: Callable[[ServiceSample], float | None]) -> Callable[[str, str, ServiceSample], Lines]:
    def lines(name: str, labels: str, sample: ServiceSample) -> Lines:
        value = read(sample)
        if value is not None:
            yield f"{name}{{{labels}}} {number(value)}\n"

    return lines


def _by(label: str, read: Callable[[ServiceSample], Mapping[str, float]]) -> Callable[[str, str, ServiceSample], Lines]:
    def lines(name: str, labels: str, sample: ServiceSample) -> Lines:
        for word, value in read(sample).items():
            yield f'{name}{{{labels},{label}="{escaped(word)}"}} {number(value)}\n'

    return lines


def _spread(read: Callable[[ServiceSample], Histogram]) -> Callable[[str, str, ServiceSample], Lines]:
    def lines(name: str, labels: str, sample: ServiceSample) -> Lines:
        histogram = read(sample)
        if any(histogram.counts):
            yield from histogram_lines(name, labels + ",", histogram)

    return lines


def _results(sample: ServiceSample) -> dict[str, float]:
    counters = sample.counters
    return {
        "served": counters.served,
        "refused": sum(counters.refused_by_code.values()),
        "abandoned": counters.abandoned,
        "cut": counters.cut,
    }


def _statuses(sample: ServiceSample) -> dict[str, float]:
    return {f"{digit}xx": count for digit, count in enumerate(sample.counters.status_classes) if digit and count}


def _replicas(sample: ServiceSample) -> dict[str, float]:
    return {} if sample.desired is None else {state: sample.replicas.get(state, 0) for state in STATES}


FAMILIES: Final = (
    Family("zerogate_requests_total", "counter", "Requests that ended, by how.", _by("result", _results)),
    Family(
        "zerogate_refusals_total",
        "counter",
        "Requests that zerogate answered itself, by why.",
        _by("code", lambda sample: dict(sorted(sample.counters.refused_by_code.items()))),
    ),
    Family("zerogate_responses_total", "counter", "Answers of replicas, by class.", _by("class", _statuses)),
    Family("zerogate_arrivals_total", "counter", "Requests accepted.", _value(lambda sample: sample.meter.arrivals)),
    Family(
        "zerogate_retries_total",
        "counter",
        "Attempts that were not sent and went elsewhere.",
        _value(lambda sample: sample.counters.retries),
    ),
    Family(
        "zerogate_cold_starts_total",
        "counter",
        "Requests that met a service without a ready replica.",
        _value(lambda sample: sample.counters.cold_starts),
    ),
    Family(
        "zerogate_run_seconds_total",
        "counter",
        "Time that completed requests spent in replicas.",
        _value(lambda sample: sample.meter.completed_run_s),
    ),
    Family(
        "zerogate_received_bytes_total",
        "counter",
        "Bytes of requests' bodies.",
        _value(lambda sample: sample.meter.bytes_in),
    ),
    Family(
        "zerogate_sent_bytes_total",
        "counter",
        "Bytes of answers' bodies.",
        _value(lambda sample: sample.meter.bytes_out),
    ),
    Family("zerogate_in_flight", "gauge", "Requests inside replicas now.", _value(lambda s: s.meter.in_flight)),
    Family("zerogate_held", "gauge", "Requests that wait for capacity now.", _value(lambda s: s.meter.held)),
    Family(
        "zerogate_hold_seconds",
        "histogram",
        "How long held requests waited until they were dispatched.",
        _spread(lambda sample: sample.counters.hold),
    ),
    Family(
        "zerogate_start_seconds",
        "histogram",
        "How long replicas took from spawn to ready.",
        _spread(lambda sample: sample.counters.start),
    ),
    Family(
        "zerogate_first_byte_seconds",
        "histogram",
        "How long replicas took from dispatch to the response head.",
        _spread(lambda sample: sample.counters.first_byte),
    ),
    Family("zerogate_desired_replicas", "gauge", "Replicas wanted now.", _value(lambda sample: sample.desired)),
    Family("zerogate_replicas", "gauge", "Replicas that exist now, by state.", _by("state", _replicas)),
    Family(
        "zerogate_replica_seconds_total",
        "counter",
        "Time that replicas existed, summed over them.",
        _value(lambda sample: None if sample.desired is None else sample.replica_s),
    ),
    Family(
        "zerogate_replica_endings_total",
        "counter",
        "Replicas that are gone, by cause.",
        _by("cause", lambda sample: sample.endings),
    ),
    Family(
        "zerogate_starts_suspended",
        "gauge",
        "1 while starts are suspended after repeated failures.",
        _value(lambda sample: None if sample.desired is None else int(sample.is_suspended)),
    ),
    Family(
        "zerogate_decisions_total",
        "counter",
        "Decisions that changed something, by who won.",
        _by("winner", lambda sample: sample.decisions),
    ),
)


async def render(process: ProcessSample, services: Iterable[ServiceSample]) -> AsyncGenerator[bytes, None]:
    """The whole text in parts, none of which takes more than a slice to make."""
    pace = Pace()
    yield process_text(process).encode()
    samples: list[tuple[str, ServiceSample]] = []
    for sample in services:
        samples.append((f'service="{escaped(sample.service)}"', sample))
        await pace.rest()
    for family in FAMILIES:
        yield head(family.name, family.kind, family.says).encode()
        for labels, sample in samples:
            if text := "".join(family.lines(family.name, labels, sample)):
                yield text.encode()
            await pace.rest()


def process_text(process: ProcessSample) -> str:
    """The families of the process itself."""
    single: tuple[tuple[str, Literal["counter", "gauge"], str, float], ...] = (
        ("process_start_time_seconds", "gauge", "When the process started, since 1970.", process.started_at),
        ("process_cpu_seconds_total", "counter", "CPU time of the process.", process.cpu_s),
        ("process_resident_memory_bytes", "gauge", "Memory of the process.", process.resident_bytes),
        ("process_open_fds", "gauge", "Files and sockets that are open.", process.open_files),
        ("process_max_fds", "gauge", "Files and sockets that may be open.", process.most_open_files),
        ("zerogate_connections", "gauge", "Client connections that are open.", process.connections),
    )
    text = [f"{head(name, kind, says)}{name} {number(value)}\n" for name, kind, says, value in single]
    text.append(head("zerogate_build_info", "gauge", "Always 1; the label says which version runs."))
    text.append(f'zerogate_build_info{{version="{escaped(process.version)}"}} 1\n')
    text.append(head("zerogate_loop_lag_seconds", "histogram", "How late the loop came to what was due."))
    text.extend(histogram_lines("zerogate_loop_lag_seconds", "", process.loop_lag))
    text.append(head("zerogate_unrouted_refusals_total", "counter", "Refused requests that belong to no service."))
    for code, count in sorted(process.unrouted.items()):
        text.append(f'zerogate_unrouted_refusals_total{{code="{escaped(code)}"}} {count}\n')
    return "".join(text)
