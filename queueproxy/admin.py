"""The sidecar's admin port: readiness, metrics, the present stat, and `/drain`."""

from collections.abc import Callable
from typing import Final, Protocol

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


class Shown(Protocol):
    """What the admin port shows and does."""

    def readiness(self) -> Readiness: ...
    def metrics(self) -> str: ...
    def stat(self, now_s: float) -> Stat: ...
    def drain(self, now_s: float) -> None:
        """Close the gate; `Admin.on_empty` is called once nothing is inside."""

    def drained(self) -> Drained: ...


class Admin:
    """See the module's text. `place` is its server's."""

    def __init__(self, shown: Shown, *, drain_deadline_s: float, clock: Callable[[], float]) -> None:
        self._shown = shown
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
        else:
            self._desk.wait(exchange, deadline_s=now_s + self._drain_deadline_s, now_s=now_s)
            shown.drain(now_s)

    def on_empty(self) -> None:
        """The last request has left: drains are answered."""
        now_s = self._clock()
        for exchange in tuple(self._desk.waiting):
            self._tell(exchange, now_s)

    def _tell(self, exchange: Exchange, now_s: float) -> None:
        drained = self._shown.drained()
        answer_json(exchange, 200 if drained.drained else 503, drained, now_s)
