"""The text for Prometheus: it parses, and the documents describe all of it."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from activator.metrics import text
from zerogate.process import Usage

DOCS = Path(__file__).parents[2] / "docs"
OWN = {
    "started_at": 1.0, "connections": 2, "ports": 3, "closed_ports": 4, "wakes": 5, "body_bytes": 6, "answer_bytes": 7,
    "upload_bytes": 8, "head_bytes": 9,
}  # fmt: skip


def _text() -> str:
    return text([], Usage(cpu_s=1.5, resident_bytes=1000, open_files=3, most_open_files=10), OWN)


def test_what_waits_in_memory_is_shown_beside_the_process() -> None:
    shown = {
        family.name: family.samples[0].value for family in text_string_to_metric_families(_text()) if family.samples
    }
    waiting = [shown[f"zerogate_{kind}_bytes"] for kind in ("body", "answer", "upload", "head")]
    assert waiting == [6, 7, 8, 9]
    assert shown["zerogate_connections"] == 2


def test_every_family_is_described() -> None:
    described = {
        name
        for document in ("metrics.md", "activator.md")
        for name in re.findall(r"^\| `(\w+)`", (DOCS / document).read_text(), re.MULTILINE)
    }
    assert set(re.findall(r"^# TYPE (\S+)", _text(), re.MULTILINE)) <= described
