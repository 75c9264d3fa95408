"""The text for Prometheus: sums of workers, all of it described."""

import re
from pathlib import Path

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gateway.figures import LOST, TRACES, UNROUTED, Sample, figures_of, sample_of
from gateway.messages import Figures, Report
from gateway.metrics import Crowd, text
from gateway.tally import PROCESS, Tally
from zerogate.counters import Exemplar, ServiceCounters
from zerogate.exposition import Dialect
from zerogate.families import HOLD_FAMILIES
from zerogate.meter import Meter

DOCS = Path(__file__).parents[2] / "docs"
CROWD = Crowd(
    started_at=1.0, serving=1, places=2, present=3, silent=1, replaced=4, hung=7, reloads=5, failed_reloads=6,
    certificates={"/etc/tls/a.crt": 9.0}, self_wakes=2, cluster_faults=1,
)  # fmt: skip
TRACE = "0af7651916cd43dd8448eb211c80319c"


def counted() -> tuple[ServiceCounters, Meter]:
    counters, meter = ServiceCounters(), Meter()
    counters.served, counters.cold_starts, counters.websockets = 3, 1, 1
    counters.status_classes[2] = 3
    counters.refuse("queue_full")
    counters.hold.observe(0.3)
    counters.hold.exemplify(Exemplar(TRACE, 0.3, 1_790_000_000.0))
    counters.first_byte.observe(9999.0)
    counters.request.observe(2.0)
    counters.cut = counters.abandoned = counters.retries_by_why["lost"] = counters.ejections_by_why["status"] = 1
    meter.arrive_and_enter(1.0)
    meter.bytes_out, meter.bytes_in = 77, 5
    meter.leave(3.5, 1.0)
    meter.arrive_and_enter(4.0)
    return counters, meter


def shown(dialect: Dialect = Dialect.TEXT) -> str:
    tally = Tally()
    tally.configure(["chat"], 1)
    process = Figures(
        {UNROUTED + "no_route": 2, "accepted": 9, LOST + "handshake": 1, TRACES + "exported": 5}, {"connections": 4}
    )
    for worker in (1, 2):
        tally.begin(worker)
        tally.report(worker, Report(1, 1, {"chat": figures_of(*counted()), PROCESS: process}))
    return text(tally, ["chat"], CROWD, dialect)


def test_figures_come_back_as_what_they_were() -> None:
    counters, meter = counted()
    back = sample_of(figures_of(counters, meter))
    for name in ("served", "cold_starts", "websockets", "refused_by_code", "status_classes"):
        assert getattr(back.counters, name) == getattr(counters, name), name
    for name in ("hold", "first_byte", "request"):
        one, other = getattr(back.counters, name), getattr(counters, name)
        assert (one.counts, one.total, one.exemplars) == (other.counts, other.total, other.exemplars), name
    for name in ("arrivals", "in_flight", "held", "bytes_out", "completed_run_s"):
        assert getattr(back.meter, name) == getattr(meter, name), name


def test_no_family_loses_what_a_worker_counted() -> None:
    counters, meter = counted()
    there, back = Sample(counters, meter), sample_of(figures_of(counters, meter))
    for family in HOLD_FAMILIES:
        lines = [[*family.lines(family.name, "", one, Dialect.OPENMETRICS)] for one in (there, back)]
        assert lines[0] == lines[1], family.name
        assert family.name == "zerogate_held" or any(not line.endswith(" 0\n") for line in lines[0]), (
            f"{family.name} has nothing to lose"
        )


def test_it_parses_and_shows_the_sums_of_all_workers() -> None:
    families = {family.name: family for family in text_string_to_metric_families(shown())}

    def value(family: str, **labels: str) -> float:
        found = [one.value for one in families[family].samples if labels.items() <= one.labels.items()]
        assert len(found) == 1
        return float(found[0])

    assert value("zerogate_requests", result="served") == 6
    assert value("zerogate_in_flight") == 2
    assert value("zerogate_connections") == 8
    assert value("zerogate_connections_taken") == 18
    assert value("zerogate_unrouted_refusals", code="no_route") == 4
    assert value("zerogate_workers", state="serving") == 1
    assert value("zerogate_workers", state="silent") == 1
    assert value("zerogate_worker_replacements") == 4
    assert value("zerogate_worker_hangs") == 7
    assert value("zerogate_lost_connections", reason="handshake") == 2
    assert value("zerogate_traces", fate="exported") == 10
    assert value("zerogate_certificate_end_time_seconds", file="/etc/tls/a.crt") == 9
    assert [one.value for one in families["zerogate_hold_seconds"].samples if one.name.endswith("_count")] == [2]


def test_openmetrics_has_an_example_beside_the_bucket_that_counted_it() -> None:
    families = {
        family.name: family
        for family in openmetrics.text_string_to_metric_families(shown(Dialect.OPENMETRICS))  # type: ignore[no-untyped-call]
    }
    (example,) = (one.exemplar for one in families["zerogate_hold_seconds"].samples if one.exemplar)
    assert example.labels == {"trace_id": TRACE}
    assert TRACE not in shown()


def test_of_examples_of_several_workers_the_newest_stays() -> None:
    tally = Tally()
    tally.configure(["chat"], 1)
    for worker, at in ((1, 5.0), (2, 9.0), (3, 7.0)):
        tally.begin(worker)
        example = Exemplar(str(worker), 0.3, at)
        tally.report(worker, Report(1, 1, {"chat": Figures({"hold 5": 1}, {}, {"hold 5": example})}))
    assert tally.total("chat").examples["hold 5"].trace_id == "2"
    tally.end(2)
    assert tally.total("chat").examples["hold 5"].trace_id == "3"


def test_every_family_is_described() -> None:
    described = set(re.findall(r"^\| `(\w+)`", (DOCS / "metrics.md").read_text(), re.MULTILINE))
    described |= set(re.findall(r"^\| `(zerogate_\w+)`", (DOCS / "gateway.md").read_text(), re.MULTILINE))
    shown_families = set(re.findall(r"^# TYPE (\S+)", shown(), re.MULTILINE))
    assert shown_families <= described
