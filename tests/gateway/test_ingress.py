"""Where requests enter: found by host, path and model, or answered here without waking anything."""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from activator.holds import Holds
from gateway.ingress import Ingress
from gateway.route_table import Route
from gateway.router import Router
from tests.zerogate.http.dialogue import Sides
from zerogate.clock import now
from zerogate.counters import Result
from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.parse_heads import parse_request
from zerogate.http.phases import ROUTING
from zerogate.http.sweep import Sweep
from zerogate.policy import Policy
from zerogate.runtime.interface import Address, BackOff, EndCause, Ended, Replica, ReplicaState
from zerogate.tasks import Nursery

POLICIES = {
    "chat": Policy(models=("llama", "llama-alias"), health_paths=("/ping",)),
    "image": Policy(models=("sdxl",)),
    "asr": Policy(hosts=("asr.example.org",)),
}


class Gateway:
    """An ingress over three services at zero; `place` sends a request in and gives its exchange."""

    def __init__(self) -> None:
        self.wakes: list[str] = []
        self.soon: list[Callable[[], None]] = []
        loop = asyncio.get_running_loop()
        self.holds = Holds(
            self,
            sweep=Sweep(),
            nursery=Nursery(),
            choose=random.Random(1).randrange,
            call_later=loop.call_later,
            clock=now,
        )
        self.holds.configure(POLICIES, {})
        self.noted: list[tuple[str, int]] = []
        self.ingress = Ingress(
            self.holds, self.soon.append, lambda service, exchange: self.noted.append((service, exchange.status))
        )
        self.ingress.configure(
            Router([Route(service=name, hosts=one.hosts, models=one.models) for name, one in POLICIES.items()])
        )

    def on_wake(self, service: str) -> None:
        self.wakes.append(service)

    def on_idle(self, replica_id: str) -> None: ...

    def on_exchange_ended(self, service: str, exchange: Exchange) -> None: ...

    def place(
        self,
        method: str,
        target: str,
        *,
        host: str = "any",
        body: bytes = b"",
        chunk: int = 1 << 20,
        at_once: bool = False,
        **fields: str,
    ) -> Exchange:
        """`at_once`: the body came with the head, and is there when the request is placed."""
        lines = [(b"Host", host.encode())]
        if body:
            lines.append((b"Content-Length", b"%d" % len(body)))
        lines += [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
        head = parse_request(method.encode(), target.encode(), "1.1", lines, keep_alive=True)
        exchange = Exchange(Answers(), head, now())
        if at_once:
            exchange.on_request_data(body, now())
            exchange.on_request_end([], now())
        self.ingress.place(exchange, now())
        if at_once:
            return exchange
        for at in range(0, len(body), chunk):
            exchange.on_request_data(body[at : at + chunk], now())
        exchange.on_request_end([], now())
        while self.soon:
            self.soon.pop(0)()
        return exchange


class Answers(Sides):
    """Keeps the body of our own answers."""

    body = b""

    def send_answer(self, status: int, headers: Any, body: bytes) -> None:
        super().send_answer(status, headers, body)
        self.body = body


def held_by(gateway: Gateway) -> list[str]:
    return [hold.service for hold in gateway.holds if hold.queue.length]


def answer(exchange: Exchange) -> Any:
    return json.loads(exchange.downstream.body)  # type: ignore[attr-defined]


async def test_a_host_leads_to_its_service_without_a_look_into_the_body() -> None:
    gateway = Gateway()
    gateway.place("POST", "/transcribe", host="asr.example.org:8080", body=b'{"model": "llama"}')
    assert (held_by(gateway), gateway.wakes) == (["asr"], ["asr"])


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
async def test_the_model_in_the_body_leads_to_its_service_and_no_byte_is_lost(chunk: int) -> None:
    gateway = Gateway()
    messages = [{"content": 'a "model": "sdxl" in a string'}] * 50
    body = json.dumps({"messages": messages, "model": "llama-alias"}).encode()
    exchange = gateway.place("POST", "/v1/chat/completions", body=body, chunk=chunk)
    assert held_by(gateway) == ["chat"]
    assert b"".join(exchange.chunks or ()) == body


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "text/plain"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "llama"}', b'{"messages": [], "model": "sdxl"}', b'{"model": "llama", "model": "sdxl"}',
        b'{"\\u006dodel": "sdxl"}', b'{"model": "gpt-5"}', b'{"model": 7}', b'{"model": "lla', b"[]", b"{}",
        b'{"model": null}', b'{"messages": [{"model": "sdxl"}]}', b'{"model": "' + b"x" * 5000 + b'"}',
        b'\xef\xbb\xbf{"model": "llama"}', b'{"model": "llama"} trailing', b'{"model": "ll\xff"}',
    ],
)  # fmt: skip
async def test_a_body_that_comes_with_its_head_leads_where_it_would_lead_later(body: bytes, content_type: str) -> None:
    seen = []
    for at_once in (True, False):
        gateway = Gateway()
        exchange = gateway.place("POST", "/v1/x", body=body, at_once=at_once, content_type=content_type)
        while gateway.soon:
            gateway.soon.pop(0)()
        seen.append((held_by(gateway), gateway.wakes, exchange.status, exchange.code, exchange.chunks))
    assert seen[0] == seen[1]


async def test_a_dense_body_is_read_in_turns_while_its_client_is_paused() -> None:
    gateway = Gateway()
    body = b'{"a":[' + b"[],[]," * 200_000 + b'0],"model":"sdxl"}'
    exchange = gateway.place("POST", "/v1/images/generations", body=body, chunk=65536)
    assert held_by(gateway) == ["image"]
    assert "client: pause" in exchange.downstream.said  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(b'{"model": "gpt-5"}', 404, "model_not_found", id="unknown"),
        pytest.param(b'{"messages": []}', 400, "model_required", id="missing"),
        pytest.param(b'{"model": 7}', 400, "model_invalid", id="a-number"),
        pytest.param(b'{"model": "lla', 400, "body_malformed", id="cut-off"),
        pytest.param(b"", 400, "model_required", id="no-body"),
    ],
)
async def test_a_body_that_names_no_model_is_refused_with_what_to_do(body: bytes, status: int, code: str) -> None:
    gateway = Gateway()
    exchange = gateway.place("POST", "/v1/chat/completions", body=body)
    assert (exchange.status, exchange.code) == (status, code)
    assert gateway.ingress.unrouted.refused_by_code == {code: 1}
    assert gateway.wakes == []


async def test_a_body_announced_as_too_large_to_be_kept_is_refused_before_it_comes() -> None:
    gateway = Gateway()
    exchange = gateway.place("POST", "/v1/chat/completions", content_length=str(65 << 20))
    assert (exchange.status, exchange.code) == (413, "body_too_large")


async def test_a_body_of_brackets_alone_does_not_keep_the_loop_busy_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.body_route.MOST_TURNS", 3)
    exchange = Gateway().place("POST", "/v1/x", body=b'{"a":' + b"[" * 3_000_000)
    assert (exchange.status, exchange.code) == (413, "body_too_dense")


async def test_a_full_memory_refuses_new_bodies_for_a_moment() -> None:
    gateway = Gateway()
    fields = [(b"Host", b"a"), (b"Content-Length", b"9")]
    exchange = Exchange(Answers(), parse_request(b"POST", b"/v1/x", "1.1", fields, keep_alive=True), now())
    exchange.downstream.memory.used_bytes = exchange.downstream.memory.limit_bytes
    gateway.ingress.place(exchange, now())
    assert (exchange.status, exchange.code) == (503, "memory_full")


async def test_a_body_whose_model_has_not_come_is_not_read_on_where_the_memory_is_full_by_now() -> None:
    gateway = Gateway()
    fields = [(b"Host", b"a"), (b"Content-Type", b"application/json"), (b"Content-Length", b"900")]
    exchange = Exchange(Answers(), parse_request(b"POST", b"/v1/x", "1.1", fields, keep_alive=True), now())
    memory = exchange.downstream.memory
    gateway.ingress.place(exchange, now())
    exchange.on_request_data(b'{"messages": [', now())
    assert exchange.phase == ROUTING
    memory.used_bytes += memory.limit_bytes
    exchange.on_request_data(b'"a", ', now())
    assert (exchange.status, exchange.code, memory.body_bytes) == (503, "memory_full", memory.limit_bytes)


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        pytest.param("/health", {}, id="the-services-own-path"),
        pytest.param("/health?verbose=1", {}, id="with-a-query"),
        pytest.param("/", {"user_agent": "kube-probe/1.34"}, id="a-kubelet"),
        pytest.param("/x", {"user_agent": "ELB-HealthChecker/2.0"}, id="a-balancer"),
    ],
)
async def test_health_checks_are_answered_without_waking_or_counting(target: str, fields: dict[str, Any]) -> None:
    gateway = Gateway()
    exchange = gateway.place("GET", target, host="asr.example.org", **fields)
    assert answer(exchange) == {"service": "asr", "state": "zero"}
    assert (gateway.wakes, gateway.holds["asr"].meter.arrivals) == ([], 0)


async def test_zerogates_own_health_is_answered_where_no_service_takes_the_path() -> None:
    for target in ("/health", "/healthz?full=1"):
        assert answer(Gateway().place("GET", target)) == {"status": "ok"}


GRPC: dict[str, Any] = {"content_type": "application/grpc", "te": "trailers"}
CHECK = "/grpc.health.v1.Health/Check"


@pytest.mark.parametrize(("host", "state"), [("asr.example.org", 1), ("nobody.example.org", 1)])
@pytest.mark.parametrize("chunk", [2, 100])
async def test_the_health_service_of_grpc_says_serving_and_wakes_nothing(host: str, state: int, chunk: int) -> None:
    gateway = Gateway()
    exchange = gateway.place("POST", CHECK, host=host, body=b"\0\0\0\0\2\x0a\0", chunk=chunk, **GRPC)
    payload = b"\0\0\0\0\2\x08" + bytes((state,))
    assert exchange.downstream.said == [  # type: ignore[attr-defined]
        "client: resume", "client: 200 +body", f"client: data {payload.decode()}", "client: end"
    ]  # fmt: skip
    assert exchange.result is Result.SERVED
    assert gateway.wakes == []


async def test_a_service_that_cannot_start_is_not_serving() -> None:
    gateway = Gateway()
    ended = Ended(cause=EndCause.START_FAILED, detail="asr-1 ended with code 1.")
    gateway.holds.on_back_off("asr", BackOff(failures=1, next_try_s=now() + 60, last=ended))
    exchange = gateway.place("POST", CHECK, host="asr.example.org", body=b"\0\0\0\0\0", **GRPC)
    assert "client: data \0\0\0\0\2\x08\2" in exchange.downstream.said  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        pytest.param("/grpc.health.v1.Health/Watch", b"\0\0\0\0\0", 501, "health_watch", id="a-watch"),
        pytest.param(CHECK, b"x" * 5000, 413, "body_too_large", id="no-question"),
    ],
)
async def test_what_the_health_service_does_not_answer_wakes_nothing_either(
    path: str, body: bytes, status: int, code: str
) -> None:
    gateway = Gateway()
    exchange = gateway.place("POST", path, host="asr.example.org", body=body, **GRPC)
    assert (exchange.status, exchange.code, gateway.wakes) == (status, code, [])


async def test_that_path_is_an_ordinary_one_without_grpc() -> None:
    gateway = Gateway()
    gateway.place("POST", CHECK, host="asr.example.org", body=b"{}")
    assert gateway.wakes == ["asr"]


async def test_the_list_of_models_says_what_each_would_cost_to_ask() -> None:
    gateway = Gateway()
    ready = Replica(
        service="image",
        id="image-1",
        state=ReplicaState.READY,
        address=Address("127.0.0.1", 1),
        started_s=0.0,
        ready_s=1.0,
    )
    gateway.holds.on_replica(ready)
    listed = answer(gateway.place("GET", "/v1/models"))["data"]
    assert [(one["id"], one["zerogate"]["state"]) for one in listed] == [
        ("llama", "zero"), ("llama-alias", "zero"), ("sdxl", "ready"),
    ]  # fmt: skip
    assert answer(gateway.place("GET", "/v1/models/sdxl"))["zerogate"]["replicas"] == 1
    assert gateway.place("GET", "/v1/models/gpt-5").status == 404
    assert gateway.place("DELETE", "/v1/models/sdxl").status == 405
    assert gateway.wakes == []


async def test_what_no_service_takes_is_404_and_counted_under_no_service() -> None:
    gateway = Gateway()
    exchange = gateway.place("GET", "/nowhere")
    assert (exchange.status, exchange.result) == (404, Result.REFUSED)
    assert gateway.ingress.unrouted.refused_by_code == {"no_route": 1}
    assert gateway.noted == [("", 404)]


async def test_suspended_starts_refuse_what_waits_with_what_the_model_printed() -> None:
    gateway = Gateway()
    exchange = gateway.place("GET", "/x", host="asr.example.org")
    ended = Ended(cause=EndCause.START_FAILED, detail="It ended with exit code 3.", last_lines=("CUDA out of memory",))
    gateway.holds.on_back_off("asr", BackOff(failures=1, next_try_s=now() + 9, last=ended))
    said = exchange.downstream.said[-1]  # type: ignore[attr-defined]
    assert exchange.status == 503
    assert said.startswith("client: refused 503 start_failed")
    assert gateway.place("GET", "/health", host="asr.example.org").status == 503
    gateway.holds.on_back_off("asr", None)
    gateway.place("GET", "/x", host="asr.example.org")
    assert held_by(gateway) == ["asr"]


async def test_a_crash_of_a_ready_replica_keeps_what_waits_for_the_next_start() -> None:
    gateway = Gateway()
    gateway.place("GET", "/x", host="asr.example.org")
    ended = Ended(cause=EndCause.CRASHED, detail="It was killed by SIGKILL.")
    gateway.holds.on_back_off("asr", BackOff(failures=1, next_try_s=now() + 1, last=ended))
    assert held_by(gateway) == ["asr"]


async def test_the_age_of_a_replica_that_was_found_running_is_not_its_start() -> None:
    gateway = Gateway()
    for service, found in (("asr", True), ("image", False)):
        states = [ReplicaState.READY] if found else [ReplicaState.STARTING, ReplicaState.READY]
        for state in states:
            gateway.holds.on_replica(
                Replica(
                    service=service,
                    id=f"{service}-1",
                    state=state,
                    address=Address("127.0.0.1", 1),
                    started_s=1.0,
                    ready_s=3.0 if state is ReplicaState.READY else None,
                )
            )
    assert gateway.holds["asr"].replicas["asr-1"].start_s is None
    assert gateway.holds["image"].replicas["image-1"].start_s == 2.0


async def test_a_head_that_comes_again_is_never_placed_by_a_table_of_before() -> None:
    gateway = Gateway()
    lines = [(b"Host", b"asr.example.org")]
    head = parse_request(b"GET", b"/x", "1.1", lines, keep_alive=True)

    def place() -> list[str]:
        for hold in gateway.holds:
            hold.fail(Refusal(status=503, code="stopped", detail="…"), float("inf"), now())
            hold.unblock()
        exchange = Exchange(Answers(), head, now())
        gateway.ingress.place(exchange, now())
        return held_by(gateway) or [exchange.code or str(exchange.status)]

    assert place() == place() == ["asr"]
    gateway.ingress.configure(Router([Route(service="image", hosts=("asr.example.org",))]))
    assert place() == place() == ["image"]
    gateway.ingress.configure(Router([]))
    assert place() == place() == ["no_route"]
    # a path that wakes nothing from now on
    gateway.holds.configure({**POLICIES, "asr": Policy(health_paths=("/x",))}, {})
    gateway.ingress.configure(Router([Route(service="asr", hosts=("asr.example.org",))]))
    assert place() == place() == ["200"]
