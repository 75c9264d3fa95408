"""The text for Prometheus: it parses, and the documents describe all of it."""

import re
from pathlib import Path
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families

from queueproxy.metrics import FAMILIES, text
from queueproxy.slots import Bounds, Slots
from tests.zerogate.http.dialogue import Sides
from zerogate.http.memory import BufferMemory
from zerogate.http.sides import DEFAULT_TERMS
from zerogate.process import Usage
from zerogate.reporting.families import Told

DOCS = Path(__file__).parents[2] / "docs"


class Pool(Sides):
    address = "127.0.0.1:8000"


def _text(service: str) -> str:
    bounds = Bounds(limit=1, queue_limit=2, queue_bytes=1000, hold_s=1.0)
    slots = Slots(
        service, bounds, DEFAULT_TERMS, cast(Any, Pool()), on_empty=lambda: None, choose=lambda below: 0,
        call_later=lambda wait_s, call: None, clock=lambda: 0.0,
    )  # fmt: skip
    slots.counters.first_byte.observe(0.2)
    slots.counters.refuse("queue_full")
    usage = Usage(cpu_s=1.5, resident_bytes=1000, open_files=3, most_open_files=10)
    memory = BufferMemory()
    memory.recount_answer(0, 11)
    memory.recount_upload(0, 22)
    memory.used_bytes += 44
    return text(slots, usage, Told(streams=2, readings=7), memory, connections=2, refused=5, started_at=1.0)


def test_it_parses_whatever_the_service_is_called() -> None:
    families = {family.name: family for family in text_string_to_metric_families(_text('a"\\\nb'))}
    assert families["zerogate_refusals"].samples[0].labels == {"service": 'a"\\\nb', "code": "queue_full"}
    assert families["zerogate_connections"].samples[0].value == 2
    assert families["zerogate_connections_refused"].samples[0].value == 5
    waiting = [families[f"zerogate_{kind}_bytes"].samples[0].value for kind in ("answer", "upload", "body")]
    assert waiting == [11, 22, 44]
    assert families["zerogate_report_streams"].samples[0].value == 2
    assert families["zerogate_told_readings"].samples[0].value == 7


def test_every_family_is_described() -> None:
    described = set(re.findall(r"^\| `(\w+)`", (DOCS / "metrics.md").read_text(), re.MULTILINE))
    described |= set(re.findall(r"^\| `(zerogate_\w+)`", (DOCS / "queueproxy.md").read_text(), re.MULTILINE))
    shown = set(re.findall(r"^# TYPE (\S+)", _text("chat"), re.MULTILINE))
    assert {family.name for family in FAMILIES} <= shown
    assert shown <= described
