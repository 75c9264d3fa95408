"""What Prometheus is shown: the path's plain integers as text, in its own format or as OpenMetrics.

All series of a family stand together, as the format demands, so the families go over all services in turn; the text is
made in slices, because it is made on the loop that carries the traffic. Labels are bounded: service names and words of
ours. `docs/metrics.md` describes every family; a test compares.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Final, Literal

import msgspec

from zerogate.counters import Histogram, ServiceCounters
from zerogate.exposition import Dialect, escaped, head, histogram_lines, number
from zerogate.families import HOLD_FAMILIES, Family, by, spread, value
from zerogate.meter import Meter
from zerogate.scrape import parts


class ServiceSample(msgspec.Struct, frozen=True, kw_only=True):
    """One service's numbers. Counters only grow while the process lives."""

    service: str
    counters: ServiceCounters
    meter: Meter
    replicas: Mapping[str, int] = {}
    """Replicas by state; states that are missing count 0."""
    doubted: int = 0
    """Of them, or of an endpoint, those that are ready and have stopped answering."""
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
    accepted: int = 0
    """Client connections so far."""
    bad_requests: int = 0
    """Messages that were refused before they were a request."""
    lost_connections: Mapping[str, int] = {}
    """Connections that never came as far as a request, by reason."""
    certificates: Mapping[str, float] = {}
    """When the certificates of the TLS listener end, since 1970, by file."""
    dropped_log_lines: int = 0
    """Of the access log."""
    body_bytes: int = 0
    """Bytes of request bodies kept now."""
    answer_bytes: int = 0
    """Bytes of answers that wait for slow clients now."""
    upload_bytes: int = 0
    """Bytes of uploads that wait for slow replicas now."""
    head_bytes: int = 0
    """Bytes of heads that have begun to come, and of requests read ahead, now."""
    traces: Mapping[str, int] = {}
    """Requests that were to be traced, by what became of their spans; empty where tracing is off."""


STATES: Final = ("starting", "ready", "draining")


def _replicas(sample: ServiceSample) -> dict[str, float]:
    return {} if sample.desired is None else {state: sample.replicas.get(state, 0) for state in STATES}


FAMILIES: Final = (
    *HOLD_FAMILIES,
    Family(
        "zerogate_start_seconds",
        "histogram",
        "How long replicas took from spawn to ready.",
        spread(lambda sample: sample.counters.start),
    ),
    Family("zerogate_desired_replicas", "gauge", "Replicas wanted now.", value(lambda sample: sample.desired)),
    Family("zerogate_replicas", "gauge", "Replicas that exist now, by state.", by("state", _replicas)),
    Family(
        "zerogate_replicas_doubted",
        "gauge",
        "Ready replicas that have stopped answering.",
        value(lambda sample: sample.doubted),
    ),
    Family(
        "zerogate_replica_seconds_total",
        "counter",
        "Time that replicas existed, summed over them.",
        value(lambda sample: None if sample.desired is None else sample.replica_s),
    ),
    Family(
        "zerogate_replica_endings_total",
        "counter",
        "Replicas that are gone, by cause.",
        by("cause", lambda sample: sample.endings),
    ),
    Family(
        "zerogate_starts_suspended",
        "gauge",
        "1 while starts are suspended after repeated failures.",
        value(lambda sample: None if sample.desired is None else int(sample.is_suspended)),
    ),
    Family(
        "zerogate_decisions_total",
        "counter",
        "Decisions that changed something, by who won.",
        by("winner", lambda sample: sample.decisions),
    ),
)


def render(
    process: ProcessSample, services: Iterable[ServiceSample], dialect: Dialect = Dialect.TEXT
) -> AsyncGenerator[bytes, None]:
    """The whole text in parts, none of which takes more than a slice to make."""
    return parts(process_text(process, dialect), FAMILIES, services, dialect)


def process_text(process: ProcessSample, dialect: Dialect = Dialect.TEXT) -> str:
    """The families of the process itself."""
    single: tuple[tuple[str, Literal["counter", "gauge"], str, float], ...] = (
        ("process_start_time_seconds", "gauge", "When the process started, since 1970.", process.started_at),
        ("process_cpu_seconds_total", "counter", "CPU time of the process.", process.cpu_s),
        ("process_resident_memory_bytes", "gauge", "Memory of the process.", process.resident_bytes),
        ("process_open_fds", "gauge", "Files and sockets that are open.", process.open_files),
        ("process_max_fds", "gauge", "Files and sockets that may be open.", process.most_open_files),
        ("zerogate_connections", "gauge", "Client connections that are open.", process.connections),
        ("zerogate_connections_taken_total", "counter", "Client connections that were taken.", process.accepted),
        ("zerogate_bad_requests_total", "counter", "Messages that were no valid request.", process.bad_requests),
        ("zerogate_access_log_dropped_total", "counter", "Lines that nobody took.", process.dropped_log_lines),
        ("zerogate_body_bytes", "gauge", "Bytes of request bodies kept in memory now.", process.body_bytes),
        ("zerogate_answer_bytes", "gauge", "Bytes of answers that wait for slow clients now.", process.answer_bytes),
        ("zerogate_upload_bytes", "gauge", "Bytes of uploads that wait for slow replicas now.", process.upload_bytes),
        (
            "zerogate_head_bytes",
            "gauge",
            "Bytes of begun heads, and of requests read ahead.",
            process.head_bytes,
        ),
    )
    text = [f"{head(name, kind, says, dialect)}{name} {number(value)}\n" for name, kind, says, value in single]
    text.append(head("zerogate_build_info", "gauge", "Always 1; the label says which version runs.", dialect))
    text.append(f'zerogate_build_info{{version="{escaped(process.version)}"}} 1\n')
    text.append(head("zerogate_loop_lag_seconds", "histogram", "How late the loop came to what was due.", dialect))
    text.extend(histogram_lines("zerogate_loop_lag_seconds", "", process.loop_lag))
    says = "Connections that ended in a PROXY header or a TLS handshake."
    text.append(head("zerogate_lost_connections_total", "counter", says, dialect))
    for reason, count in sorted(process.lost_connections.items()):
        text.append(f'zerogate_lost_connections_total{{reason="{escaped(reason)}"}} {count}\n')
    says = "When a certificate of the TLS listener ends, since 1970."
    text.append(head("zerogate_certificate_end_time_seconds", "gauge", says, dialect))
    for file, end_at in sorted(process.certificates.items()):
        text.append(f'zerogate_certificate_end_time_seconds{{file="{escaped(file)}"}} {number(end_at)}\n')
    says = "Refused requests that belong to no service."
    text.append(head("zerogate_unrouted_refusals_total", "counter", says, dialect))
    for code, count in sorted(process.unrouted.items()):
        text.append(f'zerogate_unrouted_refusals_total{{code="{escaped(code)}"}} {count}\n')
    text.append(
        head("zerogate_traces_total", "counter", "Requests that were to be traced, by what became of it.", dialect)
    )
    for fate, count in sorted(process.traces.items()):
        text.append(f'zerogate_traces_total{{fate="{escaped(fate)}"}} {count}\n')
    return "".join(text)
