"""What Prometheus is shown of an autoscaler: what it decides, who reports, and how it gets on with the API server.

All series of a family stand together, and the text is made in slices. Labels are bounded: service names and words of
ours. `docs/metrics.md` describes every family; a test compares.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Final

import msgspec

from autoscaler.history import ServiceHistory
from autoscaler.status import ServiceState
from zerogate.counters import Histogram
from zerogate.exposition import Dialect, Kind, escaped, head, histogram_lines, number
from zerogate.families import Family, by, value
from zerogate.scrape import parts

STATES: Final = ("starting", "ready", "draining")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One service's numbers."""

    service: str
    desired: int
    replicas: Mapping[str, int]
    in_flight: int
    held: int
    decisions: Mapping[str, int]
    endings: Mapping[str, int]
    replica_s: float
    is_suspended: bool

    @staticmethod
    def of(service: str, state: ServiceState, history: ServiceHistory, now_s: float) -> "Sample":
        """Of a service as it stands."""
        counted = dict.fromkeys(STATES, 0)
        for replica in state.replicas:
            counted[replica.state.value] += 1
        return Sample(
            service=service, desired=state.asked, replicas=counted, in_flight=state.traffic.in_flight,
            held=state.traffic.held, decisions=history.decisions, endings=history.endings,
            replica_s=history.total_replica_s(now_s), is_suspended=state.back_off is not None,
        )  # fmt: skip


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """The process's own numbers. Times in seconds, `started_at` since 1970."""

    version: str
    started_at: float
    cpu_s: float
    resident_bytes: int
    open_files: int
    loop_lag: Histogram
    is_leader: bool
    state_age_s: float
    streams: int
    reports: int
    wakes: int
    forged: int
    throttled: int
    refused: Mapping[str, int]
    proofs: Mapping[str, int]
    reviews: Mapping[str, int]
    shut_gates: int
    waited_gates: int
    token_reviews: int
    unjudged_tokens: int
    withdrawn_tokens: int
    scale_writes: int
    failed_writes: int
    dropped_events: int


FAMILIES: Final = (
    Family("zerogate_desired_replicas", "gauge", "Replicas wanted now.", value(lambda one: one.desired)),
    Family("zerogate_replicas", "gauge", "Replicas that exist now, by state.", by("state", lambda one: one.replicas)),
    Family("zerogate_seen_in_flight", "gauge", "Requests inside, by all reports.", value(lambda one: one.in_flight)),
    Family("zerogate_seen_held", "gauge", "Requests that wait, by all reports.", value(lambda one: one.held)),
    Family(
        "zerogate_replica_seconds_total", "counter", "Time that replicas existed, summed over them.",
        value(lambda one: one.replica_s),
    ),
    Family(
        "zerogate_replica_endings_total", "counter", "Replicas that are gone, by cause.",
        by("cause", lambda one: one.endings),
    ),
    Family(
        "zerogate_starts_suspended", "gauge", "1 while starts are suspended after repeated failures.",
        value(lambda one: int(one.is_suspended)),
    ),
    Family(
        "zerogate_decisions_total", "counter", "Decisions that changed something, by who won.",
        by("winner", lambda one: one.decisions),
    ),
)  # fmt: skip

SINGLE: Final[tuple[tuple[str, Kind, str, str], ...]] = (
    ("process_start_time_seconds", "gauge", "When the process started, since 1970.", "started_at"),
    ("process_cpu_seconds_total", "counter", "CPU time of the process.", "cpu_s"),
    ("process_resident_memory_bytes", "gauge", "Memory of the process.", "resident_bytes"),
    ("process_open_fds", "gauge", "Files and sockets that are open.", "open_files"),
    ("zerogate_leader", "gauge", "1 where this autoscaler leads.", "is_leader"),
    ("zerogate_cluster_state_age_seconds", "gauge", "How old what is known of the cluster may be.", "state_age_s"),
    ("zerogate_sources", "gauge", "Sidecars, gateways and activators that report now.", "streams"),
    ("zerogate_reports_total", "counter", "Readings that came.", "reports"),
    ("zerogate_wakes_total", "counter", "Times that somebody said: a request waits at zero.", "wakes"),
    ("zerogate_forged_reports_total", "counter", "Readings about services that their source may not see.", "forged"),
    ("zerogate_throttled_sources_total", "counter", "Times that a source said too much.", "throttled"),
    ("zerogate_token_reviews_total", "counter", "Times that a token was shown to the API server.", "token_reviews"),
    (
        "zerogate_unjudged_tokens", "gauge", "Tokens that the API server's keys prove, and that it has not judged yet.",
        "unjudged_tokens",
    ),
    (
        "zerogate_withdrawn_tokens_total", "counter", "Of those, such as it has refused: their sources were ended.",
        "withdrawn_tokens",
    ),
    ("zerogate_scale_writes_total", "counter", "Numbers of replicas that were written.", "scale_writes"),
    ("zerogate_failed_scale_writes_total", "counter", "Such writes that were not accepted.", "failed_writes"),
    ("zerogate_shut_gates", "gauge", "Gates of sidecars that are kept shut before replicas stop.", "shut_gates"),
    (
        "zerogate_waited_gates", "gauge", "Of those, such as are not known to be empty: their replicas do not stop.",
        "waited_gates",
    ),
    ("zerogate_dropped_events_total", "counter", "Happenings that no Event told of.", "dropped_events"),
)  # fmt: skip
"""Name, kind, what it says, and the field of `Process`."""
SPECIAL: Final[tuple[tuple[str, Kind, str], ...]] = (
    ("zerogate_build_info", "gauge", "Always 1; the label says which version runs."),
    ("zerogate_loop_lag_seconds", "histogram", "How late the loop came to what was due."),
)
"""Name, kind and what it says."""
COUNTED: Final[tuple[tuple[str, Kind, str, str, str], ...]] = (
    ("zerogate_refused_sources_total", "counter", "Sources that were turned away, by reason.", "reason", "refused"),
    (
        "zerogate_proven_sources", "gauge", "Sources that report now, by how this process proved itself to them.",
        "proof", "proofs",
    ),
    (
        "zerogate_webhook_reviews_total", "counter", "Questions of API servers, by what came of them.", "outcome",
        "reviews",
    ),
)  # fmt: skip
"""Name, kind, what it says, its label, and the field of `Process` with the number for each word."""


def render(process: Process, services: Iterable[Sample], dialect: Dialect) -> AsyncGenerator[bytes, None]:
    """The whole text in parts, none of which takes more than a slice to make."""
    return parts(process_text(process, dialect), FAMILIES, services, dialect)


def process_text(process: Process, dialect: Dialect) -> str:
    """The families of the process itself."""
    text = [
        f"{head(name, kind, says, dialect)}{name} {number(float(getattr(process, field)))}\n"
        for name, kind, says, field in SINGLE
    ]
    build, lag = ((name, head(name, kind, says, dialect)) for name, kind, says in SPECIAL)
    text.append(f'{build[1]}{build[0]}{{version="{escaped(process.version)}"}} 1\n')
    text.append(lag[1])
    text.extend(histogram_lines(lag[0], "", process.loop_lag))
    for name, kind, says, label, field in COUNTED:
        text.append(head(name, kind, says, dialect))
        for word, count in getattr(process, field).items():
            text.append(f'{name}{{{label}="{escaped(word)}"}} {count}\n')
    return "".join(text)
