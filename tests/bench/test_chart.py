"""The chart of the comparison."""

from xml.etree import ElementTree

from bench.peers.chart import chart
from bench.peers.world import Found

SVG = "{http://www.w3.org/2000/svg}"


def widths(svg: str) -> list[float]:
    return [float(bar.attrib["width"]) for bar in ElementTree.fromstring(svg).iter(f"{SVG}rect")]


def sse(**kib: float) -> dict[str, Found]:
    return {"sse": Found({key: [{"kib": value, "cpu_us": value}] for key, value in kib.items()})}


def test_bars_of_one_panel_are_as_long_as_their_numbers() -> None:
    (ours, theirs, *_) = widths(chart(sse(sidecar=10.0, knative=40.0)))
    assert abs(theirs / ours - 4) < 0.01


def test_who_was_not_measured_has_words_and_no_bar() -> None:
    svg = chart(sse(sidecar=10.0))
    assert len(widths(svg)) == 2, "one in each of the two panels of streams"
    assert "not available" in svg


def test_a_load_that_did_not_run_has_no_panel() -> None:
    assert "gRPC" not in chart(sse(sidecar=1.0))
