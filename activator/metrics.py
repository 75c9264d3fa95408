"""What Prometheus is shown of an activator. Pure.

The families of the path are those of every proxy of ours; `docs/activator.md` describes what is only here.
"""

from collections.abc import Iterable, Mapping

from activator.hold import Hold
from zerogate.exposition import Dialect, escaped, head, number
from zerogate.families import HOLD_FAMILIES
from zerogate.process import Usage


def text(holds: Iterable[Hold], usage: Usage, own: Mapping[str, float]) -> str:
    """The whole text. `own`: the numbers of the process that nobody else knows, by their families' names."""
    samples = [(f'service="{escaped(hold.service)}"', hold) for hold in holds]
    parts: list[str] = []
    for family in HOLD_FAMILIES:
        parts.append(head(family.name, family.kind, family.says))
        for labels, hold in samples:
            parts.extend(family.lines(family.name, labels, hold, Dialect.TEXT))
    for name, kind, says, amount in (
        ("process_start_time_seconds", "gauge", "When the process started, since 1970.", own["started_at"]),
        ("process_cpu_seconds_total", "counter", "CPU time of the process.", usage.cpu_s),
        ("process_resident_memory_bytes", "gauge", "Memory of the process.", usage.resident_bytes),
        ("process_open_fds", "gauge", "Files and sockets that are open.", usage.open_files),
        ("process_max_fds", "gauge", "Files and sockets that may be open.", usage.most_open_files),
        ("zerogate_connections", "gauge", "Client connections that are open.", own["connections"]),
        ("zerogate_body_bytes", "gauge", "Bytes of request bodies kept in memory now.", own["body_bytes"]),
        ("zerogate_answer_bytes", "gauge", "Bytes of answers that wait for slow clients now.", own["answer_bytes"]),
        ("zerogate_upload_bytes", "gauge", "Bytes of uploads that wait for slow replicas now.", own["upload_bytes"]),
        ("zerogate_head_bytes", "gauge", "Bytes of begun heads, and of requests read ahead.", own["head_bytes"]),
        ("zerogate_activator_ports", "gauge", "Ports of Services that are to be open.", own["ports"]),
        ("zerogate_activator_closed_ports", "gauge", "Of them, those that could not be opened.", own["closed_ports"]),
        ("zerogate_activator_wakes_total", "counter", "Wakes of its own, where no leader answered.", own["wakes"]),
    ):  # fmt: skip
        parts.append(f"{head(name, kind, says)}{name} {number(amount)}\n")
    return "".join(parts)
