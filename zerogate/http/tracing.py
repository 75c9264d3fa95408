"""Traces of requests, where the file asks for them: begins them, and hands what has ended to the thread that exports.

Without `trace-to` nothing of this is made, and requests are placed without it. With it, each request gets
a `Trace` before it is placed; one that is sampled becomes a record in a bounded queue when it has ended. A collector
that is slow or gone holds up no request: what finds the queue full, and what cannot be delivered, is dropped and
counted.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from zerogate.clock import wall
from zerogate.counters import Exemplar, Result, ServiceCounters
from zerogate.errors import DefinitionError
from zerogate.http.exchange import Exchange, Placer
from zerogate.http.trace import Trace
from zerogate.http.trace_context import read_context
from zerogate.http.traced import Traced, route_of, traced

if TYPE_CHECKING:
    from zerogate.http.spans import SpanExport

MOST_WAITING: Final = 4096
"""Requests whose spans are not exported yet: 4 MiB, and some seconds of what the exporter keeps up with."""


class Tracing:
    """See the module's text. All but `take`, `on_delivered` and `on_lost` is called on the loop."""

    def __init__(self, place: Placer, counters: Callable[[str], ServiceCounters | None], *, ratio: float) -> None:
        """`place`: who places requests; `counters`: those of a service, which get exemplars."""
        self._ratio = ratio
        self._prefixes: Mapping[str, str] = {}
        self._place = place
        self._counters = counters
        self._new_id = random.Random().getrandbits
        self._waiting: deque[Traced] = deque()
        self._overflowed = 0
        self._delivered = 0
        self._lost = 0

    def configure(self, ratio: float, prefixes: Mapping[str, str]) -> None:
        """From now on record this share of the traces that begin here; `prefixes`: the path prefixes of services."""
        self._ratio = ratio
        self._prefixes = prefixes

    def place(self, exchange: Exchange, now_s: float) -> None:
        """Begin the trace of a request, then have it placed."""
        exchange.trace = Trace(read_context(exchange.head.lines), self._ratio, self._new_id)
        self._place(exchange, now_s)

    def note(self, service: str, exchange: Exchange) -> None:
        """A request has ended. Health checks and lists of models, which zerogate answers itself, are nobody's trace."""
        trace, exchange.trace = exchange.trace, None
        if trace is None or not trace.is_sampled or (not service and exchange.result is Result.SERVED):
            return
        ended_at = wall()
        if service:
            self._exemplify(service, exchange, trace, ended_at)
        if len(self._waiting) >= MOST_WAITING:
            self._overflowed += 1
            return
        route = route_of(exchange.head.target, self._prefixes.get(service)) if service else ""
        self._waiting.append(traced(service, route, exchange, trace, ended_at))

    def _exemplify(self, service: str, exchange: Exchange, trace: Trace, at: float) -> None:
        """The request as an example in the histograms that have counted it."""
        counters = self._counters(service)
        if counters is None:
            return
        trace_id = trace.trace_id.decode()
        if exchange.hold_s:
            counters.hold.exemplify(Exemplar(trace_id, exchange.hold_s, at))
        if exchange.first_byte_s is not None:
            counters.first_byte.exemplify(Exemplar(trace_id, exchange.first_byte_s - exchange.dispatched_s, at))
        if exchange.result is Result.SERVED and exchange.tunnel is None:
            counters.request.exemplify(Exemplar(trace_id, exchange.ended_s - exchange.received_s, at))

    @property
    def fates(self) -> dict[str, int]:
        """Requests that were to be traced, by what became of their spans."""
        return {"exported": self._delivered, "dropped": self._overflowed, "lost": self._lost}

    # What the exporting thread does

    def take(self, most: int) -> list[Traced]:
        """The oldest records, which are no longer here then."""
        waiting = self._waiting
        return [waiting.popleft() for _ in range(min(most, len(waiting)))]

    def on_delivered(self, count: int) -> None:
        """The collector has taken the spans of so many requests."""
        self._delivered += count

    def on_lost(self, count: int) -> None:
        """The collector has not taken the spans of so many requests."""
        self._lost += count


SPANS: Final = "zerogate.http.spans"
"""20 MiB and half a second to load: only where something is traced."""
_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")


def what_is_missing(key: str, instead: str) -> DefinitionError | None:
    """What is said of the setting `key` where the extra `otel` is not installed; looked for, not loaded. `instead`: how
    to do without."""
    try:
        if all(map(find_spec, _NEEDED)):
            return None
    except ModuleNotFoundError:
        pass
    return DefinitionError(
        "needs packages that are not installed",
        key=key,
        hint="Install zerogate[otel], that is opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http, "
        f"or {instead}.",
    )


async def start_export(tracing: Tracing, endpoint: str) -> "SpanExport":
    """Load what is needed, and begin to send spans to this URL."""
    from zerogate.version import version

    spans = await asyncio.to_thread(import_module, SPANS)
    export: SpanExport = await asyncio.to_thread(spans.start_export, tracing, endpoint, version())
    return export
