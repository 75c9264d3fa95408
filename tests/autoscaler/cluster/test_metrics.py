"""What Prometheus is shown of the process itself."""

from autoscaler.cluster.metrics import COUNTED, SINGLE, Process, process_text
from zerogate.counters import Histogram
from zerogate.exposition import Dialect


def process() -> Process:
    return Process(
        version="1", started_at=0.0, cpu_s=0.0, resident_bytes=0, open_files=0, loop_lag=Histogram((1.0,)),
        is_leader=True, state_age_s=0.0, streams=3, reports=0, wakes=0, forged=0, throttled=0,
        refused={"tls": 4}, proofs={"tls": 1, "key": 2, "none": 0}, reviews={"answered": 7, "failed": 1},
        shut_gates=2, waited_gates=1, token_reviews=0, unjudged_tokens=0,
        withdrawn_tokens=0, scale_writes=0, failed_writes=0, dropped_events=0,
    )  # fmt: skip


def test_each_word_has_a_series_of_its_own() -> None:
    text = process_text(process(), Dialect.TEXT)
    for line in (
        'zerogate_refused_sources_total{reason="tls"} 4',
        'zerogate_proven_sources{proof="key"} 2',
        'zerogate_proven_sources{proof="none"} 0',
        'zerogate_webhook_reviews_total{outcome="failed"} 1',
        "zerogate_shut_gates 2.0",
        "zerogate_waited_gates 1.0",
    ):
        assert f"{line}\n" in text


def test_each_family_is_named_once() -> None:
    text = process_text(process(), Dialect.TEXT)
    for name in (*(one[0] for one in SINGLE), *(one[0] for one in COUNTED)):
        assert text.count(f"# TYPE {name} ") == 1
