"""What Prometheus is shown of a gateway: the sums over its workers. Pure.

The families of the path are those of every proxy of ours; `docs/gateway.md` describes what is only here; a test
compares. Labels are services of the file and words of ours.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.figures import sample_of
from gateway.tally import PROCESS, Tally
from zerogate.exposition import Dialect, escaped, head, number
from zerogate.families import PATH_FAMILIES, Family, by, value

UNROUTED: Final = "unrouted "
"""Before a code, among the figures of the process itself."""

FAMILIES: Final = (
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
)
"""Families of the process: name, kind, what it says, and the name among the figures."""


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """The parent's own numbers."""

    started_at: float
    serving: int
    places: int
    present: int
    replaced: int
    reloads: int
    failed_reloads: int


def text(tally: Tally, services: Iterable[str], crowd: Crowd) -> str:
    """The whole text."""
    samples = [(f'service="{escaped(name)}"', sample_of(tally.total(name))) for name in services]
    parts: list[str] = []
    for family in FAMILIES:
        parts.append(head(family.name, family.kind, family.says))
        for labels, sample in samples:
            parts.extend(family.lines(family.name, labels, sample, Dialect.TEXT))
    process = tally.total(PROCESS)
    amounts = {**process.counters, **process.gauges}
    for name, kind, says, key in _SUMMED:
        parts.append(f"{head(name, kind, says)}{name} {number(amounts.get(key, 0))}\n")
    parts.append(head("zerogate_unrouted_refusals_total", "counter", "Refused requests that belong to no service."))
    for key, amount in sorted(process.counters.items()):
        if key.startswith(UNROUTED):
            code = escaped(key.removeprefix(UNROUTED))
            parts.append(f'zerogate_unrouted_refusals_total{{code="{code}"}} {number(amount)}\n')
    parts.append(head("zerogate_workers", "gauge", "Worker processes: that are wanted, that serve, that exist."))
    for state, count in (("wanted", crowd.places), ("serving", crowd.serving), ("existing", crowd.present)):
        parts.append(f'zerogate_workers{{state="{state}"}} {count}\n')
    parts.append(head("zerogate_reloads_total", "counter", "Files that were read again, by what came of it."))
    for result, count in (("applied", crowd.reloads), ("refused", crowd.failed_reloads)):
        parts.append(f'zerogate_reloads_total{{result="{result}"}} {count}\n')
    for name, kind, says, own in (
        ("zerogate_worker_replacements_total", "counter", "Workers that ended unasked.", crowd.replaced),
        ("process_start_time_seconds", "gauge", "When the parent started, since 1970.", crowd.started_at),
    ):
        parts.append(f"{head(name, kind, says)}{name} {number(own)}\n")
    return "".join(parts)
