"""The two formats of metrics: who gets which, and that OpenMetrics is read by its own parser."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from zerogate.counters import Exemplar, Histogram
from zerogate.exposition import END, Dialect, head, histogram_lines, preferred

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "is_openmetrics"),
    [
        pytest.param("", False, id="nothing asked for"),
        pytest.param("*/*", False, id="anything"),
        pytest.param("text/plain", False, id="text"),
        pytest.param(PROMETHEUS, True, id="Prometheus 3"),
        pytest.param("application/openmetrics-text", True, id="no version"),
        pytest.param('Application/OpenMetrics-Text; version="1.0.0"; q=1', True, id="quotes and capitals"),
        pytest.param("application/openmetrics-text;version=0.0.1", False, id="another version"),
        pytest.param("application/openmetrics-text;q=0", False, id="refused"),
        pytest.param("application/openmetrics-text;q=0.2,text/plain;q=0.9", False, id="text is liked more"),
        pytest.param("application/openmetrics-text;q=nonsense,,;", True, id="nonsense"),
    ],
)
def test_openmetrics_goes_to_those_who_ask_for_it(accept: str, is_openmetrics: bool) -> None:
    assert (preferred(accept) is Dialect.OPENMETRICS) is is_openmetrics


def histogram() -> Histogram:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.5, 0.6, 70.0):
        histogram.observe(value)
    histogram.exemplify(Exemplar("aa", 0.5, 1_790_000_000.0))
    histogram.exemplify(Exemplar("bb", 0.6, 1_790_000_001.25))
    histogram.exemplify(Exemplar("cc", 70.0, 1_790_000_002.0))
    return histogram


def text(dialect: Dialect) -> str:
    lines = histogram_lines("zerogate_hold_seconds", 'service="a",', histogram(), dialect)
    return head("zerogate_hold_seconds", "histogram", "Waits.", dialect) + "".join(lines)


def test_each_bucket_shows_the_last_example_that_fell_into_it() -> None:
    (family,) = text_string_to_metric_families(text(Dialect.OPENMETRICS) + END)  # type: ignore[no-untyped-call]
    assert (family.name, family.type, family.unit) == ("zerogate_hold_seconds", "histogram", "seconds")
    found = {
        sample.labels["le"]: (sample.value, sample.exemplar and (sample.exemplar.labels, sample.exemplar.value))
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }
    assert found == {
        "0.1": (1.0, None), "1.0": (3.0, ({"trace_id": "bb"}, 0.6)), "+Inf": (4.0, ({"trace_id": "cc"}, 70.0)),
    }  # fmt: skip


def test_the_older_format_has_no_examples() -> None:
    assert "trace_id" not in text(Dialect.TEXT)
    assert "# UNIT" not in text(Dialect.TEXT)


def test_a_counter_s_family_has_no_suffix_in_openmetrics() -> None:
    assert head("process_cpu_seconds_total", "counter", "CPU.", Dialect.OPENMETRICS) == (
        "# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\n# HELP process_cpu_seconds CPU.\n"
    )
