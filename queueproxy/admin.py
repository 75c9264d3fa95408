"""The sidecar's admin port: readiness, metrics, the present stat, and `/drain`."""

from collections.abc import Callable
from typing import Final, Protocol

from zerogate.errors import Refusal
from zerogate.http.admin import DRAIN, TEXT, Desk, Drained, Path, Readiness, answer_json
from zerogate.http.exchange import Exchange
from zerogate.stats import Stat

_PATHS: Final = {
    b"/readyz": Path(),
    b"/healthz": Path(),
    b"/metrics": Path(),
    b"/stats": Path(),
    b"/drain": DRAIN,
}


_WAIT: Final = b"wait"
"""`/drain?wait`: whoever asks is not who sends requests, and those have still to notice."""
DRAIN_TOKEN: Final = b"zerogate-drain-token"
_WITHOUT_TOKEN: Final = Refusal(
    status=403,
    code="refused",
    detail="/drain is for who knows this sidecar's drain token: send it as the header zerogate-drain-token.",
    hopeless=True,
)


class Shown(Protocol):
    """What the admin port shows and does."""

    def readiness(self) -> Readiness: ...
    def metrics(self) -> str: ...
    def stat(self, now_s: float) -> Stat: ...
    def drain(self, now_s: float, *, waits: bool) -> None:
        """Close the gate, with `waits` after the drain wait; `Admin.on_empty` is called once nothing is inside."""

    def drained(self) -> Drained: ...


class Admin:
    """See the module's text. `place` is its server's."""

    def __init__(
        self, shown: Shown, *, drain_deadline_s: float, clock: Callable[[], float], drain_token: str | None = None
    ) -> None:
        self._shown = shown
        self._drain_token = None if drain_token is None else drain_token.encode()
        self._drain_deadline_s = drain_deadline_s
        self._clock = clock
        self._desk = Desk(_PATHS, self._serve, self._tell, where="Requests for the model server go to another port.")
        self.place = self._desk.place

    def _serve(self, exchange: Exchange, path: bytes, now_s: float) -> None:
        shown = self._shown
        if path == b"/metrics":
            exchange.answer(200, TEXT, shown.metrics().encode(), now_s)
        elif path == b"/stats":
            answer_json(exchange, 200, shown.stat(now_s), now_s)
        elif path == b"/healthz":
            answer_json(exchange, 200, {"status": "ok"}, now_s)
        elif path == b"/readyz":
            readiness = shown.readiness()
            answer_json(exchange, 200 if readiness.ready else 503, readiness, now_s)
        elif not self._may_drain(exchange):
            exchange.refuse(_WITHOUT_TOKEN, now_s)
        else:
            self._desk.wait(exchange, deadline_s=now_s + self._drain_deadline_s, now_s=now_s)
            shown.drain(now_s, waits=exchange.head.target.partition(b"?")[2] == _WAIT)

    def _may_drain(self, exchange: Exchange) -> bool:
        if self._drain_token is None:
            return True
        return _is_same(exchange.head.field(DRAIN_TOKEN) or b"", self._drain_token)

    def on_empty(self) -> None:
        """The last request has left: drains are answered."""
        now_s = self._clock()
        for exchange in tuple(self._desk.waiting):
            self._tell(exchange, now_s)

    def _tell(self, exchange: Exchange, now_s: float) -> None:
        drained = self._shown.drained()
        answer_json(exchange, 200 if drained.drained else 503, drained, now_s)


def _is_same(given: bytes, token: bytes) -> bool:
    """In a time that does not tell how much of it is right; `hmac` would bring hashlib into every pod."""
    return len(given) == len(token) and not sum(one ^ other for one, other in zip(given, token, strict=True))
