"""What Prometheus is shown of a gateway, in its own format or as OpenMetrics: the sums over its workers. Pure.

The families of the path are those of every proxy of ours; `docs/gateway.md` describes what is only here; a test
compares. Labels are services of the file and words of ours.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from gateway.figures import LOST, TOLD, TRACES, UNROUTED, sample_of
from gateway.tally import PROCESS, Tally
from zerogate.exposition import END, Dialect, escaped, head, number
from zerogate.families import HOLD_FAMILIES
from zerogate.reporting.families import FAMILIES as TOLD_FAMILIES

_SUMMED: Final = (
    ("process_cpu_seconds_total", "counter", "CPU time of the workers, those that ended too.", "cpu_s"),
    (
        "process_resident_memory_bytes",
        "gauge",
        "Memory of the workers; pages that they share count in each.",
        "resident_bytes",
    ),
    ("process_open_fds", "gauge", "Files and sockets that are open in the workers.", "open_files"),
    ("zerogate_connections", "gauge", "Client connections that are open.", "connections"),
    ("zerogate_connections_taken_total", "counter", "Client connections that were taken.", "accepted"),
    ("zerogate_bad_requests_total", "counter", "Messages that were no valid request.", "bad_requests"),
    ("zerogate_access_log_dropped_total", "counter", "Lines that nobody took.", "dropped_log_lines"),
    ("zerogate_body_bytes", "gauge", "Bytes of request bodies kept in memory now.", "body_bytes"),
    ("zerogate_answer_bytes", "gauge", "Bytes of answers that wait for slow clients now.", "answer_bytes"),
    ("zerogate_upload_bytes", "gauge", "Bytes of uploads that wait for slow replicas now.", "upload_bytes"),
    ("zerogate_head_bytes", "gauge", "Bytes of begun heads, and of requests read ahead.", "head_bytes"),
    *((name, kind, says, TOLD + field) for name, kind, says, field in TOLD_FAMILIES),
)
"""Families of the process: name, kind, what it says, and the name among the figures."""


_BY_WORD: Final = (
    ("zerogate_unrouted_refusals_total", "Refused requests that belong to no service.", "code", UNROUTED),
    (
        "zerogate_lost_connections_total",
        "Connections that ended in a PROXY header or a TLS handshake.",
        "reason",
        LOST,
    ),
    ("zerogate_traces_total", "Requests that were to be traced, by what became of it.", "fate", TRACES),
)
"""Counters of the process by a word: name, what it says, the label, and what stands before the word in the figures."""


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """The parent's own numbers. `certificates`: when each ends, since 1970, by file."""

    started_at: float
    serving: int
    places: int
    present: int
    silent: int
    replaced: int
    hung: int
    reloads: int
    failed_reloads: int
    self_wakes: int
    cluster_faults: int
    certificates: Mapping[str, float]


def text(tally: Tally, services: Iterable[str], crowd: Crowd, dialect: Dialect) -> str:
    """The whole text."""
    parts = [*_of_services(tally, services, dialect), *_of_process(tally, dialect), *_of_crowd(crowd, dialect)]
    if dialect is Dialect.OPENMETRICS:
        parts.append(END)
    return "".join(parts)


def _of_services(tally: Tally, services: Iterable[str], dialect: Dialect) -> Iterator[str]:
    samples = [(f'service="{escaped(name)}"', sample_of(tally.total(name))) for name in services]
    for family in HOLD_FAMILIES:
        yield head(family.name, family.kind, family.says, dialect)
        for labels, sample in samples:
            yield from family.lines(family.name, labels, sample, dialect)


def _of_process(tally: Tally, dialect: Dialect) -> Iterator[str]:
    process = tally.total(PROCESS)
    amounts = {**process.counters, **process.gauges}
    for name, kind, says, key in _SUMMED:
        yield f"{head(name, kind, says, dialect)}{name} {number(amounts.get(key, 0))}\n"
    for name, says, label, before in _BY_WORD:
        words = {key.removeprefix(before): count for key, count in process.counters.items() if key.startswith(before)}
        yield from _labelled(name, "counter", says, label, dict(sorted(words.items())), dialect)


def _of_crowd(crowd: Crowd, dialect: Dialect) -> Iterator[str]:
    states = {
        "wanted": crowd.places, "serving": crowd.serving, "existing": crowd.present, "silent": crowd.silent,
    }  # fmt: skip
    says = "Worker processes: that are wanted, that serve, that exist, and that say nothing."
    yield from _labelled("zerogate_workers", "gauge", says, "state", states, dialect)
    results = {"applied": crowd.reloads, "refused": crowd.failed_reloads}
    says = "Files that were read again, by what came of it."
    yield from _labelled("zerogate_reloads_total", "counter", says, "result", results, dialect)
    says = "When a certificate of the TLS listener ends, since 1970."
    ends = dict(sorted(crowd.certificates.items()))
    yield from _labelled("zerogate_certificate_end_time_seconds", "gauge", says, "file", ends, dialect)
    for name, kind, says, own in (
        ("zerogate_worker_replacements_total", "counter", "Workers that ended unasked.", crowd.replaced),
        ("zerogate_worker_hangs_total", "counter", "Workers that were killed because they hung.", crowd.hung),
        ("zerogate_self_wakes_total", "counter", "Services that this gateway woke by itself.", crowd.self_wakes),
        (
            "zerogate_cluster_faults",
            "gauge",
            "Reasons why services and replicas are those last seen.",
            crowd.cluster_faults,
        ),
        ("process_start_time_seconds", "gauge", "When the parent started, since 1970.", crowd.started_at),
    ):
        yield f"{head(name, kind, says, dialect)}{name} {number(own)}\n"


def _labelled(
    name: str, kind: str, says: str, label: str, amounts: Mapping[str, float], dialect: Dialect
) -> Iterator[str]:  # fmt: skip
    yield head(name, kind, says, dialect)
    for word, amount in amounts.items():
        yield f'{name}{{{label}="{escaped(word)}"}} {number(amount)}\n'
