"""OpenTelemetry's spans of a request that has ended, by the semantic conventions for HTTP. The only module that imports
`opentelemetry`: it is loaded where something is traced (`trace-to`), and runs in a thread.

    SERVER `POST /v1/chat/completions`     from the head to the last byte
    ├─ INTERNAL `route`                    the body was read for its model
    ├─ INTERNAL `hold`                     it waited for capacity; one for each time
    └─ CLIENT `POST /v1/chat/completions`  one for each attempt; its id is what the replica got as its parent
       ├─ INTERNAL `connect`               a connection had to be made
       └─ INTERNAL `first-byte`            from the head's going out to the answer's coming

What took no time has no span. Queries, bodies and other fields are never in one.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from zerogate.counters import Result
from zerogate.http.traced import Traced, Tried
from zerogate.http.tracing import Tracing

AT_ONCE: Final = 32
"""Requests in one export: about a hundred spans, which take 5 ms to encode."""
PAUSE_S: Final = 0.5
"""How long what has ended waits for company."""
FLUSH_S: Final = 3.0
"""For the last exports when the process leaves."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
_MOST_CHARACTERS: Final = 1024
"""Of one attribute; collectors refuse or cut longer ones."""
_INSIDE: Final = SpanKind.INTERNAL

log = logging.getLogger(__name__)

Attributes = dict[str, str | int | bool]


class _Ids(IdGenerator):
    """Gives the ids that were sent already, else random ones."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.trace_id = 0
        self.span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        span_id, self.span_id = self.span_id, 0
        return span_id or self._random.generate_span_id()

    def is_trace_id_random(self) -> bool:
        return False


class _Collected(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class SpanMaker:
    """Makes the spans of records."""

    def __init__(self, resource: Resource) -> None:
        self._ids = _Ids()
        self._collected = _Collected()
        provider = TracerProvider(
            resource=resource, sampler=ALWAYS_ON, id_generator=self._ids, shutdown_on_exit=False
        )  # fmt: skip
        provider.add_span_processor(self._collected)
        self._tracer = provider.get_tracer("zerogate")
        self._offset_s = 0.0

    def make(self, record: Traced) -> list[ReadableSpan]:
        """All spans of a request, those inside before those around them."""
        self._offset_s = record.ended_at - record.ended_s
        self._ids.trace_id = int(record.trace_id, 16)
        name, route = _name(record)
        server = self._begin(
            name, _remote_parent(record), SpanKind.SERVER, record.received_s, _of_server(record, route), record.span_id
        )
        inside = set_span_in_context(server)
        if record.placed_s > record.received_s:
            self._whole("route", inside, record.received_s, record.placed_s)
        for began_s, ended_s in record.holds:
            self._whole("hold", inside, began_s, ended_s, {"zerogate.cold": record.is_cold})
        for count, tried in enumerate(record.tries):
            self._attempt(record, tried, count, name, inside)
        if record.status >= 500 or record.result is Result.CUT:
            server.set_status(Status(StatusCode.ERROR))
        server.end(self._at(record.ended_s))
        spans, self._collected.spans = self._collected.spans, []
        return spans

    def _attempt(self, record: Traced, tried: Tried, count: int, name: str, around: Context) -> None:
        is_last = not tried.cause
        attributes = _of_client(record, tried, count, is_last=is_last)
        span = self._begin(name, around, SpanKind.CLIENT, tried.dispatched_s, attributes, tried.span_id)
        inside = set_span_in_context(span)
        connected_s = tried.ended_s if tried.sent_s is None else tried.sent_s
        if connected_s > tried.dispatched_s:
            self._whole("connect", inside, tried.dispatched_s, connected_s)
        if is_last and tried.sent_s is not None and record.first_byte_s is not None:
            self._whole("first-byte", inside, tried.sent_s, record.first_byte_s)
        if "error.type" in attributes:
            span.set_status(Status(StatusCode.ERROR, tried.cause[:_MOST_CHARACTERS] or None))
        span.end(self._at(tried.ended_s))

    def _begin(
        self, name: str, around: Context, kind: SpanKind, at_s: float, attributes: Attributes, span_id: bytes = b"0"
    ) -> Span:
        self._ids.span_id = int(span_id, 16)
        return self._tracer.start_span(
            name, around, kind, attributes, start_time=self._at(at_s), record_exception=False
        )  # fmt: skip

    def _whole(
        self, name: str, around: Context, from_s: float, to_s: float, attributes: Attributes | None = None
    ) -> None:
        self._begin(name, around, _INSIDE, from_s, attributes or {}).end(self._at(to_s))

    def _at(self, at_s: float) -> int:
        """Nanoseconds since 1970 of an instant of the monotonic clock."""
        return int((at_s + self._offset_s) * 1e9)


def _name(record: Traced) -> tuple[str, str]:
    """The span's name: the method, which is one of a few, with the route where there is one."""
    method = _text(record.method)
    name = method if method in _METHODS else "HTTP"
    return (f"{name} {record.route}" if record.route else name), record.route


def _remote_parent(record: Traced) -> Context:
    if not record.parent_id:
        return Context()
    state = TraceState.from_header([_text(record.state)]) if record.state else TraceState()
    parent = SpanContext(
        int(record.trace_id, 16), int(record.parent_id, 16), is_remote=True, trace_flags=TraceFlags(record.flags),
        trace_state=state,
    )  # fmt: skip
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _of_server(record: Traced, route: str) -> Attributes:
    host, port = _split_host(_text(record.host))
    attributes: Attributes = {
        **_method(record),
        "url.path": _path(record),
        "url.scheme": _text(record.scheme),
        "client.address": _text(record.client),
        "network.protocol.version": record.http_version,
        "zerogate.result": str(record.result),
    }
    optional: Mapping[str, str | int] = {
        "http.route": route,
        "http.response.status_code": record.status,
        "server.address": host,
        "server.port": port,
        "user_agent.original": _text(record.user_agent),
        "error.type": _error(record),
        "zerogate.service": record.service,
        "zerogate.replica": record.tries[-1].replica if record.tries else "",
        "zerogate.code": record.code,
    }
    attributes.update((name, value) for name, value in optional.items() if value)
    return attributes


def _of_client(record: Traced, tried: Tried, count: int, *, is_last: bool) -> Attributes:
    attributes: Attributes = {
        **_method(record), "network.protocol.version": tried.http_version, "zerogate.replica": tried.replica,
    }  # fmt: skip
    address = tried.address
    if address is not None:
        attributes["server.address"] = address.path or address.host
        if not address.path:
            attributes["server.port"] = address.port
            attributes["url.full"] = f"{'https' if tried.is_secure else 'http'}://{address}{_path(record)}"
    if count:
        attributes["http.request.resend_count"] = count
    if not is_last:
        attributes["error.type"] = "replica_unreachable" if tried.sent_s is None else "replica_lost"
    elif record.result is Result.REFUSED:
        attributes["error.type"] = record.code
    else:
        if record.first_byte_s is not None:
            attributes["http.response.status_code"] = record.status
        if error := _error(record) or (str(record.status) if record.status >= 400 else ""):
            attributes["error.type"] = error
    return attributes


def _error(record: Traced) -> str:
    """What stands for `error.type`: a code of ours, or the replica's status; empty where nothing went wrong here."""
    if record.result is Result.CUT:
        return record.code
    if record.result is Result.ABANDONED:
        return "abandoned"
    return (record.code or str(record.status)) if record.status >= 500 else ""


def _method(record: Traced) -> Attributes:
    method = _text(record.method)
    if method in _METHODS:
        return {"http.request.method": method}
    return {"http.request.method": "_OTHER", "http.request.method_original": method}


def _path(record: Traced) -> str:
    return _text(record.target.partition(b"?")[0])


def _split_host(host: str) -> tuple[str, int]:
    """The name or address in a Host field, and its port; 0 where it says none."""
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit() and not (":" in name and not name.endswith("]")):
        return name.strip("[]"), int(port)
    return host.rstrip(":").strip("[]"), 0


def _text(raw: bytes) -> str:
    return raw[:_MOST_CHARACTERS].decode("ascii", "backslashreplace")


def resource(version: str, instance: str) -> Resource:
    """Who says all this; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` have the last word."""
    own = {"service.name": "zerogate", "service.version": version, "service.instance.id": instance}
    return Resource.create(own).merge(OTELResourceDetector().detect())


class _LastWords(logging.Handler):
    """Keeps what the exporter would have written to the log for each batch that it loses."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.words = record.getMessage()


class SpanExport:
    """The thread that takes records, makes spans and sends them."""

    def __init__(self, tracing: Tracing, endpoint: str, who: Resource) -> None:
        """`endpoint`: the whole URL; fields, certificates, compression and timeout are the `OTEL_EXPORTER_OTLP_*` of
        the environment."""
        self._tracing = tracing
        self._endpoint = endpoint
        self._maker = SpanMaker(who)
        self._exporter = OTLPSpanExporter(endpoint=endpoint)
        self._is_leaving = threading.Event()
        self._is_failing = False
        self._words = _LastWords()
        # a daemon: a collector that hangs does not keep the process
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    def start(self) -> None:
        """Begin to export."""
        for name in ("opentelemetry", "urllib3"):
            others = logging.getLogger(name)
            others.propagate = False
            others.addHandler(self._words)
        self._thread.start()

    def stop(self) -> None:
        """Export what waits, for `FLUSH_S` at most. It blocks: not for the loop."""
        self._is_leaving.set()
        self._thread.join(FLUSH_S)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
        while left := self._tracing.take(AT_ONCE):
            self._tracing.on_lost(len(left))

    def _run(self) -> None:
        for records in self._batches():
            spans = []
            for record in records:
                spans += self._spans(record)
                time.sleep(0)  # lets the loop have the interpreter, where it wants it
            self._send(spans, len(records))

    def _batches(self) -> Iterator[list[Traced]]:
        while True:
            is_last = self._is_leaving.is_set()
            while records := self._tracing.take(AT_ONCE):
                yield records
                if is_last and self._is_failing:
                    return
            if is_last:
                return
            self._is_leaving.wait(PAUSE_S)

    def _spans(self, record: Traced) -> list[ReadableSpan]:
        try:
            return self._maker.make(record)
        except Exception:
            log.exception("a request could not be made into spans")
            return []

    def _send(self, spans: list[ReadableSpan], count: int) -> None:
        try:
            is_taken = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception as failure:  # noqa: BLE001 - whatever it is, it must not end the thread
            self._words.words = str(failure)
            is_taken = False
        if is_taken:
            self._tracing.on_delivered(count)
        else:
            self._tracing.on_lost(count)
        if is_taken == self._is_failing:
            self._is_failing = not is_taken
            if is_taken:
                log.info("spans are delivered to %s again", self._endpoint)
            else:
                log.warning("spans cannot be delivered to %s, and are dropped: %s", self._endpoint, self._words.words)


def start_export(tracing: Tracing, endpoint: str, version: str) -> SpanExport:
    """Load what is needed and begin."""
    export = SpanExport(tracing, endpoint, resource(version, f"{os.uname().nodename}:{os.getpid()}"))
    export.start()
    return export
