"""What Prometheus is shown of a sidecar. Pure.

The families of the path are the same as a gateway's, told by the gate instead of by the holder. `docs/queueproxy.md`
describes what is only here; a test compares.
"""

from typing import Final

from queueproxy.slots import Slots
from zerogate.exposition import Dialect, escaped, head, number
from zerogate.families import PATH_FAMILIES, Family, value
from zerogate.http.memory import BufferMemory
from zerogate.process import Usage
from zerogate.reporting.families import FAMILIES as TOLD_FAMILIES
from zerogate.reporting.families import Told

FAMILIES: Final = (
    *PATH_FAMILIES,
    Family(
        "zerogate_replica_ready",
        "gauge",
        "1 while the model server is ready and takes requests from here.",
        value(lambda slots: int(slots.is_ready)),
    ),
    Family(
        "zerogate_concurrency_limit",
        "gauge",
        "Most requests inside at once; 0 is no limit.",
        value(lambda slots: slots.bounds.limit),
    ),
    Family(
        "zerogate_queue_limit", "gauge", "Most requests that may wait.", value(lambda slots: slots.bounds.queue_limit)
    ),
    Family(
        "zerogate_quiesced",
        "gauge",
        "1 while the autoscaler keeps gateways away, because the replica may be stopped.",
        value(lambda slots: int(slots.is_quiesced)),
    ),
    Family("zerogate_draining", "gauge", "1 after it was told to drain.", value(lambda slots: int(slots.is_closed))),
    Family(
        "zerogate_gateways",
        "gauge",
        "Gateways that have a control connection.",
        value(lambda slots: len(slots.grants.holders) - 1),
    ),
    Family(
        "zerogate_gateway_requests_waiting",
        "gauge",
        "Requests that wait in gateways for this replica; one that waits for several is told to each.",
        value(lambda slots: sum(holder.waiting for holder in slots.grants.holders if holder.stands)),
    ),
    Family(
        "zerogate_turned_away_total",
        "counter",
        "Requests of gateways that found no free slot and went back.",
        value(lambda slots: slots.counters.refused_by_code.get("replica_full", 0)),
    ),
)


def text(
    slots: Slots, usage: Usage, told: Told, memory: BufferMemory, *, connections: int, refused: int, started_at: float
) -> str:
    """The whole text; some 60 lines, so it is made in one go. `refused`: connections that were one too many;
    `started_at`: by the wall clock."""
    labels = f'service="{escaped(slots.service)}"'
    parts = []
    for family in FAMILIES:
        parts.append(head(family.name, family.kind, family.says))
        parts.extend(family.lines(family.name, labels, slots, Dialect.TEXT))
    for name, kind, says, amount in (
        ("process_start_time_seconds", "gauge", "When the process started, since 1970.", started_at),
        ("process_cpu_seconds_total", "counter", "CPU time of the process.", usage.cpu_s),
        ("process_resident_memory_bytes", "gauge", "Memory of the process.", usage.resident_bytes),
        ("process_open_fds", "gauge", "Files and sockets that are open.", usage.open_files),
        ("process_max_fds", "gauge", "Files and sockets that may be open.", usage.most_open_files),
        ("zerogate_connections", "gauge", "Client connections that are open.", connections),
        ("zerogate_connections_refused_total", "counter", "Client connections that were one too many.", refused),
        ("zerogate_body_bytes", "gauge", "Bytes of request bodies kept in memory now.", memory.body_bytes),
        ("zerogate_answer_bytes", "gauge", "Bytes of answers that wait for slow clients now.", memory.answer_bytes),
        ("zerogate_upload_bytes", "gauge", "Bytes of uploads that wait for a slow replica now.", memory.upload_bytes),
        (
            "zerogate_head_bytes",
            "gauge",
            "Bytes of begun heads, and of requests read ahead.",
            memory.head_bytes,
        ),
        *((name, kind, says, getattr(told, field)) for name, kind, says, field in TOLD_FAMILIES),
    ):
        parts.append(f"{head(name, kind, says)}{name} {number(amount)}\n")
    return "".join(parts)
