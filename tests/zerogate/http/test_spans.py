"""Records become spans by OpenTelemetry's conventions."""

from typing import Any

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from zerogate.counters import Result
from zerogate.http.spans import SpanMaker, resource
from zerogate.http.traced import Traced, Tried
from zerogate.runtime.interface import Address

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRIED = Tried(
    span_id=b"00000000000000bb", replica="chat-1", address=Address("127.0.0.1", 9001), is_secure=False,
    http_version="1.1", dispatched_s=13.0, sent_s=13.0, ended_s=20.0, cause="",
)  # fmt: skip
RECORD = Traced(
    trace_id=TRACE.encode(), span_id=b"00000000000000aa", parent_id=b"", flags=1, state=b"", service="chat", route="",
    method=b"GET", target=b"/a?secret", host=b"models.lan:8080", scheme=b"http", client=b"192.0.2.1", user_agent=b"",
    http_version="1.1", status=200, result=Result.SERVED, code="", is_cold=False, received_s=13.0, ended_s=20.0,
    ended_at=1_790_000_020.0, first_byte_s=14.0, holds=(), tries=(TRIED,),
)  # fmt: skip


def spans_of(record: Traced = RECORD, **changed: Any) -> list[ReadableSpan]:
    return SpanMaker(Resource({})).make(replace(record, **changed))


def one_of(spans: list[ReadableSpan], kind: SpanKind, name: str | None = None) -> ReadableSpan:
    (found,) = (span for span in spans if span.kind is kind and name in (None, span.name))
    return found


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def test_a_warm_request_has_three_spans_and_those_of_no_length_are_left_out() -> None:
    assert [span.name for span in spans_of()] == ["first-byte", "GET", "GET"]


def test_times_are_those_of_the_wall_clock() -> None:
    server = one_of(spans_of(), SpanKind.SERVER)
    assert (server.start_time, server.end_time) == (1_790_000_013 * 10**9, 1_790_000_020 * 10**9)


def test_the_ids_are_those_that_were_sent() -> None:
    spans = spans_of(parent_id=b"00000000000000cc", state=b"a=1")
    server, client = one_of(spans, SpanKind.SERVER), one_of(spans, SpanKind.CLIENT)
    assert (span_id(server), span_id(client)) == (0xAA, 0xBB)
    assert server.parent is not None
    assert (server.parent.span_id, server.parent.is_remote) == (0xCC, True)
    assert all(span.context and f"{span.context.trace_id:032x}" == TRACE for span in spans)
    assert server.context is not None
    assert server.context.trace_state.to_header() == "a=1"
    assert spans_of()[-1].parent is None


def test_other_spans_have_ids_of_their_own() -> None:
    ids = [span_id(span) for span in spans_of(holds=((13.0, 14.0), (15.0, 16.0)))]
    assert len(set(ids)) == len(ids) == 5


def test_a_refused_request_has_a_server_span_and_what_it_waited() -> None:
    spans = spans_of(
        status=503, result=Result.REFUSED, code="hold_timeout", tries=(), first_byte_s=None, holds=((14.0, 20.0),)
    )
    assert [span.name for span in spans] == ["route", "hold", "GET"]
    server = one_of(spans, SpanKind.SERVER)
    assert server.status.status_code is StatusCode.ERROR
    assert attributes_of(server)["error.type"] == attributes_of(server)["zerogate.code"] == "hold_timeout"


@pytest.mark.parametrize(
    ("changed", "is_error", "error", "client_error"),
    [
        pytest.param({}, False, None, None, id="served"),
        pytest.param({"status": 404}, False, None, "404", id="the replica says 404"),
        pytest.param({"status": 500}, True, "500", "500", id="the replica says 500"),
        pytest.param({"result": Result.CUT, "code": "replica_lost"}, True, "replica_lost", "replica_lost", id="cut"),
        pytest.param({"result": Result.ABANDONED}, False, "abandoned", "abandoned", id="the client left"),
        pytest.param(
            {"result": Result.REFUSED, "status": 504, "code": "idle_timeout", "first_byte_s": None},
            True,
            "idle_timeout",
            "idle_timeout",
            id="timed out",
        ),
    ],
)
def test_what_went_wrong_is_said_where_it_did(
    changed: dict[str, Any], is_error: bool, error: str | None, client_error: str | None
) -> None:
    spans = spans_of(**changed)
    server, client = one_of(spans, SpanKind.SERVER), one_of(spans, SpanKind.CLIENT)
    assert (server.status.status_code is StatusCode.ERROR) is is_error
    assert attributes_of(server).get("error.type") == error
    assert attributes_of(client).get("error.type") == client_error
    assert (client.status.status_code is StatusCode.ERROR) is (client_error is not None)


def test_an_attempt_that_came_to_nothing_is_a_span_with_its_reason() -> None:
    failed = replace(
        TRIED, span_id=b"00000000000000dd", sent_s=None, dispatched_s=13.0, ended_s=13.5, cause="connection refused"
    )
    spans = spans_of(tries=(failed, replace(TRIED, dispatched_s=13.75, sent_s=13.8)))
    first, second = (span for span in spans if span.kind is SpanKind.CLIENT)
    assert attributes_of(first)["error.type"] == "replica_unreachable"
    assert first.status.description == "connection refused"
    assert "http.response.status_code" not in attributes_of(first)
    assert attributes_of(second)["http.request.resend_count"] == 1
    connects = [span for span in spans if span.name == "connect"]
    assert [span.parent and span.parent.span_id for span in connects] == [span_id(first), span_id(second)]


def test_names_are_few_whatever_clients_send() -> None:
    assert one_of(spans_of(method=b"BREW"), SpanKind.SERVER).name == "HTTP"
    attributes = attributes_of(one_of(spans_of(method=b"BREW"), SpanKind.SERVER))
    assert (attributes["http.request.method"], attributes["http.request.method_original"]) == ("_OTHER", "BREW")
    assert one_of(spans_of(route="/asr/*"), SpanKind.CLIENT).name == "GET /asr/*"


def test_a_query_is_in_no_span_and_long_values_are_cut() -> None:
    spans = spans_of(target=b"/" + b"x" * 9000 + b"?secret", user_agent=b"y" * 9000)
    assert "secret" not in str([attributes_of(span) for span in spans])
    assert max(len(str(value)) for span in spans for value in attributes_of(span).values()) < 1100


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        (b"models.lan:8080", "models.lan", 8080),
        (b"models.lan", "models.lan", None),
        (b"models.lan:", "models.lan", None),
        (b"[::1]:8080", "::1", 8080),
        (b"[::1]", "::1", None),
        (b"", None, None),
    ],
)
def test_the_host_field_says_where_it_was_sent(host: bytes, name: str | None, port: int | None) -> None:
    attributes = attributes_of(one_of(spans_of(host=host), SpanKind.SERVER))
    assert (attributes.get("server.address"), attributes.get("server.port")) == (name, port)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {"server.address": "127.0.0.1", "server.port": 9001, "url.full": "http://127.0.0.1:9001/a"}),
        ({"is_secure": True}, {"url.full": "https://127.0.0.1:9001/a"}),
        ({"address": Address("", 0, "/run/m.sock")}, {"server.address": "/run/m.sock"}),
        ({"address": None}, {"zerogate.replica": "chat-1"}),
    ],
)
def test_the_attempt_says_which_replica_it_went_to(changed: dict[str, Any], expected: dict[str, Any]) -> None:
    attributes = attributes_of(one_of(spans_of(tries=(replace(TRIED, **changed),)), SpanKind.CLIENT))
    assert expected.items() <= attributes.items()


def test_the_environment_has_the_last_word_about_who_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resource("1.2", "host:1").attributes["service.name"] == "zerogate"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=edge,deployment.environment=lab")
    attributes = resource("1.2", "host:1").attributes
    assert (attributes["service.name"], attributes["deployment.environment"]) == ("edge", "lab")
    assert attributes["service.version"] == "1.2"
