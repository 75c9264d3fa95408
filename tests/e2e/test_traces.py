"""Traces, from the client over a real zerogate to the model server, and into a collector that may be anything."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.e2e.collector import collector
from tests.e2e.harness import Box, Latch, free_port, soon, stub, zerogate
from tests.h2c_server import H2C_SERVER
from tests.queueproxy.world import world
from zerogate.clock import wall
from zerogate.http.tracing import MOST_WAITING

pytestmark = [pytest.mark.slow, pytest.mark.may_block]

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}


def seen_by_replica(text: str) -> dict[str, str]:
    """The fields that the stub's `/head` got."""
    return {name.lower(): value for name, value in json.loads(text)["headers"]}


async def fates(box: Box) -> dict[str, int]:
    start = 'zerogate_traces_total{fate="'
    metrics = await box.metrics()
    return {series[len(start) : -2]: int(value) for series, value in metrics.items() if series.startswith(start)}


async def until_fate(box: Box, fate: str, least: int) -> None:
    async with asyncio.timeout(30):
        while (await fates(box))[fate] < least:
            await asyncio.sleep(0.05)


async def test_a_cold_request_is_one_trace_from_the_client_to_the_replica(tmp_path: Path) -> None:
    async def dripped() -> AsyncIterator[bytes]:
        yield b'{"messages": [], '
        await asyncio.sleep(0.02)
        yield b'"model": "m"}'

    latch = Latch(tmp_path)
    service = stub(*latch.flags, definition={"models": ["m"]})
    async with collector() as taken, zerogate({"chat": service}, tmp_path, trace_to=taken.url) as box:
        began_at = wall()
        asking = soon(box.client.post("/v1/chat/completions?key=secret", content=dripped(), headers=SAMPLED))
        await box.until_held("chat", 1)
        latch.open()
        assert (await asking).status_code == 200
        await taken.until(lambda spans: any(one.kind == "SERVER" for one in spans))
    spans = taken.of(TRACE)
    assert len(spans) == len(taken.spans) == 6
    server, client = (spans[f"{kind} POST /v1/chat/completions"] for kind in ("SERVER", "CLIENT"))
    route, hold, connect, first_byte = (
        spans[f"INTERNAL {name}"] for name in ("route", "hold", "connect", "first-byte")
    )
    assert (server.parent_id, server.state) == (PARENT, "vendor=1")
    for inner, outer in ((route, server), (hold, server), (client, server), (connect, client), (first_byte, client)):
        assert inner.parent_id == outer.span_id
        assert outer.start_at <= inner.start_at <= inner.end_at <= outer.end_at
    assert route.end_at - route.start_at > 0.019
    assert route.end_at == hold.start_at
    assert hold.end_at == client.start_at == connect.start_at
    assert connect.end_at == first_byte.start_at
    assert began_at <= server.start_at <= server.end_at <= wall()
    assert hold.attributes == {"zerogate.cold": True}
    assert server.resource["service.name"] == "zerogate"
    expected = {
        "http.request.method": "POST", "http.route": "/v1/chat/completions", "url.path": "/v1/chat/completions",
        "url.scheme": "http", "http.response.status_code": 200, "client.address": "127.0.0.1",
        "server.address": "127.0.0.1", "server.port": box.listen, "network.protocol.version": "1.1",
        "zerogate.service": "chat", "zerogate.result": "served",
    }  # fmt: skip
    assert expected.items() <= server.attributes.items()
    assert "secret" not in str(taken.spans)


async def test_a_warm_request_shows_how_long_its_replica_took(tmp_path: Path) -> None:
    async with collector() as taken, zerogate({"chat": stub()}, tmp_path, trace_to=taken.url) as box:
        await box.get("chat")
        await box.get("chat", "/sleep?ms=20", headers=SAMPLED)
        await taken.until(lambda spans: sum(one.kind == "SERVER" for one in spans) == 2)
    spans = taken.of(TRACE)
    assert set(spans) == {"SERVER GET", "CLIENT GET", "INTERNAL first-byte"}
    first_byte = spans["INTERNAL first-byte"]
    assert first_byte.parent_id == spans["CLIENT GET"].span_id
    assert first_byte.end_at - first_byte.start_at > 0.019


async def test_what_a_sidecar_passes_on_is_what_the_gateway_sent(tmp_path: Path) -> None:
    async with world() as behind, collector() as taken:
        endpoint = {"endpoint": f"http://127.0.0.1:{behind.port}"}
        async with zerogate({"chat": endpoint}, tmp_path, trace_to=taken.url) as box:
            fields = seen_by_replica((await box.client.get("/head", headers=SAMPLED)).text)
            await taken.until(lambda spans: any(one.kind == "SERVER" for one in spans))
    client = taken.of(TRACE)["CLIENT GET"]
    assert fields["traceparent"] == f"00-{TRACE}-{client.span_id}-01"
    assert fields["tracestate"] == "vendor=1"
    assert client.attributes["url.full"] == f"http://127.0.0.1:{behind.port}/head"


async def test_http_2_on_both_sides_is_one_trace_too(tmp_path: Path) -> None:
    service = {"command": [*H2C_SERVER], "policy": {"protocol": "h2c", "ready-path": "/up"}}
    async with collector() as taken, zerogate({"chat": service}, tmp_path, trace_to=taken.url) as box:
        async with httpx.AsyncClient(base_url=box.url, http1=False, http2=True, verify=False) as client:
            assert (await client.get("/x", headers=SAMPLED)).status_code == 200
        await taken.until(lambda spans: any(one.kind == "SERVER" for one in spans))
    spans = taken.of(TRACE)
    assert spans["CLIENT GET"].parent_id == spans["SERVER GET"].span_id
    assert spans["SERVER GET"].parent_id == PARENT
    for kind in ("SERVER", "CLIENT"):
        assert spans[f"{kind} GET"].attributes["network.protocol.version"] == "2"


async def test_switched_off_the_fields_pass_as_they_came_and_nothing_is_loaded(tmp_path: Path) -> None:
    async with zerogate({"chat": stub()}, tmp_path) as box:
        fields = seen_by_replica((await box.client.get("/head", headers={**SAMPLED, "traceparent": "odd"})).text)
        assert (fields["traceparent"], fields["tracestate"]) == ("odd", "vendor=1")
        assert "traceparent" not in seen_by_replica((await box.client.get("/head")).text)
        assert await fates(box) == {}
        loaded = Path(f"/proc/{box.process.pid}/maps").read_text()
    assert "google/_upb" not in loaded


async def test_a_parent_decides_whether_its_request_is_recorded_else_the_share_does(tmp_path: Path) -> None:
    async with collector() as taken, zerogate({"chat": stub()}, tmp_path, trace_to=taken.url, trace_sample="0%") as box:
        no = seen_by_replica((await box.client.get("/head")).text)["traceparent"]
        followed = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
        also_no = seen_by_replica((await box.client.get("/head", headers=followed)).text)["traceparent"]
        wrong = seen_by_replica((await box.client.get("/head", headers={"traceparent": "x"})).text)["traceparent"]
        yes = seen_by_replica((await box.client.get("/head", headers=SAMPLED)).text)["traceparent"]
        await taken.until(lambda spans: any(one.kind == "SERVER" for one in spans))
    assert [one.endswith("-00") for one in (no, also_no, wrong, yes)] == [True, True, True, False]
    assert TRACE in also_no
    assert {span.trace_id for span in taken.spans} == {TRACE}


async def test_health_checks_are_nobody_s_trace_and_refusals_are(tmp_path: Path) -> None:
    async with collector() as taken, zerogate({"chat": stub(), "other": stub()}, tmp_path, trace_to=taken.url) as box:
        assert (await box.client.get("/healthz", headers={"Host": "nobody"})).status_code == 200
        assert (await box.get("chat", "/health")).status_code == 200
        assert (await box.get("nobody", "/x")).status_code == 404
        (span,) = await taken.until(lambda spans: bool(spans))
    assert (span.kind, span.name, span.is_error) == ("SERVER", "GET", False)
    assert span.attributes["zerogate.code"] == "no_route"


@pytest.mark.parametrize("how", ["nothing listens", "it hangs", "it refuses"])
async def test_a_collector_that_does_not_take_them_holds_up_no_request(tmp_path: Path, how: str) -> None:
    async with collector() as taken:
        taken.status = 500
        if how == "it hangs":
            taken.is_open.clear()
        url = f"http://127.0.0.1:{free_port()}" if how == "nothing listens" else taken.url
        env = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
        async with zerogate({"chat": stub()}, tmp_path, env=env, trace_to=url) as box:
            assert (await box.client.get("/")).status_code == 200
            if how != "nothing listens":
                await taken.until_asked(1)
            began_s = time.perf_counter()
            assert [(await box.client.get("/")).status_code for _ in range(50)] == [200] * 50
            assert time.perf_counter() - began_s < 5
            await until_fate(box, "lost", 1)
            assert (await fates(box))["exported"] == 0
            assert box.output.count("spans cannot be delivered") == 1
            leaving_s = time.perf_counter()
            assert await box.stop() == 0
        assert time.perf_counter() - leaving_s < 10


async def test_a_queue_that_is_full_drops_and_counts(tmp_path: Path) -> None:
    refused, at_once, times = b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n", 50, 90
    async with collector() as taken:
        taken.is_open.clear()
        env = {"OTEL_EXPORTER_OTLP_TIMEOUT": "60"}
        async with zerogate({"chat": stub(), "other": stub()}, tmp_path, env=env, trace_to=taken.url) as box:
            assert (await box.get("nobody")).status_code == 404
            await taken.until_asked(1)
            async with box.wire() as client:
                for _ in range(times):
                    await client.send(refused * at_once)
                    assert {(await client.answer()).status for _ in range(at_once)} == {404}
            counted = await fates(box)
            assert counted["dropped"] == 1 + at_once * times - MOST_WAITING - 1
            assert (await box.get("chat")).status_code == 200
            taken.is_open.set()
            await until_fate(box, "exported", MOST_WAITING)
            counted = await fates(box)
            assert sum(counted.values()) == 1 + at_once * times + 1
            assert counted["lost"] == 0


async def test_exemplars_name_the_trace_and_the_collector_has_it(tmp_path: Path) -> None:
    async with collector() as taken, zerogate({"chat": stub()}, tmp_path, trace_to=taken.url) as box:
        await box.client.get("/", headers=SAMPLED)
        accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
        text = (await box.ask("GET", "/metrics", headers=accept)).text
        await taken.until(lambda spans: any(one.kind == "SERVER" for one in spans))
    found = {
        sample.name: sample.exemplar.labels["trace_id"]
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar
    }
    names = ("hold", "first_byte", "request")
    assert found == {f"zerogate_{name}_seconds_bucket": TRACE for name in names}


async def test_what_waits_when_it_leaves_is_still_exported(tmp_path: Path) -> None:
    async with collector() as taken:
        async with zerogate({"chat": stub()}, tmp_path, trace_to=taken.url) as box:
            await box.client.get("/", headers=SAMPLED)
            await box.stop()
        assert "SERVER GET" in taken.of(TRACE)


async def test_the_environment_says_who_it_is_and_what_the_collector_wants_to_see(tmp_path: Path) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=k1",
        "OTEL_SERVICE_NAME": "edge",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    async with collector() as taken, zerogate({"chat": stub()}, tmp_path, env=env, trace_to=taken.url) as box:
        await box.client.get("/")
        (span, *_) = await taken.until(lambda spans: bool(spans))
    assert span.resource["service.name"] == "edge"
    assert taken.headers[0]["x-key"] == "k1"
    assert taken.headers[0]["Content-Encoding"] == "gzip"


async def test_a_reload_changes_the_share_but_not_the_collector(tmp_path: Path) -> None:
    async with collector() as taken, zerogate({"chat": stub()}, tmp_path, trace_to=taken.url) as box:
        box.write({"chat": stub()}, trace_to=taken.url, trace_sample="0%")
        assert (await box.ask("POST", "/api/reload")).status_code == 200
        assert seen_by_replica((await box.client.get("/head")).text)["traceparent"].endswith("-00")
        box.write({"chat": stub()}, trace_to="http://127.0.0.1:4318")
        refused = await box.ask("POST", "/api/reload")
    assert refused.status_code == 422
    assert "trace-to: cannot change" in refused.text
