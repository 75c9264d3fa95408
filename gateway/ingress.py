"""Where requests enter: a head comes in, its service is found, and its hold takes it.

Answered here, without waking anything: health checks (the service's own paths, and what balancers and kubelets ask),
the list of models, and whatever no service takes.
"""

from collections.abc import Callable
from typing import Final

from activator.hold import Hold
from activator.holds import Holds
from activator.quiet import JSON, READS, answer_quietly, is_quiet
from gateway.body_peek import peek_for
from gateway.body_route import BodyRoute, CallSoon
from gateway.grpc_health import answer_health, is_health_check
from gateway.models import ModelState, ServedModels, list_models, show_model
from gateway.peeked import Peeked, Verdict
from gateway.route_table import Scope
from gateway.router import ByModel, ListModels, Router, ShowModel, ToService, Unrouted, unknown_model
from gateway.whole_name import whole_name
from zerogate.counters import Result, ServiceCounters
from zerogate.errors import Refusal
from zerogate.http.exchange import Exchange
from zerogate.http.sides import DEFAULT_TERMS, Owner

OWN_HEALTH: Final = frozenset({b"/health", b"/healthz", b"/livez", b"/readyz"})
"""Answered for zerogate itself where no service takes them."""


class _Edition:
    """Stands for a table of routes with the holds of its time.

    Heads that come again and again remember by it who takes them (`zerogate.http.h1.memo` shares them), which spares
    0.3 µs of a request's 20; one that remembers another edition is looked up anew, and it keeps no old table alive.
    """


class Ingress(Owner[Exchange]):
    """See the module's text. Owner of the exchanges that have no service (yet)."""

    terms = DEFAULT_TERMS

    def __init__(self, holds: Holds, call_soon: CallSoon, note: Callable[[str, Exchange], None]) -> None:
        """`note(service, exchange)` is told of each end, with "" for the service, for the access log."""
        self.unrouted = ServiceCounters()
        """What ended before a service was found."""
        self._holds = holds
        self._hold_of = holds.by_service
        self._call_soon = call_soon
        self._note = note
        self._router = Router(())
        self._edition = _Edition()

    def configure(self, router: Router) -> None:
        """Route by another table from now on; what is on its way stays on it. To be called whenever the holds got
        other services or policies, too, and in the same callback."""
        self._router = router
        self._edition = _Edition()

    def place(self, exchange: Exchange, now_s: float) -> None:
        """Find the service of a request and hand it over: what the server calls for each."""
        head = exchange.head
        placed = head.placed
        if placed is not None and placed[0] is self._edition:
            taker: Hold = placed[1]  # type: ignore[assignment]
            taker.place(exchange, now_s)
            return
        match = self._router.match(head.host or None, head.target)
        if type(match) is ToService:
            hold = self._hold_of[match.service]
            if is_quiet(head, hold):
                self._answer_quietly(exchange, hold, now_s)
            elif head.is_grpc and is_health_check(head):
                exchange.give_to(self)
                answer_health(exchange, is_serving=self._state(hold) is not ModelState.FAILING, now_s=now_s)
            else:
                head.placed = (self._edition, hold)
                hold.place(exchange, now_s)
            return
        if type(match) is ByModel and (named := self._named_at_once(exchange, match.scope)) is not None:
            named.place(exchange, now_s)
            return
        exchange.give_to(self)
        if type(match) is ByModel:
            self._peek(exchange, match.scope, now_s)
        elif type(match) is ListModels or type(match) is ShowModel:
            if head.method not in READS:
                exchange.refuse(_READ_ONLY, now_s)
            elif isinstance(match, ShowModel):
                self._show_model(exchange, match, now_s)
            else:
                self._list_models(exchange, match.scope, now_s)
        elif type(match) is Unrouted:
            if head.method in READS and _path(head.target) in OWN_HEALTH:
                exchange.answer(200, JSON, b'{"status":"ok"}\n', now_s)
            elif head.is_grpc and is_health_check(head):
                answer_health(exchange, is_serving=True, now_s=now_s)
            else:
                exchange.refuse(match.refusal, now_s)

    def _answer_quietly(self, exchange: Exchange, hold: Hold, now_s: float) -> None:
        """A health check: the service's state, without waking it."""
        exchange.give_to(self)
        state = self._state(hold)
        answer_quietly(exchange, hold, state, now_s, is_failing=state is ModelState.FAILING)

    def _named_at_once(self, exchange: Exchange, scope: Scope) -> Hold | None:
        """The usual case without a reader of its own: JSON that came with its head and names a model that there is."""
        chunks, head = exchange.chunks, exchange.head
        if not exchange.is_request_done or chunks is None or len(chunks) != 1:
            return None
        if head.content_type != b"application/json" or head.content_encoding is not None:
            return None
        name = whole_name(chunks[0]) if not exchange.downstream.memory.is_full else None
        service = scope.find(name) if name is not None else None
        return self._hold_of.get(service) if service is not None else None

    def _peek(self, exchange: Exchange, scope: Scope, now_s: float) -> None:
        def found(exchange: Exchange, peeked: Peeked, now_s: float) -> None:
            match = self._router.resolve(scope, peeked)
            hold = self._holds.get(match.service) if isinstance(match, ToService) else None
            if hold is not None:
                hold.place(exchange, now_s)
            else:
                exchange.refuse(match.refusal if isinstance(match, Unrouted) else _REMOVED, now_s)

        head = exchange.head
        if not head.has_body:
            found(exchange, Peeked(Verdict.MISSING), now_s)
            return
        peek = peek_for(head.content_type, head.content_encoding)
        if isinstance(peek, Refusal):
            exchange.refuse(peek, now_s)
        else:
            BodyRoute(exchange, peek, found, self._call_soon).start(now_s)

    def _list_models(self, exchange: Exchange, scope: Scope, now_s: float) -> None:
        names = scope.all_models()
        holds = [self._holds[service] for service in dict.fromkeys(names.values())]
        exchange.answer(200, JSON, list_models(map(self._served, holds), names), now_s)

    def _show_model(self, exchange: Exchange, match: ShowModel, now_s: float) -> None:
        service = match.scope.find(match.name)
        if service is None:
            exchange.refuse(unknown_model(match.scope, match.name), now_s)
        else:
            exchange.answer(200, JSON, show_model(self._served(self._holds[service]), match.name), now_s)

    def _served(self, hold: Hold) -> ServedModels:
        return ServedModels(
            service=hold.service,
            models=hold.policy.models,
            state=self._state(hold),
            replicas=hold.ready,
            created_at_s=hold.created_at_s,
        )

    def _state(self, hold: Hold) -> ModelState:
        if hold.ready:
            return ModelState.READY
        if hold.is_blocked:
            return ModelState.FAILING
        return ModelState.STARTING if self._holds.runs(hold.service) else ModelState.ZERO

    # Owner of what has no service

    def on_ended(self, exchange: Exchange, now_s: float) -> None:
        """Count it."""
        self._note("", exchange)
        counters = self.unrouted
        if exchange.result is Result.SERVED:
            counters.served += 1
        elif exchange.result is Result.REFUSED:
            counters.refuse(exchange.code)
        else:
            counters.abandoned += 1

    def on_unsent(self, exchange: Exchange, cause: str, now_s: float) -> None:
        """Never: nothing was sent anywhere."""

    def on_turned_away(self, exchange: Exchange, now_s: float) -> None:
        """Never: nothing is sent anywhere."""

    def on_hold_timeout(self, exchange: Exchange, now_s: float) -> None:
        """Never: it is not held here."""


def _path(target: bytes) -> bytes:
    """Without the query: monitors add one so that nothing on the way answers from a cache."""
    return target.partition(b"?")[0]


_READ_ONLY: Final = Refusal(
    status=405, code="method_not_allowed", detail="The list of models can only be read: use GET.", hopeless=True
)
_REMOVED: Final = Refusal(
    status=503,
    code="service_removed",
    detail="The service was removed while the request was on its way. Try again.",
    retry_after_s=1.0,
)
