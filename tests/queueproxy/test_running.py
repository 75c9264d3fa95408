"""The sidecar from outside: a real process in front of a real model server."""

import asyncio
import json
import re
import signal
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from queueproxy.running import Sidecar
from queueproxy.settings import read
from tests.e2e.gaps import LATER_S, beside, both
from tests.e2e.wire import wire
from tests.queueproxy.world import World, start_sidecar, start_stub, world
from tests.zerogate.http.rig import echo, read_request, replica
from zerogate.clock import now

pytestmark = [pytest.mark.slow, pytest.mark.uvloop]

LEAST_FREE = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")


async def _occupy(it: World, count: int = 1, path: str = "/sse?events=100000&gap_ms=20") -> list[asyncio.Task[bytes]]:
    """So many streams inside, begun one after the other; the tasks end when their connections do."""
    streams = []
    for number in range(count):
        client = await it.connect()
        await client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await client.until(b"\r\n\r\n")
        await it.until_stat(in_flight=number + 1)
        streams.append(asyncio.ensure_future(client.reader.read()))  # noqa: TID251 - a reader of one test
    return streams


async def test_r8_with_a_limit_of_one_five_clients_are_all_served_and_never_two_are_inside() -> None:
    async with world("--concurrency-limit", "1", "--queue-depth", "4") as it:
        answers = await asyncio.gather(*(it.get("/sleep?ms=60") for _ in range(5)))
        assert [status for status, _, _ in answers] == [200] * 5
        seen = await it.tell_stub("/stats")
        assert (seen["requests"], seen["peak"]) == (5, 1)
        waited = [head for _, head, _ in answers if "server-timing: hold;dur=" in head]
        assert len(waited) == 4


async def test_a_request_beyond_the_queue_is_refused_at_once_as_not_sent() -> None:
    async with world("--concurrency-limit", "1", "--queue-depth", "2") as it:
        await _occupy(it)
        for number in range(2):
            waiting = await it.connect()
            await waiting.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await it.until_stat(held=number + 1)
        began = time.perf_counter()
        status, head, body = await it.get("/v1/models")
        took_s = time.perf_counter() - began
        assert status == 429
        assert "zerogate-not-sent: 1" in head
        assert re.search(r"retry-after: [1-9]", head)
        assert json.loads(body)["error"]["code"] == "queue_full"
        assert took_s < 0.1
        assert (await it.tell_stub("/stats"))["requests"] == 1


async def test_the_queue_is_bounded_in_bytes_too() -> None:
    async with world("--concurrency-limit", "1", "--queue-bytes", "1Mi") as it:
        await _occupy(it)
        client = await it.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n")
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ")
        assert b"zerogate-not-sent: 1" in head


async def test_answers_that_clients_do_not_take_turn_new_requests_away_before_the_container_is_full() -> None:
    async with world("--body-memory", "1Mi") as it:
        slow = [await it.connect() for _ in range(24)]
        for client in slow:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(b"GET /sse?events=1000000&gap_ms=0&size=4000 HTTP/1.1\r\nHost: x\r\n\r\n")

        async def is_short() -> bool:
            return (await it.get("/v1/models"))[0] == 503

        await it.until(is_short)
        status, head, body = await it.get("/v1/models")
        assert (status, json.loads(body)["error"]["code"]) == (503, "memory_full")
        assert "zerogate-not-sent: 1" in head
        metrics = (await it.ask(it.admin_port, "/metrics"))[2].decode()
        assert float(re.findall(r"^zerogate_answer_bytes (\S+)", metrics, re.MULTILINE)[0]) >= 900_000
        for client in slow:
            client.abort()

        async def is_free() -> bool:
            return b"zerogate_answer_bytes 0\n" in (await it.ask(it.admin_port, "/metrics"))[2]

        await it.until(is_free)
        assert (await it.get("/v1/models"))[0] == 200


async def test_one_connection_too_many_is_told_so_as_not_sent_and_a_gateway_gets_in_all_the_same() -> None:
    async with world("--max-connections", "2") as it:
        streams = await _occupy(it, 2)
        status, head, body = await it.get("/v1/models")
        assert (status, json.loads(body)["code"]) == (503, "too_many_connections")
        assert "zerogate-not-sent: 1" in head
        silent = [await it.connect() for _ in range(40)]
        gateway = await it.connect()
        await gateway.send(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: zerogate-control/1\r\n"
            b"zerogate-holder: a\r\n\r\n"
        )
        assert (await gateway.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert json.loads(await gateway.until(b"\n"))["ready"] is True
        assert b"too_many_connections" in await silent[0].rest(), "it made room for a later one"
        metrics = await _metrics(it)
        assert "zerogate_gateways 1" in re.sub(r"\{.*?\}", "", metrics)
        assert "zerogate_connections_refused_total 10\n" in metrics
        assert not any(stream.done() for stream in streams)
        assert await it.admin("/healthz") == (200, {"status": "ok"})


async def test_traffic_does_not_get_the_places_of_the_admin_port_nor_one_client_all_of_them() -> None:
    async with world("--max-connections", "1") as it:
        await _occupy(it)
        many = [await it.connect(it.admin_port) for _ in range(40)]
        assert b"too_many_connections" in await many[-1].rest()
        many[0].abort()
        for client in many[32:]:
            client.abort()

        async def is_free() -> bool:
            try:
                return (await it.admin("/readyz"))[0] == 200
            except OSError:
                return False

        await it.until(is_free)


async def test_a_waiting_client_that_goes_away_frees_its_place_in_the_queue() -> None:
    async with world("--concurrency-limit", "1", "--queue-depth", "1") as it:
        await _occupy(it)
        waiting = await it.connect()
        await waiting.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await it.until_stat(held=1)
        waiting.abort()
        await it.until_stat(held=0, abandoned=1)
        assert (await it.tell_stub("/stats"))["requests"] == 1


async def test_a_running_client_that_goes_away_frees_its_slot_for_the_next() -> None:
    async with world("--concurrency-limit", "1") as it:
        running = await it.connect()
        await running.send(b"GET /sse?events=100000&gap_ms=20 HTTP/1.1\r\nHost: x\r\n\r\n")
        await running.until(b"\r\n\r\n")
        running.abort()
        status, _, _ = await it.get("/")
        assert status == 200

        async def noticed() -> bool:
            return bool((await it.tell_stub("/stats"))["abandoned"] == 1)

        await it.until(noticed)


async def test_readiness_follows_the_replica_up_down_and_up_again() -> None:
    async with world(stub_flags=("--never-ready",), ready=False) as it:
        assert (await it.admin("/readyz"))[0] == 503
        status, head, body = await it.get("/")
        assert (status, "zerogate-not-sent: 1" in head) == (503, True)
        assert b"not ready: it " in body
        assert (await it.admin("/healthz"))[0] == 200
        await it.tell_stub("/control/ready")
        await it.sidecar.line_with("server is ready")
        assert (await it.admin("/readyz"))[0] == 200
        assert (await it.get("/"))[0] == 200
        await it.tell_stub("/control/unready")
        await it.sidecar.line_with("not ready: it answers 503")
        status, readiness = await it.admin("/readyz")
        assert (status, readiness["ready"]) == (503, False)
        assert "it answers 503" in readiness["detail"]
        await it.tell_stub("/control/ready")
        await it.sidecar.line_with("server is ready")


async def test_a_replica_that_died_is_not_ready_and_its_requests_were_not_sent() -> None:
    async with world("--probe-interval", "1h") as it:
        it.stub.signal(signal.SIGKILL)
        await it.stub.end()
        status, head, body = await it.get("/")
        assert (status, "zerogate-not-sent: 1" in head) == (503, True)
        assert json.loads(body)["code"] == "replica_unreachable"
        await it.until_stat(in_flight=0)
    async with world() as it:
        it.stub.signal(signal.SIGKILL)
        await it.sidecar.line_with("not ready")
        it.stub, _ = await start_stub(port=it.stub_port)
        await it.sidecar.line_with("server is ready")
        assert (await it.get("/"))[0] == 200


async def test_a_replica_that_answers_late_is_busy_before_it_counts_as_lost() -> None:
    async with world("--probe-interval", "1s", "--probe-timeout", "1s") as it:
        it.stub.signal(signal.SIGSTOP)
        began = time.perf_counter()
        await it.sidecar.line_with("not ready: it took the question and did not answer within 1 s")
        assert time.perf_counter() - began > 2.9, "three questions of a second each"
        it.stub.signal(signal.SIGCONT)
        await it.sidecar.line_with("server is ready")


async def test_f2_a_replica_killed_in_the_middle_of_a_stream_cuts_the_answer() -> None:
    async with world() as it:
        client = await it.connect()
        await client.send(b"GET /sse?events=100000&gap_ms=10 HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.until(b'"n": 2')
        it.stub.signal(signal.SIGKILL)
        rest = await client.rest()
        assert not rest.endswith(b"0\r\n\r\n"), "the end of a chunked answer would say that it is whole"
        await it.until_stat(in_flight=0)
        assert 'zerogate_requests_total{service="service",result="cut"} 1' in await _metrics(it)


async def test_a_model_server_on_a_unix_socket_is_asked_and_served_like_any_other(tmp_path: Path) -> None:
    path = str(tmp_path / "model.sock")
    sidecar = await start_sidecar("--upstream", f"unix:{path}", *LEAST_FREE)
    it = World()
    try:
        said = await sidecar.line_with("requests on")
        it.port, it.admin_port = (int(number) for number in re.findall(r":([0-9]+)", said)[:2])
        assert (await it.admin("/readyz"))[0] == 503
        async with replica(echo, path=path):
            await sidecar.line_with("is ready")
            assert await it.admin("/readyz") == (200, {"ready": True, "detail": f"unix:{path}: it answers 200"})
            status, _, body = await it.get("/v1/models")
            assert (status, body) == (200, b"/v1/models")
    finally:
        await it.clients.aclose()
        sidecar.signal(signal.SIGKILL)
        await sidecar.end()


async def test_r6_events_are_no_later_than_through_a_process_that_only_passes_them_on() -> None:
    async with world("--concurrency-limit", "2") as it, wire(it.port) as one, beside(it.stub_port) as other:
        ours, theirs = await both(one, other, 40, gap_ms=30)
    assert ours.late_s() <= theirs.late_s() + LATER_S


async def test_a_drain_waits_for_a_stream_and_takes_nothing_new() -> None:
    async with world("--concurrency-limit", "1") as it:
        client = await it.connect()
        await client.send(b"GET /sse?events=40&gap_ms=20 HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.until(b'"n": 0')
        waiting = await it.connect()
        await waiting.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await it.until_stat(held=1)
        drain = await it.connect(it.admin_port)
        await drain.send(b"POST /drain HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert b"zerogate-not-sent: 1" in await waiting.rest(), "what waits may go elsewhere"
        status, head, _ = await it.get("/")
        assert (status, "zerogate-not-sent: 1" in head, "connection: close" in head) == (503, True, True)
        assert await it.admin("/readyz") == (503, {"ready": False, "detail": "draining"})
        assert (await it.stat())["in_flight"] == 1
        assert (await drain.rest()).endswith(b'{"drained":true,"in_flight":0}')
        assert b"[DONE]" in await client.rest()
        assert (await it.admin("/drain"))[1] == {"drained": True, "in_flight": 0}


async def test_a_drain_is_answered_at_its_deadline() -> None:
    async with world("--drain-deadline", "1s") as it:
        await _occupy(it)
        assert await it.admin("/drain") == (503, {"drained": False, "in_flight": 1})


async def test_a_drain_that_waits_is_not_ready_at_once_and_serves_until_senders_have_noticed() -> None:
    async with world("--drain-wait", "1s") as it:
        drain = await it.connect(it.admin_port)
        await drain.send(b"GET /drain?wait HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")

        async def is_not_ready() -> bool:
            return (await it.admin("/readyz"))[0] == 503

        await it.until(is_not_ready)
        assert (await it.get("/"))[0] == 200
        assert (await drain.rest()).endswith(b'{"drained":true,"in_flight":0}')
        assert (await it.get("/"))[0] == 503


async def test_a_drain_before_a_stop_is_answered_once_the_model_server_has_answered_and_so_hears_of_it(
    tmp_path: Path,
) -> None:
    ready = tmp_path / "ready"
    async with world(stub_flags=("--ready-file", str(ready)), ready=False) as it:
        drain = await it.connect(it.admin_port)
        await drain.send(b"GET /drain?wait HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = asyncio.ensure_future(drain.rest())  # noqa: TID251 - a reader of one test
        assert not (await asyncio.wait([answer], timeout=0.5))[0], "it was told to end before it could hear that"
        ready.touch()
        assert (await answer).endswith(b'{"drained":true,"in_flight":0}')


async def test_a_model_server_that_never_answers_is_told_to_end_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("queueproxy.running.HEARS_S", 0.3)
    sidecar = Sidecar(read(["--upstream", "1", *LEAST_FREE], {}))
    await sidecar.start()
    began_s = time.perf_counter()
    sidecar.drain(now(), waits=True)
    async with asyncio.timeout(30):
        while not sidecar.slots.is_closed:
            await asyncio.sleep(0.01)
    assert time.perf_counter() - began_s >= 0.2
    await sidecar.stop()


async def test_with_a_token_nobody_drains_without_it() -> None:
    token = "a-token_of_the-pod-1"
    async with world("--drain-token", token) as it:
        for headers in ("", f"zerogate-drain-token: {token}x\r\n", f"zerogate-drain-token: {token[:-1]}2\r\n"):
            assert (await it.admin("/drain", headers=headers))[0] == 403
        assert (await it.get("/"))[0] == 200
        assert (await it.admin("/drain", headers=f"zerogate-drain-token: {token}\r\n"))[0] == 200


async def test_a_web_page_cannot_drain() -> None:
    async with world() as it:
        assert (await it.admin("/drain", headers="Origin: http://evil.example\r\n"))[0] == 403
        assert (await it.admin("/drain", headers="Sec-Fetch-Site: cross-site\r\n"))[0] == 403
        client = await it.connect(it.admin_port)
        await client.send(b"GET /drain HTTP/1.1\r\nHost: rebound.example\r\n\r\n")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
        assert (await it.get("/"))[0] == 200


async def test_the_admin_port_cannot_be_reached_through_the_traffics_nor_the_other_way_round() -> None:
    async with world() as it:
        for path in ("/drain", "/readyz", "/metrics"):
            assert json.loads((await it.get(path))[2])["path"] == path, "answered by the model server"
        assert (await it.admin("/v1/models"))[0] == 404
        assert (await it.admin("/metrics", method="POST"))[0] == 405


async def _metrics(it: World) -> str:
    return (await it.ask(it.admin_port, "/metrics"))[2].decode()


async def test_metrics_parse_and_agree_with_the_stat() -> None:
    async with world("--concurrency-limit", "3", "--service", "chat") as it:
        for _ in range(4):
            await it.get("/echo")
        samples = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(await _metrics(it))
            for sample in family.samples
        }
        stat = await it.stat()
        assert samples["zerogate_requests_total", "chat", "served"] == stat["completions"] == 4
        assert samples["zerogate_concurrency_limit", "chat"] == 3
        assert samples["zerogate_replica_ready", "chat"] == 1
        assert stat["service"] == "chat"
        again = await it.stat()
        assert (again["sequence"], again["incarnation"]) == (stat["sequence"] + 1, stat["incarnation"])


async def test_told_to_leave_it_finishes_the_stream_and_exits_with_0() -> None:
    async with world() as it:
        client = await it.connect()
        await client.send(b"GET /sse?events=20&gap_ms=20 HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.until(b'"n": 0')
        idle = await it.connect()
        it.sidecar.signal()
        await it.sidecar.line_with("leaving")
        assert await it.admin("/readyz") == (503, {"ready": False, "detail": "draining"})
        assert await idle.rest() == b"", "a connection without a request is closed, two seconds later"
        with pytest.raises(ConnectionRefusedError):
            await it.connect()
        assert b"[DONE]" in await client.rest()
        assert await it.sidecar.end() == 0


async def test_it_goes_on_for_the_wait_that_senders_need_to_notice() -> None:
    async with world("--drain-wait", "1s") as it:
        it.sidecar.signal()
        await it.sidecar.line_with("leaving")
        assert (await it.admin("/readyz"))[0] == 503
        assert (await it.get("/"))[0] == 200
        assert await it.sidecar.end() == 0


async def test_told_to_leave_it_sends_elsewhere_what_waits() -> None:
    async with world("--concurrency-limit", "1") as it:
        client = await it.connect()
        await client.send(b"GET /sse?events=20&gap_ms=20 HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.until(b'"n": 0')
        waiting = await it.connect()
        await waiting.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await it.until_stat(held=1)
        it.sidecar.signal()
        refused = await waiting.rest()
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"zerogate-not-sent: 1" in refused
        assert b"[DONE]" in await client.rest()
        assert await it.sidecar.end() == 0


@pytest.mark.parametrize("wait", ["0s", "1h"], ids=["while finishing", "while waiting for senders"])
async def test_a_second_signal_ends_it_at_once(wait: str) -> None:
    async with world("--drain-wait", wait, "--drain-deadline", "1h") as it:
        streams = await _occupy(it)
        idle = await it.connect()
        it.sidecar.signal()
        await it.sidecar.line_with("leaving")
        if wait == "0s":
            assert await idle.rest() == b""
        it.sidecar.signal(signal.SIGINT)
        assert await it.sidecar.end() == 0
        await asyncio.wait(streams, timeout=5)
        assert all(stream.done() for stream in streams)


async def test_a_client_that_does_not_finish_is_reset_at_the_deadline() -> None:
    async with world("--drain-deadline", "1s") as it:
        await _occupy(it)
        it.sidecar.signal()
        assert "1 connections were reset" in await it.sidecar.rest()
        assert await it.sidecar.end() == 0


async def test_hold_timeout_is_a_503_that_was_not_sent() -> None:
    async with world("--concurrency-limit", "1") as it:
        await _occupy(it)
        status, head, body = await it.get("/", headers="Prefer: wait=1\r\n")
        assert (status, "zerogate-not-sent: 1" in head, json.loads(body)["code"]) == (503, True, "hold_timeout")


async def test_a_model_server_that_does_not_begin_its_answer_in_time_is_a_504() -> None:
    async with world("--first-byte-timeout", "1s") as it:
        status, _, body = await it.get("/sleep?ms=60000")
        assert (status, json.loads(body)["code"]) == (504, "first_byte_timeout")
        await it.until_stat(in_flight=0)


@pytest.mark.parametrize(
    ("flag", "path"),
    [("--idle-stream-timeout", "/sse?events=3&gap_ms=60000"), ("--total-timeout", "/sse?events=100000&gap_ms=20")],
    ids=["idle", "total"],
)
async def test_a_stream_that_a_timer_ends_is_cut_so_that_its_client_can_tell(flag: str, path: str) -> None:
    async with world(flag, "1s") as it:
        client = await it.connect()
        await client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert not answer.endswith(b"0\r\n\r\n")
        await it.until_stat(in_flight=0)


async def test_a_taken_port_is_said_in_a_sentence_and_ends_it_with_1() -> None:
    async with world() as it:
        for flag, other in (("--listen", "--admin"), ("--admin", "--listen")):
            taken = f"127.0.0.1:{it.port}"
            second = await start_sidecar("--upstream", str(it.stub_port), flag, taken, other, "127.0.0.1:0")
            said = await second.rest()
            assert said.startswith(f"queueproxy: {flag}: {taken} is taken by another program.")
            assert f"(`{flag} HOST:PORT`)" in said
            assert len(said.splitlines()) == 1
            assert await second.end() == 1


async def test_a_model_server_that_is_not_there_is_said_after_a_while() -> None:
    sidecar = await start_sidecar("--upstream", "1", *LEAST_FREE)
    await sidecar.line_with("requests on")
    assert "the model server at 127.0.0.1:1 is not ready yet: Connection refused" in await sidecar.line_with(
        "not ready"
    )
    sidecar.signal()
    assert await sidecar.end() == 0


async def test_a_wrong_setting_is_said_in_a_sentence_and_ends_it_with_2() -> None:
    sidecar = await start_sidecar(*LEAST_FREE, ZEROGATE_UPSTREAM="8000", ZEROGATE_HOLD_TIMEOUT="30")
    assert (await sidecar.rest()).splitlines() == [
        'queueproxy: ZEROGATE_HOLD_TIMEOUT: "30" has no unit. Write 30s, 30m or 30h.'
    ]
    assert await sidecar.end() == 2


async def test_what_is_sent_again_on_a_stale_connection_is_counted_and_stands_in_the_access_log() -> None:
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await read_request(reader)
            if head.startswith(b"GET /once"):
                heads.append(head)
                if len(heads) == 1:
                    writer.transport.abort()  # as a server whose patience with an idle connection just ended
                    return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with replica(script) as port:
        flags = ("--upstream", str(port), *LEAST_FREE, "--access-log", "on")
        sidecar = await start_sidecar(*flags, stdout=asyncio.subprocess.PIPE)
        it = World()
        try:
            said = await sidecar.line_with("requests on")
            it.port, it.admin_port = (int(number) for number in re.findall(r":([0-9]+)", said)[:2])
            await sidecar.line_with("is ready")
            assert (await it.get("/once"))[0] == 200
            assert len(heads) == 2
            _, _, metrics = await it.ask(it.admin_port, "/metrics")
            assert b'zerogate_retries_total{service="service",why="lost"} 1' in metrics
            assert sidecar.process.stdout is not None
            line = json.loads(await asyncio.wait_for(sidecar.process.stdout.readline(), 10))
            assert (line["path"], line["status"], line["result"], line["attempts"]) == ("/once", 200, "served", 2)
        finally:
            await it.clients.aclose()
            sidecar.signal(signal.SIGKILL)
            await sidecar.end()


NEVER_LOADED = {"aiohttp", "kubernetes_asyncio", "prometheus_client", "yaml", "rich", "typer", "jh2",
                "cronsim", "activator", "gateway", "autoscaler", "cli", "http.server", "email", "hashlib", "ssl",
                "_ssl"}  # fmt: skip


@pytest.mark.parametrize("flags", [(), ("--stats", "localhost:9")], ids=["alone", "reporting"])
async def test_its_process_has_loaded_nothing_that_it_does_not_need(flags: tuple[str, ...]) -> None:
    """Told by the interpreter itself."""
    stub, port = await start_stub()
    sidecar = await start_sidecar("--upstream", str(port), *LEAST_FREE, *flags, python=("-X", "importtime"))
    try:
        said = []
        while "requests on" not in (line := await sidecar.line_with("")):
            said.append(line)
        it = World()
        it.port, it.admin_port = (int(number) for number in re.findall(r":([0-9]+)", line)[:2])
        said.append(await sidecar.line_with("is ready"))
        assert (await it.get("/"))[0] == 200
        for path in ("/metrics", "/stats", "/readyz", "/healthz", "/drain"):
            await it.ask(it.admin_port, path)
        sidecar.signal()
        said.append(await sidecar.rest())
        assert await sidecar.end() == 0
    finally:
        if sidecar.process.returncode is None:
            sidecar.signal(signal.SIGKILL)
            await sidecar.end()
        stub.signal(signal.SIGKILL)
        await stub.end()
    loaded = {line.split("|")[2].strip() for line in "".join(said).splitlines() if line.count("|") == 2}
    assert {"zerogate.http.server", "queueproxy.slots", "httptools", "uvloop"} <= loaded, "the test sees what is loaded"
    assert not {name for name in loaded if name in NEVER_LOADED or name.split(".")[0] in NEVER_LOADED}


async def test_its_process_is_small() -> None:
    """25 MiB measured with CPython 3.11; a further library of any size would show."""
    async with world() as it:
        status = Path(f"/proc/{it.sidecar.process.pid}/status").read_text()
        assert int(re.search(r"VmRSS:\s+([0-9]+)", status)[1]) < 28 * 1024  # type: ignore[index]
