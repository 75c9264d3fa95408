"""The text for Prometheus: parses, is complete, bounded, described, and made in slices."""

import asyncio
import re
import time
from pathlib import Path

import msgspec
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from cli.metrics import FAMILIES, ServiceSample, process_text, render
from tests.cli.fake_box import process_sample, service_sample
from zerogate.exposition import Dialect, escaped
from zerogate.loop_lag import LoopLag
from zerogate.slices import SLICE_S


async def _text(samples: list[ServiceSample]) -> str:
    return b"".join([part async for part in render(process_sample(), samples)]).decode()


async def _families(samples: list[ServiceSample]) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(await _text(samples))}


async def test_it_parses_and_its_families_stand_together() -> None:
    text = await _text([service_sample("chat", has_traffic=True), service_sample("idle", has_traffic=False)])
    types = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(types) == len(set(types))
    current = ""
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            current = line.split()[2]
        elif not line.startswith("#"):
            assert re.match(rf"{current}(_bucket|_sum|_count)?[ {{]", line), line
    assert {family.name for family in text_string_to_metric_families(text)} >= {"zerogate_requests", "zerogate_held"}


async def test_as_openmetrics_it_holds_the_same_numbers() -> None:
    samples = [service_sample("chat", has_traffic=True), service_sample("idle", has_traffic=False)]
    parts = [part async for part in render(process_sample(), samples, Dialect.OPENMETRICS)]
    text = b"".join(parts).decode()
    found = {family.name: family for family in openmetrics_families(text)}  # type: ignore[no-untyped-call]
    older = await _families(samples)
    assert set(found) == set(older)
    for name, family in found.items():
        assert [(one.name, one.labels, one.value) for one in family.samples] == [
            (one.name, one.labels, one.value) for one in older[name].samples
        ]


async def test_numbers_arrive_as_they_were_counted() -> None:
    families = await _families([service_sample("chat", has_traffic=True)])
    values = {
        tuple(sorted(sample.labels.items())): sample.value
        for sample in families["zerogate_requests"].samples
    }  # fmt: skip
    assert values == {
        (("result", "abandoned"), ("service", "chat")): 0.0,
        (("result", "cut"), ("service", "chat")): 0.0,
        (("result", "refused"), ("service", "chat")): 1.0,
        (("result", "served"), ("service", "chat")): 2.0,
    }
    states = {sample.labels["state"]: sample.value for sample in families["zerogate_replicas"].samples}
    assert states == {"starting": 0.0, "ready": 1.0, "draining": 0.0}


async def test_histogram_buckets_are_cumulative_and_end_with_all() -> None:
    families = await _families([service_sample("chat", has_traffic=True)])
    hold = families["zerogate_hold_seconds"].samples
    buckets = [(sample.labels["le"], sample.value) for sample in hold if sample.name.endswith("_bucket")]
    assert buckets[0] == ("0.005", 0.0)
    assert ("0.025", 1.0) in buckets
    assert buckets[-1] == ("+Inf", 2.0)
    assert {sample.name: sample.value for sample in hold if "le" not in sample.labels} == {
        "zerogate_hold_seconds_sum": 1000.02,
        "zerogate_hold_seconds_count": 2.0,
    }


async def test_a_service_without_traffic_has_no_histograms() -> None:
    text = await _text([service_sample("idle", has_traffic=False)])
    assert "_bucket" not in text.replace("zerogate_loop_lag_seconds_bucket", "")


async def test_an_endpoint_has_no_replicas() -> None:
    sample = msgspec.structs.replace(service_sample("whisper", has_traffic=False), desired=None)
    text = await _text([sample])
    assert 'zerogate_in_flight{service="whisper"} 0\n' in text
    for name in ("zerogate_replicas", "zerogate_desired_replicas", "zerogate_replica_seconds_total"):
        assert f"{name}{{" not in text


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "ünï"])
async def test_a_label_arrives_whatever_it_holds(name: str) -> None:
    families = await _families([service_sample(name, has_traffic=False)])
    assert families["zerogate_held"].samples[0].labels == {"service": name}
    assert "\n" not in escaped(name)


async def test_a_thousand_services_are_shown_in_slices() -> None:
    """The median over all turns of the loop: single ones are at the mercy of the machine."""
    samples = [service_sample(f"s{number}", has_traffic=number % 10 == 0) for number in range(1000)]
    gaps: list[float] = []

    async def watch() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    watching = asyncio.get_running_loop().create_task(watch())
    await asyncio.sleep(0)
    gaps.clear()
    async for _ in render(process_sample(), samples):
        pass
    watching.cancel()
    assert len(gaps) > 10
    assert sorted(gaps)[len(gaps) // 2] < 2 * SLICE_S


def test_every_metric_is_described_and_nothing_else_is() -> None:
    described = set(re.findall(r"^\| `([a-z_]+)`", Path("docs/metrics.md").read_text(), re.MULTILINE))
    of_process = set(re.findall(r"^# TYPE (\S+)", process_text(process_sample()), re.MULTILINE))
    assert described == {family.name for family in FAMILIES} | of_process


@pytest.mark.may_block("a late loop is what is measured")
async def test_a_held_loop_shows_in_the_lag() -> None:
    lag = LoopLag()
    lag.start()
    await asyncio.sleep(0)
    held_until = time.perf_counter() + 0.3
    while time.perf_counter() < held_until:
        pass
    async with asyncio.timeout(30):
        while not any(lag.histogram.counts):
            await asyncio.sleep(0)
    lag.close()
    assert lag.histogram.total > 0.15
